use orchestrator_worker::{Approved, TaskContext, TaskResult, payload, task_handler};

#[payload]
struct Plan {
    replicas: u32,
}

async fn apply(plan: &Approved<Plan>) -> TaskResult<u32> {
    Ok(plan.replicas)
}

#[task_handler("scale")]
async fn scale(plan: Plan, _ctx: TaskContext) -> TaskResult<u32> {
    apply(&Approved::default()).await?;
    apply(&plan).await
}

fn main() {}
