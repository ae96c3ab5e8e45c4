//! `key create`, `list` and `revoke`.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use orchestrator::gateway::Role;
use orchestrator::{ApiKey, Orchestrator, Span};
use serde_json::{Value, json};

use super::failure::Failure;
use super::new_task::span;
use super::output::{Output, cell, distance, note};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an API key, which every gateway of the namespace takes in the header X-API-Key; prints it, this once
    Create(Create),
    /// List the keys that were made so; of their secrets nothing is known
    List,
    /// End a key for good: gateways refuse it within 2 seconds; without --yes only tells what would be revoked
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the caller it is for, at most 64 of A-Z a-z 0-9 _ . -
    name: String,
    /// What the caller may do
    #[arg(long, value_parser = PossibleValuesParser::new(["user", "agent", "admin"]).try_map(|role| role.parse::<Role>()))]
    role: Role,
    /// The tenant whose tasks alone the caller sees and changes: acme [default: everybody's]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// How long it is good, at most 366 days [default: until it is revoked]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    ttl: Option<Span>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The key, by its id or its name
    #[arg(value_name = "ID|NAME")]
    key: String,
    /// Revoke it
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(orch: &Orchestrator, command: Command, out: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Create(command) => create(orch, command, out).await,
        Command::List => list(&orch.api_keys().await?, out),
        Command::Revoke(command) => revoke(orch, &command, out).await,
    }
}

async fn create(orch: &Orchestrator, command: Create, out: &mut Output) -> Result<(), Failure> {
    let Create { name, role, tenant, ttl } = command;
    let life = ttl.map(|ttl| ttl.duration()).transpose()?;
    let (key, secret) = orch.create_key(&name, role, tenant.as_deref(), life).await?;
    if out.is_json() {
        let mut told = serde_json::to_value(&key).unwrap_or_default();
        if let Value::Object(members) = &mut told {
            members.insert("key".into(), secret.reveal().into());
        }
        return out.object(&told);
    }
    note(&format!("this is the API key of {}, which is not shown again:", key.name));
    out.line(secret.reveal())
}

fn list(keys: &[ApiKey], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return keys.iter().try_for_each(|key| out.object(key));
    }
    let row = |key: &ApiKey| {
        let expired = key.expires_at.is_some_and(|end| end <= Utc::now());
        vec![
            cell(&key.id, 16),
            cell(&key.name, 64),
            Cell::new(key.role),
            cell(key.tenant.as_deref().unwrap_or_default(), 64),
            Cell::new(day(key.created_at)),
            Cell::new(if expired { "expired".into() } else { key.expires_at.map(day).unwrap_or_default() }),
            Cell::new(key.last_used_at.map_or_else(|| "never".into(), |at| format!("{} ago", distance(at)))),
        ]
    };
    let titles = ["KEY", "NAME", "ROLE", "TENANT", "CREATED", "EXPIRES", "LAST USE"];
    out.table(&titles, keys.iter().map(row).collect())
}

async fn revoke(orch: &Orchestrator, command: &Revoke, out: &mut Output) -> Result<(), Failure> {
    let ApiKey { id, name, role, .. } = match command.yes {
        true => orch.revoke_key(&command.key).await?,
        false => orch.api_key(&command.key).await?,
    };
    if out.is_json() {
        return out.object(&json!({ "id": id, "name": name, "revoked": command.yes }));
    }
    match command.yes {
        true => out.line(&format!("API key {id} of {name} is revoked; gateways refuse it within 2 seconds")),
        false => out.line(&format!("API key {id} of {name} ({role}) would be revoked for good; --yes revokes it")),
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
