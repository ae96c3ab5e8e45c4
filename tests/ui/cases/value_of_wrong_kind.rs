use orchestrator_worker::{TaskResult, task_handler};

const OPS: &str = "ops";

#[task_handler("bugfix", queue = OPS, priority = "P1", retries = "3", timeout = 15)]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
