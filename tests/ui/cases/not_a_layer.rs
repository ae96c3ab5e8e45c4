use orchestrator_worker::{Orchestrator, TaskResult, Worker, task_handler};

#[task_handler("bugfix")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

struct Logging;

fn add(orch: Orchestrator) {
    let _ = Worker::builder(orch.clone()).layer(Logging);
    let _ = Worker::builder(orch).middleware(Logging);
}

fn main() {
    let _ = add;
}
