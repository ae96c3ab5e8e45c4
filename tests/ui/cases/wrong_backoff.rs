use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix", backoff = "linear(2s)")]
async fn bugfix(_id: u64) -> TaskResult {
    Ok(())
}

#[task_handler("report", backoff = "exp(10m, 2s)")]
async fn report(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {}
