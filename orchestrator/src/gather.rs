//! Callers who submit one task each at the same time share a call: while one is on its way, the next ones gather.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::new_task::Draft;
use crate::submit::{batch_length, store};
use crate::{Error, Orchestrator, Result, TaskId};

/// Tasks of one shared call at most: more would keep others from Redis for too long.
const SHARED_MAX: usize = 200;

/// How often others get the chance to come along with one call.
const YIELDS_MAX: usize = 8;

/// A task, and whoever waits to hear under which id it is stored.
type Waiting = (Draft, oneshot::Sender<Result<TaskId>>);

/// Who waits, by queue. There is an entry as long as somebody sends for that queue.
#[derive(Debug, Default)]
pub(crate) struct Gatherer(Mutex<HashMap<String, Vec<Waiting>>>);

impl Gatherer {
    fn with<R>(&self, act: impl FnOnce(&mut HashMap<String, Vec<Waiting>>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn waiting(&self, queue: &str) -> usize {
        self.with(|waiting| waiting.get(queue).map_or(0, Vec::len))
    }

    /// The next ones of a queue; the entry goes when there are none.
    fn next(&self, queue: &str) -> Vec<Waiting> {
        self.with(|waiting| {
            let Some(all) = waiting.get_mut(queue).filter(|all| !all.is_empty()) else {
                waiting.remove(queue);
                return Vec::new();
            };
            let fits = batch_length(all.iter().map(|(draft, _)| draft)).min(SHARED_MAX).min(all.len());
            let rest = all.split_off(fits);
            std::mem::replace(all, rest)
        })
    }
}

/// Stores one plain task, together with those that others submit meanwhile; returns the id under which it is stored.
pub(crate) async fn store_one(orch: &Orchestrator, draft: Draft) -> Result<TaskId> {
    let (tell, told) = oneshot::channel();
    let queue = draft.queue.clone();
    let is_first = orch.gatherer.with(|waiting| match waiting.entry(queue.clone()) {
        Entry::Occupied(mut others) => {
            others.get_mut().push((draft, tell));
            false
        }
        Entry::Vacant(nobody) => {
            nobody.insert(vec![(draft, tell)]);
            true
        }
    });
    if is_first {
        // Not by this caller, who may give up while others wait for the same call.
        tokio::spawn(send_all(Sending { orch: orch.clone(), queue, is_done: false }));
    }
    told.await.unwrap_or_else(|_| {
        Err(Error::Unavailable { reason: "the process is stopping; the task may be stored".into(), source: None })
    })
}

/// Somebody who sends for a queue. However that ends, nobody is left waiting.
struct Sending {
    orch: Orchestrator,
    queue: String,
    /// Its entry is gone: one that is there now is somebody else's.
    is_done: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_done {
            self.orch.gatherer.with(|waiting| waiting.remove(&self.queue));
        }
    }
}

async fn send_all(mut sending: Sending) {
    loop {
        // Whoever is about to submit gets the chance to come along, as long as some do; when nobody is, this costs nothing.
        let mut waiting = 0;
        for _ in 0..YIELDS_MAX {
            let before = std::mem::replace(&mut waiting, sending.orch.gatherer.waiting(&sending.queue));
            if waiting == before {
                break;
            }
            tokio::task::yield_now().await;
        }
        let (drafts, tells): (Vec<_>, Vec<_>) = sending.orch.gatherer.next(&sending.queue).into_iter().unzip();
        let mut batch: Vec<(usize, Draft)> = drafts.into_iter().enumerate().collect();
        if batch.is_empty() {
            sending.is_done = true;
            return;
        }
        let Sending { orch, queue, .. } = &sending;
        let outcome = store(orch, queue, &mut batch, true).await;
        // Whoever has given up does not listen any more: what is told to them is lost, and nothing else.
        match outcome {
            Ok(()) => {
                for ((_, draft), tell) in batch.into_iter().zip(tells) {
                    let _ = tell.send(Ok(draft.id));
                }
            }
            Err(Error::Unavailable { reason, .. }) => {
                for tell in tells {
                    let _ = tell.send(Err(Error::Unavailable { reason: reason.clone(), source: None }));
                }
            }
            Err(error) if tells.len() == 1 => {
                let _ = tells.into_iter().next().map(|tell| tell.send(Err(error)));
            }
            // None of them is stored, perhaps for the sake of one: each is tried by itself.
            Err(_) => {
                for ((_, draft), tell) in batch.into_iter().zip(tells) {
                    let mut alone = [(0, draft)];
                    let outcome = store(orch, queue, &mut alone, true).await;
                    let _ = tell.send(outcome.map(|()| alone[0].1.id));
                }
            }
        }
    }
}
