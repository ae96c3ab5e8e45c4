//! What a new task is, as flags: for `task submit` and `schedule add`.

use std::io::Read;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use orchestrator::{Backoff, Error, NewTask, Priority, Span, Unique, UniqueUntil};
use serde_json::Value;

use super::approve::user;
use super::failure::Failure;

/// Longest payload file that is read: as JSON it is longer than as stored.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct NewTaskArgs {
    /// Type of the task: what kind of work it is
    #[arg(value_name = "TYPE")]
    pub(super) task_type: String,
    /// Input of the handler: JSON, @FILE, or - for standard input
    #[arg(long, short, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    payload: String,
    /// Order within the queue: all of P0 before any of P1
    #[arg(long, default_value = "P2", value_parser = PossibleValuesParser::new(["P0", "P1", "P2", "P3"]).try_map(|p| p.parse::<Priority>()))]
    priority: Priority,
    /// Queue, instead of the one of its type
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
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
    /// Store it only when no task of this type and key is there
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Until when it is the only one of its key: until its first attempt begins, or until it ends [default: done]
    #[arg(long, value_name = "WHEN", requires = "unique", value_parser = PossibleValuesParser::new(["started", "done"]).try_map(|u| u.parse::<UniqueUntil>()))]
    unique_until: Option<UniqueUntil>,
    /// Name of whoever asks for it; they may not approve it [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    who: Option<String>,
}

impl NewTaskArgs {
    /// Whoever asks for it.
    pub(super) fn asked_by(&self) -> Option<String> {
        self.who.clone().or_else(user)
    }

    /// The task. Reads its payload.
    pub(super) fn task(self) -> Result<NewTask<Value>, Failure> {
        let asked_by = self.asked_by();
        let mut task = NewTask::<Value>::new(&self.task_type, &payload(&self.payload)?).priority(self.priority);
        if let Some(queue) = &self.queue {
            task = task.queue(queue);
        }
        if let Some(retries) = self.retries {
            task = task.max_retries(retries);
        }
        for (key, value) in self.meta {
            task = task.metadata(&key, value);
        }
        if let Some(sla) = self.sla {
            task = task.sla_target(sla);
        }
        if let Some(expires) = self.expires {
            task = task.expires(expires);
        }
        if let Some(backoff) = self.backoff {
            task = task.backoff(backoff);
        }
        if let Some(key) = &self.unique {
            task = task.unique(Unique::until_done(key).until(self.unique_until.unwrap_or_default()));
        }
        if let Some(name) = asked_by {
            task = task.requested_by(&name);
        }
        Ok(task)
    }
}

pub(super) fn span(text: &str) -> Result<Span, Error> {
    let span = Span::from(text);
    span.duration().map(|_| span)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE".into()),
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
