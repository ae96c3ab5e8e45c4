//! The command line of Orchestrator: submits, shows, cancels and retries tasks, and shows queues and workers.

mod cli;

/// A gateway makes and drops many small things on all its threads, which the system's allocator does one at a time.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
