//! What good code expands to.

use proc_macro2::TokenStream;
use syn::{File, Item};

use super::{handler, none, one, tokens};
use crate::{entry, payload};

/// Both without spaces, which depend on how tokens came to be next to each other.
#[track_caller]
pub(super) fn contains(expansion: &TokenStream, code: &str) {
    let bare = |text: String| text.replace(char::is_whitespace, "");
    let found = bare(expansion.to_string()).contains(&bare(tokens(code).to_string()));
    assert!(found, "no {code}\nin {expansion}");
}

#[track_caller]
pub(super) fn lacks(expansion: &TokenStream, word: &str) {
    assert!(!expansion.to_string().contains(word), "{word}\nin {expansion}");
}

#[test]
fn a_handler_becomes_a_function_a_type_and_a_registration() {
    let item = "
        /// Fixes a bug.
        ///
        /// Mostly.
        #[cfg(unix)]
        pub(crate) async fn bugfix(Bug { id }: Bug, llm: Data<Llm>, _: TaskContext) -> Result<Fix, Oops> { b(id) }
    ";
    let args = r#""ops.bugfix", queue = "ops", priority = P1, retries = 3,
        backoff = "exp(2s, 10m)", timeout = "15m""#;
    let all = handler(args, item);
    none(all.clone());
    assert!(all.to_string().starts_with(&tokens(item).to_string()), "the function is as it was");

    let file: File = syn::parse2(all.clone()).expect("items");
    let [Item::Fn(_), Item::Struct(marker), Item::Impl(with), Item::Const(hidden)] = &file.items[..] else {
        panic!("{all}");
    };
    assert_eq!(marker.ident, "bugfix");
    for attrs in [&marker.attrs, &with.attrs, &hidden.attrs] {
        assert!(attrs.iter().any(|attr| attr.path().is_ident("cfg")), "{all}");
    }
    for code in [
        "pub(crate) struct bugfix {}",
        "pub(crate) fn with(args: Bug) -> ::orchestrator_worker::__private::NewTask<Fix>",
        "type Args = Bug;",
        "type Output = Fix;",
        r#"HandlerSpec::new("ops.bugfix")"#,
        r#"__spec.queue = ::core::option::Option::Some("ops");"#,
        "Some(::orchestrator_worker::__private::Priority::P1)",
        "Some(3u8)",
        "Backoff::exponential(
            ::orchestrator_worker::__private::Duration::from_millis(2000u64), ::orchestrator_worker::__private::Duration::from_millis(600000u64))",
        "Some(::orchestrator_worker::__private::Duration::from_millis(900000u64))",
        r#"__spec.doc = "Fixes a bug.\n\nMostly.";"#,
        "<Data<Llm> as ::orchestrator_worker::__private::FromContext>::needs(&mut __spec.needs);",
        "let __1 = <TaskContext as ::orchestrator_worker::__private::FromContext>::from_context(&__ctx)?;",
        "bugfix(__args, __0, __1).await?",
    ] {
        contains(&all, code);
    }
}

