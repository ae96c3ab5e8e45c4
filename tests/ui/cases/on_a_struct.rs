use orchestrator_worker::task_handler;

#[task_handler("bugfix")]
pub struct Bugfix {
    pub id: u64,
}

fn main() {
    let _ = Bugfix { id: 1 };
}
