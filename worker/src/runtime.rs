//! What `#[orchestrator_worker::main]` sets up: a multi-threaded runtime, and logs on standard error.

use std::future::Future;

/// Runs `main` to its end. `LOG_LEVEL` chooses what is logged (`info` unless set; `debug`, or a filter such as
/// `warn,my_agents=debug`), `LOG_FORMAT` how: `text`, or `json`, one object a line.
///
/// # Panics
/// When the operating system gives no threads.
#[allow(clippy::expect_used)]
pub fn run_main<T>(main: impl Future<Output = T>) -> T {
    // Somebody who has set up logs of his own keeps them.
    orchestrator::log::begin("info");
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime needs threads").block_on(main)
}
