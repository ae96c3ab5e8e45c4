//! Counts of a namespace, all taken at one instant.

use redis::Value;
use serde::Serialize;

use crate::store::read;
use crate::{Error, Result};

/// How many tasks are where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    pub(crate) fn read(reply: Value) -> Result<Self> {
        let Value::Array(items) = reply else {
            return Err(Error::corrupt("the reply to stats is no list"));
        };
        if items.len() < 6 {
            return Err(Error::corrupt("the reply to stats is too short"));
        }
        let count = |i: usize| read::<u64>(items[i].clone());
        let (scheduled, processing) = (count(0)?, count(4)?);
        let mut queues = Vec::new();
        for item in items[6..].chunks_exact(3) {
            let queue = QueueStats {
                queue: read(item[0].clone())?,
                ready: read(item[1].clone())?,
                paused: read(item[2].clone())?,
            };
            queues.push(queue);
        }
        queues.sort_by(|a, b| a.queue.cmp(&b.queue));
        let pending = queues.iter().map(|queue| queue.ready).sum::<u64>() + scheduled;
        Ok(Self {
            pending_tasks: pending,
            processing_tasks: processing,
            total_tasks: pending + processing,
            scheduled_tasks: scheduled,
            shelved_tasks: count(5)?,
            dead_tasks: count(1)?,
            set_aside: count(2)?,
            workers: count(3)?,
            queues,
        })
    }
}
