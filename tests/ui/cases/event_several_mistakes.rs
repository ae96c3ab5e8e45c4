//! One build shows them all, and the handler can be named without further errors.

use orchestrator_worker::{TaskResult, event_handler};

#[event_handler("Deploy.*", grup = "notes", at_once = 5000)]
fn announce<T>(_ev: &str) -> TaskResult {
    Ok(())
}

#[event_handler("deploy.*")]
struct Announcement;

fn main() {
    let _ = announce::default();
}
