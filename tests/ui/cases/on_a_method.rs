use orchestrator_worker::{TaskResult, task_handler};

struct Bugs;

impl Bugs {
    #[task_handler("bugfix")]
    async fn bugfix(&self, _id: u64) -> TaskResult {
        Ok(())
    }
}

fn main() {}
