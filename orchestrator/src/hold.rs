//! Tasks in the hands of agents that are no workers of ours, each under a lease of its own: what speaks HTTP, in any language,
//! claims, reports and asks by this.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::record::Header;
use crate::store::{Items, Place};
use crate::task::{Whereabouts, instant};
use crate::{Error, Orchestrator, QUEUES_MAX, Result, Status, Task, TaskId};

/// Shortest lease of an agent outside.
pub const HOLD_LEASE_MIN: Duration = Duration::from_secs(5);
/// Longest one.
pub const HOLD_LEASE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Tasks given to an agent by one call at most.
pub const HOLDS_MAX: usize = 100;
/// Leases of a namespace beyond which no task is given to agents outside.
const LEASES_MAX: usize = 10_000;
/// Tasks of one queue or shelf looked at for one claim.
const FRONT_MAX: usize = 1000;
/// Longest pause between two looks of somebody who waits: tasks of quiet queues are told by no event.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause before the look that follows an event.
const SPREAD: Duration = Duration::from_millis(50);

/// Proof that an agent has a task. It is good for that agent and that task only, until the task leaves its hands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HoldToken {
    pub(crate) epoch: u32,
    pub(crate) secret: u64,
}

impl fmt::Display for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}", self.epoch, self.secret)
    }
}

/// Tells nothing.
impl fmt::Debug for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldToken")
    }
}

impl FromStr for HoldToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = |text: &str, length| {
            (text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
        };
        let parts = text.split_once('-').and_then(|(epoch, secret)| Some((hex(epoch, 8)?, hex(secret, 16)?)));
        let (epoch, secret) = parts.ok_or_else(|| {
            Error::invalid(
                "a lease token is what a claim has answered as lease_token, 25 characters; send it unchanged",
            )
        })?;
        Ok(Self { epoch: epoch as u32, secret })
    }
}

/// Which tasks an agent outside wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Any of these types, 1 to [`HOLDS_MAX`].
    pub types: Vec<String>,
    /// Where to look, at most [`QUEUES_MAX`]; where tasks of these types are routed when it is empty.
    pub queues: Vec<String>,
    /// Only what belongs to this tenant.
    pub tenant: Option<String>,
}

impl Wanted {
    fn takes(&self, task: &Task) -> bool {
        self.types.contains(&task.task_type) && (self.tenant.is_none() || self.tenant == task.tenant)
    }
}

/// A task that was given to an agent outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hold {
    /// The task.
    pub task: Task,
    /// What proves that the agent has it.
    pub token: HoldToken,
    /// When the lease ends unless it is renewed.
    pub expires_at: DateTime<Utc>,
}

