//! `#[event_handler]`: what it expands to, and what is said about its options and its function.

use syn::{File, Item};

use super::expansion::{contains, lacks};
use super::{errors, event_handler, none, one, tokens};

const FUNCTION: &str = "async fn announce(ev: Event<Deploy>) -> TaskResult {}";

#[test]
fn a_handler_becomes_a_function_a_type_and_a_registration() {
    let item = "
        /// Tells the channel.
        #[cfg(unix)]
        pub(crate) async fn announce(ev: Event<Deploy>, slack: Data<Slack>, _: EventContext) -> Result<(), Oops> { b(ev) }
    ";
    let args = r#""deploy.*", group = "release-notes", retries = 5, backoff = "exp(1s, 1m)", timeout = "5m",
        at_once = 4, from = "oldest""#;
    let all = event_handler(args, item);
    none(all.clone());
    assert!(all.to_string().starts_with(&tokens(item).to_string()), "the function is as it was");

    let file: File = syn::parse2(all.clone()).expect("items");
    let [Item::Fn(_), Item::Struct(marker), Item::Const(hidden)] = &file.items[..] else { panic!("{all}") };
    assert_eq!(marker.ident, "announce");
    for attrs in [&marker.attrs, &hidden.attrs] {
        assert!(attrs.iter().any(|attr| attr.path().is_ident("cfg")), "{all}");
    }
    for code in [
        "pub(crate) struct announce {}",
        r#"EventSpec::new("release-notes", "deploy.*")"#,
        "__spec.retries = ::core::option::Option::Some(5u8);",
        "__spec.timeout = ::core::option::Option::Some(::orchestrator_worker::__private::Duration::from_millis(300000u64));",
        "::orchestrator_worker::__private::Backoff::exponential(
            ::orchestrator_worker::__private::Duration::from_millis(1000u64), ::orchestrator_worker::__private::Duration::from_millis(60000u64))",
        "__spec.at_once = ::core::option::Option::Some(4usize);",
        "__spec.from = ::core::option::Option::Some(::orchestrator_worker::__private::EventsFrom::Oldest);",
        r#"__spec.doc = "Tells the channel.";"#,
        "<Data<Slack> as ::orchestrator_worker::__private::FromEvent>::needs(&mut __spec.needs);",
        "let __ev: Event<Deploy> = ::orchestrator_worker::__private::event(&__ctx)?;",
        "let __1 = <EventContext as ::orchestrator_worker::__private::FromEvent>::from_event(&__ctx)?;",
        "announce(__ev, __0, __1).await?; ::core::result::Result::Ok(())",
        "::orchestrator_worker::__private::EventRegistration::new(
            || ::std::boxed::Box::new(announce {}), ::core::file!(), ::core::line!(),)",
    ] {
        contains(&all, code);
    }
    lacks(&all, "start");
    lacks(&all, "fn with");
}

