//! `approval` and `sla`: what they expand to and what is said about them.

use super::expansion::contains;
use super::{errors, handler, none, one, tokens};

const FUNCTION: &str = "async fn deploy(args: Deploy) -> TaskResult {}";
const PRIVATE: &str = "::orchestrator_worker::__private::";

/// The field is set to the one expression, in which `@` stands for the private module.
#[track_caller]
fn set(args: &str, field: &str, value: &str) {
    let all = handler(&format!("\"a\", {args}"), FUNCTION);
    none(all.clone());
    syn::parse2::<syn::File>(all.clone()).expect("items");
    let value = value.replace('@', PRIVATE);
    contains(&all, &format!("__spec.{field} = ::core::option::Option::Some({value});"));
}

/// Inside the list, each gives the one message.
#[track_caller]
fn wrong(list: &str, cases: &[(&str, &str)]) {
    for (args, message) in cases {
        one(handler(&format!("\"a\", {list}({args})"), FUNCTION), message);
    }
}

#[test]
fn a_good_approval() {
    for args in ["approval", "approval()", "approval, retries = 1", "approval(),"] {
        set(args, "approval", "@Gate::new()");
    }
    let all = r#"approval(
        unless = "args.env == 'dev'", by = "role:sre", quorum = 2,
        expires = "4h", remind = "30m", escalate = "1h, role:lead",
    )"#;
    let calls = r#"@Gate::new().unless("args.env == 'dev'").by("role:sre").quorum(2u8)
        .expires(@Duration::from_millis(14400000u64)).remind(@Duration::from_millis(1800000u64))
        .escalate(@Duration::from_millis(3600000u64), "role:lead")"#;
    set(all, "approval", calls);
    let mixed = r#"approval(quorum = 1, by = ["role:sre", "a.B_c-9",])"#;
    set(mixed, "approval", r#"@Gate::new().by("role:sre").by("a.B_c-9").quorum(1u8)"#);
    for args in [
        r#"expires = "30d", remind = "29d", escalate = "2591999999ms,x""#,
        r#"remind = "30d", escalate = "30d, x""#,
        "quorum = 20",
        r#"by = ["a@b.example", "Team:X_1-y"]"#,
    ] {
        none(handler(&format!("\"a\", approval({args})"), FUNCTION));
    }
}

