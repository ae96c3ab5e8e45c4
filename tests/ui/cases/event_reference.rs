use orchestrator_worker::{Data, Event, TaskResult, event_handler};

#[event_handler("deploy.*")]
async fn announce(_ev: &Event<u64>, _names: Data<Vec<&str>>) -> TaskResult {
    Ok(())
}

fn main() {}
