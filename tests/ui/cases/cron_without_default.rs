use orchestrator_worker::{TaskResult, payload, task_handler};

#[payload]
struct Report {
    team: String,
}

#[task_handler("report", cron = "*/5 * * * *")]
async fn report(_args: Report) -> TaskResult {
    Ok(())
}

fn main() {}
