use orchestrator_worker::{TaskResult, task_handler};

struct Fix {
    _lines: u64,
}

#[task_handler("bugfix")]
async fn bugfix(id: u64) -> TaskResult<Fix> {
    Ok(Fix { _lines: id })
}

fn main() {
    let _ = bugfix::with(1);
}
