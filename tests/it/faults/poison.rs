//! A task that takes its worker's process down, again and again.

use orchestrator::{CRASHES_MAX, NewTask, Status};
use orchestrator_tests::{Server, orch};
use orchestrator_worker::Error;

use super::fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_crash_is_poison_and_other_tasks_go_on() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let worker = fixture(&orch, &effects);
    let crash = orch.enqueue(NewTask::<()>::new("crash", &()).queue("crash").max_retries(9)).await.unwrap();
    for crashes in 0..u32::from(CRASHES_MAX) {
        let mut process = worker.start();
        // It rescues the task from the process before it, and falls over it in turn.
        assert!(!process.ended().await.success());
        let seen = crash.task().await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::InProgress, crashes + 1, crashes));
    }
    let mut process = worker.start();
    let error = crash.result().await.expect_err("poison");
    assert!(
        matches!(&error, Error::TaskEnded { status: Status::Failed, error, .. } if error.contains("3 times")),
        "{error}"
    );
    let seen = crash.task().await.unwrap();
    assert_eq!((seen.reason.as_deref(), seen.attempt, seen.crashes), (Some("poison"), 3, 3));
    assert_eq!(orch.stats().await.unwrap().dead_tasks, 1);
    let other = orch.enqueue(NewTask::<u32>::new("work", &5u32).queue("work")).await.unwrap();
    assert_eq!(other.result().await.unwrap(), 5);
    process.signal("TERM");
    assert!(process.ended().await.success());
}
