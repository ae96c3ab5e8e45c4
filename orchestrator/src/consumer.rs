//! One process's part in a consumer group: reading, handling, trying again, letting go.
//!
//! **Invariant:** an event is let go of only when it was handled or is a dead letter, and only by the consumer that has the
//! group's seat. What it had in hand when it died is handled by the next one, before anything newer.

use std::any::Any;
use std::collections::HashMap;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinError, JoinSet};

use crate::bus::{EventCursor, EventsFrom};
use crate::group::{Delivery, Group, Unhandled};
use crate::store::{EntryId, Turn, Turned};
use crate::untold::{Untold, untold};
use crate::window::{EVENT_CRASHES_MAX, Job, Notes, Window};
use crate::{BEAT, ERROR_BYTES_MAX, EVENT_BYTES_MAX, Orchestrator, Result, codec};

/// Entries read at once.
const PAGE: usize = 32;
/// Events that are held at most, and their bytes.
const HELD_MAX: usize = 4096;
const HELD_BYTES_MAX: usize = 64 << 20;
/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Notes of one turn at most.
const NOTES_MAX: usize = 200;
/// Pause after a fault.
const PAUSE: Duration = Duration::from_millis(200);
/// Largest dead letter: an event, and what was known of its task.
const LETTER_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

type Exchange = Pin<Box<dyn Future<Output = (Notes, Result<(Turned, Vec<Untold>)>)> + Send>>;

