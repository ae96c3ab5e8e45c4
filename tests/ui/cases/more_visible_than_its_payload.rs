use orchestrator_worker::{TaskResult, payload, task_handler};

#[payload]
struct Bug {
    id: u64,
}

#[task_handler("bugfix")]
pub async fn bugfix(bug: Bug) -> TaskResult<u64> {
    Ok(bug.id)
}

fn main() {}
