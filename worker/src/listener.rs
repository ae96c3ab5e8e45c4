//! Handlers of events: what they are, how a worker finds them, and their part in their groups.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orchestrator::{Backoff, Delivery, Error, EventsFrom, Group, Orchestrator, Result, Unhandled, patterns};
use tokio::task::JoinSet;

use crate::error::Kind;
use crate::event::EventContext;
use crate::extract::{Needs, State};
use crate::{Stop, TaskError};

/// Longest attempt at an event unless its handler says otherwise.
pub const EVENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Groups of one worker at most.
const GROUPS_MAX: usize = 64;

/// A handler of events with its types put away. Made by `#[event_handler]`, or by hand.
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// What it handles, and how.
    fn spec(&self) -> EventSpec;

    /// One attempt.
    ///
    /// # Errors
    /// What the handler returned, or that the payload does not fit.
    async fn call(&self, ctx: EventContext) -> Result<(), TaskError>;
}

/// What a handler of events handles, and how. What is `None` has its default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EventSpec {
    /// Its consumer group: each event is handled once in it, however many workers there are.
    pub group: &'static str,
    /// Patterns of the types that it wants, separated by commas; empty for all.
    pub types: &'static str,
    /// Attempts that may follow the first one.
    pub retries: Option<u8>,
    /// The wait between attempts.
    pub backoff: Option<Backoff>,
    /// The longest attempt.
    pub timeout: Option<Duration>,
    /// How many events it handles at once.
    pub at_once: Option<usize>,
    /// Where the group begins when it is new; with the next event unless given.
    pub from: Option<EventsFrom>,
    /// The type of the task that it starts.
    pub start: Option<&'static str>,
    /// What it does, in its author's words.
    pub doc: &'static str,
    /// The shared state that it needs.
    pub needs: Needs,
    pub(crate) location: &'static Location<'static>,
}

impl EventSpec {
    /// All defaults for a group that wants `types`. The caller's place in the source tells handlers apart.
    #[track_caller]
    #[must_use]
    pub fn new(group: &'static str, types: &'static str) -> Self {
        Self {
            group,
            types,
            retries: None,
            backoff: None,
            timeout: None,
            at_once: None,
            from: None,
            start: None,
            doc: "",
            needs: Needs::default(),
            location: Location::caller(),
        }
    }

    fn group(&self) -> Result<Group> {
        let mut group = Group::new(self.group, &patterns(self.types)?);
        if let Some(retries) = self.retries {
            group = group.retries(retries);
        }
        if let Some(backoff) = self.backoff {
            group = group.backoff(backoff);
        }
        if let Some(at_once) = self.at_once {
            group = group.at_once(at_once);
        }
        if let Some(from) = self.from {
            group = group.from(from);
        }
        group.check()?;
        Ok(group)
    }
}

/// One handler of events known at link time.
#[derive(Debug)]
pub struct EventRegistration {
    make: fn() -> Box<dyn EventHandler>,
    file: &'static str,
    line: u32,
}

impl EventRegistration {
    /// Used by the code that `#[event_handler]` makes.
    #[must_use]
    pub const fn new(make: fn() -> Box<dyn EventHandler>, file: &'static str, line: u32) -> Self {
        Self { make, file, line }
    }
}

inventory::collect!(EventRegistration);

/// A handler ready to be called.
#[derive(Clone)]
struct Listener {
    spec: Arc<EventSpec>,
    group: Group,
    handler: Arc<dyn EventHandler>,
    place: String,
}

/// The handlers of events of one worker.
#[derive(Clone, Default)]
pub(crate) struct Listeners(Vec<Listener>);

impl Listeners {
    pub(crate) fn discover(&mut self) -> Result {
        for found in inventory::iter::<EventRegistration> {
            self.add((found.make)(), format!("{}:{}", found.file, found.line))?;
        }
        Ok(())
    }

