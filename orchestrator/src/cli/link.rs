//! `approval link`.

use chrono::{SecondsFormat, Utc};
use clap::Args;
use orchestrator::{ApprovalId, ApprovalStatus, Orchestrator, Span};
use serde_json::json;

use super::approve::approver;
use super::failure::Failure;
use super::new_task::span;
use super::output::{Output, note};
use super::token::tokens;

#[derive(Debug, Args)]
pub(crate) struct Link {
    /// The approval
    #[arg(value_name = "APPROVAL_ID")]
    id: String,
    /// Who decides with it: whoever has the link decides under this name
    #[arg(long = "for", value_name = "NAME")]
    name: String,
    /// A role of theirs: sre; may be given again
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// How long it is good, at most 366 days
    #[arg(long, value_name = "SPAN", default_value = "4h", value_parser = span)]
    ttl: Span,
    /// Where the gateway is reached [default: http://localhost:$ORCHESTRATOR_PORT, else port 8000]
    #[arg(long, value_name = "URL", value_parser = base)]
    base_url: Option<String>,
}

/// The address without a slash at its end.
fn base(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    match rest.is_empty() || rest.starts_with('/') || rest.contains(['?', '#', ' ']) {
        true => Err("write it like https://orchestrator.example.com".into()),
        false => Ok(text.trim_end_matches('/').into()),
    }
}

pub(super) async fn run(orch: &Orchestrator, command: &Link, out: &mut Output) -> Result<(), Failure> {
    let id = command.id.parse::<ApprovalId>()?;
    let (tokens, life) = (tokens()?, command.ttl.duration()?);
    let approver = approver(&command.name, &command.role);
    let approval = orch.approval(id).await?;
    if approval.status != ApprovalStatus::Pending {
        return Err(Failure::refused(format!("{id} is {} already: there is nothing to decide", approval.status)));
    }
    let own = approval.requested_by.as_deref().is_some_and(|own| approver.is_called(own));
    if own && !orch.config().approvals.self_approval {
        return Err(Failure::refused(format!("{} submitted the task and may not decide on it", approver.name)));
    }
    let asks = approval.is_asked_by(&approver);
    if asks && !orch.config().approvals.self_approval {
        return Err(Failure::refused(format!("{} asks this and may not decide on it", approver.name)));
    }
    let token = tokens.mint_link(&approval, &approver, life)?;
    if !approver.is_meant(&approval.by) {
        // The gateway may know more roles of theirs than this command does.
        note(&format!(
            "{} is not among those who decide ({}): the link works if the gateway knows a role of theirs that is",
            approver.name, approval.approver
        ));
    }
    let port = std::env::var("ORCHESTRATOR_PORT").ok().filter(|port| !port.is_empty());
    let local = || format!("http://localhost:{}", port.as_deref().unwrap_or("8000"));
    let url = format!("{}/approvals/link/{token}", command.base_url.clone().unwrap_or_else(local));
    if !out.is_json() {
        return out.line(&url);
    }
    let expires = (Utc::now() + life).to_rfc3339_opts(SecondsFormat::Secs, true);
    out.object(&json!({
        "url": url, "approval_id": id, "for": approver.name, "roles": approver.roles, "expires_at": expires,
    }))
}
