#[orchestrator_worker::main]
async fn main(_args: Vec<String>) {}
