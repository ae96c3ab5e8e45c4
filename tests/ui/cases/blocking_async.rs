use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("resize", blocking = true)]
async fn resize(_id: u64) -> TaskResult {
    Ok(())
}

#[task_handler("shrink", blocking = "yes")]
fn shrink(_id: u64) -> TaskResult {
    Ok(())
}

fn main() {
    let _ = (resize::with(1), shrink::with(1));
}
