//! `token create`.

use chrono::{SecondsFormat, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use orchestrator::Span;
use orchestrator::gateway::{Role, Tokens};
use serde_json::json;

use super::failure::Failure;
use super::new_task::span;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token for the gateway, signed with $ORCHESTRATOR_JWT_SECRET, and print it. It names $ORCHESTRATOR_JWT_AUDIENCE
    /// and $ORCHESTRATOR_JWT_ISSUER when they are set
    Create(Create),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the caller it is for
    #[arg(long, value_name = "NAME")]
    sub: String,
    /// What the caller may do
    #[arg(long, value_parser = PossibleValuesParser::new(["user", "agent", "admin"]).try_map(|role| role.parse::<Role>()))]
    role: Role,
    /// A group that the caller belongs to, a role of an approver: sre; may be given again
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// The tenant whose tasks alone the caller sees and changes: acme [default: everybody's]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// How long it is good, at most 366 days
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = span)]
    ttl: Span,
}

/// What signs as the gateway judges.
pub(super) fn tokens() -> Result<Tokens, Failure> {
    Tokens::from_env()?.ok_or_else(|| {
        Failure::usage("ORCHESTRATOR_JWT_SECRET is not set; it has the secret that the gateway judges tokens by")
    })
}

pub(super) fn run(command: &Token, out: &mut Output) -> Result<(), Failure> {
    let Token::Create(Create { sub, role, group, tenant, ttl }) = command;
    let life = ttl.duration()?;
    let token = tokens()?.mint_for(sub, *role, group, tenant.as_deref(), life)?;
    if !out.is_json() {
        return out.line(&token);
    }
    let expires = (Utc::now() + life).to_rfc3339_opts(SecondsFormat::Secs, true);
    out.object(&json!({ "token": token, "sub": sub, "role": role, "tenant": tenant, "expires_at": expires }))
}
