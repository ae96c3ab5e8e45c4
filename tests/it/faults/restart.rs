//! Redis itself is killed under load, and loses its scripts: nothing that was accepted is lost, and work goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use orchestrator_tests::{Server, orch, raw, until, within};
use orchestrator_worker::{Data, Error, Orchestrator, TaskContext, TaskHandle, TaskResult, task_handler};
use tokio::task::JoinHandle;

use super::{run, worker};

/// Ends loops.
type Flag = Arc<AtomicBool>;
/// How often the scripts are lost.
const FLUSHES: usize = 100;

type Count = Arc<AtomicU64>;

/// Every fifth fails once.
#[task_handler("count", queue = "count", backoff = "fixed(1ms)")]
async fn count(n: u64, done: Data<Count>, ctx: TaskContext) -> TaskResult<u64> {
    done.fetch_add(1, Ordering::SeqCst);
    if n.is_multiple_of(5) && ctx.attempt() == 1 {
        return Err("once more".into());
    }
    Ok(n)
}

/// Submits one task after the other until told to stop; returns the accepted ones, and what the others met.
fn enqueuer(orch: &Orchestrator, stop: &Flag) -> JoinHandle<(Vec<TaskHandle<u64>>, Vec<Error>)> {
    let (orch, stop) = (orch.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::SeqCst) {
            match orch.enqueue(count::with(accepted.len() as u64)).await {
                Ok(handle) => accepted.push(handle),
                Err(error) => refused.push(error),
            }
        }
        (accepted, refused)
    })
}

async fn more(done: &Count, than: u64) {
    until("work going on", || async { (done.load(Ordering::SeqCst) > than).then_some(()) }).await;
}

/// A folder in memory where there is one: there the append-only file is never behind for a slow disk's sake, so that
/// a kill loses nothing that was answered.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = parent.join(format!("orch-aof-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_nothing_accepted_and_work_goes_on_when_it_is_back() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    // Under `everysec` Redis puts a write off, for up to 2 s, while the last fsync is under way; on a busy machine a kill
    // then loses what was answered. That is the level's word, not ours: `always` is the level that promises all.
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always", "--dir", &dir]);
    let orch = Orchestrator::connect(&server.url()).await.unwrap();
    let done = Count::default();
    let (stop_work, running) = run(worker(&orch).data(Arc::clone(&done)).register::<count>());
    let stop = Flag::default();
    let enqueuers: Vec<_> = (0..4).map(|_| enqueuer(&orch, &stop)).collect();
    for (kill, outage) in [Duration::ZERO, Duration::from_secs(3), Duration::ZERO].into_iter().enumerate() {
        more(&done, done.load(Ordering::SeqCst) + 500).await;
        server.kill();
        let before = done.load(Ordering::SeqCst);
        tokio::time::sleep(outage).await;
        server.restart();
        let back = Instant::now();
        // Handlers that held a task meanwhile do not count: as many more as there are slots.
        more(&done, before + 64).await;
        let took = back.elapsed();
        eprintln!("kill {kill}: work went on {took:.2?} after Redis answered again");
        assert!(took <= Duration::from_secs(2), "{took:?}");
    }
    stop.store(true, Ordering::SeqCst);
    let mut handles = Vec::new();
    for enqueuer in enqueuers {
        let (accepted, refused) = within("the enqueuers", enqueuer).await.unwrap();
        assert!(refused.is_empty(), "a short outage is waited for: {refused:?}");
        handles.push(accepted);
    }
    for accepted in &handles {
        for (n, handle) in accepted.iter().enumerate() {
            assert_eq!(handle.result().await.unwrap(), n as u64);
        }
    }
    eprintln!("{} tasks accepted and done", handles.iter().map(Vec::len).sum::<usize>());
    let stats = orch.stats().await.unwrap();
    assert_eq!((stats.total_tasks, stats.dead_tasks, stats.set_aside), (0, 0, 0));
    stop_work.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_vanish_under_load_are_loaded_again_unseen() {
    let orch = orch().await;
    let done = Count::default();
    let (stop_work, running) = run(worker(&orch).data(Arc::clone(&done)).register::<count>());
    let stop = Flag::default();
    let enqueuers: Vec<_> = (0..2).map(|_| enqueuer(&orch, &stop)).collect();
    let mut raw = raw().await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..FLUSHES {
        pace.tick().await;
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").arg("SYNC").query_async(&mut raw).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for enqueuer in enqueuers {
        let (accepted, refused) = within("the enqueuers", enqueuer).await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        assert!(!accepted.is_empty());
        for (n, handle) in accepted.iter().enumerate() {
            assert_eq!(handle.result().await.unwrap(), n as u64);
            assert_eq!(handle.task().await.unwrap().crashes, 0);
        }
        eprintln!("{} tasks went through {FLUSHES} losses of all scripts", accepted.len());
    }
    stop_work.drain();
    running.await.unwrap().unwrap();
}
