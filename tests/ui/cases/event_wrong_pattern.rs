use orchestrator_worker::{Event, TaskResult, event_handler};

#[event_handler("Deploy.*")]
async fn upper_case(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler(["pr.merged", "pull-request.closed, pr..opened", ""])]
async fn several(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler("deploy")]
async fn one_word(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler("deploy*")]
async fn star_in_a_word(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler(deploy.*)]
async fn without_quotes(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

#[event_handler("pr.merged", "pr.closed")]
async fn twice(_ev: Event<u64>) -> TaskResult {
    Ok(())
}

fn main() {}
