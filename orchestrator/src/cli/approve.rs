//! `approval approve`, `approval reject` and `approval delegate`.

use clap::Args;
use orchestrator::{ApprovalId, ApprovalStatus, Approver, Ballot, Decided, Orchestrator};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::Output;

const TRUST: &str = "\
Whoever reaches Redis is trusted: --as and --role are believed as they are written, and the audit notes the name. The
HTTP gateway knows its callers by their credentials.";

/// Who decides.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Name of whoever decides [default: $USER]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// A role of theirs: sre; may be given again
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

impl Who {
    fn approver(&self) -> Result<Approver, Failure> {
        let name = self.name.clone().or_else(user);
        let name = name.ok_or_else(|| Failure::usage("nobody is named: $USER is not set; write --as NAME"))?;
        Ok(approver(&name, &self.role))
    }
}

/// The name of whoever sits at the terminal.
pub(super) fn user() -> Option<String> {
    std::env::var("USER").ok().filter(|user| !user.is_empty())
}

/// Somebody with their roles, with or without `role:` before them.
pub(super) fn approver(name: &str, roles: &[String]) -> Approver {
    let plain = |role: &'_ String| role.strip_prefix("role:").unwrap_or(role).to_owned();
    roles.iter().map(plain).fold(Approver::named(name), |approver, role| approver.role(&role))
}

#[derive(Debug, Args)]
#[command(after_help = TRUST)]
pub(crate) struct Approve {
    /// The approval
    #[arg(value_name = "APPROVAL_ID")]
    id: String,
    #[command(flatten)]
    who: Who,
    /// A note for the record
    #[arg(long, visible_alias = "reason", value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// What is filled in, when a form is asked for: '{"start": "noon"}'
    #[arg(long, value_name = "JSON", value_parser = object)]
    form: Option<Value>,
    /// Only if what is shown still has this SHA-256, as `approval show` tells it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    hash: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = TRUST)]
pub(crate) struct Reject {
    /// The approval
    #[arg(value_name = "APPROVAL_ID")]
    id: String,
    #[command(flatten)]
    who: Who,
    /// Why not
    #[arg(long, visible_alias = "note", value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Only if what is shown still has this SHA-256, as `approval show` tells it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    hash: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = TRUST)]
pub(crate) struct Delegate {
    /// The approval
    #[arg(value_name = "APPROVAL_ID")]
    id: String,
    /// Who may decide too: a name (bob) or a role (role:lead)
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    who: Who,
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("write an object: '{\"start\": \"noon\"}'".into()),
        Err(error) => Err(format!("not JSON ({error}); write '{{\"start\": \"noon\"}}'")),
    }
}

/// The 64 hexadecimal digits of a SHA-256, in small letters.
pub(super) fn hash(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err("a SHA-256 is 64 hexadecimal digits".into()),
    }
}

impl Approve {
    pub(super) async fn run(self, orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
        let mut ballot = Ballot::approve(self.who.approver()?).note(&self.note);
        if let Some(form) = self.form {
            ballot = ballot.form(form);
        }
        decide(orch, &self.id, ballot, self.hash.as_deref(), &self.who, out).await
    }
}

impl Reject {
    pub(super) async fn run(self, orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
        let ballot = Ballot::reject(self.who.approver()?).note(&self.reason);
        decide(orch, &self.id, ballot, self.hash.as_deref(), &self.who, out).await
    }
}

impl Delegate {
    pub(super) async fn run(self, orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
        let id = self.id.parse::<ApprovalId>()?;
        let approver = self.who.approver()?;
        orch.delegate(id, &approver, &self.to).await?;
        match out.is_json() {
            true => out.object(&json!({ "approval_id": id, "delegated_to": self.to, "by": approver.name })),
            false => out.line(&format!("{id} delegated to {} by {}", self.to, approver.name)),
        }
    }
}

async fn decide(
    orch: &Orchestrator,
    id: &str,
    ballot: Ballot,
    hash: Option<&str>,
    who: &Who,
    out: &mut Output,
) -> Result<(), Failure> {
    let id = id.parse::<ApprovalId>()?;
    let name = who.approver()?.name;
    let ballot = match hash {
        Some(hash) => ballot.shown(hash),
        None => ballot,
    };
    match orch.decide(id, &ballot).await? {
        Decided::Done(status) if out.is_json() => {
            out.object(&json!({ "approval_id": id, "status": status, "by": name }))
        }
        Decided::Counted { votes, quorum } if out.is_json() => {
            let status = ApprovalStatus::Pending;
            out.object(&json!({ "approval_id": id, "status": status, "by": name, "votes": votes, "quorum": quorum }))
        }
        Decided::Done(status) => out.line(&format!("{id} {status} by {name}")),
        Decided::Counted { votes, quorum } => out.line(&format!("{id}: vote of {name} counted, {votes} of {quorum}")),
    }
}
