//! Handlers that block every thread of their runtime for longer than a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator_tests::{config, within};
use orchestrator_worker::{Data, Orchestrator, Status, Stop, TaskResult, task_handler};

use super::{SHORT, run, worker};

const THREADS: usize = 2;

#[task_handler("block", queue = "block")]
async fn block(_: u32, runs: Data<Arc<AtomicU32>>) -> TaskResult {
    runs.fetch_add(1, Ordering::SeqCst);
    // On purpose: the thread is lost to the runtime meanwhile.
    std::thread::sleep(SHORT + Duration::from_millis(1500));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heart_beats_while_every_thread_is_blocked() {
    let config = config();
    let orch = Orchestrator::with_config(config.clone()).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let stop = Stop::new();
    let (told, counted) = (stop.clone(), Arc::clone(&runs));
    let blocked = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(THREADS).enable_all().build().unwrap();
        let working = runtime.spawn(async move {
            let orch = Orchestrator::with_config(config).await.unwrap();
            let worker = worker(&orch).data(counted).register::<block>().slots(THREADS).lease(SHORT);
            worker.build().unwrap().run_until(told).await
        });
        runtime.block_on(working)
    });
    let handles = orch.enqueue_all((0..THREADS as u32).map(block::with)).await.unwrap();
    orchestrator_tests::until("both threads blocked", || async {
        (runs.load(Ordering::SeqCst) == THREADS as u32).then_some(())
    })
    .await;
    // Somebody who would rescue and run them.
    let (stop_other, other) =
        run(worker(&orch).data(Arc::clone(&runs)).register::<block>().slots(THREADS).lease(SHORT));
    for handle in &handles {
        handle.result().await.unwrap();
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::Completed, 1, 0));
    }
    assert_eq!(runs.load(Ordering::SeqCst), THREADS as u32, "each ran once");
    stop_other.drain();
    within("the other worker's end", other).await.unwrap().unwrap();
    stop.drain();
    let ended = tokio::task::spawn_blocking(move || blocked.join().unwrap());
    within("the blocked worker's end", ended).await.unwrap().unwrap().unwrap();
}
