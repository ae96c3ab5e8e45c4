//! The agents as tasks: on a private Redis, with a worker in this process.

use std::path::Path;
use std::time::Duration;

use orchestrator_examples::bugfix::{Bugfix, bugfix};
use orchestrator_examples::git::git;
use orchestrator_examples::investigate::{Investigate, Question, investigate};
use orchestrator_examples::monitor::{Monitor, monitor};
use orchestrator_examples::plants::CATALOGUE;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{figures, scratch, search};
use orchestrator_worker::{Error, Orchestrator, Status, Stop, Worker};

#[path = "agents/chain.rs"]
mod chain;
#[path = "agents/development.rs"]
mod development;
#[path = "agents/events.rs"]
mod events;
#[path = "agents/knowledge.rs"]
mod knowledge;
#[path = "agents/operations.rs"]
mod operations;

/// A client, and the means to stop the worker that serves it.
async fn begin() -> (Orchestrator, Stop) {
    let orch = Orchestrator::embedded().await.expect("a private Redis");
    let stop = Stop::new();
    let worker = Worker::builder(orch.clone()).slots(4).build().expect("nine handlers");
    tokio::spawn(worker.run_until(stop.clone()));
    (orch, stop)
}

fn ask(root: &Path, question: Question) -> Investigate {
    Investigate { root: root.to_owned(), question, bounds: search::Bounds::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_further_attempt_can_mend_is_not_tried_again() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-unclean").expect("made");
    scratch::make(dir.path(), 1).await.expect("made");
    std::fs::write(dir.path().join("mine"), "x").expect("written");
    let args = Bugfix { repo: dir.path().to_owned(), suspects: vec![], target: None };
    let handle = orch.enqueue(bugfix::with(args)).await.expect("submitted");
    let error = handle.result().timeout("60s").await.expect_err("somebody works there");
    assert!(matches!(&error, Error::TaskEnded { status: Status::Failed, .. }), "{error}");
    assert!(error.to_string().contains("has changes that are not committed"), "{error}");
    let task = handle.task().await.expect("known");
    assert_eq!((task.attempt, task.reason.as_deref()), (1, Some("fatal")));
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_cancelled_leaves_the_repository_alone() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-cancelled").expect("made");
    // One that takes some dozens of changes.
    let slow = CATALOGUE.iter().find(|plant| plant.before == "SHIPPING = 495").expect("in the catalogue");
    let head = scratch::make_with(dir.path(), *slow).await.expect("made").commit;
    let args = Bugfix { repo: dir.path().to_owned(), suspects: vec![], target: None };
    let handle = orch.enqueue(bugfix::with(args)).await.expect("submitted");
    while handle.task().await.expect("known").status != Status::InProgress {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    handle.cancel().await.expect("asked for");
    let error = handle.result().timeout("20s").await.expect_err("cancelled");
    assert!(matches!(error, Error::TaskEnded { status: Status::Cancelled, .. }), "{error}");
    assert_eq!(git(dir.path(), &["rev-parse", "HEAD"]).await.expect("git"), head);
    assert_eq!(git(dir.path(), &["branch", "--list", "fix/*"]).await.expect("git"), "");
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_and_the_source_are_looked_at() {
    let (orch, stop) = begin().await;
    let thresholds = figures::Thresholds { processes: 0, ..figures::Thresholds::default() };
    let look = Monitor { disk: "/".into(), thresholds, service: None };
    let health = orch.enqueue(monitor::with(look)).await.expect("submitted");
    let here = ask(Path::new(env!("CARGO_MANIFEST_DIR")), Question::Term("parse_df".into()));
    let report = orch.enqueue(investigate::with(here)).await.expect("submitted");
    let health = health.result().await.expect("measured");
    assert!(health.figures.memory_total_kib > 0);
    assert!(health.findings.iter().any(|finding| finding.subject == "processes"));
    let report = report.result().await.expect("searched");
    let best = &report.clues[0].found.hits[0];
    assert_eq!(best.path, Path::new("agents/figures.rs"));
    assert!(report.failing.is_empty());
    stop.drain();
}
