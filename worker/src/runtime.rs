//! What `#[orchestrator_worker::main]` sets up: a multi-threaded runtime, and logs on standard error.

use std::future::Future;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Runs `main` to its end. `LOG_LEVEL` chooses what is logged (`info` unless set; `debug`, or a filter such as
/// `warn,my_agents=debug`).
///
/// # Panics
/// When the operating system gives no threads.
#[allow(clippy::expect_used)]
pub fn run_main<T>(main: impl Future<Output = T>) -> T {
    let filter = EnvFilter::try_from_env("LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new("info"));
    // Somebody who has set up logs of his own keeps them.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime needs threads").block_on(main)
}