    /// Adds one handler; the same one twice is one.
    pub(crate) fn add(&mut self, handler: Box<dyn EventHandler>, place: String) -> Result {
        let spec = handler.spec();
        let invalid = |what: String| Err(Error::Invalid { what });
        let group = match spec.group() {
            Ok(group) => group,
            Err(error) => return invalid(format!("the event handler at {place}: {error}")),
        };
        if let Some(other) = self.0.iter().find(|other| other.spec.group == spec.group) {
            if other.spec.location == spec.location {
                return Ok(());
            }
            return invalid(format!(
                "the group `{}` has two event handlers, at {} and at {place}, and each event would go to one of them; give \
                 each a group of its own",
                spec.group, other.place
            ));
        }
        if self.0.len() == GROUPS_MAX {
            return invalid(format!("a worker has at most {GROUPS_MAX} event handlers"));
        }
        self.0.push(Listener { spec: Arc::new(spec), group, handler: handler.into(), place });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses a worker without the state that a handler needs.
    pub(crate) fn check(&self, state: &State) -> Result {
        for Listener { spec, .. } in &self.0 {
            if let Some((_, name)) = spec.needs.0.iter().find(|(id, _)| !state.has(*id)) {
                return Err(Error::Invalid {
                    what: format!(
                        "the event handler of the group `{}` takes Data<{name}>, which this worker does not have; add \
                         `.data(..)` with one",
                        spec.group
                    ),
                });
            }
        }
        Ok(())
    }

    /// Takes part in all groups, until the worker drains. They are there when this returns: what is told from then on they
    /// get.
    pub(crate) async fn start(&self, orch: &Orchestrator, state: &Arc<State>, stop: &Stop) -> Result<Listening> {
        let mut consumers = JoinSet::new();
        for Listener { spec, group, handler, .. } in self.0.iter().cloned() {
            orch.make_group(&group).await?;
            let (orch, state, drained) = (orch.clone(), Arc::clone(state), stop.drained());
            tracing::info!(group = spec.group, types = spec.types, "handles events");
            consumers.spawn(async move {
                let timeout = spec.timeout.unwrap_or(EVENT_TIMEOUT_DEFAULT);
                let client = orch.clone();
                let handle = move |delivery: Delivery| {
                    let ctx = EventContext::new(
                        client.clone(),
                        spec.group,
                        delivery.event,
                        delivery.attempt,
                        Arc::clone(&state),
                    );
                    attempt(Arc::clone(&handler), ctx, timeout)
                };
                // The group was checked when the handler was added.
                if let Err(error) = orch.consume(&group, handle, drained.cancelled_owned()).await {
                    tracing::error!(%error, group = group.name(), "the group is not served here");
                }
            });
        }
        Ok(Listening(consumers))
    }
}

async fn attempt(handler: Arc<dyn EventHandler>, ctx: EventContext, timeout: Duration) -> Result<(), Unhandled> {
    let error = match tokio::time::timeout(timeout, handler.call(ctx)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => TaskError::from(format!("the attempt took longer than its timeout of {timeout:?}")),
    };
    let text = error.to_string();
    Err(match error.kind {
        Kind::Retry => Unhandled::Retry { error: text, delay: None },
        Kind::RetryIn(delay) | Kind::Snooze(delay) => Unhandled::Retry { error: text, delay: Some(delay) },
        Kind::Rejected(_) | Kind::Fatal(_) => Unhandled::Never { error: text },
    })
}

/// A worker's part in its groups; given up at once when dropped.
pub(crate) struct Listening(JoinSet<()>);

impl Listening {
    /// Waits until what was begun is finished: for at most `grace` after draining began, and no longer when it is to stop
    /// at once.
    pub(crate) async fn end(mut self, stop: &Stop, grace: Duration) {
        let finished = async { while self.0.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            () = stop.immediate() => {}
            () = tokio::time::sleep(grace) => {}
        }
    }
}
