//! What is said about the function under an attribute.

use super::{errors, handler, none, one, tokens};
use crate::entry;

#[test]
fn a_wrong_signature_is_taught_and_pointed_at() {
    for (signature, pointed) in [
        ("fn f(args: Bug) -> TaskResult", "this function is not async"),
        ("async fn f(&self, args: Bug) -> TaskResult", "a task handler is a function, not a method"),
        ("async fn f<T>(args: T) -> TaskResult<T>", "a task handler has no generic parameters"),
        ("async fn f(args: Bug) -> TaskResult where u8: Copy", "a task handler has no generic"),
        ("async unsafe fn f(args: Bug) -> TaskResult", "a task handler cannot be `unsafe`"),
        ("async extern \"C\" fn f(args: Bug) -> TaskResult", "a task handler cannot be `extern`"),
        ("async fn f() -> TaskResult", "the payload is missing"),
        ("async fn f(args: &str) -> TaskResult", "a parameter is taken by value: `String`"),
        ("async fn f(args: &[u8]) -> TaskResult", "a parameter is taken by value: `Vec<u8>`"),
        ("async fn f(args: Vec<&str>) -> TaskResult", "this type borrows"),
        ("async fn f(args: Cow<'_, str>) -> TaskResult", "this type borrows"),
        ("async fn f(args: impl Bug) -> TaskResult", "name the type"),
        ("async fn f(a: u8, d: &Data<Db>) -> TaskResult", "a parameter is taken by value: `Data`"),
        ("async fn f(ctx: TaskContext) -> TaskResult", "the first parameter is the payload"),
        ("async fn f(db: Data<Db>, b: Bug) -> TaskResult", "the first parameter is the payload"),
        ("async fn f(args: Bug)", "the result is missing"),
        ("async fn f(args: Bug) -> String", "a task handler returns a `TaskResult`"),
        ("async fn f(args: Bug) -> (u8, u8)", "a task handler returns a `TaskResult`"),
        ("async fn f(args: Bug) -> TaskResult<&str>", "the output of a task is an owned type"),
    ] {
        let all = errors(handler("\"a\"", &format!("{signature} {{}}")));
        assert_eq!(all.len(), 2, "{all:#?}");
        let expected = "a task handler must have the signature:\n\n    async fn f(args: Payload, ";
        assert!(all[0].starts_with(expected), "{all:#?}");
        assert!(all[1].starts_with(pointed), "{all:#?}");
    }
}

#[test]
fn a_good_signature() {
    for signature in [
        "async fn f(args: ()) -> TaskResult",
        "async fn f(Bug { id, .. }: Bug, (a, b): Pair) -> TaskResult<Vec<u8>>",
        "async fn f(mut args: Cow<'static, str>, d: Data<&'static str>) -> anyhow::Result<u8>",
        "async fn f(args: my::Data<u8>) -> Result<(), Oops>",
        "pub async fn r#type(args: [u8; 4]) -> crate::TaskResult",
    ] {
        none(handler("\"a\"", &format!("{signature} {{}}")));
    }
}

#[test]
fn a_handler_which_is_no_function() {
    let taught = "a task handler must have the signature:\n\n    async fn name(";
    for item in ["struct Bug;", "pub mod m {}", "const X: u8 = 1;", "impl X {}"] {
        let expansion = handler("\"a\"", item);
        assert!(expansion.to_string().ends_with(&tokens(item).to_string()));
        one(expansion, taught);
    }
}

#[test]
fn a_wrong_main() {
    for (item, message) in [
        ("fn main() {}", "this function is not async"),
        ("async fn start() {}", "this function is named `start`"),
        ("async fn main(a: u8) {}", "there are no parameters"),
        ("async fn main<T>() {}", "there are no generic parameters"),
        ("struct Main;", "this is `struct`"),
    ] {
        let all = errors(entry::main(tokens(""), &tokens(item)));
        assert!(all.len() == 1 && all[0].contains(message), "{all:#?}");
    }
}
