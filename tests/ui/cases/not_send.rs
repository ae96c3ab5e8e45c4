use std::rc::Rc;

use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("bugfix")]
async fn bugfix(id: u64) -> TaskResult {
    let shared = Rc::new(id);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {}
