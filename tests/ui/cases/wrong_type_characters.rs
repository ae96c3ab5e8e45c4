use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("Bug fix")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
