use orchestrator_worker::{Event, TaskResult, event_handler, task_handler};

#[task_handler("deploy")]
async fn deploy(_args: u64) -> TaskResult {
    Ok(())
}

async fn plain(_args: u64) -> TaskResult {
    Ok(())
}

#[event_handler("pr.merged", start = deploy)]
fn another_payload(_ev: Event<u64>) -> Option<String> {
    None
}

#[event_handler("pr.merged", start = plain)]
fn no_task_handler(_ev: Event<u64>) -> Option<u64> {
    None
}

fn main() {}
