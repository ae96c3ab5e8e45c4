//! `audit list` and `audit verify`.

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{AuditEntry, Orchestrator};
use serde_json::json;

use super::approve::hash;
use super::failure::{Failure, REFUSED};
use super::output::{Output, cell, is_watched, note};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List the entries, oldest first
    List(List),
    /// Prove that no entry was changed, put in or taken out; ends with 1 when one was
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only entries behind this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Entries at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The head that was noted elsewhere: the last entry must have this hash, else the end was cut or has grown
    #[arg(long, value_name = "HASH", value_parser = hash)]
    expect_head: Option<String>,
}

pub(super) async fn run(orch: &Orchestrator, command: Audit, out: &mut Output) -> Result<(), Failure> {
    match command {
        Audit::List(command) => list(orch, &command, out).await,
        Audit::Verify(command) => verify(orch, command, out).await,
    }
}

async fn list(orch: &Orchestrator, command: &List, out: &mut Output) -> Result<(), Failure> {
    let limit = usize::try_from(command.limit).unwrap_or(usize::MAX);
    let (mut entries, mut after, mut more): (Vec<AuditEntry>, _, _) = (Vec::new(), command.after, true);
    while more && entries.len() < limit {
        let page = orch.audit(after).await?;
        more = !page.is_empty();
        after = page.last().map_or(after, |entry| entry.number);
        entries.extend(page);
    }
    let cut = entries.len() > limit;
    entries.truncate(limit);
    if out.is_json() {
        return entries.iter().try_for_each(|entry| out.object(entry));
    }
    out.table(&["#", "AT", "WHAT", "APPROVAL", "WHO", "NOTE", "HASH"], entries.iter().map(row).collect())?;
    if let Some(last) = entries.last().filter(|_| cut) {
        note(&format!("there are more: add --after {}", last.number));
    }
    Ok(())
}

fn row(entry: &AuditEntry) -> Vec<Cell> {
    vec![
        Cell::new(entry.number),
        Cell::new(entry.at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        cell(&entry.op, 16),
        Cell::new(entry.approval_id),
        cell(&entry.who, 40),
        cell(&entry.note, 60),
        cell(entry.hash.get(..12).unwrap_or(&entry.hash), 12),
    ]
}

async fn verify(orch: &Orchestrator, command: Verify, out: &mut Output) -> Result<(), Failure> {
    // How many there are is known at the end only.
    let bar = if is_watched() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} entries, {per_sec}") {
        bar.set_style(style);
    }
    let verdict = orch.verify_audit(|looked| bar.set_position(looked)).await;
    bar.finish_and_clear();
    let verdict = verdict?;
    let wrong_head = command.expect_head.as_ref().filter(|wanted| **wanted != verdict.head);
    let sound = verdict.fault.is_none() && wrong_head.is_none();
    if out.is_json() {
        out.object(&json!({
            "entries": verdict.entries, "first": verdict.first, "head": verdict.head, "fault": verdict.fault,
            "expected_head": command.expect_head, "sound": sound,
        }))?;
    } else {
        out.line(&format!("entries  {}", verdict.entries))?;
        if verdict.first > 1 {
            out.line(&format!("first    {} (older ones were dropped at the bound)", verdict.first))?;
        }
        out.line(&format!("head     {}", if verdict.head.is_empty() { "(none)" } else { &verdict.head }))?;
        if let Some(fault) = &verdict.fault {
            out.line(&format!("verdict  NOT SOUND: {fault}"))?;
        }
        if let Some(wanted) = wrong_head {
            out.line(&format!(
                "verdict  NOT SOUND: the head is not the expected {wanted}: the end was cut, or entries came after it"
            ))?;
        }
        if sound {
            out.line("verdict  sound: nothing was changed, put in or taken out")?;
        }
    }
    if sound { Ok(()) } else { Err(Failure::told(REFUSED)) }
}
