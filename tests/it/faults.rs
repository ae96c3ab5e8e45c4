//! What breaks, on purpose: processes, connections, servers, stored bytes. What was accepted is done all the same.

mod blocked;
mod cut;
mod flaky;
mod groups;
mod idle;
mod input;
mod kill;
mod late;
mod line;
mod look;
mod malformed;
mod memory;
mod parked;
mod poison;
mod poke;
mod restart;
mod signals;
mod stall;
mod steps;
mod unfit;
mod zombie;

use std::time::Duration;

use orchestrator_tests::{Fixture, Server};
use orchestrator_worker::{Orchestrator, Result, Stop, Worker, WorkerBuilder};
use tokio::task::JoinHandle;

/// Shortest lease that a worker may have, for tests that wait until one is over.
const SHORT: Duration = Duration::from_secs(3);

/// A worker without the handlers of other tests.
fn worker(orch: &Orchestrator) -> WorkerBuilder {
    Worker::builder(orch.clone()).discover(false)
}

fn run(builder: WorkerBuilder) -> (Stop, JoinHandle<Result>) {
    let stop = Stop::new();
    let worker = builder.build().expect("a fair worker");
    (stop.clone(), tokio::spawn(worker.run_until(stop)))
}

/// A worker process for the tasks of `orch`, with a short lease, that tells `effects` what it did.
fn fixture(orch: &Orchestrator, effects: &Server) -> Fixture {
    Fixture {
        program: env!("CARGO_BIN_EXE_fixture"),
        redis: orch.config().url.clone(),
        namespace: orch.config().namespace.clone(),
        effects: effects.url(),
        tag: "a".into(),
        slots: 8,
        lease: SHORT,
        grace: Duration::from_secs(30),
        hold: 0,
        test_clock: false,
        group: None,
    }
}
