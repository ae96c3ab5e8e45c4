//! `queue list`, `queue pause`, `queue resume`, `queue events` and `queue aging`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use orchestrator::{Orchestrator, QueueStats};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, cell};

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// Show the queues, the tasks that are ready in each, and whether it is paused
    List,
    /// Stop handing out a queue's tasks; what runs goes on
    Pause(Name),
    /// Go on handing out a queue's tasks
    Resume(Name),
    /// Have a queue's tasks tell events of their changes of state, or none: that costs Redis less
    Events(Switch),
    /// Show or change the order within the queues: strictly by priority, or so that low priorities get on too
    ///
    /// `off`: all of P0 before any of P1, and so on; while P0 comes in faster than it is worked off, nothing else runs.
    /// A span such as 10m: each step of priority is worth that head start, so a P3 waits for no P0 that came more than 30
    /// minutes after it. It holds for all queues of the namespace. Stop workers and gateways, change it, start them again.
    Aging(super::aging::Change),
}

#[derive(Debug, Args)]
pub(crate) struct Switch {
    /// The queue
    #[arg(value_name = "NAME")]
    queue: String,
    /// Whether they are told
    #[arg(value_enum)]
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// Told, as they are unless this is called
    On,
    /// Not told, of tasks that are submitted from now on
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The queue
    #[arg(value_name = "NAME")]
    queue: String,
}

pub(super) async fn run(orch: &Orchestrator, command: &Queue, out: &mut Output) -> Result<(), Failure> {
    let (queue, paused, changed) = match command {
        Queue::Events(Switch { queue, state }) => {
            let told = *state == State::On;
            let changed = orch.set_queue_events(queue, told).await?;
            if out.is_json() {
                return out.object(&json!({ "queue": queue, "events": told, "changed": changed }));
            }
            let already = if changed { "from now on" } else { "already" };
            let what = if told { "tell their events" } else { "tell no events" };
            return out.line(&format!("the tasks of queue {queue} {what} {already}"));
        }
        Queue::List => {
            let queues = orch.stats().await?.queues;
            return match out.is_json() {
                true => queues.iter().try_for_each(|queue| out.object(queue)),
                false => table(&queues, out),
            };
        }
        Queue::Aging(change) => return super::aging::run(orch, change, out).await,
        Queue::Pause(Name { queue }) => (queue, true, orch.pause(queue).await?),
        Queue::Resume(Name { queue }) => (queue, false, orch.resume(queue).await?),
    };
    if out.is_json() {
        return out.object(&json!({ "queue": queue, "paused": paused, "changed": changed }));
    }
    out.line(&format!(
        "queue {queue} {} {}",
        if changed { "is" } else { "was" },
        match (paused, changed) {
            (true, true) => "paused",
            (true, false) => "paused already",
            (false, true) => "resumed",
            (false, false) => "not paused",
        }
    ))
}

/// The queues as a table.
pub(super) fn table(queues: &[QueueStats], out: &mut Output) -> Result<(), Failure> {
    let row = |queue: &QueueStats| {
        vec![cell(&queue.queue, 64), Cell::new(queue.ready), Cell::new(if queue.paused { "paused" } else { "" })]
    };
    out.table(&["QUEUE", "READY", ""], queues.iter().map(row).collect())
}
