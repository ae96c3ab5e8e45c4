//! The command line of Orchestrator: submits, shows, cancels and retries tasks, and shows queues and workers.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
