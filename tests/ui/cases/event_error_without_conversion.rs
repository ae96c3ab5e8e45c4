use orchestrator_worker::{Event, TaskResult, event_handler, task_handler};

struct Oops;

#[task_handler("deploy")]
async fn deploy(_args: u64) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
async fn announce(_ev: Event<u64>) -> Result<(), Oops> {
    Err(Oops)
}

#[event_handler("pr.merged", start = deploy)]
fn on_merge(_ev: Event<u64>) -> Result<Option<u64>, Oops> {
    Err(Oops)
}

fn main() {}
