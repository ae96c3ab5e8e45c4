//! `dead list`, `dead groups`, `dead show`, `dead retry` and `dead delete`.

use std::io::{BufRead, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{
    DEAD_LETTERS_PAGE_MAX, DeadFilter, DeadGroup, DeadLetter, DeadSweep, DeadSwept, Error, Orchestrator, Span, Status,
};
use serde::Serialize;
use serde_json::json;

use super::approve::user;
use super::cancel::{Outcomes, parse};
use super::failure::Failure;
use super::output::{Output, cell, distance, is_watched, note, plain};

/// Pages read for one list at most.
const PAGES_MAX: usize = 200;

const NOTE: &str = "\
A dead letter is a task that has failed, kept for $ORCHESTRATOR_DEAD_LETTER_TTL (30 days). Events that a consumer group gave \
up on are something else: see `orchestrator group dead`.";

#[derive(Debug, Subcommand)]
#[command(after_help = NOTE)]
pub(crate) enum Command {
    /// List failed tasks, the last one first
    List(List),
    /// Count failed tasks that failed alike: same type, same reason, same error but for numbers, ids and the like
    Groups(Groups),
    /// Show one failed task, and who had it last
    Show {
        /// The task
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Give failed tasks a new life, by id or by what they have in common
    Retry(Sweep),
    /// Delete failed tasks for good, with their journals, by id or by what they have in common
    Delete(Sweep),
}

/// Which are meant.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which")]
pub(crate) struct Filter {
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Only this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only this reason: retries, fatal, poison …
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only this group, as `dead groups` names it
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Only those with this text in their error, in large or small letters
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Only those that failed within this time (1h, 2d), or at this instant or later
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = ago)]
    since: Option<DateTime<Utc>>,
    /// Only those that failed longer ago than this (1h, 2d), or before this instant
    #[arg(long, value_name = "SPAN|INSTANT", value_parser = ago)]
    until: Option<DateTime<Utc>>,
    /// Only this tenant's
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// A span back from now, or an instant.
fn ago(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    match Span::from(text).duration() {
        Ok(span) => Ok(Utc::now() - span),
        Err(error) => Err(format!("{error}; or an instant: 2030-01-31T12:00:00Z")),
    }
}

impl From<Filter> for DeadFilter {
    fn from(asked: Filter) -> Self {
        Self {
            task_type: asked.task_type,
            queue: asked.queue,
            reason: asked.reason,
            fingerprint: asked.fingerprint,
            error: asked.error,
            since: asked.since,
            until: asked.until,
            tenant: asked.tenant,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Tasks at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on where an earlier list stopped
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[command(flatten)]
    filter: Filter,
    /// Groups at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// The tasks; or say by the options below which are meant
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Do nothing when there are more than this by now
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    expected: Option<u64>,
}

/// What is done with them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Retry,
    Delete,
}

pub(super) async fn run(orch: &Orchestrator, command: Command, out: &mut Output) -> Result<(), Failure> {
    match command {
        Command::List(command) => list(orch, command, out).await,
        Command::Groups(command) => groups(orch, command, out).await,
        Command::Show { id } => show(&orch.dead_letter(id.parse()?).await?, out),
        Command::Retry(command) => sweep(orch, command, Act::Retry, out).await,
        Command::Delete(command) => sweep(orch, command, Act::Delete, out).await,
    }
}

/// The list for programs.
#[derive(Serialize)]
struct Listed {
    dead_letters: Vec<DeadLetter>,
    cursor: Option<String>,
}

async fn list(orch: &Orchestrator, command: List, out: &mut Output) -> Result<(), Failure> {
    let filter = command.filter.into();
    let limit = usize::try_from(command.limit).unwrap_or(DEAD_LETTERS_PAGE_MAX);
    let (mut letters, mut cursor, mut unreadable): (Vec<DeadLetter>, _, usize) = (Vec::new(), command.cursor, 0);
    for _ in 0..PAGES_MAX {
        let room = (limit - letters.len()).min(DEAD_LETTERS_PAGE_MAX);
        let page = orch.dead_letters(&filter, cursor.as_deref(), room).await?;
        letters.extend(page.letters);
        unreadable += page.unreadable;
        cursor = page.cursor;
        if cursor.is_none() || letters.len() >= limit {
            break;
        }
    }
    if unreadable > 0 {
        note(&format!("{unreadable} records cannot be read and are left out"));
    }
    if out.is_json() {
        return out.object(&Listed { dead_letters: letters, cursor });
    }
    let row = |letter: &DeadLetter| {
        let task = &letter.task;
        vec![
            Cell::new(task.task_id),
            cell(&task.task_type, 32),
            cell(&task.queue, 32),
            cell(task.reason.as_deref().unwrap_or_default(), 16),
            Cell::new(task.attempt),
            Cell::new(distance(letter.died_at)),
            Cell::new(&letter.fingerprint),
            cell(task.error.as_deref().unwrap_or_default(), 60),
        ]
    };
    let titles = ["ID", "TYPE", "QUEUE", "REASON", "TRY", "FAILED", "FINGERPRINT", "ERROR"];
    out.table(&titles, letters.iter().map(row).collect())?;
    if let Some(cursor) = cursor {
        note(&format!("there may be more: add --cursor {cursor}"));
    }
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = if is_watched() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {eta} to go") {
        bar.set_style(style);
    }
    bar
}

fn onto(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    }
}

