use orchestrator_worker::{Event, TaskResult, event_handler};

#[event_handler]
async fn announce(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler(group = "notes")]
async fn note(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler(events = "deploy.*")]
async fn watch(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

fn main() {}
