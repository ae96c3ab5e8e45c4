//! A worker for tasks in any language: it runs a command for each attempt. `orchestrator worker` is this program.

fn main() -> std::process::ExitCode {
    orchestrator_worker::exec::main()
}
