use orchestrator_worker::{TaskResult, task_handler};

struct NotAnError;

#[task_handler("deploy", no_retry = [std::io::Error, NotAnError])]
async fn deploy(_args: ()) -> TaskResult {
    Ok(())
}

#[task_handler("build", no_retry = ["NotAnError"], expires = "1 hour", unique(by = ["repo"], until = "finished"))]
async fn build(_args: ()) -> TaskResult {
    Ok(())
}

fn main() {}
