use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix")]
fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {
    let _ = bugfix::with(1);
}