impl Orchestrator {
    /// Handles the events of a group together with whoever else does so, until `shutdown` is over: then nothing more is
    /// begun, what was begun is finished, and another process takes over at once. To cut it short, drop the future.
    ///
    /// Each event is handled at least once: again when `handle` says so, and when the process dies that has it in hand; it
    /// is known by its id. One process of the group handles its events at a time, those of one task in their order; the
    /// others stand by, and one of them takes over within 6 seconds. Panics count as failed attempts. An event that is out
    /// of attempts, or that 5 processes died with, becomes a dead letter.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a group out of its bounds. While Redis is away it waits.
    pub async fn consume<H, F>(&self, group: &Group, handle: H, shutdown: impl Future<Output = ()>) -> Result
    where
        H: Fn(Delivery) -> F,
        F: Future<Output = Result<(), Unhandled>> + Send + 'static,
    {
        group.check()?;
        let mut consumer = Consumer::new(self, group);
        let mut newest = self.newest.watch(&self.store);
        let mut shutdown = pin!(shutdown);
        let mut stopping = false;
        let mut exchange: Option<Exchange> = None;
        let mut handlers = JoinSet::new();
        loop {
            if !stopping {
                consumer.begin(&mut handlers, &handle);
            }
            if exchange.is_none() && consumer.wants_turn(stopping, handlers.is_empty()) {
                exchange = Some(consumer.turn(stopping));
            }
            if stopping && handlers.is_empty() && exchange.is_none() {
                break;
            }
            let wake = consumer.wake(exchange.is_some());
            let exchanged = async {
                match &mut exchange {
                    Some(exchange) => exchange.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut shutdown, if !stopping => stopping = true,
                Some(ended) = handlers.join_next_with_id(), if !handlers.is_empty() => consumer.note(ended),
                (notes, outcome) = exchanged => {
                    exchange = None;
                    if consumer.turned(notes, outcome) {
                        // Another process may have begun with the same events.
                        handlers.abort_all();
                    }
                }
                changed = newest.changed() => match changed {
                    Ok(()) => consumer.hungry = true,
                    Err(_) => newest = self.newest.watch(&self.store),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        consumer.leave().await;
        Ok(())
    }

    /// Makes a group, unless it is there: it gets what is told from then on, whether or not anybody handles it yet.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a group out of its bounds; [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn make_group(&self, group: &Group) -> Result {
        group.check()?;
        self.store.make_group(group.name(), group.begin()).await
    }

    /// Notes the intent of an effect under a key, for a week. What was noted of it before: nothing, its intent (empty), or its
    /// output.
    #[doc(hidden)]
    pub async fn intend(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.store.intend(key).await
    }

    /// Notes the output of an effect whose intent was noted.
    #[doc(hidden)]
    pub async fn intended(&self, key: &str, output: &[u8]) -> Result {
        self.store.intended(key, output).await
    }
}

/// Logs what was dropped before anybody of the group looked at it.
async fn tell_of_missed(orch: &Orchestrator, group: &str) -> Result {
    let status = orch.store.groups().await?.into_iter().find(|status| status.name == group);
    if let Some(missed) = status.and_then(|status| status.missed).filter(|missed| *missed > 0) {
        tracing::warn!(group, missed, "entries of the event stream were dropped before the group looked at them");
    }
    Ok(())
}

/// One process's part in one group.
struct Consumer<'c> {
    orch: &'c Orchestrator,
    group: &'c Group,
    name: String,
    window: Window<Untold>,
    /// What runs, by the Tokio task that runs it.
    jobs: HashMap<Id, Job<Untold>>,
    /// Until when nobody else can have the seat.
    seat: Option<Instant>,
    sent: Instant,
    /// Where the pending entries begin that have not been looked at; whether a process died with them.
    pending: Option<(EntryId, bool)>,
    /// The newest entry that was read.
    last: Option<EntryId>,
    /// There may be new entries.
    hungry: bool,
    next_turn: Instant,
    /// After a fault, until the next turn.
    resting: bool,
}

impl<'c> Consumer<'c> {
    fn new(orch: &'c Orchestrator, group: &'c Group) -> Self {
        let name = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let (window, jobs, now) = (Window::default(), HashMap::new(), Instant::now());
        Self {
            orch,
            group,
            name,
            window,
            jobs,
            seat: None,
            sent: now,
            pending: None,
            last: None,
            hungry: true,
            next_turn: now,
            resting: false,
        }
    }

    /// Begins what may begin.
    fn begin<H, F>(&mut self, handlers: &mut JoinSet<Result<(), Unhandled>>, handle: &H)
    where
        H: Fn(Delivery) -> F,
        F: Future<Output = Result<(), Unhandled>> + Send + 'static,
    {
        while handlers.len() < self.group.at_once
            && self.seat.is_some_and(|until| Instant::now() + self.group.lease / 6 < until)
        {
            let Some(job) = self.window.begin(Instant::now()) else { return };
            match job.event.event() {
                Some(event) => {
                    let delivery = Delivery { event, attempt: job.mark.attempt() };
                    let id = match catch_unwind(AssertUnwindSafe(|| handle(delivery))) {
                        Ok(work) => handlers.spawn(work).id(),
                        Err(panic) => handlers.spawn(ready(Err(panicked(&*panic)))).id(),
                    };
                    self.jobs.insert(id, job);
                }
                // It was not written by us.
                None => self.window.done(&job),
            }
        }
    }

    /// Room for another page: until twice as many events can go on as are handled at once, so that none waits for Redis. Those
    /// whose line is held up do not count, but for the bound of all.
    fn has_room(&self) -> bool {
        let (events, bytes) = self.window.held();
        self.window.going_on() < 2 * self.group.at_once.max(PAGE) && events < HELD_MAX && bytes < HELD_BYTES_MAX
    }

    fn wants_turn(&self, stopping: bool, idle: bool) -> bool {
        if Instant::now() >= self.next_turn {
            // Who lost the seat lets what he had begun come to its end before he asks for it again.
            return self.seat.is_some() || idle && !stopping;
        }
        let reads = !stopping && self.has_room() && (self.hungry || self.pending.is_some());
        self.seat.is_some() && !self.resting && (self.window.has_notes() || reads)
    }

    /// When to look again at the latest. What is due already waits for something else.
    fn wake(&self, exchanging: bool) -> Instant {
        let now = Instant::now();
        let turn = Some(self.next_turn).filter(|_| !exchanging);
        [self.window.due(), turn]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(now + self.group.lease / 3)
    }

    fn turn(&mut self, stopping: bool) -> Exchange {
        let notes = if self.seat.is_some() { self.window.notes(NOTES_MAX) } else { Notes::default() };
        let begin =
            self.last.or_else(|| self.group.begin()).map_or_else(|| "$".into(), |(ms, seq)| format!("{ms}-{seq}"));
        let has_seat = self.seat.is_some();
        let turn = Turn {
            group: self.group.name.clone(),
            consumer: self.name.clone(),
            lease: self.group.lease,
            has_seat,
            want: if !stopping && self.has_room() { PAGE } else { 0 },
            // Whoever takes the seat begins with what the one before him had in hand.
            pending: if has_seat { self.pending.map(|(from, _)| from) } else { Some((0, 0)) },
            begin,
        };
        self.sent = Instant::now();
        self.next_turn = self.sent + self.group.lease / 3;
        (self.hungry, self.resting) = (false, false);
        let (orch, wanted, group) = (self.orch.clone(), self.group.wanted.clone(), self.group.name.clone());
        Box::pin(async move {
            let outcome = async {
                let turned = orch.store.consume(&turn, &notes).await?;
                if !turn.has_seat && matches!(turned, Turned::Mine { .. }) {
                    tell_of_missed(&orch, &group).await?;
                }
                let told = match &turned {
                    Turned::Mine { entries, .. } => {
                        untold(&orch, entries, EventCursor::default(), &wanted, Some(&group)).await?
                    }
                    _ => Vec::new(),
                };
                Ok((turned, told))
            };
            let outcome = outcome.await;
            (notes, outcome)
        })
    }

    /// Takes in what a turn brought; whether the seat was lost.
    fn turned(&mut self, notes: Notes, outcome: Result<(Turned, Vec<Untold>)>) -> bool {
        let (turned, told) = match outcome {
            Ok(turned) => turned,
            Err(error) => {
                tracing::debug!(%error, group = self.group.name, "a consumer of events has to wait");
                self.window.put_back(notes);
                // What it may have read is pending now; no process died with it.
                if self.seat.is_some() && self.pending.is_none() {
                    self.pending = Some((self.last.map_or((0, 0), |(ms, seq)| (ms, seq.saturating_add(1))), false));
                }
                self.next_turn = Instant::now() + PAUSE;
                (self.hungry, self.resting) = (true, true);
                return false;
            }
        };
        match turned {
            Turned::Mine { pending, entries, marks, died } => {
                let was_pending = match self.seat {
                    Some(_) => self.pending,
                    None => {
                        tracing::debug!(
                            group = self.group.name,
                            consumer = self.name,
                            "handles the events of the group"
                        );
                        Some(((0, 0), died))
                    }
                };
                self.seat = Some(self.sent + self.group.lease);
                self.window.noted(notes);
                self.hungry |= was_pending.is_some() || entries.len() >= PAGE;
                self.add(entries, &marks, was_pending.is_some_and(|(_, died)| died), told);
                self.pending = was_pending.and_then(|(_, died)| Some((pending?, died)));
            }
            Turned::Taken(left) => {
                // A little apart from the others who wait for it.
                self.next_turn = Instant::now()
                    + left.min(self.group.lease / 3).min(BEAT).mul_f64(0.5 + rand::random::<f64>() / 2.0)
                    + PAUSE / 10;
            }
            Turned::Lost => {
                tracing::warn!(group = self.group.name, "the events of the group were taken over by another process");
                self.window = Window::default();
                self.jobs.clear();
                (self.seat, self.pending) = (None, None);
                self.next_turn = Instant::now() + PAUSE;
                return true;
            }
        }
        false
    }

    /// Takes in what was read; `died` says of pending entries whether a process died with them.
    fn add(&mut self, entries: Vec<(EntryId, crate::store::Fields)>, marks: &[Vec<u8>], died: bool, told: Vec<Untold>) {
        let mut told = told.into_iter().peekable();
        for (place, (entry, _)) in entries.into_iter().enumerate() {
            let mut events = Vec::new();
            while let Some(one) = told.next_if(|one| one.at().entry == entry) {
                // A group that begins behind a place within an entry.
                if !matches!(self.group.from, EventsFrom::Behind(place) if one.at() <= place) {
                    events.push((one.at().index, one.line(), one.weight(), one));
                }
            }
            let marks = marks.get(place).map(Vec::as_slice).unwrap_or_default();
            let backoff = self.group.backoff;
            for job in self.window.add(entry, events, marks, died, |mark| backoff.draw(mark.failures.into())) {
                let error = format!("{EVENT_CRASHES_MAX} processes died or fell silent while they handled it");
                if let Some((event, error)) = letter(&job, error) {
                    self.window.poison(&job, event, error);
                }
            }
            self.last = self.last.max(Some(entry));
        }
    }

    /// An event was handled, or not.
    fn note(&mut self, ended: Result<(Id, Result<(), Unhandled>), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => {
                let id = error.id();
                (id, Err(panicked(&*error.into_panic())))
            }
            Err(error) => (error.id(), Err(Unhandled::Retry { error: error.to_string(), delay: None })),
        };
        // Of an earlier time in the seat: another process has it now.
        let Some(job) = self.jobs.remove(&id) else { return };
        let failures = job.mark.failures.saturating_add(1);
        match outcome {
            Ok(()) => self.window.done(&job),
            // What is kept counts no further than this.
            Err(Unhandled::Retry { error, delay }) if failures <= self.group.retries && failures < 255 => {
                let delay = delay.unwrap_or_else(|| self.group.backoff.draw(failures.into())).min(WAIT_MAX);
                tracing::info!(event = ?job.at, group = self.group.name, error, ?delay, "an event was not handled; another attempt follows");
                self.window.again(job, Instant::now() + delay);
            }
            Err(Unhandled::Retry { error, .. } | Unhandled::Never { error }) => {
                tracing::warn!(event = ?job.at, group = self.group.name, error, "an event is a dead letter");
                match letter(&job, error) {
                    Some((event, error)) => self.window.dead(&job, event, error),
                    None => self.window.done(&job),
                }
            }
        }
    }

    /// Gives the seat up, so that another process need not wait for its end.
    async fn leave(mut self) {
        if self.seat.is_none() {
            return;
        }
        loop {
            let notes = self.window.notes(NOTES_MAX);
            let turn = Turn {
                group: self.group.name.clone(),
                consumer: self.name.clone(),
                lease: if self.window.has_notes() { self.group.lease } else { Duration::ZERO },
                has_seat: true,
                want: 0,
                pending: None,
                begin: "$".into(),
            };
            if let Err(error) = self.orch.store.consume(&turn, &notes).await {
                tracing::debug!(%error, group = self.group.name, "a consumer of events left without a word");
                return;
            }
            if !self.window.has_notes() {
                return;
            }
        }
    }
}

/// A panic is a failed attempt.
fn panicked(panic: &(dyn Any + Send)) -> Unhandled {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let error = format!("the handler panicked: {}", text.unwrap_or("(without a text)"));
    Unhandled::Retry { error, delay: None }
}

/// What is kept of an event that is given up on: its bytes, and why.
fn letter(job: &Job<Untold>, mut error: String) -> Option<(Vec<u8>, String)> {
    let event = job.event.event()?;
    let cut = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    error.truncate(cut.unwrap_or(0));
    match codec::encode("dead letter", &event, LETTER_BYTES_MAX) {
        Ok(event) => Some((event, error)),
        Err(fault) => {
            tracing::error!(event = event.event_id, error, %fault, "a dead letter cannot be kept");
            None
        }
    }
}
