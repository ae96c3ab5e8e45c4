//! `task get`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use orchestrator::{Orchestrator, SlaClock, Task, TaskId};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::output::{Output, plain};

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(orch: &Orchestrator, command: &Get, out: &mut Output) -> Result<(), Failure> {
    let task = orch.get(command.id.parse::<TaskId>()?).await?;
    if out.is_json() {
        return out.object(&task);
    }
    for (name, value) in fields(&task) {
        out.line(&format!("{name:<9} {value}"))?;
    }
    Ok(())
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// What there is to say, most asked for first; what a task does not have is left out.
fn fields(task: &Task) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("task", task.task_id.to_string()),
        ("type", plain(&task.task_type, 64)),
        ("status", standing(task)),
        ("queue", format!("{} {}", plain(&task.queue, 64), task.priority)),
        ("attempts", attempts(task)),
        ("created", instant(task.created_at)),
    ];
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    add("waits for", task.blocked_on.map(|what| word(&what)));
    add("until", task.blocked_until.map(instant));
    add("approval", task.approval_id.map(|id| id.to_string()));
    add("clock", task.sla_clock.as_ref().map(clock));
    add("starts", task.run_at.filter(|_| task.started_at.is_none()).map(instant));
    add("expires", task.expires_at.filter(|_| !task.status.is_terminal()).map(instant));
    add("backoff", task.backoff.map(|backoff| backoff.to_string()));
    add("unique", task.unique.filter(|_| !task.status.is_terminal()).map(|until| format!("until {}", word(&until))));
    add("progress", task.progress.map(|fraction| progress(fraction, task.progress_note.as_deref())));
    add("started", task.started_at.map(instant));
    add("ended", task.completed_at.map(instant));
    add("parent", task.parent_task_id.map(|id| id.to_string()));
    add("children", (!task.child_task_ids.is_empty()).then(|| task.child_task_ids.len().to_string()));
    add("by", task.requested_by.as_deref().map(|by| plain(by, 128)));
    add("trace", Some(plain(&task.trace_id, 128)));
    add("metadata", (!task.metadata.is_empty()).then(|| Value::from(task.metadata.clone()).to_string()));
    add("payload", Some(task.payload.to_string()));
    add("error", task.error.as_deref().map(lines));
    add("result", task.result.as_ref().map(Value::to_string));
    fields
}

/// `40 % indexing`
pub(super) fn progress(fraction: f64, note: Option<&str>) -> String {
    format!("{:.0} % {}", fraction * 100.0, plain(note.unwrap_or_default(), 200)).trim_end().to_owned()
}

/// The word that JSON has for it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(Into::into)).unwrap_or_default()
}

/// Where its time went and what is left of it: `ok, 4m left; queue 12s, machine 3s, human 0s`.
fn clock(clock: &SlaClock) -> String {
    let left = match clock.left_ms {
        Some(ms) if ms < 0 => format!(", {} too late", span(ms.unsigned_abs())),
        Some(ms) => format!(", {} left", span(ms.unsigned_abs())),
        None => String::new(),
    };
    let [queue, machine, human] = [clock.queue_ms, clock.machine_ms, clock.human_ms].map(span);
    format!("{}{left}; queue {queue}, machine {machine}, human {human}", word(&clock.state))
}

/// Milliseconds for people: whole seconds from ten on.
fn span(ms: u64) -> String {
    let shown = if ms < 10_000 { ms } else { ms / 1000 * 1000 };
    humantime::format_duration(Duration::from_millis(shown)).to_string()
}

/// All lines of an error without control characters, below each other.
fn lines(text: &str) -> String {
    text.lines().map(|line| plain(line, 4096)).collect::<Vec<_>>().join("\n          ")
}

fn attempts(task: &Task) -> String {
    let crashes = match task.crashes {
        0 => String::new(),
        crashes => format!(", {crashes} of them ended with their worker"),
    };
    format!("{} of {}{crashes}", task.attempt, u32::from(task.max_retries) + 1 + task.crashes)
}

/// The status with what explains it.
fn standing(task: &Task) -> String {
    match (super::list::remark(task), &task.reason) {
        (_, Some(reason)) => format!("{} ({})", task.status, plain(reason, 64)),
        (remark, None) if !remark.is_empty() && task.error.is_none() => format!("{} ({remark})", task.status),
        _ => task.status.to_string(),
    }
}
