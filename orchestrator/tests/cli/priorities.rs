//! Priorities and the order within queues, from the command line.

use orchestrator::{Aging, Config, Orchestrator, Priority, TaskId};

use crate::bench::{Bench, finish};

#[tokio::test]
async fn a_priority_is_changed_and_refusals_say_why() {
    let bench = Bench::strict().await;
    let id = bench.run(&["task", "submit", "faq", "--priority", "P3"]).await.ok().to_owned();
    assert_eq!(bench.run(&["task", "priority", &id, "P2"]).await.ok(), format!("{id} is P2 now, assigned"));
    let held = bench.run(&["task", "priority", &id, "P0"]).await;
    assert_eq!(held.code, 1);
    assert!(held.err.contains("needs an approval (high priority)"), "{}", held.err);
    assert_eq!(bench.run(&["task", "priority", "--force", &id, "P0"]).await.ok(), format!("{id} is P0 now, assigned"));
    let task: TaskId = id.parse().unwrap();
    assert_eq!(bench.orch.get(task).await.unwrap().priority, Priority::P0);
    let wrong = bench.run(&["task", "priority", &id, "P9"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("P0, P1, P2, P3"), "{}", wrong.err);
    bench.run(&["task", "cancel", &id]).await.ok();
    assert!(bench.run(&["task", "priority", &id, "P1"]).await.err.contains("was cancelled"));
}

#[tokio::test]
async fn aging_is_shown_and_changed_and_processes_that_want_another_do_not_start() {
    let bench = Bench::new().await;
    for priority in ["P0", "P1", "P3"] {
        bench.run(&["task", "submit", "faq", "--priority", priority]).await.ok();
    }
    assert_eq!(bench.run(&["queue", "aging"]).await.ok(), "aging is off; 3 tasks wait, 0 leases run");
    let dry = bench.run(&["queue", "aging", "10m", "--dry-run"]).await;
    assert_eq!(dry.ok(), "aging is off; 3 tasks wait, 0 leases run; they would get their places for aging 10m");

    let mut other = bench.command(&["stats"]);
    other.env("ORCHESTRATOR_AGING", "10m");
    let refused = finish(other, b"").await;
    assert_eq!(refused.code, 69);
    assert!(refused.err.contains("has the aging off") && refused.err.contains("queue aging 10m"), "{}", refused.err);

    let worker = bench.worker("q").await;
    let present = bench.run(&["queue", "aging", "10m"]).await;
    assert!(present.code == 1 && present.err.contains("1 leases run"), "{}", present.err);
    worker.life.leave(&[]).await.unwrap();
    // Also by who is set to the order that is to be.
    let mut change = bench.command(&["queue", "aging", "10m"]);
    change.env("ORCHESTRATOR_AGING", "10m");
    let changed = finish(change, b"").await;
    assert_eq!(changed.ok(), "aging was off and is 10m; 2 of 3 waiting tasks have new places");
    let anew = Orchestrator::with_config(Config { aging: Aging::Stored, ..bench.orch.config().clone() }).await;
    assert_eq!(anew.unwrap().config().aging.to_string(), "10m");
    assert_eq!(bench.run(&["queue", "aging", "off", "--json"]).await.json()["rewritten"], 2);
    for wrong in ["10", "1ms", "40d"] {
        assert_eq!(bench.run(&["queue", "aging", wrong]).await.code, 2, "{wrong}");
    }
}
