//! The function under `#[task_handler]`.

use syn::{Error, Result, ReturnType, Signature, Type};

use super::{Asyncness, Rules, borrowed};
use crate::function::{last_segment, type_arguments};

pub(crate) const TASK: Rules = Rules {
    what: "a task handler",
    expected,
    asyncness: Asyncness::Must(
        "this function is not async: write `async fn`; or `blocking = true` into the attribute, and it gets a thread of its own",
    ),
    first: not_a_payload,
    none: "the payload is missing; a task which carries nothing takes `_: ()`",
    output,
};

/// With `blocking = true`.
pub(crate) const BLOCKING: Rules = Rules {
    what: "a blocking task handler",
    expected: expected_to_block,
    asyncness: Asyncness::MustNot(
        "a blocking handler has a thread of its own: remove `async`, and await by `ctx.block_on(..)`; or remove `blocking`",
    ),
    ..TASK
};

fn expected(name: &str) -> String {
    signature("a task handler", &format!("async fn {name}"))
}

fn expected_to_block(name: &str) -> String {
    signature("a blocking task handler", &format!("fn {name}"))
}

fn signature(what: &str, name: &str) -> String {
    format!(
        "{what} must have the signature:\n\n    \
         {name}(args: Payload, [Data<T>, TaskContext, …]) -> TaskResult<Output>\n\n\
         Payload       what the task carries: any owned type with #[payload]\n\
         Data<T>, …    what else the handler needs, if anything, in any order\n\
         Output        what the task results in: any owned type with #[payload], or nothing"
    )
}

/// The payload forgotten, so that something else stands in its place.
fn not_a_payload(ty: &Type) -> Option<Error> {
    let Type::Path(path) = ty else { return None };
    let [only] = &path.path.segments.iter().collect::<Vec<_>>()[..] else {
        return None;
    };
    let taken = only.ident == "TaskContext" || (only.ident == "Data" && !only.arguments.is_none());
    let text = format!("the first parameter is the payload; `{}` goes after it", only.ident);
    taken.then(|| Error::new_spanned(ty, text))
}

/// What the declared `Result` gives if all goes well: its first argument, or nothing.
fn output(sig: &Signature) -> Result<Type> {
    let ReturnType::Type(_, ty) = &sig.output else {
        let text = "the result is missing: write `-> TaskResult` or `-> TaskResult<Output>`";
        return Err(Error::new(sig.paren_token.span.close(), text));
    };
    let wrong = || Error::new_spanned(ty, "a task handler returns a `TaskResult` or a `Result<Output, Error>`");
    let found = match &type_arguments(ty)[..] {
        [first, ..] => *first,
        [] if last_segment(ty).is_some_and(|last| last.ident == "TaskResult") => {
            return Ok(syn::parse_quote!(()));
        }
        [] => return Err(wrong()),
    };
    match borrowed(found) {
        true => Err(Error::new_spanned(found, "the output of a task is an owned type")),
        false => Ok(found.clone()),
    }
}
