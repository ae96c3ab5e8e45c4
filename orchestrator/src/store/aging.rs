//! The order within queues, as a namespace has it: agreed upon at connect, changed by hand.

use std::sync::Arc;

use redis::Value;

use super::scripts::Scripts;
use super::{Fault, Items, Store, read};
use crate::{Aging, Error, Result};

/// Tasks that one call rewrites at most.
const BATCH: usize = 500;

/// What a namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// What places are rewritten from, while they are.
    pub(crate) from: Option<Aging>,
    /// What holds.
    pub(crate) to: Aging,
}

impl Order {
    fn read(text: &str) -> Result<Self> {
        let aging = |text: &str| {
            Aging::from_stored(text).ok_or_else(|| {
                Error::corrupt(format!("the aging of the namespace is `{}`", crate::error::excerpt(text)))
            })
        };
        Ok(match text.split_once('>') {
            None => Self { from: None, to: aging(text)? },
            Some((from, to)) => Self { from: Some(aging(from)?), to: aging(to)? },
        })
    }

    fn stored(self) -> String {
        match self.from {
            None => self.to.stored(),
            Some(from) => format!("{}>{}", from.stored(), self.to.stored()),
        }
    }
}

/// How far the rewriting of one queue or shelf has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    from: String,
    skip: u64,
}

impl Store {
    /// Takes over what the namespace has, or refuses to work with anything else.
    pub(super) async fn settle_aging(&mut self) -> Result {
        let wanted = self.config().aging;
        let mut get = redis::cmd("HGET");
        get.arg(self.keys().generations()).arg("a");
        // A plain read first: it is answered by a server that takes no writes, too.
        let known = match self.plain(&get).await {
            Ok(Value::Nil) | Err(Fault::WrongType(_)) => None,
            Ok(reply) => Some(read::<String>(reply)?),
            Err(fault) => return Err(fault.into_error()),
        };
        let order = match known {
            Some(known) => Order::read(&known)?,
            None => match self.agree(wanted, None).await {
                Ok((order, _)) => order,
                // A client that asks for nothing goes on: so it does when there is no room, or no writing.
                Err(Error::Unavailable { .. } | Error::OutOfMemory) if wanted == Aging::Stored => {
                    Order { from: None, to: Aging::Off }
                }
                Err(error) => return Err(error),
            },
        };
        if wanted != Aging::Stored && wanted != order.to {
            return Err(Error::Unfit {
                what: format!(
                    "the namespace `{}` has the aging {}, and this process is set to {wanted} (ORCHESTRATOR_AGING). All \
                     processes need the same: set it to {} or leave it out here, or stop all and change the namespace by \
                     `orchestrator queue aging {wanted}`",
                    self.config().namespace,
                    order.to,
                    order.to,
                ),
            });
        }
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            let had = shared.config.aging.class();
            shared.config.aging = order.to;
            if order.to.class() != had {
                shared.scripts = Scripts::new(&shared.config);
                self.load_scripts().await.map_err(Fault::into_error)?;
            }
        }
        Ok(())
    }

    /// What the namespace has, and how many leases run in it; a new one gets `wanted`. `change` is what it is to be
    /// instead of what was seen, and whether also while leases run.
    pub(crate) async fn agree(&self, wanted: Aging, change: Option<(Order, Order, bool)>) -> Result<(Order, u64)> {
        let call = self.call(&self.scripts().agree).arg(wanted.stored());
        let call = match change {
            None => call.arg("").arg("").arg(0),
            Some((seen, to, force)) => call.arg(seen.stored()).arg(to.stored()).arg(u8::from(force)),
        };
        let mut items = Items::of(self.send(&call).await.map_err(Fault::into_error)?)?;
        Ok((Order::read(&items.next::<String>()?)?, items.next()?))
    }

    /// The keys of all queues and shelves, each with the number of tasks in it.
    pub(crate) async fn places(&self) -> Result<Vec<(Vec<u8>, u64)>> {
        let mut places = Vec::new();
        for (names, prefix) in [(self.keys().queues(), "r:"), (self.keys().shelves(), "u:")] {
            let names: Vec<Vec<u8>> = self.glance(redis::cmd("SMEMBERS").arg(names)).await?;
            for name in names {
                let place = [prefix.as_bytes(), &name].concat();
                let tasks = self.glance(redis::cmd("ZCARD").arg(self.keys().named(&place))).await?;
                places.push((place, tasks));
            }
        }
        Ok(places)
    }

    /// Rewrites some scores of a queue or shelf from one aging to the other, one of which is [`Aging::Off`]; `None` stands for
    /// an aging that is not known. Returns how many were looked at and rewritten, and where to go on.
    pub(crate) async fn reorder(
        &self,
        key: &[u8],
        (from, to): (Option<Aging>, Aging),
        at: Place,
    ) -> Result<(u64, u64, Option<Place>)> {
        let distance = |aging: Option<Aging>| match aging {
            None => "0".to_owned(),
            Some(Aging::Off | Aging::Stored) => String::new(),
            Some(by) => by.class().to_string(),
        };
        let start = if at.from.is_empty() { "-inf" } else { &at.from };
        let call = |_| {
            let call = self.call(&self.scripts().reorder).arg(key).arg(distance(from)).arg(distance(Some(to)));
            call.arg(start).arg(at.skip).arg(BATCH)
        };
        let mut items = Items::of(self.repeat(call).await?)?;
        let (looked, rewritten) = (items.next()?, items.next()?);
        let next = Place { from: items.next()?, skip: items.next()? };
        Ok((looked, rewritten, Some(next).filter(|next| !next.from.is_empty())))
    }
}
