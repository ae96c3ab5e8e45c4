//! Counts of a namespace, all taken at one instant.

use serde::Serialize;

use crate::Result;
use crate::store::Items;

/// How many tasks are where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Stats {
    /// Runnable and scheduled ones.
    pub pending_tasks: u64,
    /// Held by workers.
    pub processing_tasks: u64,
    /// The sum of both.
    pub total_tasks: u64,
    /// Waiting for their instant or their next attempt; part of the pending ones.
    pub scheduled_tasks: u64,
    /// Of types that no present worker handles.
    pub shelved_tasks: u64,
    /// Parked: waiting for a person or an instant, without holding anything.
    pub blocked_tasks: u64,
    /// Dead letters: failed for good and still kept.
    pub dead_tasks: u64,
    /// Pokes set aside: keys of the wrong type, records and timers that nobody can read (the newest 1,000).
    pub set_aside: u64,
    /// Workers with a lease.
    pub workers: u64,
    /// The queues known, by name.
    pub queues: Vec<QueueStats>,
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct QueueStats {
    /// Its name.
    pub queue: String,
    /// Runnable tasks in it.
    pub ready: u64,
    /// Whether its tasks are held back.
    pub paused: bool,
}

impl Stats {
    pub(crate) fn read(mut reply: Items) -> Result<Self> {
        let [scheduled, dead, set_aside, workers, processing, shelved, blocked] = {
            let mut counts = [0u64; 7];
            for count in &mut counts {
                *count = reply.next()?;
            }
            counts
        };
        let mut queues = Vec::new();
        while !reply.is_empty() {
            // A name that somebody else wrote need not be text.
            let queue = String::from_utf8_lossy(&reply.next::<Vec<u8>>()?).into_owned();
            queues.push(QueueStats { queue, ready: reply.next()?, paused: reply.next()? });
        }
        queues.sort_by(|a, b| a.queue.cmp(&b.queue));
        let pending = queues.iter().map(|queue| queue.ready).sum::<u64>() + scheduled;
        Ok(Self {
            pending_tasks: pending,
            processing_tasks: processing,
            total_tasks: pending + processing,
            scheduled_tasks: scheduled,
            shelved_tasks: shelved,
            blocked_tasks: blocked,
            dead_tasks: dead,
            set_aside,
            workers,
            queues,
        })
    }
}
