//! Changing the order within the queues of a namespace: the setting, and the places of all tasks that wait.

use serde::Serialize;

use crate::store::{Order, Reordering};
use crate::{Aging, Error, Orchestrator, Result};

/// How often a key is gone through again because workers moved its tasks meanwhile.
const AGAIN_MAX: u32 = 3;

/// The order within the queues of a namespace, and what a change of it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reordered {
    /// `off`, or what a step of priority is worth: what held before, or what a change that was interrupted began at.
    pub before: String,
    /// What holds now.
    pub aging: String,
    /// Whether a change was interrupted: ask for it once more.
    pub unfinished: bool,
    /// Tasks in queues and on shelves.
    pub waiting: u64,
    /// Those of them whose place was written anew. P0 keeps its place.
    pub rewritten: u64,
    /// Leases that run: workers, and tasks of agents outside.
    pub leases: u64,
}

impl Orchestrator {
    /// How the queues of this namespace are ordered now; also when this client has connected before that was changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn aging(&self) -> Result<Reordered> {
        let (order, leases) = self.store.agree(Aging::Stored, None).await?;
        let waiting = self.store.places().await?.iter().map(|(_, tasks)| tasks).sum();
        Ok(Reordered {
            before: order.from.unwrap_or(order.to).to_string(),
            aging: order.to.to_string(),
            unfinished: order.from.is_some(),
            waiting,
            rewritten: 0,
            leases,
        })
    }

    /// Changes the order within the queues of this namespace, for all who connect from now on, and gives all tasks that wait
    /// their places in it. What was interrupted is gone on with by the same call; called again it repairs places that
    /// processes of the old order have given since. `progress` is told how many tasks are looked at, of how many.
    ///
    /// This client, like every process that is connected, keeps the order that it knows until it connects anew: stop workers and
    /// gateways before, and start them behind. Nothing but the order is at stake.
    ///
    /// # Errors
    /// [`Error::Conflict`] while leases run, unless `force`; [`Error::Invalid`] for [`Aging::Stored`] and a step out of its
    /// bounds; [`Error::Unavailable`].
    pub async fn set_aging(&self, aging: Aging, force: bool, mut progress: impl FnMut(u64, u64)) -> Result<Reordered> {
        aging.check()?;
        if aging == Aging::Stored {
            return Err(Error::invalid("aging: say off, or what a step of priority is worth"));
        }
        let (order, leases) = self.store.agree(Aging::Stored, None).await?;
        let settled = order == Order { from: None, to: aging };
        let begun = match order.from {
            Some(from) if order.to == aging || from != Aging::Off => from,
            _ => order.to,
        };
        let mut passes = Vec::new();
        if settled {
            // Places of processes that did not know it: which other distance they had cannot be told.
            passes.push((Some(Aging::Off).filter(|_| aging != Aging::Off), aging));
        } else {
            passes.extend(Some((Some(begun), Aging::Off)).filter(|_| begun != Aging::Off));
            passes.extend(Some((Some(Aging::Off), aging)).filter(|_| aging != Aging::Off));
        }
        let mut seen = order;
        if !settled {
            seen = self.change(seen, Order { from: Some(begun), to: aging }, force).await?;
        }
        let places = self.store.places().await?;
        let waiting: u64 = places.iter().map(|(_, tasks)| tasks).sum();
        let (mut looked, mut rewritten, all) = (0, 0, waiting * passes.len() as u64);
        for (i, pass) in passes.iter().enumerate() {
            if i > 0 {
                seen = self.change(seen, Order { from: pass.0, to: aging }, true).await?;
            }
            for (key, tasks) in &places {
                let mut again = AGAIN_MAX;
                loop {
                    let (mut at, mut here, mut found) = (Some(Reordering::default()), 0, 0);
                    while let Some(place) = at {
                        let (some, new, next) = self.store.reorder(key, *pass, place).await?;
                        (at, here, found) = (next, here + some, found + new);
                        if again == AGAIN_MAX {
                            progress((looked + here.min(*tasks)).min(all), all);
                        }
                    }
                    rewritten += found;
                    again -= 1;
                    // With nobody who takes tasks away meanwhile once is enough.
                    if leases == 0 || found == 0 || again == 0 {
                        break;
                    }
                }
                looked += tasks;
                progress(looked.min(all), all);
            }
        }
        if !settled {
            self.change(seen, Order { from: None, to: aging }, true).await?;
        }
        let (before, aging) = (begun.to_string(), aging.to_string());
        Ok(Reordered { before, aging, unfinished: false, waiting, rewritten, leases })
    }

    async fn change(&self, seen: Order, to: Order, force: bool) -> Result<Order> {
        let (now, leases) = self.store.agree(Aging::Stored, Some((seen, to, force))).await?;
        if now == to {
            return Ok(now);
        }
        Err(Error::Conflict {
            what: match now == seen {
                true => format!(
                    "{leases} leases run: stop the workers and gateways of this namespace, change the aging, and start them \
                     again; with --force it is changed while they run, and what they put into queues until they are started \
                     anew lies in its old order"
                ),
                false => "somebody else is changing the aging of this namespace".into(),
            },
        })
    }
}
