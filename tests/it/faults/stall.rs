//! Redis stands still for longer than a lease: nobody takes that for the death of those who are alive.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use orchestrator_tests::{Server, until, within};
use orchestrator_worker::{Data, Orchestrator, Status, TaskResult, task_handler};

use super::{SHORT, run, worker};

/// What the handlers share with their test.
#[derive(Default)]
struct Bench {
    started: AtomicU32,
    halted: AtomicU32,
}

struct Watch(Arc<Bench>, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.halted.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Goes on until it is halted; the next time it is done at once.
#[task_handler("stay", queue = "stay")]
async fn stay(_: u32, bench: Data<Arc<Bench>>) -> TaskResult {
    let mut watch = Watch(Arc::clone(&bench), false);
    bench.started.fetch_add(1, Ordering::SeqCst);
    if bench.halted.load(Ordering::SeqCst) == 0 {
        std::future::pending::<()>().await;
    }
    watch.1 = true;
    Ok(())
}

fn signal(server: &Server, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &server.pid().to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_makes_nobody_a_victim() {
    let server = Server::start(&[]);
    let orch = Orchestrator::connect(&server.url()).await.unwrap();
    let bench = Arc::new(Bench::default());
    // Each with a connection of its own, as two processes have.
    let mut workers = Vec::new();
    for _ in 0..2 {
        let own = Orchestrator::connect(&server.url()).await.unwrap();
        workers.push(run(worker(&own).data(Arc::clone(&bench)).register::<stay>().slots(1).lease(SHORT)));
    }
    let handles = orch.enqueue_all((0..2).map(stay::with)).await.unwrap();
    let started = |n| {
        let bench = Arc::clone(&bench);
        move || std::future::ready((bench.started.load(Ordering::SeqCst) >= n).then_some(()))
    };
    until("both tasks in hand", started(2)).await;
    // Everybody has seen everybody's lease.
    let beats = async || {
        let mut raw = server.raw().await;
        let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0");
        line.split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let seen = beats().await;
    until("two beats of each", || async { (beats().await >= seen + 4).then_some(()) }).await;

    signal(&server, "STOP");
    until("both handlers to be halted", || async { (bench.halted.load(Ordering::SeqCst) == 2).then_some(()) }).await;
    // The leases are over by now or soon, by every clock; the standstill lasts longer still.
    tokio::time::sleep(SHORT).await;
    signal(&server, "CONT");
    for handle in &handles {
        handle.result().await.unwrap();
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.status, seen.crashes), (Status::Completed, 0), "nobody had died");
    }
    for (stop, running) in workers {
        stop.drain();
        within("a worker's end", running).await.unwrap().unwrap();
    }
}
