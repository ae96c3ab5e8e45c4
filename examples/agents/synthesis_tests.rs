//! Functions that are found, and wishes that are refused.

use serde_json::json;

use super::*;
use crate::git::git;
use crate::scratch;
use crate::tempdir::TempDir;

fn spec(name: &str, parameters: &[&str], examples: &[(Value, Value)]) -> Spec {
    let example = |(args, result): &(Value, Value)| Example {
        args: args.as_array().cloned().expect("an array"),
        result: result.clone(),
    };
    Spec {
        name: name.to_owned(),
        doc: "What the examples say.".to_owned(),
        parameters: parameters.iter().map(|&name| name.to_owned()).collect(),
        examples: examples.iter().map(example).collect(),
    }
}

async fn healthy() -> TempDir {
    let dir = TempDir::new("orchestrator-synthesis").expect("made");
    scratch::make_healthy(dir.path()).await.expect("made");
    dir
}

#[tokio::test]
async fn functions_of_several_kinds_are_found() {
    let dir = TempDir::new("orchestrator-synthesis").expect("made");
    for (spec, wanted) in [
        (spec("a", &["x", "y"], &[(json!([7, 2]), json!(1)), (json!([9, 5]), json!(4))]), "x % y"),
        (
            spec("a", &["x"], &[(json!(["Z b a"]), json!("a")), (json!(["b Oak Deal"]), json!("deal"))]),
            "x.lower().split()[-1]",
        ),
        (spec("a", &["x"], &[(json!([[1, 5]]), json!(4)), (json!([[9, 2, 3]]), json!(7))]), "max(x) - min(x)"),
        (
            spec("a", &["x"], &[(json!([["b", "a"]]), json!("a, b")), (json!([["c"]]), json!("c"))]),
            "', '.join(sorted(x))",
        ),
    ] {
        let said = look(dir.path(), &spec).await.expect("looked");
        assert_eq!(said.expression.as_deref(), Some(wanted));
    }
}

#[tokio::test]
async fn the_function_is_committed_with_the_examples_as_tests() {
    let dir = healthy().await;
    let head = git(dir.path(), &["rev-parse", "HEAD"]).await.expect("git");
    let examples = [(json!([5, 0, 9]), json!(5)), (json!([-3, 0, 9]), json!(0)), (json!([42, 0, 9]), json!(9))];
    let spec = spec("kept_between", &["value", "low", "high"], &examples);
    let module = Path::new("shop/stock.py");
    let done = write(dir.path(), "t1", module, &spec).await.expect("written");
    assert_eq!((done.outcome.tests_before, done.outcome.tests_after), (61, 64));
    assert_eq!(git(dir.path(), &["rev-parse", "HEAD^"]).await.expect("git"), head);
    let changed = git(dir.path(), &["diff", "--name-only", "HEAD^", "HEAD"]).await.expect("git");
    assert_eq!(changed, "shop/stock.py\ntests/test_kept_between.py");
    let source = std::fs::read_to_string(dir.path().join(module)).expect("read");
    let end = format!(
        "\n\n\ndef kept_between(value, low, high):\n    \"\"\"What the examples say.\"\"\"\n    return {}\n",
        done.outcome.expression
    );
    assert!(source.ends_with(&end), "{source}");
    let test = std::fs::read_to_string(dir.path().join("tests/test_kept_between.py")).expect("read");
    assert!(test.contains("class KeptBetweenTest(") && test.contains("(kept_between(-3, 0, 9), 0)"), "{test}");
    assert!(suite::run(dir.path(), &[], false, suite::PATIENCE).await.expect("runs").passed);
    assert_eq!(write(dir.path(), "t1", module, &spec).await.expect("found"), done);
    let again = write(dir.path(), "t2", module, &spec).await.expect_err("there already");
    assert!(again.to_string().contains("kept_between is a name in shop/stock.py already"), "{again}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_committed() {
    let dir = healthy().await;
    let fine = [(json!([1]), json!("no")), (json!([1]), json!("never the same"))];
    let stock = Path::new("shop/stock.py");
    for (module, spec, why) in [
        (Path::new("../stock.py"), spec("f", &["x"], &fine), "no module within"),
        (stock, spec("f(", &["x"], &fine), "is no name"),
        (stock, spec("f", &["x\nimport os"], &fine), "is no name"),
        (stock, Spec { doc: "\"\"\"".to_owned(), ..spec("f", &["x"], &fine) }, "one line"),
        (stock, spec("f", &["x"], &fine[..1]), "1 examples"),
        (stock, spec("f", &["x", "y"], &fine), "1 arguments, not 2"),
        (Path::new("shop/none.py"), spec("f", &["x"], &fine), "no module shop/none.py"),
    ] {
        let error = write(dir.path(), "t1", module, &spec).await.expect_err(why);
        assert!(error.to_string().contains(why) && error.is_final(), "{error}");
    }
    assert_eq!(git(dir.path(), &["rev-list", "--count", "--all"]).await.expect("git"), "1");
}

#[test]
fn values_are_written_as_python_writes_them() {
    let value = json!({"a": [null, true, 1.5, "it's \"so\""]});
    assert_eq!(literal(&value), r#"{"a": [None, True, 1.5, "it's \"so\""]}"#);
}
