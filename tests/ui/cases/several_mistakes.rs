//! One build shows them all, and the task can be enqueued without further errors.

use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix!", qeue = "ops", retries = 1000)]
fn bugfix(_id: &str) -> TaskResult<u64> {
    Ok(1)
}

fn main() {
    let _ = bugfix::with("1");
}
