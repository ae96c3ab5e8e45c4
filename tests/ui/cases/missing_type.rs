use orchestrator_worker::{TaskResult, task_handler};

#[task_handler]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

#[task_handler(queue = "ops")]
async fn cleanup(_id: u64) -> TaskResult {
    Ok(())
}

#[task_handler(type = "report")]
async fn report(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
