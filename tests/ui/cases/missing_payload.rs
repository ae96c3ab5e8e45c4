use orchestrator_worker::{TaskContext, TaskResult, task_handler};

#[task_handler("cleanup")]
async fn cleanup() -> TaskResult {
    Ok(())
}

#[task_handler("report")]
async fn report(_ctx: TaskContext) -> TaskResult {
    Ok(())
}

fn main() {}
