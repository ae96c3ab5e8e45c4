//! `group list`, `dead`, `replay`, `forget` and `remove`.

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{DEAD_EVENTS_PAGE_MAX, DeadEvent, GroupStatus, Orchestrator};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, cell, distance, is_watched, note};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the consumer groups: who handles their events, what they have not handled yet, what they gave up on
    List,
    /// List the events that a group gave up on, newest first; failed tasks are listed by `orchestrator dead`
    Dead(Dead),
    /// Have a group handle events anew that it gave up on; no other group hears of it
    Replay(Letters),
    /// Give up for good the events that a group gave up on; without --yes only tells how many
    Forget(Forget),
    /// Remove a group that nobody serves, with its place and its dead letters; without --yes only tells what would go
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Dead {
    /// The group
    group: String,
    /// Only letters before this one
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Letters at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The group
    group: String,
    /// The letters, as `group dead` lists them: 1790000000000-0
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    letters: Letters,
    /// Really
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The group
    group: String,
    /// Really
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(orch: &Orchestrator, command: Command, out: &mut Output) -> Result<(), Failure> {
    match command {
        Command::List => list(&orch.groups().await?, out),
        Command::Dead(command) => dead(orch, &command, out).await,
        Command::Replay(letters) => {
            let ids = ids(orch, &letters).await?;
            let sent = each(&ids, async |some| orch.replay_dead_events(&letters.group, some).await).await?;
            tell(out, &letters.group, "replayed", "sent anew to", ids.len(), sent)
        }
        Command::Forget(Forget { letters, yes }) => {
            let ids = ids(orch, &letters).await?;
            if !yes {
                return tell(out, &letters.group, "forgotten", "that --yes would forget of", ids.len(), 0);
            }
            let gone = each(&ids, async |some| orch.forget_dead_events(&letters.group, some).await).await?;
            tell(out, &letters.group, "forgotten", "forgotten of", ids.len(), gone)
        }
        Command::Remove(command) => remove(orch, &command, out).await,
    }
}

fn list(groups: &[GroupStatus], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return groups.iter().try_for_each(|group| out.object(group));
    }
    let row = |group: &GroupStatus| {
        vec![
            cell(&group.name, 64),
            Cell::new(group.behind.map_or_else(|| "?".into(), |n| n.to_string())),
            Cell::new(group.missed.unwrap_or(0)),
            Cell::new(group.pending),
            Cell::new(group.dead),
            cell(group.consumer.as_deref().unwrap_or("nobody"), 40),
        ]
    };
    out.table(&["GROUP", "BEHIND", "MISSED", "PENDING", "DEAD", "SERVED BY"], groups.iter().map(row).collect())
}

async fn dead(orch: &Orchestrator, command: &Dead, out: &mut Output) -> Result<(), Failure> {
    let limit = usize::try_from(command.limit).unwrap_or(usize::MAX);
    let letters = letters(orch, &command.group, command.before.clone(), limit).await?;
    if out.is_json() {
        return letters.iter().try_for_each(|letter| out.object(letter));
    }
    let row = |letter: &DeadEvent| {
        vec![
            cell(&letter.id, 40),
            Cell::new(letter.died_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            cell(&letter.event.event_type, 40),
            Cell::new(letter.attempts),
            cell(&letter.event.task_id.map(|task| task.to_string()).unwrap_or_default(), 36),
            cell(&letter.error, 80),
            Cell::new(distance(letter.event.timestamp)),
        ]
    };
    out.table(&["LETTER", "DIED", "TYPE", "TRIED", "TASK", "ERROR", "TOLD"], letters.iter().map(row).collect())
}

/// Dead letters before one, newest first.
async fn letters(
    orch: &Orchestrator,
    group: &str,
    mut before: Option<String>,
    limit: usize,
) -> Result<Vec<DeadEvent>, Failure> {
    let mut found: Vec<DeadEvent> = Vec::new();
    while found.len() < limit {
        let page = orch.dead_events(group, before.as_deref(), limit - found.len()).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        found.extend(page);
    }
    Ok(found)
}

async fn ids(orch: &Orchestrator, command: &Letters) -> Result<Vec<String>, Failure> {
    if !command.all {
        return Ok(command.ids.clone());
    }
    // Those that are there now: one that dies again meanwhile is not sent again.
    let mut ids: Vec<String> =
        letters(orch, &command.group, None, usize::MAX).await?.into_iter().map(|letter| letter.id).collect();
    // The oldest first, so that those of one task come in their order.
    ids.reverse();
    Ok(ids)
}

/// Calls with some of the letters at a time; how many were there.
async fn each(ids: &[String], call: impl AsyncFn(&[String]) -> orchestrator::Result<usize>) -> Result<usize, Failure> {
    let bar = if is_watched() { ProgressBar::new(ids.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} to go") {
        bar.set_style(style);
    }
    let mut done = 0;
    for some in ids.chunks(DEAD_EVENTS_PAGE_MAX) {
        done += call(some).await?;
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    Ok(done)
}

fn tell(out: &mut Output, group: &str, what: &str, words: &str, found: usize, done: usize) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(&json!({ "group": group, "found": found, what: done }));
    }
    let n = if words.starts_with("that") { found } else { done };
    if done > 0 && done < found {
        note(&format!("{} of them were there no more", found - done));
    }
    out.line(&format!("{n} dead {} {words} group {group}", if n == 1 { "letter" } else { "letters" }))
}

async fn remove(orch: &Orchestrator, command: &Remove, out: &mut Output) -> Result<(), Failure> {
    let known = orch.groups().await?.into_iter().find(|group| group.name == command.group);
    let Some(GroupStatus { name, pending, dead, .. }) = known else {
        return Err(Failure::from(orchestrator::Error::NotFound { what: format!("group {}", command.group) }));
    };
    if command.yes {
        orch.remove_group(&name).await?;
    }
    if out.is_json() {
        return out.object(&json!({ "group": name, "pending": pending, "dead": dead, "removed": command.yes }));
    }
    let with = format!("with its place in the stream, {pending} pending entries and {dead} dead letters");
    out.line(&match command.yes {
        true => format!("group {name} is removed, {with}"),
        false => format!("group {name} would be removed, {with}; --yes removes it"),
    })
}
