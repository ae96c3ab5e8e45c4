//! Waiting for an event without holding anything.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use futures::future::BoxFuture;
use orchestrator::{Event, Noted, Until, Wait, check_event_type, digest};
use serde::de::DeserializeOwned;

use crate::durable::{Leaving, Name};
use crate::{Span, TaskContext};

/// How long an event is waited for unless the call says otherwise.
pub const EVENT_WAIT_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Types that begin so are told by the library itself, under no key.
const OWN: [&str; 3] = ["task.", "approval.", "sla."];

/// An event that was waited for has not been told in time. Through `?` it ends the task for good, as failed with the reason
/// `timeout`: every later attempt would find the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTold {
    awaited: String,
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (event_type, key) = self.awaited.split_once(' ').unwrap_or((&self.awaited, ""));
        write!(f, "no event {event_type} about {key} was told in time")
    }
}

impl std::error::Error for NotTold {}

/// A wait for an event; see [`TaskContext::wait_event`].
#[must_use = "nothing is waited for until this is awaited"]
pub struct WaitEvent<'c, T> {
    ctx: &'c TaskContext,
    event_type: &'c str,
    key: Option<String>,
    name: Option<&'c str>,
    timeout: Span,
    payload: PhantomData<fn() -> T>,
}

impl<'c, T: DeserializeOwned> WaitEvent<'c, T> {
    /// What the event is about: the key that it was told with, or the id of its task. This task's own id unless called.
    pub fn key(mut self, key: impl fmt::Display) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// How long it is waited for, at most 366 days; [`EVENT_WAIT_DEFAULT`] unless called.
    pub fn timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// The call's name in the journal; its place among the waits for this event unless called.
    pub fn name(mut self, name: &'c str) -> Self {
        self.name = Some(name);
        self
    }

    /// The whole event, instead of its payload alone.
    ///
    /// # Errors
    /// [`NotTold`] when it did not come in time.
    pub async fn told(self) -> Result<Event<T>, NotTold> {
        let Self { ctx, event_type, key, name, timeout, .. } = self;
        let durable = ctx.durable();
        let key = key.unwrap_or_else(|| ctx.task_id().to_string());
        let awaited = Wait::name_of(event_type, &key);
        if let Some(fault) = fault(event_type, &key) {
            return durable.fatal("event", format!("ctx.wait_event: {fault}")).await;
        }
        let timeout = match timeout.duration() {
            Ok(timeout) => timeout,
            Err(error) => return durable.fatal("event", format!("ctx.wait_event: {error}")).await,
        };
        let name = name.map_or(Name::Of(event_type), Name::Own);
        let call = durable.begin("event", name, Some(awaited.as_bytes())).await;
        let until = match &call.noted {
            Some(Noted::Found(event)) => match (**event).clone().typed() {
                Ok(event) => return Ok(event),
                Err(error) => return durable.fatal("payload", error).await,
            },
            Some(Noted::Waiting(at)) if *at <= durable.now_ms().max(ctx.assignment().claimed_at_ms()) => {
                return Err(NotTold { awaited });
            }
            Some(Noted::Waiting(at)) => Until::Instant(*at),
            _ => Until::After(timeout),
        };
        let behind = durable.found(digest(awaited.as_bytes()));
        let (name, entry) = (call.name.clone(), call.entry(Noted::Waiting(0)));
        durable.leave(Leaving::Park(Box::new(Wait::Event { name, entry, until, awaited, behind }))).await
    }
}

/// What is wrong with a wait, if anything.
fn fault(event_type: &str, key: &str) -> Option<String> {
    if let Err(error) = check_event_type(event_type) {
        return Some(error.to_string());
    }
    if OWN.iter().any(|own| event_type.starts_with(own)) {
        let hint = "wait for a task by its handle, or have an event handler tell what you wait for";
        return Some(format!("{event_type} is told of every task, and not by key; {hint}"));
    }
    let good = !key.is_empty() && key.len() <= 128 && key.bytes().all(|b| (0x20..0x7f).contains(&b));
    (!good).then(|| "a key has 1 to 128 printable ASCII characters".into())
}

impl<'c, T: DeserializeOwned + Send + 'c> IntoFuture for WaitEvent<'c, T> {
    type Output = Result<T, NotTold>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.told().await.map(|event| event.payload) })
    }
}

impl TaskContext {
    /// Waits for an event of a type about something, without holding anything: the handler is left here, and entered anew
    /// when the event is told or the time is over. One that was told before counts too, if it was told since this task was
    /// created, within the last day, and if the task has not found it before; of several the newest is found. At most 1,000
    /// tasks wait for one type and key. One thing is waited for at a time: under `select!` the first wait counts, and a
    /// `tokio::time::timeout` around it comes too late; use [`WaitEvent::timeout`].
    ///
    /// ```
    /// use orchestrator_worker::{TaskContext, TaskError, TaskResult, payload, task_handler};
    ///
    /// #[payload]
    /// struct Rollout { sha: String }
    /// #[payload]
    /// struct Smoke { green: bool }
    ///
    /// #[task_handler("rollout")]
    /// async fn rollout(args: Rollout, ctx: TaskContext) -> TaskResult {
    ///     let smoke: Smoke = ctx.wait_event("smoke.done").key(&args.sha).timeout("15m").await?;
    ///     if !smoke.green {
    ///         return Err(TaskError::fatal("the smoke test is red"));
    ///     }
    ///     ctx.publish("rollout.succeeded", &args).await?; // told when the task has completed, and only then
    ///     Ok(())
    /// }
    /// ```
    pub fn wait_event<'c, T: DeserializeOwned>(&'c self, event_type: &'c str) -> WaitEvent<'c, T> {
        let timeout = EVENT_WAIT_DEFAULT.into();
        WaitEvent { ctx: self, event_type, key: None, name: None, timeout, payload: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_come_is_told_of_at_once() {
        assert_eq!(fault("smoke.done", "abc 1"), None);
        for (event_type, key, text) in [
            ("smoke", "a", "is no event type"),
            ("task.completed", "a", "by its handle"),
            ("smoke.done", "", "1 to 128 printable"),
            ("smoke.done", "a\nb", "1 to 128 printable"),
        ] {
            assert!(fault(event_type, key).is_some_and(|fault| fault.contains(text)), "{event_type} {key}");
        }
        let error = NotTold { awaited: "smoke.done 7f3a".into() };
        assert_eq!(error.to_string(), "no event smoke.done about 7f3a was told in time");
    }
}
