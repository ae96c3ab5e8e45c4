//! `handlers`.

use orchestrator::{Offer, Orchestrator};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, cell, note};

pub(super) async fn run(orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
    let mut offers: Vec<Offer> = orch.offers().await?.into_values().collect();
    offers.sort_by(|a, b| a.task_type.cmp(&b.task_type));
    if out.is_json() {
        return offers.iter().try_for_each(|offer| {
            out.object(&json!({ "type": offer.task_type, "queue": offer.queue, "doc": offer.doc }))
        });
    }
    if offers.is_empty() {
        note("no worker has offered anything yet");
    }
    let rows =
        offers.iter().map(|offer| vec![cell(&offer.task_type, 64), cell(&offer.queue, 64), cell(&offer.doc, 100)]);
    out.table(&["TYPE", "QUEUE", "WHAT IT DOES"], rows.collect())
}
