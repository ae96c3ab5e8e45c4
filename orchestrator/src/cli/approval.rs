//! `approval list` and `approval show`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use orchestrator::{APPROVALS_MAX, ApprovalId, ApprovalStatus, Orchestrator, Vote};
use serde_json::{Value, json};

use super::approve::{Approve, Delegate, Reject};
use super::failure::Failure;
use super::get::instant;
use super::output::{Output, cell, distance, note, plain};

#[derive(Debug, Subcommand)]
pub(crate) enum Approval {
    /// List what waits for a decision, newest first
    List(List),
    /// Show one approval: what is asked, of whom, and what is shown
    Show(Show),
    /// Say yes
    Approve(Approve),
    /// Say no; a gated task ends with that
    Reject(Reject),
    /// Let somebody else decide too
    Delegate(Delegate),
    /// Make a link by which one approver decides in a browser, once; signed with $ORCHESTRATOR_JWT_SECRET
    #[cfg(feature = "gateway")]
    Link(super::link::Link),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// List what was decided, expired or withdrawn instead, newest decision first
    #[arg(long)]
    history: bool,
    /// Approvals at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The approval
    #[arg(value_name = "APPROVAL_ID")]
    id: String,
}

pub(super) async fn run(orch: &Orchestrator, command: Approval, out: &mut Output) -> Result<(), Failure> {
    match command {
        Approval::List(command) => list(orch, &command, out).await,
        Approval::Show(command) => show(orch, &command, out).await,
        Approval::Approve(command) => command.run(orch, out).await,
        Approval::Reject(command) => command.run(orch, out).await,
        Approval::Delegate(command) => command.run(orch, out).await,
        #[cfg(feature = "gateway")]
        Approval::Link(command) => super::link::run(orch, &command, out).await,
    }
}

async fn list(orch: &Orchestrator, command: &List, out: &mut Output) -> Result<(), Failure> {
    let limit = usize::try_from(command.limit).unwrap_or(APPROVALS_MAX);
    let (mut approvals, mut total, mut seen) = (Vec::new(), 0, 0);
    while seen < limit {
        let most = (limit - seen).min(APPROVALS_MAX);
        let page = match command.history {
            true => orch.approvals_history(seen, most).await?,
            false => orch.approvals_pending(seen, most).await?,
        };
        (total, seen) = (page.total, seen + most);
        approvals.extend(page.approvals);
        if seen as u64 >= total {
            break;
        }
    }
    if out.is_json() {
        return out.object(&json!({ "approvals": approvals, "total": total }));
    }
    let titles: &[&str] = match command.history {
        true => &["ID", "TYPE", "STATUS", "BY", "AGE", "NOTE"],
        false => &["ID", "TYPE", "ASKED BY", "DECIDES", "VOTES", "LEFT", "QUESTION"],
    };
    let row = if command.history { decided_row } else { pending_row };
    out.table(titles, approvals.iter().map(row).collect())?;
    if total > limit as u64 {
        note(&format!("there are {total} in all: ask for more with --limit"));
    }
    Ok(())
}

fn pending_row(approval: &orchestrator::Approval) -> Vec<Cell> {
    let question = if approval.question.is_empty() { &approval.reason } else { &approval.question };
    vec![
        Cell::new(approval.approval_id),
        cell(&approval.task_type, 32),
        cell(approval.requested_by.as_deref().unwrap_or_default(), 32),
        if approval.by.is_empty() { Cell::new("anybody") } else { cell(&approval.by.join(", "), 40) },
        Cell::new(format!("{}/{}", approval.votes.len(), approval.quorum)),
        Cell::new(distance(approval.expires_at)),
        cell(question, 60),
    ]
}

fn decided_row(approval: &orchestrator::Approval) -> Vec<Cell> {
    vec![
        Cell::new(approval.approval_id),
        cell(&approval.task_type, 32),
        Cell::new(approval.status),
        cell(approval.approved_by.as_deref().unwrap_or_default(), 32),
        Cell::new(approval.approved_at.map(distance).unwrap_or_default()),
        cell(&last_word(approval), 60),
    ]
}

/// The reason of a no, or the note of the last yes.
fn last_word(approval: &orchestrator::Approval) -> String {
    let note = || approval.votes.last().map(|vote| vote.note.clone());
    approval.rejection_reason.clone().or_else(note).unwrap_or_default()
}

async fn show(orch: &Orchestrator, command: &Show, out: &mut Output) -> Result<(), Failure> {
    let approval = orch.approval(command.id.parse::<ApprovalId>()?).await?;
    if out.is_json() {
        return out.object(&approval);
    }
    for (name, value) in fields(&approval) {
        out.line(&format!("{name:<10} {value}"))?;
    }
    out.line("\nWhat is shown:")?;
    // Escapes of JSON keep control characters out, all but one.
    let shown = serde_json::to_string_pretty(&approval.shown).unwrap_or_else(|_| approval.shown.to_string());
    out.line(&shown.replace('\u{7f}', "\u{fffd}"))?;
    if approval.status == ApprovalStatus::Pending {
        let (id, hash) = (approval.approval_id, &approval.payload_hash);
        note(&format!("\nTo decide on exactly this: orchestrator approval approve {id} --hash {hash}"));
    }
    Ok(())
}

/// What there is to say, most asked for first; what an approval does not have is left out.
fn fields(approval: &orchestrator::Approval) -> Vec<(&'static str, String)> {
    let mut fields = vec![("approval", approval.approval_id.to_string()), ("status", approval.status.to_string())];
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    add("question", Some(plain(&approval.question, 2000)).filter(|text| !text.is_empty()));
    add("task", Some(format!("{} {} {}", approval.task_id, plain(&approval.task_type, 64), approval.priority)));
    add("asked by", approval.requested_by.as_deref().map(|by| plain(by, 128)));
    add("because", Some(plain(&approval.reason, 2000)));
    add("decides", Some(plain(&approval.approver, 1000)));
    add("asked", Some(instant(approval.requested_at)));
    let pending = approval.status == ApprovalStatus::Pending;
    add("expires", pending.then(|| instant(approval.expires_at)));
    add("decided", approval.approved_at.map(instant));
    add("by", approval.approved_by.as_deref().map(|by| plain(by, 128)));
    add("why", approval.rejection_reason.as_deref().map(|why| plain(why, 2000)));
    add("votes", (!approval.votes.is_empty()).then(|| votes(&approval.votes)));
    add("form", (!approval.form.is_empty()).then(|| plain(&approval.form.join(", "), 1000)));
    add("filled in", approval.form_values.as_ref().map(Value::to_string));
    add("hash", Some(approval.payload_hash.clone()));
    fields
}

fn votes(votes: &[Vote]) -> String {
    let vote = |vote: &Vote| match plain(&vote.note, 200) {
        note if note.is_empty() => plain(&vote.by, 128),
        note => format!("{} ({note})", plain(&vote.by, 128)),
    };
    votes.iter().map(vote).collect::<Vec<_>>().join(", ")
}
