use orchestrator_worker::task_handler;

#[task_handler("bugfix")]
async fn bugfix(_id: u64) {}

#[task_handler("report")]
async fn report(_id: u64) -> String {
    String::new()
}

fn main() {}
