use orchestrator_worker::{TaskResult, task_handler};

struct Bug {
    id: u64,
}

#[task_handler("bugfix")]
async fn bugfix(bug: Bug) -> TaskResult<u64> {
    Ok(bug.id)
}

fn main() {
    let _ = bugfix::with(Bug { id: 1 });
}
