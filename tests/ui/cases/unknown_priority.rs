use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", priority = High)]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