#[test]
fn a_good_sla() {
    let target = "@SlaTerms::new(@Duration::from_millis(1800000u64))";
    for args in [r#"sla = "30m""#, r#"sla(target = "30m")"#] {
        set(args, "sla", target);
    }
    // The target comes first in any case.
    let all = r#"sla(
        hours = "mon-fri 09:00-17:00 Europe/Berlin", warn = 0.8, pause = "human",
        on_violation = "escalate:role:lead", target = "30m"
    )"#;
    let into = r#"::core::convert::Into::into("role:lead")"#;
    let calls = format!(
        r#"{target}.warn(0.8f64).pause(true).on_violation(@OnViolation::Escalate({into}))
        .hours("mon-fri 09:00-17:00 Europe/Berlin")"#
    );
    set(all, "sla", &calls);
    for (args, call) in [
        (r#"pause = "never""#, "pause(false)"),
        (r#"on_violation = "announce""#, "on_violation(@OnViolation::Announce)"),
        (r#"on_violation = "raise""#, "on_violation(@OnViolation::Raise)"),
        (r#"on_violation = "cancel""#, "on_violation(@OnViolation::Cancel)"),
        ("warn = 0.999", "warn(0.999f64)"),
    ] {
        set(&format!(r#"sla(target = "30m", {args})"#), "sla", &format!("{target}.{call}"));
    }
    set(r#"sla = "366d""#, "sla", "@SlaTerms::new(@Duration::from_millis(31622400000u64))");
}

#[test]
fn the_crate_is_that_which_is_given() {
    let all = handler(r#""a", sla(target = "1s", on_violation = "raise"), approval, crate = "my::worker""#, FUNCTION);
    contains(&all, "my::worker::__private::SlaTerms::new(my::worker::__private::Duration::from_millis(1000u64))");
    contains(&all, "my::worker::__private::OnViolation::Raise");
    contains(&all, "my::worker::__private::Gate::new()");
    assert!(!all.to_string().contains("orchestrator_worker"), "{all}");
}

#[test]
fn a_wrong_form() {
    let approval = r#"write this option as `approval(by = "role:sre")`"#;
    let sla = r#"write this option as `sla = "30m"`"#;
    for (args, message) in [
        ("approval = true", r#"`approval` takes a list: approval(by = "role:sre")"#),
        (r#"approval = "role:sre""#, "`approval` takes a list"),
        ("approval =", "`approval` has no value"),
        (r#"approval: "role:sre""#, approval),
        (r#"approval["role:sre"]"#, approval),
        (r#"approval { by = "role:sre" }"#, approval),
        ("approval, approval()", "the option `approval` is given twice"),
        ("approval() retries = 1", "expected a `,` before this"),
        (
            r#"aproval(by = "role:sre")"#,
            "unknown option `aproval`; did you mean `approval`? supported options: queue, ",
        ),
        ("aproval", "unknown option `aproval`; did you mean `approval`?"),
        ("sla = 30", r#"`sla` takes a string: sla = "30m""#),
        (r#"sla = "soon""#, "`soon` is not a duration"),
        (r#"sla = "367d""#, "`367d` is too long; at most 366d"),
        (r#"sla: "30m""#, sla),
        ("sla", r#"`sla` has no target: sla(target = "30m")"#),
        ("sla()", "`sla` has no target"),
        ("sla(warn = 0.8)", "`sla` has no target"),
        (r#"sla = "30m", sla(target = "30m")"#, "the option `sla` is given twice"),
    ] {
        let all = handler(&format!("\"a\", {args}"), FUNCTION);
        one(all, message);
    }
}

#[test]
fn a_wrong_approval() {
    let names = "1 to 64 characters of a-z, A-Z, 0-9, `_`, `.`, `-`, `@` and `:`";
    let long = format!("by = \"{}\"", "x".repeat(65));
    let list = "supported options: unless, by, quorum, expires, remind, escalate";
    wrong(
        "approval",
        &[
            (r#"expire = "4h""#, &format!("unknown option `expire` of `approval`; did you mean `expires`? {list}")),
            ("colour = 1", &format!("unknown option `colour` of `approval`; {list}")),
            (r#"name = "x""#, &format!("unknown option `name` of `approval`; {list}")),
            (r#"crate = "x""#, "unknown option `crate` of `approval`; "),
            ("quorom", "unknown option `quorom` of `approval`; did you mean `quorum`?"),
            ("quorum = 1, quorum = 2", "the option `quorum` is given twice"),
            ("quorum =", "`quorum` has no value"),
            ("quorum = 1 expires = \"4h\"", "expected a `,` before this"),
            ("quorum", "write this option as `quorum = 2`"),
            (r#"by("role:sre")"#, r#"write this option as `by = "role:sre"`"#),
            (
                r#""role:sre""#,
                r#"`"role:sre"` is not an option of `approval`; write `key = value`, as in `approval(by"#,
            ),
            (r#"unless = " ""#, r#"`unless` is empty: unless = "args.env == 'dev'""#),
            ("unless = true", "`unless` takes a string"),
            ("by = sre", r#"`by` takes a string or an array of strings: by = "role:sre""#),
            ("by = []", "`by` names nobody"),
            (r#"by = ["a", 7]"#, "`by` takes a string"),
            (r#"by = """#, &format!("this user or role is empty: {names}")),
            (
                r#"by = ["a", "the boss"]"#,
                &format!("` ` is not allowed in a user or role: {names}, such as \"role:sre\""),
            ),
            (&long, "this user or role has 65 characters"),
            ("quorum = 0", "`quorum` takes a whole number from 1 to 20: quorum = 2"),
            ("quorum = 21", "`quorum` takes a whole number"),
            ("quorum = -1", "`quorum` takes a whole number"),
            (r#"quorum = "2""#, "`quorum` takes a whole number"),
            (r#"expires = "31d""#, "`31d` is too long; at most 30d"),
            ("expires = 4", r#"`expires` takes a string: expires = "4h""#),
            (r#"remind = "0s""#, "`0s` is no time at all"),
            (r#"escalate = "1h""#, r#"`escalate` takes a duration and a user or role: escalate = "1h, role:lead""#),
            (r#"escalate = "soon, x""#, "`soon` is not a duration"),
            (r#"escalate = "31d, x""#, "`31d` is too long; at most 30d"),
            (r#"escalate = "1h, ""#, "this user or role is empty"),
            (r#"escalate = "1h, x, y""#, "`,` is not allowed in a user or role"),
            (r#"expires = "4h", remind = "4h""#, "`remind` has to come before `expires`; give it a shorter time"),
            (r#"escalate = "241m, x", expires = "4h""#, "`escalate` has to come before `expires`"),
        ],
    );
}

#[test]
fn a_wrong_sla() {
    let cases = [
        (
            "wran = 0.8",
            "unknown option `wran` of `sla`; did you mean `warn`? supported options: target, warn, pause, on",
        ),
        ("warn = 0.8, warn = 0.9", "the option `warn` is given twice"),
        (r#"warn("0.8")"#, "write this option as `warn = 0.8`"),
        ("warn = 80", "`warn` is a share of the target, between 0.0 and 1.0; 80% of it is 0.8: warn = 0.8"),
        ("warn = 1", "`warn` is a share of the target, between 0.0 and 1.0: warn = 0.8"),
        ("warn = 300", "`warn` is a share of the target, between 0.0 and 1.0: warn = 0.8"),
        ("warn = 0.0", "`warn` takes a share of the target, between 0.0 and 1.0: warn = 0.8"),
        ("warn = 1.0", "`warn` takes a share"),
        ("warn = -0.5", "`warn` takes a share"),
        (r#"warn = "80%""#, "`warn` takes a share"),
        (r#"pause = "night""#, r#"`night` is not a reason to pause; choose one of "human" and "never""#),
        ("pause = true", r#"`pause` takes a string: pause = "human""#),
        (
            r#"on_violation = "page""#,
            r#"`page` is not a reaction to a violation; choose one of "announce", "raise", "cancel" and "escalate:WHO""#,
        ),
        (r#"on_violation = "escalate""#, "`escalate` is not a reaction to a violation"),
        (r#"on_violation = "escalate:""#, "this user or role is empty"),
        (r#"on_violation = "escalate:the boss""#, "` ` is not allowed in a user or role"),
        (r#"hours = """#, r#"`hours` is empty: hours = "mon-fri 09:00-17:00 Europe/Berlin""#),
        ("hours = 8", "`hours` takes a string"),
    ];
    for (args, message) in cases {
        wrong("sla", &[(&format!("target = \"30m\", {args}"), message)]);
    }
    wrong(
        "sla",
        &[
            (r#""30m""#, r#"`"30m"` is not an option of `sla`; write `key = value`, as in `sla = "30m"`"#),
            // Not reported as missing besides.
            (r#"targt = "30m""#, "unknown option `targt` of `sla`; did you mean `target`?"),
            ("target =", "`target` has no value"),
            (r#"target = "367d""#, "`367d` is too long; at most 366d"),
            ("target = 30", r#"`target` takes a string: target = "30m""#),
        ],
    );
}

#[test]
fn every_mistake_in_a_list_is_reported_at_once() {
    let args = r#""a", retries = 300, approval(
        unles = "x", by = ["a b", 7], quorum = 0, quorum = 1, expires = "soon", "x"
    ), sla(warn = 80, hours = "")"#;
    let all = errors(handler(args, FUNCTION));
    assert_eq!(all.len(), 11, "{all:#?}");
    let args = r#""a", approval(expires = "1h", remind = "2h", escalate = "2h, x", quorum = 0)"#;
    assert_eq!(errors(handler(args, FUNCTION)).len(), 3);
}

#[test]
fn macros_may_pass_the_values() {
    use proc_macro2::{Delimiter, Group, TokenTree};
    let value = |code: &str| TokenTree::Group(Group::new(Delimiter::None, tokens(code)));
    let (names, name, target) = (value(r#"["a", "b"]"#), value("\"c\""), value("\"30m\""));
    for by in [quote::quote!(#names), quote::quote!([#name])] {
        let args = quote::quote!("a", approval(by = #by), sla = #target);
        none(crate::expand::task_handler(args, &tokens(FUNCTION)));
    }
}
