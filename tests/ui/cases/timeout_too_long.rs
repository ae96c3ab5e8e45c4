use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", timeout = "8d")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
