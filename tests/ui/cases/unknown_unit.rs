use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", timeout = "15 parsecs")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
