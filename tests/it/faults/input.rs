//! What cannot be accepted is refused by name, and leaves nothing behind.

use std::time::Duration;

use orchestrator::{Config, Error, NewTask, Orchestrator, TaskId};
use orchestrator_tests::{config, orch, raw};

use super::look::Look;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn task(payload: &serde_json::Value) -> NewTask {
    NewTask::new("t", payload).queue("q")
}

fn nested(depth: usize) -> serde_json::Value {
    (0..depth).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]))
}

/// The refusal's text; it must be the caller's fault.
async fn refusal(orch: &Orchestrator, tasks: Vec<NewTask>) -> String {
    match orch.enqueue_all(tasks).await {
        Err(Error::Invalid { what }) => what,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_name_and_stores_nothing() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let null = serde_json::Value::Null;
    let good = || task(&null);
    let id: TaskId = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000".parse().unwrap();
    let fresh = orch.enqueue(good()).await.unwrap();
    let now = fresh.task().await.unwrap().created_at;
    let stored = look.dump().await;
    let cases: Vec<(NewTask, &str)> = vec![
        (task(&"x".repeat((1 << 20) + 1).into()), "at most 1048576 are allowed"),
        (task(&nested(65)), "nested deeper than 64"),
        (NewTask::new("", &null).queue("q"), "task type"),
        (NewTask::new("No Spaces", &null).queue("q"), "task type"),
        (NewTask::new(&"t".repeat(65), &null).queue("q"), "task type"),
        (NewTask::new("t\n", &null).queue("q"), "task type"),
        (good().queue("{q}"), "queue"),
        (good().queue(""), "queue"),
        (good().queue("q:r"), "queue"),
        (good().trace_id(""), "trace id"),
        (good().trace_id(&"x".repeat(129)), "trace id"),
        (good().requested_by("a\u{7}b"), "caller"),
        (good().metadata("k", "x".repeat(17 * 1024)), "metadata"),
        (good().delay("soon"), "not a span of time"),
        (good().delay(367 * DAY), "366 days"),
        (good().delay(Duration::MAX), "366 days"),
        (good().run_at(now + 400 * DAY), "366 days"),
        (good().delay("1s").run_at(now), "not both"),
        (good().id(id), "more than a minute old"),
    ];
    for (bad, says) in cases {
        let told = refusal(&orch, vec![good(), bad, good()]).await;
        assert!(told.contains(says), "`{told}` does not say `{says}`");
    }
    let twins = vec![good().id(fresh.id()), good().id(fresh.id())];
    assert!(refusal(&orch, twins).await.contains("twice in one call"));
    assert_eq!(look.dump().await, stored);
    assert_eq!(look.all_events().await.len(), 1, "only the good one was ever told of");
}

#[tokio::test]
async fn a_payload_at_its_bounds_is_taken() {
    let orch = orch().await;
    for payload in ["x".repeat((1 << 20) - 5).into(), nested(64)] {
        let handle = orch.enqueue(task(&payload)).await.unwrap();
        assert_eq!(handle.task().await.unwrap().payload, payload);
    }
}

#[tokio::test]
async fn an_unknown_type_is_refused_with_the_known_ones_and_the_nearest() {
    let orch = orch().await;
    let told = refusal(&orch, vec![NewTask::new("bugfx", &())]).await;
    assert!(told.contains("`bugfx`") && told.contains("Did you mean `bugfix`?"), "{told}");
    for known in ["faq", "kb_update", "bugfix", "refactor", "feature", "investigate", "deploy", "monitor", "alert"] {
        assert!(told.contains(known), "{told}");
    }
    let told = refusal(&orch, vec![NewTask::new("qqqqqqqqqq", &())]).await;
    assert!(!told.contains("Did you mean") && told.contains("deploy"), "{told}");
    assert_eq!(orch.stats().await.unwrap().total_tasks, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_and_stores_nothing_until_there_is_room() {
    let orch = Orchestrator::with_config(Config { queue_max: 3, ..config() }).await.unwrap();
    let mut look = Look::at(&orch, raw().await);
    let null = serde_json::Value::Null;
    let two = || [task(&null), task(&null)];
    let handles = orch.enqueue_all(two()).await.unwrap();
    let stored = look.dump().await;
    let error = orch.enqueue_all(two()).await.expect_err("full");
    assert!(matches!(&error, Error::QueueFull { queue, bound: 3 } if queue == "q"), "{error:?}");
    assert_eq!(look.dump().await, stored, "all or none");
    orch.enqueue(task(&null)).await.expect("the third fits");
    let error = orch.enqueue(task(&null)).await.expect_err("full");
    assert!(error.to_string().contains("queue `q` is full at its bound of 3 tasks; nothing was stored"), "{error}");
    orch.enqueue(task(&null).queue("other")).await.expect("another queue has room");
    handles[0].cancel().await.unwrap();
    orch.enqueue(task(&null)).await.expect("there is room again");
}
