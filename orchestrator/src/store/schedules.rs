//! Schedules as Redis holds them.

use std::collections::HashMap;

use super::{Call, Fault, Items, Store, read};
use crate::new_task::Draft;
use crate::schedule::{Overlap, TICKS_WAITING_MAX};
use crate::{Error, Result, TaskId};

/// Schedules read in one call at most.
pub(crate) const SCHEDULES_READ_MAX: usize = 100;

/// One schedule as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) definition: Vec<u8>,
    pub(crate) state: HashMap<Vec<u8>, Vec<u8>>,
    /// Whether its last run has not ended.
    pub(crate) live: bool,
}

impl Stored {
    /// What tells its definition from others.
    pub(crate) fn digest(&self) -> &[u8] {
        self.definition.get(..8).unwrap_or(&self.definition)
    }
}

/// A change of one schedule; see the script for what each needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'c> {
    Put { digest: &'c [u8], awaited: &'c str, definition: &'c [u8], next_ms: u64, max: usize, may_wait: bool },
    Remove,
    Pause { who: &'c str },
    Resume { digest: &'c [u8], next_ms: u64 },
    Defer { digest: &'c [u8], awaited: &'c str, look_ms: Option<u64>, why: &'c str },
    Drop { digest: &'c [u8], awaited: &'c str, next_ms: Option<u64>, why: &'c str, missed: u64, waiting: Option<u64> },
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    /// It was so before.
    Same,
    /// It is not as it was read any more.
    Other,
    /// There is no such schedule.
    None,
    /// There are as many as there may be.
    Full,
}

/// Which ticks are fired.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ticks<'t> {
    /// Those that are due: the one waited for, as written, and the one behind them.
    Due { awaited: &'t str, next_ms: Option<u64>, missed: u64 },
    /// The first of those that wait.
    Waiting,
    /// One by hand; whether it may wait for the end of the last run.
    ByHand { may_wait: bool },
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// It is a task, or was left out by the policy.
    Done,
    /// It waits for the end of the last run.
    Waits,
    /// Its last run has not ended, and the policy lets no other one begin.
    Live(Option<TaskId>),
    /// The schedule is not as it was read any more.
    Other,
}

fn text(ms: Option<u64>) -> String {
    ms.map(|ms| ms.to_string()).unwrap_or_default()
}

impl Store {
    /// Those that are due, at most so many; and the time of the server.
    pub(crate) async fn schedules_due(&self, most: usize) -> Result<(u64, Vec<Stored>)> {
        self.read_schedules(|call| call.arg(most.min(SCHEDULES_READ_MAX))).await
    }

    /// Those of these names that there are, in order; at most [`SCHEDULES_READ_MAX`].
    pub(crate) async fn schedules_named(&self, names: &[String]) -> Result<(u64, Vec<Stored>)> {
        self.read_schedules(|call| call.arg(0).args(names.iter().take(SCHEDULES_READ_MAX))).await
    }

    async fn read_schedules(&self, fill: impl Fn(Call) -> Call) -> Result<(u64, Vec<Stored>)> {
        let mut items = Items::of(self.repeat(|_| fill(self.call(&self.scripts().schedules))).await?)?;
        let now_ms: u64 = items.next()?;
        self.set_now_ms(now_ms);
        let mut found = Vec::new();
        while !items.is_empty() {
            let name = String::from_utf8_lossy(&items.next::<Vec<u8>>()?).into_owned();
            let (definition, state, live): (_, _, u8) = (items.next()?, items.next()?, items.next()?);
            found.push(Stored { name, definition, state, live: live == 1 });
        }
        Ok((now_ms, found))
    }

    /// The names of all schedules, in order.
    pub(crate) async fn schedule_names(&self) -> Result<Vec<String>> {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys().schedules());
        let call = |_| Call::plain(command.clone()).mended_by(self.mend("", &[], &[]));
        let names: Vec<Vec<u8>> = read(self.repeat(call).await?)?;
        let mut names: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Changes one schedule. May be repeated.
    pub(crate) async fn change_schedule(&self, name: &str, change: Change<'_>) -> Result<Changed> {
        let call = |_| {
            let call = |what: &str| self.call(&self.scripts().schedule).arg(what).arg(name);
            match change {
                Change::Put { digest, awaited, definition, next_ms, max, may_wait } => {
                    let call = call("put").arg(digest).arg(awaited).arg(definition).arg(next_ms);
                    call.arg(max).arg(u8::from(may_wait))
                }
                Change::Remove => call("remove"),
                Change::Pause { who } => call("pause").arg(who),
                Change::Resume { digest, next_ms } => call("resume").arg(digest).arg(next_ms),
                Change::Defer { digest, awaited, look_ms, why } => {
                    call("defer").arg(digest).arg(awaited).arg(text(look_ms)).arg(why)
                }
                Change::Drop { digest, awaited, next_ms, why, missed, waiting } => {
                    let call = call("drop").arg(digest).arg(awaited).arg(text(next_ms)).arg(why);
                    call.arg(missed).arg(text(waiting))
                }
            }
        };
        match read::<String>(self.repeat(call).await?)?.as_str() {
            "done" => Ok(Changed::Done),
            "same" => Ok(Changed::Same),
            "other" => Ok(Changed::Other),
            "none" => Ok(Changed::None),
            "full" => Ok(Changed::Full),
            other => Err(Error::corrupt(format!("a change of a schedule answered {other}"))),
        }
    }

    /// Makes tasks of ticks, all or none. May be sent again.
    pub(crate) async fn fire(
        &self,
        schedule: &Stored,
        ticks: Ticks<'_>,
        overlap: Overlap,
        runs: &[(u64, Draft)],
    ) -> Result<Fired, Fault> {
        let parts: Vec<_> = runs
            .iter()
            .map(|(_, draft)| Ok((draft.clock()?, draft.asked(self.config())?)))
            .collect::<Result<_>>()
            .map_err(Fault::Final)?;
        let (kind, awaited, next_ms, missed) = match ticks {
            Ticks::Due { awaited, next_ms, missed } => ("t", awaited, next_ms, missed),
            Ticks::Waiting => ("w", "", None, 0),
            Ticks::ByHand { .. } => ("h", "", None, 0),
        };
        let letter = match (overlap, ticks) {
            (Overlap::Queue, Ticks::ByHand { may_wait: false }) => "n",
            (Overlap::Skip, _) => "s",
            (Overlap::Queue, _) => "q",
            (Overlap::Replace, _) => "r",
            (Overlap::Allow, _) => "a",
        };
        let call = self.call(&self.scripts().fire).arg(&schedule.name).arg(schedule.digest()).arg(kind);
        let call = call.arg(awaited).arg(text(next_ms)).arg(letter).arg(TICKS_WAITING_MAX).arg(missed);
        let call = call.arg(crate::claim::replaced_tail());
        let call = runs.iter().zip(&parts).fold(call, |call, ((tick_ms, draft), (clock, asking))| {
            let call = call.arg(&draft.queue).arg(*tick_ms).arg(draft.address()).arg(draft.record.as_slice());
            call.arg(clock.as_slice()).arg(asking.as_slice())
        });
        let (word, last, _): (String, Vec<u8>, i64) = read(self.send(&call).await?).map_err(Fault::Final)?;
        Ok(match word.as_str() {
            "fired" => Fired::Done,
            "waits" => Fired::Waits,
            "live" => Fired::Live(TaskId::from_slice(&last)),
            _ => Fired::Other,
        })
    }
}
