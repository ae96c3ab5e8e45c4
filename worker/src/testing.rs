//! Tests of handlers: by themselves, with people and time, and with a worker that dies at every await.
//!
//! Put the feature where tests are, and nowhere else: it lets the time of a namespace be moved, so it does not compile in
//! release builds.
//!
//! ```toml
//! [dev-dependencies]
//! orchestrator-worker = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`Solo`] runs one handler without a Redis. [`Harness`] has a private Redis whose clock stands still unless the test
//! moves it, and a worker that runs one task after the other in the test's own thread:
//!
//! ```no_run
//! use orchestrator_worker::testing::{Effects, Harness};
//! use orchestrator_worker::{Data, Once, TaskContext, TaskResult, payload, task_handler};
//!
//! #[payload]
//! struct Deploy { service: String }
//!
//! struct Cluster { effects: Effects }
//!
//! impl Cluster {
//!     async fn roll_out(&self, service: &str) -> std::io::Result<String> {
//!         self.effects.happen("roll out");
//!         Ok(format!("{service} is out"))
//!     }
//! }
//!
//! #[task_handler("deploy")]
//! async fn deploy(args: Deploy, cluster: Data<Cluster>, ctx: TaskContext) -> TaskResult<String> {
//!     let plan = ctx.step("plan", || async { Ok::<_, std::io::Error>(args.service.clone()) }).await?;
//!     let plan = ctx.approve(plan).by("role:sre").await?;
//!     ctx.step("roll out", || cluster.roll_out(&plan)).await
//! }
//!
//! # /*
//! #[orchestrator_worker::test]
//! # */
//! async fn deploys_once(h: Harness) {
//!     let h = h.data(Cluster { effects: Effects::default() });
//!     let task = h.enqueue(deploy::with(Deploy { service: "api".into() })).await;
//!     h.until_parked(&task).await;
//!     h.advance("3h").await; // nobody is in a hurry
//!     h.approve_as_role(&task, "alice", "sre").await;
//!     assert_eq!(h.finish(&task).await.as_deref(), Ok("api is out"));
//! }
//!
//! # /*
//! #[orchestrator_worker::test]
//! # */
//! async fn whenever_the_worker_dies(h: Harness) {
//!     let h = h.data(Cluster { effects: h.effects() });
//!     let task = || deploy::with(Deploy { service: "api".into() });
//!     let sweep = h.crash_everywhere(task, |run| async move {
//!         run.until_parked().await;
//!         run.approve_as_role("alice", "sre").await;
//!         assert!(run.finish().await.is_ok());
//!     });
//!     println!("{}", sweep.await);
//! }
//! # fn main() {}
//! ```
//!
//! Virtual time is that of the namespace: sleeps, delays of retries, expiry of questions, service-level clocks. Within one
//! attempt time is real: its timeout, and whatever the handler does with `tokio::time`.

mod clock;
mod drive;
mod harness;
mod people;
mod setup;
mod solo;
mod sweep;
mod tally;

use std::fmt::Display;
use std::future::Future;

pub use clock::Seen;
pub use harness::{Harness, Names};
pub use people::{Answer, Effects, Ended};
pub use solo::Solo;
pub use sweep::{Run, Sweep};
pub use tally::Counts;

/// When virtual time begins: 2030-01-01, a Tuesday, at 00:00 UTC.
const EPOCH_MS: u64 = 1_893_456_000_000;

/// What a test cannot go on without.
#[track_caller]
fn sure<T, E: Display>(what: &str, outcome: Result<T, E>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Runs a test on a runtime of its own, in one thread: then a handler's awaits come in the same order each time.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    sure("no runtime for the test", runtime).block_on(test)
}

/// What `#[orchestrator_worker::test]` makes of a test that takes a harness.
#[doc(hidden)]
pub fn run_test<T, F: Future<Output = T>>(test: impl FnOnce(Harness) -> F) -> T {
    block_on(async { test(Harness::start().await).await })
}

/// What it makes of one that takes nothing.
#[doc(hidden)]
pub fn run_test_alone<T>(test: impl Future<Output = T>) -> T {
    block_on(test)
}
