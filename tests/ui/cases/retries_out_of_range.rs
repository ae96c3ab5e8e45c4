use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", retries = 256)]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
