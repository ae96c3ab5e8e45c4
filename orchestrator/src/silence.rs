//! Leases that stand still: who watches them, and how the tasks of those who have fallen silent are taken back.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::claim::{cancelled_tail, poison_tail};
use crate::incarnation::{BEAT, CRASHES_MAX, LEASE};
use crate::store::{Store, read};
use crate::{Orchestrator, Result};

/// Tasks moved by one sweep at most.
const SWEEP_MAX: usize = 100;
/// Leases looked at by whoever has none himself.
const LOOKED_AT_MAX: usize = 1000;

/// The leases of others: value last seen, and since when on our own monotonic clock.
#[derive(Debug)]
pub(crate) struct LeaseWatch {
    lease: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    leases: Vec<Lease>,
    looked: Instant,
}

#[derive(Debug)]
struct Lease {
    worker: Vec<u8>,
    /// Its end, as Redis writes it.
    end: String,
    /// When it can be over at the earliest.
    over: Instant,
}

impl LeaseWatch {
    /// A watch by somebody whose own lease lasts `lease`.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, seen: Mutex::new(Seen { leases: Vec::new(), looked: Instant::now() }) }
    }

    /// Notes the leases of others: a value seen before keeps the instant that was reckoned when it was first seen. It is
    /// over when it has stood still for a whole lease of ours and for as long as it still had to run then: so a jump of
    /// the server's clock ends none.
    pub(crate) fn saw(&self, own: &str, now_ms: u64, leases: Vec<(Vec<u8>, String)>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let blind = std::mem::replace(&mut seen.looked, now).elapsed() > (self.lease / 2).max(BEAT / 2);
        if blind {
            // Who did not look cannot say that a lease stood still: Redis may have been away for everybody.
            seen.leases.clear();
        }
        let known = std::mem::take(&mut seen.leases);
        seen.leases = leases
            .into_iter()
            .filter(|(worker, _)| worker != own.as_bytes())
            .map(|(worker, end)| {
                let known = known.iter().find(|lease| lease.worker == worker && lease.end == end);
                let left = end.parse::<f64>().map_or(0, |end| (end as u64).saturating_sub(now_ms));
                let over = known.map_or_else(|| now + self.lease.max(Duration::from_millis(left)), |lease| lease.over);
                Lease { worker, end, over }
            })
            .collect();
    }

    /// When the first of them will have stood still for long enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.leases.iter().map(|lease| lease.over).min()
    }

    /// Takes back the tasks of those who have been silent for long enough, if Redis's clock agrees.
    pub(crate) async fn rescue(&self, store: &Store) -> Result<usize> {
        let silent: Vec<Lease> = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let (over, still) = std::mem::take(&mut seen.leases).into_iter().partition(|lease| lease.over <= now);
            seen.leases = still;
            over
        };
        let mut rescued = 0;
        for lease in silent {
            loop {
                let (moved, left) = rescue_some(store, &lease).await?;
                rescued += usize::try_from(moved).unwrap_or(0);
                if moved <= 0 || left == 0 {
                    break;
                }
            }
        }
        Ok(rescued)
    }
}

async fn rescue_some(store: &Store, lease: &Lease) -> Result<(i64, i64)> {
    let call = |_| {
        let call = store.call(&store.scripts().rescue);
        let call = call.arg(&lease.worker).arg(&lease.end).arg(SWEEP_MAX).arg(CRASHES_MAX);
        call.arg(poison_tail(CRASHES_MAX)).arg(cancelled_tail())
    };
    read(store.repeat(call).await?)
}

impl Orchestrator {
    /// Takes back the tasks of workers and of agents outside who have fallen silent, until the future is dropped.
    ///
    /// Workers and gateways do this by themselves; any number of processes may do it at the same time.
    pub async fn keep_rescuing(&self) -> Infallible {
        let watch = LeaseWatch::new(LEASE);
        loop {
            let looked = async {
                let (now_ms, leases) = self.store.leases(LOOKED_AT_MAX).await?;
                watch.saw("", now_ms, leases);
                watch.rescue(&self.store).await
            };
            match looked.await {
                Ok(0) => {}
                Ok(tasks) => tracing::warn!(tasks, "took back the tasks of somebody who fell silent"),
                Err(error) => tracing::debug!(%error, "leases cannot be looked at now"),
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}
