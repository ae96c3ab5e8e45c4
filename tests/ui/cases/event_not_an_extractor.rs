use orchestrator_worker::{Event, TaskContext, TaskResult, event_handler};

struct Unreadable;

#[event_handler("deploy.*")]
async fn announce(_ev: Event<u64>, _ctx: TaskContext) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
async fn read(_ev: Event<Unreadable>) -> TaskResult {
    Ok(())
}

fn main() {}
