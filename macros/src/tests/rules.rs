//! The options about when a task is tried again, when it expires, and what makes it unique.

use super::expansion::contains;
use super::{handler, none, one};

const FUNCTION: &str = "async fn f(_: ()) -> TaskResult {}";

fn given(options: &str) -> proc_macro2::TokenStream {
    handler(&format!("\"a\", {options}"), FUNCTION)
}

#[test]
fn good_ones_become_what_the_library_has() {
    let all = given(
        r#"no_retry = [BadSha, std::io::Error, Wrong::<u8>], expires = "1h",
           unique(until = "started", by = ["args.repo", "metadata.a.b-c", "priority"])"#,
    );
    none(all.clone());
    for code in [
        "__spec.no_retry = ::core::option::Option::Some(::std::vec![
            ::orchestrator_worker::__private::NoRetry::of::<BadSha>(),
            ::orchestrator_worker::__private::NoRetry::of::<std::io::Error>(),
            ::orchestrator_worker::__private::NoRetry::of::<Wrong::<u8>>()
        ]);",
        "__spec.expires = ::core::option::Option::Some(
            ::orchestrator_worker::__private::Duration::from_millis(3600000u64));",
        // The paths come first, whatever the order in which they are written.
        r#"::orchestrator_worker::__private::Unique::by(["args.repo", "metadata.a.b-c", "priority"])
            .until(::orchestrator_worker::__private::UniqueUntil::Started)"#,
    ] {
        contains(&all, code);
    }
    let short = given(r#"unique(by = "payload.repo")"#);
    none(short.clone());
    contains(&short, r#"::orchestrator_worker::__private::Unique::by(["payload.repo"])"#);
}

#[test]
fn wrong_ones_are_named() {
    for (options, message) in [
        ("no_retry = BadSha", "`no_retry` takes an array of error types: no_retry = [BadSha]"),
        ("no_retry = []", "`no_retry` names no error type"),
        (r#"no_retry = ["BadSha"]"#, "`no_retry` takes the names of error types"),
        ("no_retry", "write this option as `no_retry = [BadSha]`"),
        ("expires = 60", r#"`expires` takes a string: expires = "1h""#),
        (r#"expires = "soon""#, "`soon` is not a duration"),
        (r#"expires = "367d""#, "`367d` is too long; at most 366d"),
        (r#"expires = "0s""#, "`0s` is no time at all"),
        ("unique", r#"`unique` says not by what: unique(by = "args.repo")"#),
        (r#"unique(until = "done")"#, "`unique` says not by what"),
        (r#"unique = "args.repo""#, "`unique` takes a list: unique(by = \"args.repo\")"),
        ("unique(by = [])", "`by` takes 1 to 8 paths"),
        ("unique(by = repo)", "`by` takes a string or an array of strings"),
        (r#"unique(by = "repo")"#, "`repo` is no path; write args.NAME or metadata.NAME"),
        (r#"unique(by = "args")"#, "`args` is no path"),
        (r#"unique(by = "args.")"#, "`args.` is no path"),
        (r#"unique(by = "args.a b")"#, "`args.a b` is no path"),
        (r#"unique(by = ["args.a", "priority.x"])"#, "`priority.x` is no path"),
        (r#"unique(by = "args.a", until = "started now")"#, "`started now` is not an end of being unique; choose one"),
        (r#"unique(by = "args.a", til = "done")"#, "unknown option `til` of `unique`; did you mean `until`?"),
    ] {
        one(given(options), message);
    }
}
