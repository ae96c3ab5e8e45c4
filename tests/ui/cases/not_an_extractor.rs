use orchestrator_worker::{TaskResult, task_handler};

struct Database;

#[task_handler("bugfix")]
async fn bugfix(_id: u64, _database: Database) -> TaskResult {
    Ok(())
}

fn main() {}