#[test]
fn only_what_is_given_is_set() {
    let all = event_handler("\"a.b\"", "async fn r#type(_: Event) -> TaskResult {}");
    contains(&all, r#"EventSpec::new("type", "a.b")"#);
    lacks(&all, "__spec .");
    let all = event_handler(r#""a.b", from = "now", crate = "my::worker""#, FUNCTION);
    contains(&all, "__spec.from = ::core::option::Option::Some(my::worker::__private::EventsFrom::Now);");
    lacks(&all, "orchestrator_worker");
}

#[test]
fn an_event_may_start_a_task() {
    for (item, call) in [
        ("fn f(ev: Event<Merged>) -> Option<Deploy> {}", "f(__ev)"),
        ("async fn f(ev: Event<Merged>, d: Data<Db>) -> TaskResult<Option<Deploy>> {}", "f(__ev, __0).await"),
        ("async fn f(ev: my::Event<Merged>) -> ::std::option::Option<my::Deploy> {}", "f(__ev).await"),
        ("fn f(ev: Event<Merged>) -> Result<Option<Deploy>, Oops> {}", "f(__ev)"),
    ] {
        let all = event_handler("\"pr.merged\", start = tasks::deploy", item);
        none(all.clone());
        contains(&all, "type __Start = tasks::deploy;");
        contains(&all, "__spec.start = ::core::option::Option::Some(__task.task_type);");
        let start = format!("::orchestrator_worker::__private::start::<__Start>(&__ctx, {call}).await");
        contains(&all, &start);
    }
}

#[test]
fn a_wrong_option() {
    let list = "supported options: group, retries, backoff, timeout, at_once, from, start, crate";
    let near = format!("unknown option `gruop`; did you mean `group`? {list}");
    let far = format!("unknown option `queue`; {list}");
    for (args, message) in [
        ("gruop = \"a\"", near.as_str()),
        ("queue = \"ops\"", &far),
        ("grup", "unknown option `grup`; did you mean `group`?"),
        ("group", "write this option as `group = \"release-notes\"`"),
        ("start(deploy)", "write this option as `start = deploy`"),
        ("group = \"a\", group = \"b\"", "the option `group` is given twice"),
        ("true", "`true` is not an option; write `key = value`"),
        ("group = notes", "`group` takes a string"),
        ("group = \"Notes\"", "`N` is not allowed in a group name: 1 to 64 characters"),
        ("group = \"\"", "this group name is empty"),
        ("retries = 256", "`retries` takes a whole number from 0 to 255"),
        ("at_once = 0", "`at_once` takes a whole number from 1 to 1024: at_once = 16"),
        ("at_once = 1025", "`at_once` takes a whole number"),
        ("at_once = \"4\"", "`at_once` takes a whole number"),
        ("timeout = \"8d\"", "`8d` is too long; at most 7d"),
        ("backoff = \"exp(1s)\"", "`exp(1s)` is not a backoff"),
        ("from = oldest", "`from` takes a string: from = \"oldest\""),
        ("from = \"start\"", "`start` is not a place to begin; choose one of \"oldest\" and \"now\""),
    ] {
        one(event_handler(&format!("\"a.b\", {args}"), FUNCTION), message);
    }
    for start in ["\"deploy\"", "deploy()", "deploy::with(1)", "<a as b>::c", "7"] {
        let all = event_handler(&format!("\"a.b\", start = {start}"), "fn f(ev: Event) -> Option<u8> {}");
        one(all, "`start` takes the path of a function under #[task_handler]");
    }
    for args in ["at_once = 1", "at_once = 1024", "retries = 0", "group = \"0_a.b-c\","] {
        none(event_handler(&format!("\"a.b\", {args}"), FUNCTION));
    }
}

#[test]
fn a_function_whose_name_is_no_name_of_a_group() {
    let long = "x".repeat(65);
    for name in ["onMerge", "größe", &long] {
        let item = format!("async fn {name}(ev: Event) -> TaskResult {{}}");
        one(event_handler("\"a.b\"", &item), "the group is named after this function, but ");
        none(event_handler("\"a.b\", group = \"g\"", &item));
        // A wrong group is one mistake.
        one(event_handler("\"a.b\", group = \"G\"", &item), "`G` is not allowed");
    }
}

#[test]
fn a_wrong_signature_is_taught_and_pointed_at() {
    let teaches = |args: &str, signature: &str, expected: &str, pointed: &str| {
        let all = errors(event_handler(args, &format!("{signature} {{}}")));
        assert_eq!(all.len(), 2, "{all:#?}");
        assert!(all[0].contains(expected), "{all:#?}");
        assert!(all[1].starts_with(pointed), "{all:#?}");
    };
    for (signature, pointed) in [
        ("fn f(ev: Event<A>) -> TaskResult", "this function is not async"),
        ("async fn f(&self, ev: Event) -> TaskResult", "an event handler is a function, not a method"),
        ("async fn f<T>(ev: Event<T>) -> TaskResult", "an event handler has no generic parameters"),
        ("async unsafe fn f(ev: Event) -> TaskResult", "an event handler cannot be `unsafe`"),
        ("async fn f() -> TaskResult", "the event is missing; take one"),
        ("async fn f(ev: &Event<A>) -> TaskResult", "a parameter is taken by value: `Event` instead"),
        ("async fn f(ev: Event<&str>) -> TaskResult", "this type borrows"),
        ("async fn f(ev: impl A) -> TaskResult", "name the type; an event handler is registered once"),
        ("async fn f(ev: Event, d: &Data<Db>) -> TaskResult", "a parameter is taken by value: `Data`"),
        ("async fn f(ev: A) -> TaskResult", "the first parameter is the event with its payload: write `Event<A>`"),
        ("async fn f(ev: Vec<A>) -> TaskResult", "the first parameter is the event with its payload: write `Event<P"),
        ("async fn f(ev: (A, B)) -> TaskResult", "the first parameter is the event with its payload"),
        ("async fn f(c: EventContext, ev: Event) -> TaskResult", "the first parameter is the event, `Event<Payload>`"),
        ("async fn f(d: Data<Db>) -> TaskResult", "the first parameter is the event, `Event<Payload>`; `Data` goes"),
        ("async fn f(ev: Event)", "the result is missing: write `-> TaskResult`"),
        ("async fn f(ev: Event) -> bool", "an event handler returns a `TaskResult` or a `Result<(), Error>`"),
        ("async fn f(ev: Event) -> TaskResult<u8>", "an event handler returns a `TaskResult` or"),
        ("async fn f(ev: Event) -> Option<()>", "an event handler returns a `TaskResult`; one which returns an"),
        ("async fn f(ev: Event) -> TaskResult<Option<A>>", "an event handler returns a `TaskResult`; one which"),
    ] {
        let expected = "an event handler must have the signature:\n\n    async fn f(ev: Event<Payload>, ";
        teaches("\"a.b\"", signature, expected, pointed);
    }
    for (signature, pointed) in [
        ("fn f(ev: Event)", "an event handler with `start` returns an `Option<Args>`"),
        ("fn f(ev: Event) -> A", "an event handler with `start` returns"),
        ("async fn f(ev: Event) -> TaskResult", "an event handler with `start` returns"),
        ("async fn f(ev: Event) -> TaskResult<A>", "an event handler with `start` returns"),
        ("fn f(ev: A) -> Option<A>", "the first parameter is the event"),
    ] {
        let expected = "an event handler with `start` must have the signature:\n\n    [async] fn f(";
        teaches("\"a.b\", start = deploy", signature, expected, pointed);
    }
    one(event_handler("\"a.b\"", "struct A;"), "an event handler must have the signature:\n\n    async fn name(");
}

#[test]
fn a_good_signature() {
    for signature in [
        "async fn f(_: Event) -> TaskResult",
        "async fn f(Event { payload, .. }: my::Event<A>) -> TaskResult<()>",
        "async fn f(mut ev: Event<Vec<u8>>, c: EventContext, d: Data<&'static str>) -> anyhow::Result<()>",
        "pub async fn f(ev: Event<A>) -> Result<(), Oops>",
    ] {
        none(event_handler("\"a.b\"", &format!("{signature} {{}}")));
    }
}

#[test]
fn every_mistake_is_reported_at_once_and_the_type_is_there() {
    let args = r#""Deploy", gruop = "a", at_once = 0, from = "then", retries = 1, retries = 2"#;
    let all = event_handler(args, "pub fn f(ev: A) {}");
    // Five arguments, the signature expected, and three things wrong with the one there is.
    assert_eq!(errors(all.clone()).len(), 9, "{all}");
    contains(&all, "pub struct f {}");
    lacks(&all, "submit");
    lacks(&event_handler("\"a.b\"", "async fn f(&self, ev: Event) -> TaskResult {}"), "struct");
}
