use orchestrator_worker::{TaskResult, task_handler};

#[task_handler("one", cron = "0 25 * * *")]
async fn one(_: ()) -> TaskResult {
    Ok(())
}

#[task_handler("two", cron = "0 0 30 2 *", tz = "Europe / Berlin", overlap = "maybe", catch_up = "none")]
async fn two(_: ()) -> TaskResult {
    Ok(())
}

#[task_handler("three", tz = "Europe/Berlin")]
async fn three(_: ()) -> TaskResult {
    Ok(())
}

#[task_handler("four", cron = 5)]
async fn four(_: ()) -> TaskResult {
    Ok(())
}

fn main() {}
