//! The program `orchestrator-worker`, for the tests to run.

fn main() -> std::process::ExitCode {
    orchestrator_worker::exec::main()
}
