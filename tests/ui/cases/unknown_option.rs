use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", qeue = "ops", colour = "red")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