#[test]
fn only_what_is_given_is_set() {
    let all = handler("\"a\"", "async fn f(args: u8) -> TaskResult {}");
    assert_eq!(all.to_string().matches("__spec .").count(), 1, "the fingerprint of its code and nothing else: {all}");
    contains(&all, "__spec.code = ");
    contains(&all, "type Output = ();");
    for unset in ["approval", "sla"] {
        lacks(&all, unset);
    }
    let all = handler(r#""a", backoff = "fixed(1d)""#, "async fn f(args: u8) -> TaskResult {}");
    contains(&all, "Backoff::fixed(::orchestrator_worker::__private::Duration::from_millis(86400000u64))");
}

#[test]
fn another_body_has_another_fingerprint_and_another_comment_has_not() {
    let code = |item: &str| {
        let all = handler("\"a\"", item).to_string();
        let from = all.find("__spec . code = ").expect("a fingerprint");
        all[from..].split(';').next().expect("a statement").to_owned()
    };
    let one = code("async fn f(args: u8) -> TaskResult { a().await }");
    assert_eq!(one, code("/// Says more.\n async fn f(args: u8) -> TaskResult { a().await }"));
    assert_ne!(one, code("async fn f(args: u8) -> TaskResult { b().await }"));
}

#[test]
fn the_crate_may_have_another_name() {
    let args = r#""a", priority = P0, backoff = "fixed(1s)", crate = "my::worker""#;
    let all = handler(args, "async fn f(args: u8, ctx: TaskContext) -> TaskResult {}");
    contains(&all, "my::worker::__private::Priority::P0");
    lacks(&all, "orchestrator_worker");
    let all = payload::payload(tokens("crate = \"my::worker\""), &tokens("struct P;"));
    contains(&all, "my::worker::__private::serde::Serialize");
    contains(&all, "#[serde(crate = \"my::worker::__private::serde\")]");
    lacks(&all, "orchestrator_worker");
}

#[test]
fn a_wrong_handler_still_has_its_type() {
    let all = handler("\"a\", oops = 1", "pub async fn f(args: Bug) -> TaskResult<Fix> {}");
    contains(&all, "pub struct f {}");
    contains(&all, "pub fn with(_: Bug) -> ::orchestrator_worker::__private::NewTask<Fix>");
    lacks(&all, "submit");
    let all = handler("\"a\"", "async fn f<T>(args: T) -> TaskResult<Vec<T>> {}");
    contains(&all, "fn with<__Payload>(_: __Payload) -> ::orchestrator_worker::__private::NewTask<>");
    let all = handler("\"a\"", "async fn f(&self, args: u8) -> TaskResult {}");
    lacks(&all, "struct");
}

#[test]
fn a_payload_derives_what_it_lacks() {
    let all = payload::payload(tokens(""), &tokens("pub struct P<T>(T);"));
    let serde = "::orchestrator_worker::__private::serde";
    let serde = format!("{serde}::Serialize, {serde}::Deserialize");
    contains(&all, &format!("#[derive(::core::fmt::Debug, ::core::clone::Clone, {serde})]"));
    contains(&all, "#[serde(crate = \"::orchestrator_worker::__private::serde\")] pub struct P<T>(T);");
    let all = payload::payload(tokens(""), &tokens("#[derive(PartialEq, Debug)] enum P {}"));
    contains(&all, &format!("#[derive(::core::clone::Clone, {serde})]"));
    let all = payload::payload(tokens(""), &tokens("#[derive(serde::Serialize, serde::Deserialize)] enum P {}"));
    lacks(&all, "orchestrator_worker");

    let wrong = "#[payload] goes on a struct or an enum, not on `fn`";
    one(payload::payload(tokens(""), &tokens("pub fn p() {}")), wrong);
    one(
        payload::payload(tokens("queue = 1"), &tokens("struct P;")),
        "unknown option `queue`; supported options: crate",
    );
    one(payload::payload(tokens("\"a\""), &tokens("struct P;")), "this attribute takes no arguments");
}

#[test]
fn main_runs_on_a_runtime() {
    let all = entry::main(tokens(""), &tokens("/// Doc\nasync fn main() -> Result<(), Oops> { work().await }"));
    let wanted = "
        /// Doc
        fn main() -> Result<(), Oops> {
            async fn main() -> Result<(), Oops> { work().await }
            ::orchestrator_worker::__private::run_main(main())
        }
    ";
    assert_eq!(all.to_string(), tokens(wanted).to_string());
}

#[test]
fn a_test_runs_on_a_runtime_and_gets_a_harness_if_it_asks_for_one() {
    let all =
        entry::test(tokens(""), &tokens("#[ignore] async fn t(h: Harness) -> Result<(), Oops> { work(h).await }"));
    let wanted = "
        #[::core::prelude::v1::test]
        #[ignore]
        fn t() -> Result<(), Oops> {
            async fn t(h: Harness) -> Result<(), Oops> { work(h).await }
            ::orchestrator_worker::__private::run_test(t)
        }
    ";
    assert_eq!(all.to_string(), tokens(wanted).to_string());
    contains(&entry::test(tokens(""), &tokens("async fn t() {}")), "__private::run_test_alone(t())");

    for (item, start) in [
        ("fn t() {}", "this function is not async"),
        ("async fn t(h: Harness, n: u8) {}", "there is one parameter at most"),
        ("async fn t<T>() {}", "there are no generic parameters"),
        ("struct T;", "this is `struct`, not a function"),
    ] {
        one(entry::test(tokens(""), &tokens(item)), start);
    }
}
