//! A worker with the example agents: all nine task types, on the Redis of `REDIS_URL` or a private one.

use orchestrator_examples as _;
use orchestrator_worker::{Orchestrator, Result, Worker};

#[orchestrator_worker::main]
async fn main() -> Result {
    let all = ["faq", "bugfix", "deploy", "investigate", "monitor", "alert", "refactor", "feature", "kb_update"];
    Worker::builder(Orchestrator::from_env().await?).slots(4).expect(all).run().await
}
