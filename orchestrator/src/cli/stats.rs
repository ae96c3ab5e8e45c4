//! `stats`.

use orchestrator::Orchestrator;

use super::failure::Failure;
use super::output::Output;

pub(super) async fn run(orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
    let stats = orch.stats().await?;
    if out.is_json() {
        return out.object(&stats);
    }
    let counts = [
        ("pending", stats.pending_tasks, "ready or scheduled"),
        ("processing", stats.processing_tasks, "held by workers"),
        ("scheduled", stats.scheduled_tasks, "of the pending ones, for later"),
        ("blocked", stats.blocked_tasks, "parked for a person or an instant"),
        ("shelved", stats.shelved_tasks, "no worker handles their type"),
        ("dead", stats.dead_tasks, "failed for good and still kept"),
        ("set aside", stats.set_aside, "things in Redis that cannot be read"),
        ("workers", stats.workers, "with a lease"),
    ];
    for (name, count, about) in counts {
        out.line(&format!("{name:<10} {count:>10}  {about}"))?;
    }
    if stats.queues.is_empty() {
        return Ok(());
    }
    out.line("")?;
    super::queue::table(&stats.queues, out)
}
