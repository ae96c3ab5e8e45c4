use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", queue = "ops", queue = "dev")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
