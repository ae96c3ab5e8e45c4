//! `task submit`.

use std::io::Read;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use orchestrator::{
    Backoff, BlockedOn, Error, NewTask, Orchestrator, Priority, Source, Span, TaskHandle, Unique, UniqueUntil,
};
use serde_json::{Value, json};

use super::approve::user;
use super::failure::{Failure, REFUSED};
use super::output::{Output, note};

/// Longest payload file that is read: as JSON it is longer than as stored.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Type of the task: what kind of work it is
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// Input of the handler: JSON, @FILE, or - for standard input
    #[arg(long, short, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    payload: String,
    /// Order within the queue: all of P0 before any of P1
    #[arg(long, default_value = "P2", value_parser = PossibleValuesParser::new(["P0", "P1", "P2", "P3"]).try_map(|p| p.parse::<Priority>()))]
    priority: Priority,
    /// Queue, instead of the one of its type
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Start no sooner than this from now: 90s, 5m, "1h 30m"
    #[arg(long, value_name = "SPAN", value_parser = span)]
    delay: Option<Span>,
    /// Who asks for it
    #[arg(long, default_value = "user", value_parser = PossibleValuesParser::new(["faq", "ops", "dev", "user", "system", "webhook"]).try_map(|s| s.parse::<Source>()))]
    source: Source,
    /// Attempts that may follow the first [default: 3]
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// Free field; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Total time that it may take: 30m
    #[arg(long, value_name = "SPAN", value_parser = span)]
    sla: Option<Span>,
    /// Begin no attempt later than this after its start; it then ends as failed, for the reason expired
    #[arg(long, value_name = "SPAN", value_parser = span)]
    expires: Option<Span>,
    /// Wait between its attempts: "fixed(30s)", or "exp(2s, 10m)" for one that doubles [default: its handler's]
    #[arg(long, value_name = "BACKOFF")]
    backoff: Option<Backoff>,
    /// Store it only when no task of this type and key is there; else that one is printed
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Until when it is the only one of its key: until its first attempt begins, or until it ends [default: done]
    #[arg(long, value_name = "WHEN", requires = "unique", value_parser = PossibleValuesParser::new(["started", "done"]).try_map(|u| u.parse::<UniqueUntil>()))]
    unique_until: Option<UniqueUntil>,
    /// Name of whoever asks for it; they may not approve it [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Wait for the result and print it, instead of the id
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "60s", value_parser = span)]
    wait: Option<Span>,
}

pub(super) fn span(text: &str) -> Result<Span, Error> {
    let span = Span::from(text);
    span.duration().map(|_| span)
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE".into()),
    }
}

pub(super) async fn run(orch: &Orchestrator, command: Submit, out: &mut Output) -> Result<(), Failure> {
    let mut task = NewTask::<Value>::new(&command.task_type, &payload(&command.payload)?)
        .priority(command.priority)
        .source(command.source);
    if let Some(queue) = &command.queue {
        task = task.queue(queue);
    }
    if let Some(delay) = command.delay {
        task = task.delay(delay);
    }
    if let Some(retries) = command.retries {
        task = task.max_retries(retries);
    }
    for (key, value) in command.meta {
        task = task.metadata(&key, value);
    }
    if let Some(sla) = command.sla {
        task = task.sla_target(sla);
    }
    if let Some(expires) = command.expires {
        task = task.expires(expires);
    }
    if let Some(backoff) = command.backoff {
        task = task.backoff(backoff);
    }
    if let Some(key) = &command.unique {
        task = task.unique(Unique::until_done(key).until(command.unique_until.unwrap_or_default()));
    }
    if let Some(name) = command.name.or_else(user) {
        task = task.requested_by(&name);
    }
    let handle = orch.enqueue(task).await?;
    match command.wait {
        Some(timeout) => wait(&handle, timeout, out).await,
        None => tell(&handle, out).await,
    }
}

/// Prints the id, and which approval it waits for, if it does.
async fn tell(handle: &TaskHandle<Value>, out: &mut Output) -> Result<(), Failure> {
    // The task is stored: that it cannot be looked at now is no failure of the command.
    let task = handle.task().await.ok();
    let waits = task.filter(|task| task.blocked_on == Some(BlockedOn::Approval)).and_then(|task| task.approval_id);
    match waits {
        waits if out.is_json() => {
            let mut told = json!({ "task_id": handle.id() });
            if let Some(approval) = waits {
                told["approval_id"] = json!(approval);
            }
            if handle.existing() {
                told["existing"] = true.into();
            }
            out.object(&told)
        }
        waits => {
            if handle.existing() {
                note("nothing was stored: this task is there, and is to be the only one of its key");
            }
            if let Some(approval) = waits {
                note(&format!("it waits for a person: orchestrator approval show {approval}"));
            }
            out.line(&handle.id().to_string())
        }
    }
}

/// Prints the result; as JSON, the whole task, however it ended.
async fn wait(handle: &TaskHandle<Value>, timeout: Span, out: &mut Output) -> Result<(), Failure> {
    if !out.is_json() {
        note(&format!("task {}", handle.id()));
    }
    let outcome = handle.result().timeout(timeout).await;
    if out.is_json() && matches!(outcome, Ok(_) | Err(Error::TaskEnded { .. } | Error::TimedOut { .. })) {
        out.object(&handle.task().await?)?;
    }
    match outcome {
        Ok(_) if out.is_json() => Ok(()),
        Ok(result) => out.line(&format!("{result:#}")),
        Err(Error::TaskEnded { .. }) if out.is_json() => Err(Failure::told(REFUSED)),
        Err(error @ Error::TimedOut { .. }) => {
            Err(Failure::refused(format!("{error}; it goes on: orchestrator task watch {}", handle.id())))
        }
        Err(error) => Err(error.into()),
    }
}

/// The payload as written, from a file or from standard input.
pub(super) fn payload(written: &str) -> Result<Value, Failure> {
    let fault =
        |what: &str, error: &dyn std::fmt::Display| Failure::usage(format!("cannot read the payload {what}: {error}"));
    let read = |mut from: Box<dyn Read>, what: &str| {
        let mut bytes = Vec::new();
        from.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| fault(what, &error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX { Err(fault(what, &"it is longer than 16 MiB")) } else { Ok(bytes) }
    };
    let text = match written.strip_prefix('@') {
        _ if written == "-" => read(Box::new(std::io::stdin()), "from standard input")?,
        Some(path) => {
            let what = format!("from {path}");
            let file = std::fs::File::open(path).map_err(|error| fault(&what, &error))?;
            read(Box::new(file), &what)?
        }
        None => written.into(),
    };
    serde_json::from_slice(&text).map_err(|error| {
        Failure::usage(format!(
            "the payload is not JSON ({error}); write --payload '{{\"key\": \"value\"}}', @file.json, or - for standard input"
        ))
    })
}
