use orchestrator_worker::{EventContext, TaskResult, event_handler, payload};

#[payload]
struct Deployed {
    service: String,
}

#[event_handler("deploy.*")]
async fn announce(_ev: Deployed) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
async fn count(_ctx: EventContext) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
async fn nothing() -> TaskResult {
    Ok(())
}

// Another type of this name is left to the compiler.
mod mine {
    pub struct Event<T>(pub T);
}

#[event_handler("deploy.*")]
async fn wrong(_ev: mine::Event<u64>) -> TaskResult {
    Ok(())
}

fn main() {}
