//! The audit from the command line, and what it finds.

use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::bench::Bench;

const AUDIT: &str = "{orchestrator.0}:audit";

/// Fields and values of one entry.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A bench with three decisions, six entries.
async fn decided() -> Bench {
    let bench = Bench::strict().await;
    for name in ["eve", "dan", "kim"] {
        let id = bench.run(&["task", "submit", "deploy"]).await.ok().to_owned();
        bench.run(&["approval", "approve", &format!("approval_{id}"), "--as", name, "--note", "go"]).await.ok();
    }
    bench
}

async fn raw(bench: &Bench) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(bench.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("our own server")
}

/// Takes the `at`-th entry out and puts it back at the end with another name in it.
async fn forge(bench: &Bench, at: usize) {
    let mut raw = raw(bench).await;
    let entries: Vec<(String, Fields)> =
        redis::cmd("XRANGE").arg(AUDIT).arg("-").arg("+").query_async(&mut raw).await.expect("the audit");
    let (id, mut fields) = entries[at].clone();
    let _: u64 = raw.xdel(AUDIT, &[&id]).await.expect("taken out");
    for (name, value) in &mut fields {
        if name == b"who" {
            *value = b"mallory".to_vec();
        }
    }
    let _: String = raw.xadd(AUDIT, "*", &fields).await.expect("put back");
}

#[tokio::test]
async fn the_audit_is_listed_and_found_sound() {
    let bench = decided().await;
    let entries = bench.run(&["audit", "list", "--json"]).await.lines();
    assert_eq!(entries.len(), 6);
    assert_eq!(
        (&entries[1]["op"], &entries[1]["who"], &entries[1]["note"]),
        (&json!("approved"), &json!("eve"), &json!("go"))
    );
    let some = bench.run(&["audit", "list", "--after", "2", "--limit", "3"]).await;
    assert!(
        some.ok().lines().nth(1).is_some_and(|row| row.starts_with("3 ") && row.contains("requested")),
        "{}",
        some.out
    );
    assert!(some.ok().lines().count() == 4 && some.err.contains("--after 5"), "{} {}", some.out, some.err);
    let head = entries[5]["hash"].as_str().expect("a hash");
    let verdict = bench.run(&["audit", "verify", "--expect-head", head]).await;
    assert!(
        verdict.ok().contains("entries  6") && verdict.ok().contains(&format!("head     {head}")),
        "{}",
        verdict.out
    );
    assert!(verdict.ok().ends_with("sound: nothing was changed, put in or taken out"), "{}", verdict.out);
    let told = bench.run(&["audit", "verify", "--json"]).await.json();
    assert_eq!((&told["sound"], &told["head"], &told["fault"]), (&json!(true), &json!(head), &Value::Null));

    let other = bench.run(&["audit", "verify", "--expect-head", &"0".repeat(64)]).await;
    assert!(other.code == 1 && other.out.contains("NOT SOUND: the head is not the expected 000"), "{}", other.out);
    let none = bench.run(&["audit", "verify", "--namespace", "other"]).await;
    assert!(none.ok().contains("entries  0") && none.ok().contains("head     (none)"), "{}", none.out);
}

#[tokio::test]
async fn an_entry_that_was_changed_or_cut_out_is_found() {
    // The last one keeps its place and betrays itself by its hash.
    let bench = decided().await;
    forge(&bench, 5).await;
    let verdict = bench.run(&["audit", "verify"]).await;
    assert!(verdict.code == 1 && verdict.out.contains("entry 6 (stored as "), "{}", verdict.out);
    assert!(verdict.out.contains("does not match its hash: it was changed"), "{}", verdict.out);
    // One of the middle leaves a gap.
    let bench = decided().await;
    forge(&bench, 2).await;
    let told = bench.run(&["audit", "verify", "--json"]).await;
    assert_eq!((told.code, &told.json()["sound"]), (1, &json!(false)));
    assert!(
        told.json()["fault"].as_str().is_some_and(|fault| fault.contains("after entry 2 comes entry 4")),
        "{}",
        told.out
    );
    // A cut at the end shows by the head that was noted elsewhere only.
    let bench = decided().await;
    let head = bench.run(&["audit", "verify", "--json"]).await.json()["head"].as_str().expect("a head").to_owned();
    let mut raw = raw(&bench).await;
    let last: Vec<(String, Fields)> = redis::cmd("XREVRANGE")
        .arg(AUDIT)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(&mut raw)
        .await
        .expect("it");
    let _: u64 = raw.xdel(AUDIT, &[&last[0].0]).await.expect("taken out");
    assert_eq!(bench.run(&["audit", "verify"]).await.code, 0);
    assert_eq!(bench.run(&["audit", "verify", "--expect-head", &head]).await.code, 1);
}
