//! What is said about the arguments of an attribute.

use super::{errors, handler, none, one};

const FUNCTION: &str = "async fn bugfix(args: Bug) -> TaskResult {}";

/// After the type, each argument gives the one message.
#[track_caller]
fn options(cases: &[(&str, &str)]) {
    for (args, message) in cases {
        one(handler(&format!("\"a\", {args}"), FUNCTION), message);
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let args = r#""Bug fix", qeue = "ops", priority = P5, retries = 300, retries = 1, timeout = "0s""#;
    let all = errors(handler(args, "fn bugfix() {}"));
    // Six arguments, the signature expected, and three things wrong with the one there is.
    assert_eq!(all.len(), 10, "{all:#?}");
}

#[test]
fn a_wrong_task_type() {
    let long = format!("\"{}\"", "x".repeat(65));
    let cases = [
        ("", "the task type is missing; it is the first argument: #[task_handler(\"bugfix\")]"),
        ("queue = \"ops\"", "the task type is missing"),
        ("bugfix", "the task type is a string: #[task_handler(\"bugfix\")]"),
        ("7", "the task type is a string"),
        (r#""""#, "this task type is empty"),
        (r#""Bug fix""#, "`B` is not allowed in a task type: 1 to 64 characters"),
        (&long, "this task type has 65 characters"),
        (r#""a", "b""#, "the task type is the first argument, and there is one"),
        (r#"queue = "ops", "a""#, "the task type is the first argument"),
    ];
    for (args, message) in cases {
        one(handler(args, FUNCTION), message);
    }
}

#[test]
fn a_wrong_option() {
    let list = "supported options: queue, priority, retries, backoff, timeout, cancel_grace, no_retry, expires, unique, blocking, \
                approval, sla, cron, tz, overlap, catch_up, crate";
    let near = format!("unknown option `qeue`; did you mean `queue`? {list}");
    let far = format!("unknown option `colour`; {list}");
    options(&[
        (r#"qeue = "ops""#, &near),
        ("colour = 1", &far),
        ("max_retries = 1", "unknown option `max_retries`; did you mean `retries`?"),
        ("timeuot = 1", "unknown option `timeuot`; did you mean `timeout`?"),
        (r#"type = "b""#, "unknown option `type`; the task type is the first"),
        (r#"queue = "a", queue = "b""#, "the option `queue` is given twice"),
        (r#"crate = "a", crate = "b""#, "the option `crate` is given twice"),
        ("queue", r#"write this option as `queue = "ops"`"#),
        (r#"queue("b")"#, r#"write this option as `queue = "ops"`"#),
        (r#"queue: "b", retries = 1"#, r#"write this option as `queue = "ops"`"#),
        ("queue =, retries = 1", "`queue` has no value"),
        (r#"queue = "b" retries = 1"#, "expected a `,`"),
        ("true", "`true` is not an option"),
        ("crate = my", "`crate` takes the path of the worker crate: crate = \"my_crate::worker\""),
        ("crate", "write this option as `crate = \"my_crate::worker\"`"),
        (r#"crate = "my worker""#, "`crate` takes the path"),
    ]);
}

#[test]
fn a_wrong_value() {
    options(&[
        (r#"queue = "Ops""#, "`O` is not allowed in a queue name"),
        ("queue = QUEUE", r#"`queue` takes a string: queue = "ops""#),
        ("priority = P7", "`P7` is not a priority; choose one of P0, P1, P2, P3"),
        ("priority = Priority::P1", "`Priority :: P1` is not a priority"),
        (r#"priority = "P1""#, "`priority` is written without quotes: priority = P1"),
        ("retries = 256", "`retries` takes a whole number from 0 to 255: retries = 3"),
        ("retries = -1", "`retries` takes a whole number"),
        (r#"retries = "3""#, "`retries` takes a whole number"),
        ("retries = 1.5", "`retries` takes a whole number"),
        ("timeout = 15", "`timeout` takes a string"),
        (r#"timeout = "0m""#, "`0m` is no time at all"),
        (r#"timeout = "8d""#, "`8d` is too long; at most 7d"),
        (r#"timeout = "604800001ms""#, "`604800001ms` is too long; at most 7d"),
        (r#"timeout = "99999999999999999999s""#, "`99999999999999999999s` is too long"),
        (r#"timeout = "18446744073709551615d""#, "`18446744073709551615d` is too long"),
        ("backoff = exp(2s, 10m)", r#"`backoff` takes a string: backoff = "exp(2s, 10m)""#),
        (r#"backoff = "linear(2s)""#, "`linear(2s)` is not a backoff; write \"exp(BASE, MAX)\""),
        (r#"backoff = "exp(2s)""#, "`exp(2s)` is not a backoff"),
        (r#"backoff = "exp(10m, 2s)""#, "the first delay, 10m, is longer than the longest, 2s"),
        (r#"backoff = "fixed(31d)""#, "`31d` is too long; at most 30d"),
        (r#"backoff = "exp(0s, 1s)""#, "`0s` is no time at all"),
        (r#"backoff = "fixed(soon)""#, "`soon` is not a duration"),
    ]);
    for text in ["15 parsecs", "15", "m", "", "-1s", "1.5s", "1h30m", "15M"] {
        let args = format!("timeout = \"{text}\"");
        let message = format!("`{text}` is not a duration; write a number and a unit: 250ms,");
        options(&[(&args, &message)]);
    }
}

#[test]
fn values_at_the_limits() {
    for args in [
        r#"timeout = "7d""#,
        r#"timeout = "1ms""#,
        "retries = 0",
        "retries = 255",
        r#"backoff = "fixed(250ms)""#,
        r#"backoff = "exp(1h,30d)""#,
        r#"backoff = "exp(1d, 1d)""#,
        r#"queue = "0_a.b-c","#,
    ] {
        none(handler(&format!("\"a\", {args}"), FUNCTION));
    }
}
