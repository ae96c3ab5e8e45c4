//! Patterns of event types. What is right and wrong here is so in the worker, too: see `orchestrator/src/pattern.rs`.

use super::expansion::contains;
use super::{errors, event_handler, none, one};

const FUNCTION: &str = "async fn announce(ev: Event<Deploy>) -> TaskResult {}";

/// The first argument is read as this list.
#[track_caller]
fn good(argument: &str, list: &str) {
    let all = event_handler(argument, FUNCTION);
    none(all.clone());
    contains(&all, &format!("EventSpec::new(\"announce\", \"{list}\")"));
}

#[test]
fn good_patterns() {
    for pattern in ["*", "deploy.*", "deploy.started", "*.failed", "a.*.c", "*.*", "a.b.c_2", "task.created", "0._"] {
        good(&format!("\"{pattern}\""), pattern);
    }
    good(r#""deploy.*, task.failed,""#, "deploy.*,task.failed");
    good(r#"["pr.merged", "pr.closed"]"#, "pr.merged,pr.closed");
    good(r#"["a.b , c.d", " * ",]"#, "a.b,c.d,*");
    let longest = format!("a.{}", "b".repeat(126));
    good(&format!("\"{longest}\""), &longest);
    let most = vec!["a.b"; 100].join(",");
    good(&format!("\"{most}\""), &most);
}

#[test]
fn wrong_patterns_with_the_right_one() {
    for (pattern, why, near) in [
        ("Deploy.started", "`D` is not one of a-z, 0-9, `_`, `.` and `*`", Some("deploy.started")),
        ("pull-request.merged", "`-` is not one of", Some("pull_request.merged")),
        ("a.b c", "` ` is not one of", Some("a.b_c")),
        ("deploy:started", "`:` is not one of", Some("deploy.started")),
        ("deploy/*", "`/` is not one of", Some("deploy.*")),
        ("ä.b", "`ä` is not one of", Some("_.b")),
        ("a.#", "`#` is not one of", Some("a._")),
        ("a..b", "a word is missing before or after a dot", Some("a.b")),
        (".a", "a word is missing", Some("a.*")),
        ("a.", "a word is missing", Some("a.*")),
        ("a..*", "a word is missing", Some("a.*")),
        (".", "a word is missing", None),
        ("**", "a `*` stands for a whole word", None),
        ("deploy*", "a `*` stands for a whole word", Some("deploy.*")),
        ("deploy.*x", "a `*` stands for a whole word", Some("deploy.*.x")),
        ("deploy", "it has one word", Some("deploy.*")),
        (&format!("a.{}", "b".repeat(127)), "it has 129 characters, and 128 are the most", None),
    ] {
        let right = near
            .map_or("write \"deploy.succeeded\", \"deploy.*\"".to_owned(), |near| format!("did you mean \"{near}\"?"));
        let all = errors(event_handler(&format!("\"{pattern}\""), FUNCTION));
        let [text] = &all[..] else { panic!("{pattern}: {all:#?}") };
        assert!(text.starts_with(&format!("`{pattern}` is no pattern of event types: {why}")), "{text}");
        assert!(text.contains(&right), "{text}, not {right}");
    }
}

#[test]
fn every_wrong_pattern_is_reported() {
    let all = errors(event_handler(r#"["A.b", "a.b, c", 7, ""]"#, FUNCTION));
    assert_eq!(all.len(), 4, "{all:#?}");
}

#[test]
fn what_is_no_list_of_patterns() {
    for (args, message) in [
        ("", "the pattern of event types is missing; it is the first argument: #[event_handler(\"deploy.*\")]"),
        ("group = \"a\"", "the pattern of event types is missing; it is the first argument: #[event_handler(\"deploy"),
        (r#""""#, "there is no pattern in this string; write \"*\" for all events"),
        (r#"" ,""#, "there is no pattern in this string"),
        ("[]", "there is no pattern in this array; write \"*\" for all events"),
        ("7", "a pattern is a string, and several are an array of strings: #[event_handler(\"deploy.*\")]"),
        ("deploy", "a pattern is a string"),
        ("deploy.*", "a pattern is a string"),
        ("*", "a pattern is a string"),
        ("deploy.*, retries = 1", "a pattern is a string"),
        (r#"("a.b", "a.c")"#, "a pattern is a string"),
        (r#""a.b", "a.c""#, "there is one first argument; write several patterns as an array"),
        (r#""a.b", ["a.c"]"#, "there is one first argument"),
        (r#"group = "a", "a.b""#, "there is one first argument"),
        (r#"events = "a.b""#, "unknown option `events`; the pattern of event types is the first argument, without"),
    ] {
        one(event_handler(args, FUNCTION), message);
    }
    let many = vec!["a.b"; 101].join(",");
    let message = "a handler takes at most 100 patterns, not 101";
    one(event_handler(&format!("\"{many}\""), FUNCTION), message);
    one(event_handler(&format!("[\"{many}\"]"), FUNCTION), message);
}
