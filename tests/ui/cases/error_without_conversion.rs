use orchestrator_worker::task_handler;

struct Oops;

#[task_handler("bugfix")]
async fn bugfix(_id: u64) -> Result<(), Oops> {
    Err(Oops)
}

fn main() {}
