//! What the commands do.

use std::collections::BTreeSet;

use orchestrator::{NewTask, Priority, Source, Status, TaskFilter, TaskId};
use serde_json::json;

use crate::bench::{Bench, finish};

#[tokio::test]
async fn a_task_goes_all_the_way_round() {
    let bench = Bench::new().await;
    let args = ["task", "submit", "bugfix", "--payload", r#"{"issue": 12}"#, "--priority", "P1", "--source", "dev"];
    let more = ["--retries", "7", "--meta", "team=core", "--meta", "note=a=b"];
    let run = bench.run(&[&args[..], &more].concat()).await;
    let id = run.ok().to_owned();

    let task = bench.run(&["task", "get", &id, "--json"]).await.json();
    assert_eq!(task["payload"], json!({ "issue": 12 }));
    assert_eq!((task["priority"].as_str(), task["source"].as_str()), (Some("P1"), Some("dev")));
    assert_eq!((&task["queue"], &task["max_retries"]), (&json!("dev_agent"), &json!(7)));
    assert_eq!(task["metadata"], json!({ "team": "core", "note": "a=b" }));
    let shown = bench.run(&["task", "get", &id]).await;
    assert!(
        shown.ok().contains("status    assigned") && shown.ok().contains(r#"payload   {"issue":12}"#),
        "{}",
        shown.out
    );

    let listed = bench.run(&["task", "list"]).await;
    let (titles, row) = listed.ok().split_once('\n').expect("a title and a row");
    assert!(titles.starts_with("ID ") && row.starts_with(&id) && row.contains("assigned"), "{}", listed.out);
    assert!(!listed.out.contains('\u{1b}'), "no colours where nobody sees them");

    assert_eq!(bench.run(&["task", "cancel", &id]).await.ok(), format!("{id} cancelled"));
    let cancelled = bench.run(&["task", "list", "--status", "cancelled", "--json"]).await.json();
    assert_eq!(cancelled["tasks"][0]["task_id"], json!(id));
    assert_eq!(
        bench.run(&["task", "retry", &id, "--json"]).await.json(),
        json!({ "task_id": id, "status": "assigned" })
    );
    let again = bench.run(&["task", "retry", &id]).await;
    assert!(again.code == 1 && again.err.contains("has not ended"), "{}", again.err);
    assert_eq!(bench.run(&["task", "get", &id, "--json"]).await.json()["status"], "assigned");
}

#[tokio::test]
async fn payloads_come_from_files_and_standard_input_and_delays_are_kept() {
    let bench = Bench::new().await;
    let path = std::env::temp_dir().join(format!("orchestrator-cli-{}.json", std::process::id()));
    std::fs::write(&path, "[1, 2.5, null]").expect("a file");
    let run = bench.run(&["task", "submit", "faq", "-p", &format!("@{}", path.display()), "--delay", "1h"]).await;
    std::fs::remove_file(&path).expect("our own file");
    let task = bench.orch.get(run.ok().parse::<TaskId>().expect("an id")).await.expect("known");
    assert_eq!((task.status, task.payload), (Status::Pending, json!([1, 2.5, null])));

    let run = finish(bench.command(&["task", "submit", "faq", "--payload", "-", "--json"]), br#""text""#).await;
    let id = run.json()["task_id"].as_str().expect("an id").to_owned();
    let task = bench.orch.get(id.parse::<TaskId>().expect("an id")).await.expect("known");
    assert_eq!((task.payload, task.source, task.priority), (json!("text"), Source::User, Priority::P2));
    let plain = bench.run(&["task", "submit", "faq", "--queue", "mine"]).await;
    let task = bench.orch.get(plain.ok().parse::<TaskId>().expect("an id")).await.expect("known");
    assert_eq!((task.payload, task.queue.as_str()), (json!({}), "mine"));
}

#[tokio::test]
async fn queues_pause_and_resume_and_the_counts_agree() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    assert_eq!(bench.run(&["queue", "pause", "hall"]).await.ok(), "queue hall is paused");
    assert_eq!(bench.run(&["queue", "pause", "hall"]).await.ok(), "queue hall was paused already");
    let queues = bench.run(&["queue", "list", "--json"]).await.lines();
    assert_eq!(queues, [json!({ "queue": "hall", "ready": 1, "paused": true })]);
    assert!(worker.life.step(&[], 1, &["hall".into()], None).await.expect("a step").claims.is_empty());
    let resumed = bench.run(&["queue", "resume", "hall", "--json"]).await.json();
    assert_eq!(resumed, json!({ "queue": "hall", "paused": false, "changed": true }));
    assert_eq!(worker.claim().await.ticket().id.to_string(), id);

    let stats = bench.run(&["stats", "--json"]).await.json();
    assert_eq!((&stats["processing_tasks"], &stats["workers"]), (&json!(1), &json!(1)));
    let stats = bench.run(&["stats"]).await;
    assert!(stats.ok().lines().any(|line| line.starts_with("processing          1 ")), "{}", stats.out);
    let handlers = bench.run(&["handlers", "--json"]).await.lines();
    assert_eq!(handlers, [json!({ "type": "greet", "queue": "hall", "doc": "Greets somebody." })]);
    assert!(bench.run(&["handlers"]).await.ok().ends_with("greet  hall   Greets somebody."));
    assert_eq!(bench.run(&["task", "cancel", &id]).await.ok(), format!("{id} asked to stop"));
    let other = bench.run(&["queue", "list", "--namespace", "other"]).await;
    assert!(!other.ok().contains("hall"), "{}", other.out);
}

#[tokio::test]
async fn a_list_goes_on_where_it_stopped() {
    let bench = Bench::new().await;
    let tasks = (0..130).map(|i| NewTask::<()>::new(["faq", "bugfix"][i % 2], &i));
    let all: BTreeSet<String> =
        bench.orch.enqueue_all(tasks).await.expect("room").iter().map(|handle| handle.id().to_string()).collect();
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..10 {
        let mut args = vec!["task", "list", "--json", "--limit", "60"];
        args.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
        let page = bench.run(&args).await.json();
        seen.extend(page["tasks"].as_array().expect("tasks").iter().map(|task| task["task_id"].to_string()));
        cursor = page["cursor"].as_str().map(Into::into);
        if cursor.is_none() {
            break;
        }
    }
    let ids: BTreeSet<String> = seen.iter().map(|id| id.trim_matches('"').to_owned()).collect();
    assert!(ids == all && seen.len() == all.len());
    let some = bench.run(&["task", "list", "--type", "faq", "--priority", "P2", "--since", "1h", "-n", "1000"]).await;
    assert_eq!(some.ok().lines().count(), 1 + 65);
    let first = bench.run(&["task", "list", "--queue", "dev_agent", "-n", "5"]).await;
    assert!(first.ok().lines().count() == 6 && first.err.contains("--cursor "), "{}", first.err);
}

#[tokio::test]
async fn all_dead_letters_are_retried_or_counted() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    for i in 0..7 {
        let task = NewTask::<()>::new(["greet", "other"][i % 2], &i).queue("hall");
        bench.orch.enqueue(task).await.expect("room");
        worker.finish(worker.claim().await.fail("fatal", "no\nway")).await;
    }
    let dry = bench.run(&["task", "retry", "--dead", "--dry-run"]).await;
    assert_eq!(dry.ok(), "7 failed tasks would be retried");
    let some = bench.run(&["task", "retry", "--dead", "--type", "other"]).await;
    assert_eq!((some.ok(), some.err.as_str()), ("3 tasks retried", "3 failed tasks\n"));
    let rest = bench.run(&["task", "retry", "--dead", "--json"]).await.json();
    assert_eq!(rest, json!({ "found": 4, "retried": 4 }));
    assert_eq!(bench.run(&["task", "retry", "--dead"]).await.ok(), "0 tasks retried");
    let ready = TaskFilter { statuses: vec![Status::Assigned], ..TaskFilter::default() };
    assert_eq!(bench.orch.list(&ready, None, 100).await.expect("a page").tasks.len(), 7);
}
