use orchestrator_worker::{Event, TaskResult, event_handler, task_handler};

#[task_handler("deploy")]
async fn deploy(_args: u64) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
async fn output(ev: Event<u64>) -> TaskResult<u64> {
    Ok(ev.payload)
}

#[event_handler("pr.merged")]
async fn option_without_start(ev: Event<u64>) -> TaskResult<Option<u64>> {
    Ok(Some(ev.payload))
}

#[event_handler("pr.merged", start = deploy)]
fn no_option(ev: Event<u64>) -> u64 {
    ev.payload
}

#[event_handler("pr.merged", start = deploy)]
async fn nothing(_ev: Event<u64>) {}

fn main() {}
