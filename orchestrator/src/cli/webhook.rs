//! `webhook add`, `list`, `show`, `test`, `rotate`, `pause`, `resume` and `remove`.

use std::io::Read;

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use orchestrator::gateway::WebhookSender;
use orchestrator::{Orchestrator, Webhook, WebhookSecret, patterns};
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, cell, distance, note, plain};

const GUARD: &str = "\
Requests go over https to public addresses. ORCHESTRATOR_WEBHOOK_ALLOW (10.0.0.0/8,…) lets them go to other networks too,
also over http; ORCHESTRATOR_WEBHOOK_CA names a file with authorities (PEM) to trust beside the public ones. The gateways
that deliver have to be told the same.";

/// Longest secret that is read from standard input, in bytes.
const INPUT_MAX: u64 = 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell an address of events from now on; prints the secret that signs the requests, this once
    Add(Add),
    /// List the webhooks
    List,
    /// Show one webhook
    Show(Name),
    /// Send an event of the type webhook.test now, and tell what was answered
    Test(Name),
    /// Sign with a new secret and, until the next rotation, with the one before; prints the new one, this once
    Rotate(Rotate),
    /// Send nothing for now; what happens meanwhile is sent later
    Pause(Name),
    /// Go on, with what has happened meanwhile
    Resume(Name),
    /// Remove a webhook; without --yes only tells what would be removed
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = GUARD)]
pub(crate) struct Add {
    /// Its name, at most 48 of a-z 0-9 _ . - as in: slack
    id: String,
    /// Where the requests go: https://example.com/hook
    url: String,
    /// Types of the events that are sent: 'deploy.*,task.failed'; a star is any one word, and at the end any number of
    /// them; '*' is all
    #[arg(long, value_name = "PATTERNS")]
    types: String,
    #[command(flatten)]
    secret: Secret,
}

#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// Sign with this secret: whsec_ and 24 to 64 bytes in base64, or - to read it from standard input [default: a new one]
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    secret: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = GUARD)]
pub(crate) struct Name {
    /// The webhook
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The webhook
    id: String,
    #[command(flatten)]
    secret: Secret,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The webhook
    id: String,
    /// Remove it
    #[arg(long)]
    yes: bool,
}

impl Secret {
    fn read(self) -> Result<Option<WebhookSecret>, Failure> {
        let text = match self.secret {
            Some(text) if text == "-" => {
                let mut text = String::new();
                let read = std::io::stdin().take(INPUT_MAX).read_to_string(&mut text);
                read.map_err(|error| Failure::usage(format!("the secret cannot be read: {error}")))?;
                text.trim().to_owned()
            }
            Some(text) => text,
            None => return Ok(None),
        };
        Ok(Some(text.parse()?))
    }
}

pub(super) async fn run(orch: &Orchestrator, command: Command, out: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Add(Add { id, url, types, secret }) => {
            // An empty list would mean all events; who wants that says so.
            if types.trim().is_empty() {
                return Err(Failure::usage("no type is named; write --types 'deploy.*', or '*' for all"));
            }
            let mut webhook = Webhook::new(&id, &url, &patterns(&types)?);
            if let Some(secret) = secret.read()? {
                webhook = webhook.secret(secret);
            }
            with_secret(&orch.add_webhook(webhook).await?, out)
        }
        Command::Rotate(Rotate { id, secret }) => {
            with_secret(&orch.rotate_webhook_secret(&id, secret.read()?).await?, out)
        }
        Command::List => list(&orch.webhooks().await?, out),
        Command::Show(Name { id }) => show(&orch.webhook(&id).await?, out),
        Command::Test(Name { id }) => test(orch, &id, out).await,
        Command::Pause(Name { id }) => {
            let changed = orch.pause_webhook(&id, None).await?;
            paused(&id, true, changed, out)
        }
        Command::Resume(Name { id }) => {
            let changed = orch.resume_webhook(&id).await?;
            paused(&id, false, changed, out)
        }
        Command::Remove(command) => remove(orch, &command, out).await,
    }
}

