use orchestrator_worker::{Event, TaskResult, event_handler};

#[event_handler("deploy.*", retrys = 3, queue = "ops")]
async fn announce(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

fn main() {}