async fn groups(orch: &Orchestrator, command: Groups, out: &mut Output) -> Result<(), Failure> {
    let bar = bar().with_message("looking");
    let told = orch.dead_groups(&command.filter.into(), &DeadSweep::default(), onto(&bar)).await;
    bar.finish_and_clear();
    let mut told = told?;
    let all = told.groups.len();
    told.groups.truncate(usize::try_from(command.limit).unwrap_or(usize::MAX));
    if out.is_json() {
        return told.groups.iter().try_for_each(|group| out.object(group));
    }
    let row = |group: &DeadGroup| {
        vec![
            Cell::new(&group.fingerprint),
            Cell::new(group.count),
            cell(&group.task_type, 32),
            cell(group.reason.as_deref().unwrap_or_default(), 16),
            Cell::new(distance(group.first_at)),
            Cell::new(distance(group.last_at)),
            cell(&group.error, 80),
        ]
    };
    let titles = ["FINGERPRINT", "COUNT", "TYPE", "REASON", "FIRST", "LAST", "ERROR"];
    out.table(&titles, told.groups.iter().map(row).collect())?;
    if all > told.groups.len() {
        note(&format!("{} further groups: add -n {all}", all - told.groups.len()));
    }
    if told.others > 0 {
        note(&format!("{} dead letters of further groups are not told apart", told.others));
    }
    Ok(())
}

fn show(letter: &DeadLetter, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(letter);
    }
    let task = &letter.task;
    let died = letter.died_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let error = task.error.as_deref().unwrap_or_default();
    let rows = [
        ("task", task.task_id.to_string()),
        ("type", task.task_type.clone()),
        ("queue", task.queue.clone()),
        ("priority", task.priority.to_string()),
        ("tenant", task.tenant.clone().unwrap_or_else(|| "-".into())),
        ("failed", format!("{died}, {} ago", distance(letter.died_at))),
        ("reason", task.reason.clone().unwrap_or_else(|| "-".into())),
        ("attempts", format!("{}, {} of them lost to crashes", task.attempt, task.crashes)),
        ("worker", letter.worker.clone().unwrap_or_else(|| "not known any more".into())),
        ("fingerprint", letter.fingerprint.clone()),
        ("trace", task.trace_id.clone()),
        ("payload", task.payload.to_string()),
    ];
    for (name, value) in rows {
        out.line(&format!("{name:<12} {}", plain(&value, 2000)))?;
    }
    let mut lines = error.lines().map(|line| plain(line, 2000));
    out.line(&format!("{:<12} {}", "error", lines.next().unwrap_or_default()))?;
    lines.try_for_each(|line| out.line(&format!("{:<12} {line}", "")))
}

