use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix")]
async fn bugfix(_id: &str) -> TaskResult {
    Ok(())
}

fn main() {
    let _ = bugfix::with("1");
}
