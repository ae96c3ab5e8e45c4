#[orchestrator_worker::main]
async fn start() {}