impl Orchestrator {
    /// Gives an agent outside up to `most` runnable tasks that it wants, in the order of their queues; tasks on the shelf of
    /// a type come last. When there is none it waits for `patience`, and looks again whenever something happens, at least once
    /// a second. Each look sees the first 1,000 tasks of a queue, and 1,000 of those behind: types that an agent handles alone
    /// are found sooner in a queue of their own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no type, names that are none, more than [`QUEUES_MAX`] queues, and what is out of the bounds
    /// [`HOLDS_MAX`], [`HOLD_LEASE_MIN`] and [`HOLD_LEASE_MAX`]; [`Error::Conflict`] when the namespace has 10,000 leases
    /// already; [`Error::Unavailable`].
    pub async fn hold_next(
        &self,
        agent: &str,
        wanted: &Wanted,
        most: usize,
        lease: Duration,
        patience: Duration,
    ) -> Result<Vec<Hold>> {
        check(agent, lease)?;
        let Wanted { types, queues, .. } = wanted;
        if types.is_empty() || types.len() > HOLDS_MAX || !(1..=HOLDS_MAX).contains(&most) {
            return Err(Error::invalid(format!(
                "a claim names 1 to {HOLDS_MAX} types and takes 1 to {HOLDS_MAX} tasks"
            )));
        }
        types.iter().try_for_each(|name| crate::router::check_name("task type", name))?;
        queues.iter().try_for_each(|name| crate::router::check_name("queue", name))?;
        let queues = match queues.as_slice() {
            [] => crate::submit::homes(self, types, wanted.tenant.is_none()).await?,
            named => named.to_vec(),
        };
        if queues.len() > QUEUES_MAX {
            return Err(Error::invalid(format!("a claim looks into at most {QUEUES_MAX} queues; name them")));
        }
        let mut news = self.newest.watch(&self.store);
        let started = Instant::now();
        loop {
            news.mark_unchanged();
            let held = self.hold_now(agent, wanted, &queues, most, lease).await?;
            let left = patience.saturating_sub(started.elapsed());
            if !held.is_empty() || left.is_zero() {
                return Ok(held);
            }
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), news.changed()).await;
            // One event must not send everybody who waits to Redis in the same instant.
            let pause = SPREAD.mul_f64(rand::random());
            tokio::time::sleep(pause.min(patience.saturating_sub(started.elapsed()))).await;
        }
    }

    async fn hold_now(
        &self,
        agent: &str,
        wanted: &Wanted,
        queues: &[String],
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Hold>> {
        let mut held = Vec::new();
        for queue in queues {
            if held.len() < most {
                let front = self.store.ready(queue, 0, FRONT_MAX).await?;
                let is_long = front.len() == FRONT_MAX;
                self.hold_some(agent, wanted, front, most, lease, &mut held).await?;
                if is_long && held.len() < most {
                    // By chance, so that looks that follow each other come by everything.
                    let pieces = self.store.ready_count(queue).await?.div_ceil(FRONT_MAX).max(2);
                    let skip = FRONT_MAX * rand::random_range(1..pieces);
                    let piece = self.store.ready(queue, skip, FRONT_MAX).await?;
                    self.hold_some(agent, wanted, piece, most, lease, &mut held).await?;
                }
            }
        }
        for task_type in &wanted.types {
            if held.len() < most {
                let shelf = self.store.shelf(task_type, FRONT_MAX).await?;
                self.hold_some(agent, wanted, shelf, most, lease, &mut held).await?;
            }
        }
        Ok(held)
    }

    /// Takes those of `ids` that are wanted, until there are enough.
    async fn hold_some(
        &self,
        agent: &str,
        wanted: &Wanted,
        ids: Vec<TaskId>,
        most: usize,
        lease: Duration,
        held: &mut Vec<Hold>,
    ) -> Result {
        let mut ids = ids.as_slice();
        while !ids.is_empty() && held.len() < most {
            let some = &ids[..ids.len().min(HOLDS_MAX)];
            let (looked, found) = self.store.look_up(some, Place::Live).await?;
            ids = &ids[looked.clamp(1, some.len())..];
            // What cannot be read is left to whoever sets it aside.
            let told = found.iter().filter_map(|found| {
                let [place, record, children, number] = &found.parts;
                Task::told(found.id, [place, record, children, number]).ok().flatten()
            });
            let mut tasks: Vec<Task> = told.filter(|task| wanted.takes(task)).collect();
            // Others take them at the same time: who comes too late for one goes on to the next.
            while !tasks.is_empty() && held.len() < most {
                let now: Vec<Task> = tasks.drain(..tasks.len().min(most - held.len())).collect();
                for (task, (word, hold)) in now.iter().zip(self.send_holds(agent, &now, lease, false).await?) {
                    match word.as_str() {
                        "crowded" if held.is_empty() => return Err(crowded()),
                        "crowded" => return Ok(()),
                        "paused" => tasks.retain(|other| other.assigned_to != task.assigned_to),
                        _ => held.extend(hold),
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives an agent outside this one task, or renews the lease of the one that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is not runnable, telling how it stands; [`Error::Invalid`] for a lease
    /// out of its bounds; [`Error::Unavailable`].
    pub async fn hold(&self, agent: &str, id: TaskId, lease: Duration) -> Result<Hold> {
        check(agent, lease)?;
        let task = self.get(id).await?;
        let (word, hold) = self.send_holds(agent, &[task], lease, true).await?.pop().unwrap_or_default();
        hold.ok_or_else(|| match word.as_str() {
            "unknown" => Error::NotFound { what: format!("task {id}") },
            "crowded" => crowded(),
            word => Error::Conflict {
                what: match word {
                    "ended" => format!("task {id} has ended; it does not change any more"),
                    "parked" => format!("task {id} is blocked; nobody can take it before what it waits for has come"),
                    "pending" => format!("task {id} is pending; it can be taken when its instant has come"),
                    "paused" => format!("task {id} is in a queue that is paused"),
                    _ => format!("task {id} is in_progress in other hands"),
                },
            },
        })
    }

    /// One word for each task, and the hold if it was given.
    async fn send_holds(
        &self,
        agent: &str,
        tasks: &[Task],
        lease: Duration,
        renews: bool,
    ) -> Result<Vec<(String, Option<Hold>)>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let secret = rand::random::<u64>();
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let call = |_| {
            let call = self.store.call(&self.store.scripts().hold).arg(agent).arg(lease_ms).arg(LEASES_MAX);
            let call = call.arg(u8::from(renews));
            tasks.iter().fold(call, |call, task| {
                let call = call.arg(task.task_id.as_bytes()).arg(&task.task_type);
                call.arg(holder(agent, task.task_id)).arg(secret)
            })
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let now_ms: u64 = items.next()?;
        self.store.set_now_ms(now_ms);
        let mut holds = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (word, secret, record): (String, String, Vec<u8>) = (items.next()?, items.next()?, items.next()?);
            if word != "held" && word != "mine" {
                holds.push((word, None));
                continue;
            }
            let (header, _) = Header::read(&record)?;
            let started_at_ms = match (word.as_str(), task.started_at) {
                ("mine", Some(at)) => u64::try_from(at.timestamp_millis()).ok(),
                _ => Some(now_ms),
            };
            let at = Whereabouts {
                status: Some(Status::InProgress),
                started_at_ms,
                children: task.child_task_ids.clone(),
                ..Whereabouts::default()
            };
            let (progress, progress_note) = (task.progress, task.progress_note.clone());
            let task = Task { progress, progress_note, ..Task::live(task.task_id, &record, at)? };
            let secret = secret.parse().map_err(|_| Error::corrupt("the generation of a hold"))?;
            let token = HoldToken { epoch: header.epoch, secret };
            holds.push((word, Some(Hold { task, token, expires_at: instant(now_ms.saturating_add(lease_ms)) })));
        }
        Ok(holds)
    }
}

fn crowded() -> Error {
    Error::Conflict { what: format!("there are {LEASES_MAX} leases already; nothing is given out until some end") }
}

/// How Redis names an agent outside with one task.
pub(crate) fn holder(agent: &str, id: TaskId) -> String {
    format!("h:{id}:{agent}")
}

pub(crate) fn check(agent: &str, lease: Duration) -> Result {
    if agent.is_empty() || agent.len() > 128 || !agent.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(Error::invalid("the name of an agent has 1 to 128 printable ASCII characters"));
    }
    match (HOLD_LEASE_MIN..=HOLD_LEASE_MAX).contains(&lease) {
        true => Ok(()),
        false => Err(Error::invalid("a lease lasts between 5 seconds and 24 hours")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_tells_nothing_by_chance() {
        let token = HoldToken { epoch: 7, secret: 0x0123_4567_89ab_cdef };
        assert_eq!(token.to_string(), "00000007-0123456789abcdef");
        assert_eq!(token.to_string().parse::<HoldToken>().ok(), Some(token));
        assert_eq!(format!("{token:?}"), "HoldToken");
        for wrong in ["", "7-1", "00000007-0123456789ABCDEF", "00000007_0123456789abcdef", "+0000007-0123456789abcdef"]
        {
            assert!(wrong.parse::<HoldToken>().is_err(), "{wrong}");
        }
    }
}
