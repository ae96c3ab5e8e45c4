//! The function under `#[event_handler]`, without and with `start`.

use syn::{Error, Result, ReturnType, Signature, Type};

use super::{Asyncness, Rules};
use crate::function::{last_segment, type_arguments};

const NONE: &str = "the event is missing; take one whose payload does not matter as `_: Event`";

/// It acts on the event itself.
pub(crate) const EVENT: Rules = Rules {
    what: "an event handler",
    expected,
    asyncness: NOT_ASYNC,
    first: not_an_event,
    none: NONE,
    output: nothing,
};
const NOT_ASYNC: Asyncness = Asyncness::Must("this function is not async: write `async fn`");

/// It says whether a task is to be started, and with which payload.
pub(crate) const START: Rules =
    Rules { expected: expected_to_start, asyncness: Asyncness::May, output: decision, ..EVENT };

fn expected(name: &str) -> String {
    format!(
        "an event handler must have the signature:\n\n    \
         async fn {name}(ev: Event<Payload>, [Data<T>, EventContext, …]) -> TaskResult\n\n\
         Payload       what the event carries: any owned type with #[payload]\n\
         Data<T>, …    what else the handler needs, if anything, in any order"
    )
}

fn expected_to_start(name: &str) -> String {
    format!(
        "an event handler with `start` must have the signature:\n\n    \
         [async] fn {name}(ev: Event<Payload>, [Data<T>, EventContext, …]) -> Option<Args>\n\n\
         Payload       what the event carries: any owned type with #[payload]\n\
         Data<T>, …    what else the handler needs, if anything, in any order\n\
         Option<Args>  the payload of the task to start, if any; or TaskResult<Option<Args>>"
    )
}

/// Something else in the place of the event.
fn not_an_event(ty: &Type) -> Option<Error> {
    let last = last_segment(ty);
    let text = match last {
        Some(last) if last.ident == "Event" => return None,
        Some(last) if ["Data", "EventContext", "TaskContext"].iter().any(|name| last.ident == name) => {
            format!("the first parameter is the event, `Event<Payload>`; `{}` goes after it", last.ident)
        }
        Some(last) if last.arguments.is_none() => {
            format!("the first parameter is the event with its payload: write `Event<{}>`", last.ident)
        }
        _ => "the first parameter is the event with its payload: write `Event<Payload>`".to_owned(),
    };
    Some(Error::new_spanned(ty, text))
}

/// The declared result, which carries nothing.
fn nothing(sig: &Signature) -> Result<Type> {
    let ReturnType::Type(_, ty) = &sig.output else {
        return Err(Error::new(sig.paren_token.span.close(), "the result is missing: write `-> TaskResult`"));
    };
    let text = match &type_arguments(ty)[..] {
        [] if named(ty, "TaskResult") => return Ok((**ty).clone()),
        [first, ..] if unit(first) && !named(ty, "Option") => return Ok((**ty).clone()),
        [first, ..] if named(ty, "Option") || named(first, "Option") => {
            "an event handler returns a `TaskResult`; one which returns an `Option` names the task that it starts: \
             #[event_handler(\"…\", start = deploy)]"
        }
        _ => "an event handler returns a `TaskResult` or a `Result<(), Error>`",
    };
    Err(Error::new_spanned(ty, text))
}

/// The declared result, which says whether to start a task.
fn decision(sig: &Signature) -> Result<Type> {
    let text = "an event handler with `start` returns an `Option<Args>` or a `TaskResult<Option<Args>>`, with the payload \
                of the task to start";
    match &sig.output {
        ReturnType::Default => Err(Error::new(sig.paren_token.span.close(), text)),
        ReturnType::Type(_, ty) => match &type_arguments(ty)[..] {
            [_] if named(ty, "Option") => Ok((**ty).clone()),
            [first, ..] if named(first, "Option") && !named(ty, "Option") => Ok((**ty).clone()),
            _ => Err(Error::new_spanned(ty, text)),
        },
    }
}

fn named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|last| last.ident == name)
}

fn unit(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        // Around a type which a macro was given.
        Type::Group(group) => unit(&group.elem),
        _ => false,
    }
}
