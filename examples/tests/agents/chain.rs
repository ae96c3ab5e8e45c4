//! From a figure beyond its threshold to the repair: who tells what, and who is whose child.

use std::path::PathBuf;
use std::time::Duration;

use orchestrator_examples::alert::{Alert, Raised, alert};
use orchestrator_examples::children::{self, ENVIRONMENT};
use orchestrator_examples::figures::{Finding, Thresholds};
use orchestrator_examples::git::git;
use orchestrator_examples::investigate::Report;
use orchestrator_examples::kb_update::{KbUpdate, Stored, kb_update};
use orchestrator_examples::knowledge::Document;
use orchestrator_examples::monitor::{Monitor, monitor};
use orchestrator_examples::repair::Repair;
use orchestrator_examples::scratch;
use orchestrator_examples::service::Service;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_worker::{Error, Priority, Status, TaskContext, TaskError, TaskId, TaskResult, task_handler};

use crate::begin;

fn shop(repo: PathBuf) -> Service {
    Service { name: "shop".into(), repo, target: None }
}

fn finding() -> Finding {
    Finding { subject: "load".into(), measured: 9.0, threshold: 1.5, message: "9.0 load per core".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crossed_threshold_ends_in_a_repair() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-alert").expect("made");
    let planted = scratch::make(dir.path(), 4).await.expect("made");
    let thresholds = Thresholds { processes: 1, ..Thresholds::default() };
    let look = Monitor { disk: "/".into(), thresholds, service: Some(shop(dir.path().to_owned())) };
    let look = monitor::with(look).priority(Priority::P3).metadata(ENVIRONMENT, "staging").requested_by("ann");
    let first = orch.enqueue(look).await.expect("submitted");
    let health = first.result().await.expect("measured");
    let second = orch.handle::<Raised>(health.alert.expect("raised"));
    let raised = second.result().await.expect("raised");
    assert!(raised.summary.starts_with("shop: ") && raised.summary.contains("processes"), "{}", raised.summary);
    let investigation = second.task().await.expect("known").child_task_ids[0];
    let third = orch.handle::<Report>(investigation);
    let report = third.result().await.expect("investigated");
    assert!(raised.failing > 0 && raised.failing == report.failing.len());
    // What the event has started is a child of the task that told it.
    let fourth = loop {
        match orch.get(second.id()).await.expect("known").child_task_ids[..] {
            [_, bugfix] => break orch.handle::<Repair>(bugfix),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let repair = fourth.result().timeout("120s").await.expect("repaired");
    assert_eq!(repair.file.as_os_str(), planted.plant.file);
    assert_eq!(report.suspects.first(), Some(&repair.file));
    assert_eq!(repair.branch, format!("fix/{}", fourth.id()));
    assert_eq!(git(dir.path(), &["rev-parse", "HEAD"]).await.expect("git"), repair.commit);
    let root = first.task().await.expect("known");
    assert_eq!(root.child_task_ids, [second.id()]);
    assert_eq!(orch.get(second.id()).await.expect("known").child_task_ids, [third.id(), fourth.id()]);
    for (id, kind, parent) in [
        (second.id(), "alert", first.id()),
        (third.id(), "investigate", second.id()),
        (fourth.id(), "bugfix", second.id()),
    ] {
        let task = orch.get(id).await.expect("known");
        assert_eq!((task.task_type.as_str(), task.parent_task_id), (kind, Some(parent)));
        assert_eq!((&task.trace_id, task.priority), (&root.trace_id, Priority::P3));
        assert_eq!((&task.metadata[ENVIRONMENT], task.requested_by.as_deref()), (&"staging".into(), Some("ann")));
    }
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_raised_or_repaired_without_a_reason() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-alert").expect("made");
    scratch::make_healthy(dir.path()).await.expect("made");
    let calm = Thresholds {
        load_per_core: f64::MAX,
        memory_available_percent: 0.0,
        disk_free_percent: 0.0,
        processes: usize::MAX,
    };
    let look = Monitor { disk: "/".into(), thresholds: calm, service: Some(shop(dir.path().to_owned())) };
    let look = orch.enqueue(monitor::with(look)).await.expect("submitted");
    let health = look.result().await.expect("measured");
    assert!(health.findings.is_empty() && health.alert.is_none());
    // Something is wrong with the machine, and nothing with the service: its tests pass.
    let args = Alert { service: shop(dir.path().to_owned()), findings: vec![finding()] };
    let asked = orch.enqueue(alert::with(args)).await.expect("submitted");
    let raised = asked.result().await.expect("raised");
    let [investigation] = asked.task().await.expect("known").child_task_ids[..] else {
        panic!("one child, and no repair")
    };
    let report = orch.handle::<Report>(investigation).result().await.expect("investigated");
    assert!(report.failing.is_empty() && raised.failing == 0);
    for args in [
        Alert { service: shop(dir.path().to_owned()), findings: vec![] },
        Alert { service: shop("/nowhere/at-all".into()), findings: vec![finding()] },
    ] {
        let handle = orch.enqueue(alert::with(args)).await.expect("submitted");
        let error = handle.result().await.expect_err("refused");
        assert!(matches!(error, Error::TaskEnded { status: Status::Failed, .. }), "{error}");
        let task = handle.task().await.expect("known");
        assert!(task.attempt == 1 && task.child_task_ids.is_empty());
    }
    stop.drain();
}

/// Hands work on, and is lost in its first attempt before it can tell.
#[task_handler("hands_on", queue = "ops_agent", retries = 1, backoff = "fixed(10ms)")]
async fn hands_on(kb: PathBuf, ctx: TaskContext) -> TaskResult<TaskId> {
    let document = Document { id: "d".into(), title: "Lost".into(), text: "Found again.".into() };
    let child = children::once(&ctx, "kb_update", kb_update::with(KbUpdate { kb, document })).await?;
    if ctx.attempt() == 1 { Err(TaskError::from("lost")) } else { Ok(child) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_attempt_hands_nothing_on_again() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-once").expect("made");
    let handle = orch.enqueue(hands_on::with(dir.path().to_owned())).await.expect("submitted");
    let child = handle.result().await.expect("done");
    let task = handle.task().await.expect("known");
    assert_eq!((task.attempt, task.child_task_ids), (2, vec![child]));
    orch.handle::<Stored>(child).result().await.expect("stored");
    stop.drain();
}
