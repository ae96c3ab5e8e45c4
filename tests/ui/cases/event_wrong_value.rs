use orchestrator_worker::{Event, TaskResult, event_handler, task_handler};

#[event_handler("deploy.*", group = "Release notes", at_once = 0, from = "beginning", retries = 256)]
async fn announce(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[task_handler("deploy")]
async fn deploy(_args: u64) -> TaskResult {
    Ok(())
}

#[event_handler("pr.merged", start = "deploy")]
fn on_merge(_ev: Event<u64>) -> Option<u64> {
    None
}

#[allow(non_snake_case)]
#[event_handler("pr.merged")]
async fn onMerge(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

fn main() {}
