//! What the tests share: a real Redis a process, a namespace a test, and ways to await facts.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::expect_used)]

pub mod process;
pub mod proxy;
mod resp;
pub mod server;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use orchestrator::{ApprovalPolicy, Config, Event, EventsFrom, Heard, Incarnation, Orchestrator, Status, TaskId};

pub use process::{Fixture, Process};
pub use proxy::{Exchange, Proxy};
pub use server::{Server, redis_program};

/// Longest wait for a fact; far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace that no other test uses.
#[must_use]
pub fn namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A client on the shared server of this process, in a namespace of its own.
pub async fn orch() -> Orchestrator {
    Orchestrator::with_config(config()).await.expect("a client on a fresh namespace")
}

/// A client whose submissions need the approvals of the default policy.
pub async fn strict() -> Orchestrator {
    let config = Config { approvals: ApprovalPolicy::default(), ..config() };
    Orchestrator::with_config(config).await.expect("a client on a fresh namespace")
}

/// Settings for the shared server, with a fresh namespace; no task needs an approval.
#[must_use]
pub fn config() -> Config {
    Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&server::shared().url()) }
}

/// A plain connection to the shared server, for looking behind the curtain.
pub async fn raw() -> redis::aio::MultiplexedConnection {
    server::shared().raw().await
}

/// The name of a key of the first slice, as Redis has it.
#[must_use]
pub fn key(orch: &Orchestrator, name: &str) -> String {
    format!("{{{}.0}}:{name}", orch.config().namespace)
}

/// All events that are kept, in order.
pub async fn all_events(orch: &Orchestrator) -> Vec<Event> {
    let (mut events, mut found) = (orch.events(&[], EventsFrom::Oldest), Vec::new());
    while let Some(heard) = events.next_if_any().await.expect("the events") {
        if let Heard::Event(event) = heard {
            found.push(*event);
        }
    }
    found
}

/// Waits until a task waits.
pub async fn blocked(orch: &Orchestrator, task: TaskId) {
    until("the task waits", async || (orch.get(task).await.expect("the task").status == Status::Blocked).then_some(()))
        .await;
}

/// Waits until a task of `queue` whose worker died is taken back: its `crashes`-th crash. That worker's lease is a brief one.
pub async fn taken_back(orch: &Orchestrator, queue: &str, task: TaskId, crashes: u32) {
    let brief = Duration::from_millis(1);
    let rescuer = Incarnation::join(orch, &[queue.into()], &[], brief).await.expect("somebody who looks after it");
    until("the dead worker's task is taken back", async || {
        rescuer.beat(&[], &[]).await.expect("a beat");
        rescuer.rescue().await.expect("a rescue");
        (orch.get(task).await.expect("the task").crashes == crashes).then_some(())
    })
    .await;
    rescuer.leave(&[]).await.expect("an end in order");
}

/// Waits until `fact` yields something; fails the test with `what` when it does not within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut fact: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = fact().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for `fact`; fails the test with `what` when it does not come within [`PATIENCE`].
pub async fn within<T>(what: &str, fact: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, fact).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}