async fn sweep(orch: &Orchestrator, command: Sweep, act: Act, out: &mut Output) -> Result<(), Failure> {
    let verb = if act == Act::Retry { "retried" } else { "deleted" };
    let by = user().unwrap_or_default();
    let filter = DeadFilter::from(command.filter);
    if !command.ids.is_empty() {
        if !filter.is_all() {
            return Err(Failure::usage("name tasks, or say by options which are meant, not both"));
        }
        let ids = parse(&command.ids)?;
        if command.dry_run {
            for id in &ids {
                orch.dead_letter(*id).await?;
            }
            return told_dry(out, ids.len() as u64, verb);
        }
        if act == Act::Delete && !command.yes {
            ask(&format!("{} dead letters will be deleted for good", ids.len()))?;
        }
        let mut outcomes = Outcomes::default();
        for id in ids {
            match act {
                Act::Retry => {
                    let outcome = orch.retry_by(id, &by).await;
                    outcomes.tell(id, outcome.map(|()| (Status::Assigned, "assigned")), out)?;
                }
                Act::Delete => match orch.delete_dead_letter(id, &by).await {
                    Ok(()) if out.is_json() => out.object(&json!({ "task_id": id, "deleted": true }))?,
                    Ok(()) => out.line(&format!("{id} deleted"))?,
                    Err(error) => outcomes.tell(id, Err(error), out)?,
                },
            }
        }
        return outcomes.end();
    }
    if filter.is_all() && !command.all {
        return Err(Failure::usage("name tasks, or say which are meant: --type, --fingerprint, … or --all"));
    }
    let looking = bar().with_message("looking");
    let counted = orch.count_dead(&filter, &DeadSweep::default(), onto(&looking)).await;
    looking.finish_and_clear();
    let found = counted?.found;
    if command.dry_run || found == 0 {
        return told_dry(out, found, verb);
    }
    if command.expected.is_some_and(|expected| found > expected) {
        let what = format!("{found} dead letters are meant by now, not {}", command.expected.unwrap_or_default());
        return Err(Failure::from(Error::Conflict { what }));
    }
    if !command.yes {
        ask(&format!("{found} dead letters will be {verb}"))?;
    }
    // Whoever was asked has said yes to so many.
    let sweep =
        DeadSweep { by, expected: command.expected.or((!command.yes).then_some(found)), ..DeadSweep::default() };
    let working = bar().with_message(if act == Act::Retry { "retrying" } else { "deleting" });
    let swept = match act {
        Act::Retry => orch.retry_dead(&filter, &sweep, onto(&working)).await,
        Act::Delete => orch.delete_dead(&filter, &sweep, onto(&working)).await,
    };
    working.finish_and_clear();
    told(&swept?, verb, out)
}

fn told(swept: &DeadSwept, verb: &str, out: &mut Output) -> Result<(), Failure> {
    for refusal in &swept.examples {
        note(&format!("refused: {}", refusal.error));
    }
    if out.is_json() {
        out.object(swept)?;
    } else {
        let mut text = format!("{} of {} dead letters {verb}", swept.done, swept.found);
        for (n, what) in [(swept.refused, "refused"), (swept.gone, "were dead letters no more")] {
            if n > 0 {
                text += &format!(", {n} {what}");
            }
        }
        out.line(&text)?;
    }
    if swept.refused > 0 { Err(Failure::told(super::failure::REFUSED)) } else { Ok(()) }
}

fn told_dry(out: &mut Output, found: u64, verb: &str) -> Result<(), Failure> {
    match out.is_json() {
        true => out.object(&json!({ "found": found })),
        false => out.line(&format!("{found} dead letters would be {verb}")),
    }
}

/// Has somebody say yes. Where nobody can be asked it is refused.
fn ask(what: &str) -> Result<(), Failure> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !(stdin.is_terminal() && stderr.is_terminal()) {
        return Err(Failure::refused(format!("{what}: say --yes to do it, or --dry-run to count them")));
    }
    write!(stderr, "{what}. Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was done")),
    }
}
