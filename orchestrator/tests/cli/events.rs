//! Telling events and reading them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bench::Bench;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn events_are_told_listed_and_followed() {
    let bench = Bench::new().await;
    let task = bench.run(&["task", "submit", "faq"]).await.ok().to_owned();
    let mut tail = bench.command(&["events", "tail", "--types", "deploy.*", "--from", "oldest", "--json"]);
    let mut tail = tail.kill_on_drop(true).spawn().expect("the program");
    let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();

    let options = [
        "--payload",
        r#"{"image":"api:7"}"#,
        "--priority",
        "high",
        "--source",
        "ops_agent",
        "--task",
        &task,
        "--key",
        "api 7",
        "--traceparent",
        TRACEPARENT,
    ];
    let first = bench.run(&[&["events", "publish", "deploy.succeeded"], &options[..]].concat()).await.ok().to_owned();
    bench.run(&["events", "publish", "smoke.done"]).await.ok();
    let second = bench.run(&["events", "publish", "deploy.failed", "--json"]).await.json()["event_id"].clone();
    for id in [json!(first), second] {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.expect("news in time");
        let event: Value = serde_json::from_str(&line.expect("a line").expect("an event")).expect("JSON");
        assert_eq!(event["event_id"], id);
    }

    let all = objects(bench.run(&["events", "list", "--json"]).await.ok());
    let types: Vec<&str> = all.iter().filter_map(|event| event["event_type"].as_str()).collect();
    assert_eq!(types, ["task.created", "deploy.succeeded", "smoke.done", "deploy.failed"]);
    assert_eq!((&all[1]["payload"]["image"], &all[1]["priority"]), (&json!("api:7"), &json!("high")));
    assert_eq!((&all[1]["key"], &all[1]["traceparent"]), (&json!("api 7"), &json!(TRACEPARENT)));
    assert_eq!(all[1]["trace_id"], TRACEPARENT[3..35]);
    assert_eq!((all[2].get("key"), all[2].get("traceparent")), (None, None));
    let place = all[1]["cursor"].as_str().expect("a place").to_owned();
    let behind = objects(bench.run(&["events", "list", "--json", "--from", &place]).await.ok());
    assert_eq!(behind, all[2..]);
    let few = objects(bench.run(&["events", "list", "--json", "--from", "1h", "-n", "2"]).await.ok());
    assert_eq!(few, all[..2]);
    let run = bench.run(&["events", "list", "--task", &task]).await;
    assert!(run.ok().lines().count() == 2 && run.out.contains(r#"ops_agent [api 7] {"image":"api:7"}"#), "{}", run.out);
    assert_eq!(bench.run(&["events", "list", "--from", "2100-01-01T00:00:00Z"]).await.out, "");
}

#[tokio::test]
async fn what_is_no_event_type_pattern_or_place_is_refused() {
    let bench = Bench::new().await;
    for (words, right) in [
        (&["publish", "Deployed"][..], "as in deploy.succeeded"),
        (&["publish", "a.b", "--payload", "{"], "the payload is not JSON"),
        (&["publish", "a.b", "--task", "42"], "id"),
        (&["publish", "a.b", "--key", "ä"], "an event's key has at most 128"),
        (&["publish", "a.b", "--traceparent", "7"], "`7` is no traceparent; one looks like 00-"),
        (&["publish", "a.b", "--priority", "urgent"], "critical"),
        (&["list", "--types", "deploy*"], "write deploy.succeeded, deploy.*"),
        (&["list", "--from", "yesterday"], "write oldest"),
        (&["tail", "--from", "999999999999999d"], "write oldest"),
    ] {
        let run = bench.run(&[&["events"], words].concat()).await;
        assert!(run.code != 0 && run.err.contains(right), "{words:?}: {} {}", run.code, run.err);
    }
    assert_eq!(bench.run(&["events", "list"]).await.out, "");
}
