#[orchestrator_worker::main]
fn main() {}
