use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("deploy", approval(by = "role:sre", quorum = 0, expire = "4h"), sla(warn = 2.0))]
async fn deploy(_args: ()) -> TaskResult {
    Ok(())
}

fn main() {}