/// The secret in force, for its receiver.
fn with_secret(webhook: &Webhook, out: &mut Output) -> Result<(), Failure> {
    let secret = webhook.secrets().first().map(WebhookSecret::reveal).unwrap_or_default();
    if out.is_json() {
        return out.object(&json!({ "id": webhook.id, "url": webhook.url, "secret": secret }));
    }
    note(&format!("webhook {} signs with this secret, which is not shown again:", webhook.id));
    out.line(&secret)
}

fn list(webhooks: &[Webhook], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return webhooks.iter().try_for_each(|webhook| out.object(webhook));
    }
    let row = |webhook: &Webhook| {
        vec![
            cell(&webhook.id, 48),
            cell(&types(webhook), 40),
            cell(&webhook.url, 80),
            Cell::new(distance(webhook.created_at)),
            Cell::new(state(webhook)),
        ]
    };
    out.table(&["WEBHOOK", "TYPES", "URL", "AGE", ""], webhooks.iter().map(row).collect())
}

fn show(webhook: &Webhook, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(webhook);
    }
    let because = webhook.paused_because.as_deref().map(|why| format!(": {}", plain(why, 80))).unwrap_or_default();
    let secrets = match webhook.secrets().len() {
        1 => "one".into(),
        n => format!("{n}, the newest first"),
    };
    for (name, text) in [
        ("id", webhook.id.clone()),
        ("url", webhook.url.clone()),
        ("types", types(webhook)),
        ("secrets", secrets),
        ("created", webhook.created_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        ("state", format!("{}{because}", if webhook.paused { "paused" } else { "in force" })),
    ] {
        out.line(&format!("{name:<10} {text}"))?;
    }
    Ok(())
}

async fn test(orch: &Orchestrator, id: &str, out: &mut Output) -> Result<(), Failure> {
    let webhook = orch.webhook(id).await?;
    let sender = WebhookSender::new(&orch.config().webhooks)?;
    let answer = sender.test(&webhook).await.map_err(|error| Failure::refused(format!("webhook {id}: {error}")))?;
    let (status, ms) = (answer.status, answer.took.as_millis());
    if out.is_json() {
        out.object(&json!({ "id": id, "status": status, "ms": ms as u64 }))?;
    } else {
        out.line(&format!("{status} in {ms} ms"))?;
    }
    match status {
        200..300 => Ok(()),
        300..400 => Err(Failure::refused(format!("webhook {id}: {status} is a redirect, and none is followed"))),
        _ => Err(Failure::refused(format!("webhook {id}: {status} is no success; 200 to 299 are"))),
    }
}

fn paused(id: &str, paused: bool, changed: bool, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(&json!({ "id": id, "paused": paused, "changed": changed }));
    }
    out.line(&format!(
        "webhook {id} {}",
        match (paused, changed) {
            (true, true) => "is paused",
            (true, false) => "was paused already",
            (false, true) => "is resumed",
            (false, false) => "was not paused",
        }
    ))
}

async fn remove(orch: &Orchestrator, command: &Remove, out: &mut Output) -> Result<(), Failure> {
    let Webhook { id, url, .. } = orch.webhook(&command.id).await?;
    if command.yes {
        orch.remove_webhook(&id).await?;
    }
    if out.is_json() {
        return out.object(&json!({ "id": id, "url": url, "removed": command.yes }));
    }
    match command.yes {
        true => out.line(&format!("webhook {id} is removed")),
        false => out.line(&format!("webhook {id} to {url} would be removed, with its secrets; --yes removes it")),
    }
}

fn types(webhook: &Webhook) -> String {
    let types: Vec<String> = webhook.wanted.iter().map(ToString::to_string).collect();
    if types.is_empty() { "*".into() } else { types.join(",") }
}

fn state(webhook: &Webhook) -> &'static str {
    match (webhook.paused, &webhook.paused_because) {
        (true, Some(_)) => "gone",
        (true, None) => "paused",
        _ => "",
    }
}
