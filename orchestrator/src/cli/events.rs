//! `events publish`, `events list` and `events tail`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use orchestrator::{
    Error, Event, EventCursor, EventPattern, EventPriority, EventsFrom, Heard, NewEvent, Orchestrator, Span, TaskId,
    patterns,
};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, note, plain};

/// Pause after a read that failed.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Tell an event and print its id
    Publish(Publish),
    /// Print the events that are kept, oldest first
    List(List),
    /// Print events as they happen, until interrupted
    Tail(Tail),
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// What happened: two or more words with dots between them, as in deploy.succeeded
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// What is told: JSON, @FILE, or - for standard input
    #[arg(long, short, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    payload: String,
    /// How urgent it is
    #[arg(long, default_value = "medium", value_parser = PossibleValuesParser::new(["critical", "high", "medium", "low"]).try_map(|p| p.parse::<EventPriority>()))]
    priority: EventPriority,
    /// Who tells it
    #[arg(long, value_name = "AGENT", default_value = "user")]
    source: String,
    /// The task that it is about
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// What else it is about: a commit, an order; whoever waits for an event names it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Where in its trace it is told, as W3C Trace Context writes it: 00-TRACE-PARENT-01
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Types: `deploy.*,task.failed`; a star is any one word, and at the end any number of them [default: all]
    #[arg(long, value_name = "PATTERNS", default_value = "", hide_default_value = true)]
    types: String,
    /// Only what is about this task
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    wanted: Wanted,
    /// Begin behind this place, instant (2026-01-31T12:00:00Z) or this long ago (90s, 2h)
    #[arg(long, value_name = "WHERE", value_parser = from)]
    from: Option<EventsFrom>,
    /// Events at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    wanted: Wanted,
    /// Begin behind this place, instant or this long ago, or with the `oldest` one [default: what happens from now on]
    #[arg(long, value_name = "WHERE", value_parser = from)]
    from: Option<EventsFrom>,
}

/// A place of the stream, an instant, or a span before now.
fn from(text: &str) -> Result<EventsFrom, Error> {
    if text == "oldest" {
        return Ok(EventsFrom::Oldest);
    }
    if let Ok(cursor) = text.parse() {
        return Ok(EventsFrom::Behind(cursor));
    }
    if let Ok(instant) = text.parse::<DateTime<Utc>>() {
        return Ok(EventsFrom::Behind(EventCursor::at(instant)));
    }
    let ago =
        Span::from(text).duration().ok().and_then(|ago| Utc::now().checked_sub_signed(TimeDelta::from_std(ago).ok()?));
    ago.map(|instant| EventsFrom::Behind(EventCursor::at(instant))).ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        Error::Invalid {
            what: format!(
                "`{text}` is no place; write oldest, 1790000000000-0.0, 2026-01-31T12:00:00Z, or a span like 2h"
            ),
        }
    })
}

pub(super) async fn run(orch: &Orchestrator, command: Events, out: &mut Output) -> Result<(), Failure> {
    match command {
        Events::Publish(command) => publish(orch, command, out).await,
        Events::List(command) => list(orch, command, out).await,
        Events::Tail(command) => tail(orch, command, out).await,
    }
}

async fn publish(orch: &Orchestrator, command: Publish, out: &mut Output) -> Result<(), Failure> {
    let payload = super::new_task::payload(&command.payload)?;
    let mut event = NewEvent::new(&command.event_type, &payload).priority(command.priority).source(&command.source);
    if let Some(task) = command.task {
        event = event.task(task);
    }
    if let Some(key) = &command.key {
        event = event.key(key);
    }
    if let Some(traceparent) = &command.traceparent {
        event = event.traceparent(traceparent);
    }
    let id = orch.publish(&event).await?;
    if out.is_json() { out.object(&json!({ "event_id": id })) } else { out.line(&id) }
}

async fn list(orch: &Orchestrator, command: List, out: &mut Output) -> Result<(), Failure> {
    let wanted = command.wanted.patterns()?;
    // Nothing is told of a task before it is there; its id was made by a clock that may be a little ahead.
    let born = command.wanted.task.map(|id| DateTime::from_timestamp_millis(id.created_at_ms() as i64 - 1000));
    let begin = born.flatten().map_or(EventsFrom::Oldest, |born| EventsFrom::Behind(EventCursor::at(born)));
    let mut events = orch.events(&wanted, command.from.unwrap_or(begin));
    let mut left = command.limit;
    while left > 0
        && let Some(heard) = events.next_if_any().await?
    {
        left -= u32::from(command.wanted.tell(heard, out)?);
    }
    Ok(())
}

async fn tail(orch: &Orchestrator, command: Tail, out: &mut Output) -> Result<(), Failure> {
    let wanted = command.wanted.patterns()?;
    let mut events = orch.events(&wanted, command.from.unwrap_or(EventsFrom::Now));
    let mut away = false;
    loop {
        match events.next().await {
            Ok(heard) => {
                away = false;
                command.wanted.tell(heard, out)?;
            }
            // The first answer decides whether there is anything to follow; later ones are waited for.
            Err(error @ Error::Unavailable { .. }) if events.cursor().is_some() => {
                if !std::mem::replace(&mut away, true) {
                    note(&format!("{error}; waiting for it to come back"));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Wanted {
    fn patterns(&self) -> Result<Vec<EventPattern>, Failure> {
        Ok(patterns(&self.types)?)
    }

    /// Prints what was heard, when it is wanted; whether it was an event that is.
    fn tell(&self, heard: Heard, out: &mut Output) -> Result<bool, Failure> {
        match heard {
            Heard::Gap if out.is_json() => return out.object(&json!({ "gap": true })).map(|()| false),
            Heard::Gap => note("some events behind that place are not kept any more"),
            Heard::Event(event) if self.task.is_some() && event.task_id != self.task => {}
            Heard::Event(event) if out.is_json() => return out.object(&event).map(|()| true),
            Heard::Event(event) => return out.line(&line(&event)).map(|()| true),
        }
        Ok(false)
    }
}

fn line(event: &Event) -> String {
    let time = event.timestamp.format("%Y-%m-%d %H:%M:%S%.3f");
    let task = event.task_id.map(|id| id.to_string()).unwrap_or_default();
    let about = plain(&event.payload.to_string(), 200);
    let (kind, agent) = (plain(&event.event_type, 128), plain(&event.source_agent, 40));
    let key = event.key.as_deref().map(|key| format!(" [{}]", plain(key, 128))).unwrap_or_default();
    format!("{time} {kind:<22} {task:<26} {agent}{key} {about}")
}
