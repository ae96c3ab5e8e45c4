//! The chain of events: `alert.triggered` starts a repair, `pr.merged` a deployment, `deploy.succeeded` an update of the
//! knowledge base. No agent knows the next one: each tells what happened, and here stands what follows from it. Whoever
//! else tells such an event sets the same going.

use std::path::PathBuf;

use orchestrator_worker::{Event, EventContext, TaskResult, event_handler};
use serde::{Deserialize, Serialize};

use crate::bugfix::{Bugfix, bugfix};
use crate::children::because;
use crate::deploy::{Deploy, deploy};
use crate::git::git;
use crate::kb_update::{KbUpdate, kb_update};
use crate::knowledge::Document;
use crate::rollout::Live;
use crate::service::{Service, Target};

/// What is told as `investigation.done`: what an investigation came to, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Investigated {
    /// How many tests fail.
    pub failing: usize,
    /// The files that they lead to, the likeliest first.
    pub suspects: Vec<PathBuf>,
}

/// What is told as `alert.triggered`: a service is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    /// The service.
    pub service: Service,
    /// The alert in one line.
    pub summary: String,
    /// Files that are suspected already, relative to the repository.
    #[serde(default)]
    pub suspects: Vec<PathBuf>,
}

/// What is told as `pr.merged`: a commit has come into a repository, and its branch is checked out there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The repository.
    pub repo: PathBuf,
    /// The commit.
    pub commit: String,
    /// The commit in one line.
    pub summary: String,
    /// Where it goes from there, if anywhere.
    #[serde(default)]
    pub target: Option<Target>,
}

/// What is told as `deploy.succeeded`: readers get another release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succeeded {
    /// Who the readers are.
    pub environment: String,
    /// The repository.
    pub repo: PathBuf,
    /// The release in one line.
    pub summary: String,
    /// The release.
    pub live: Live,
    /// The folder of the knowledge base that is to know of it, if any.
    #[serde(default)]
    pub kb: Option<PathBuf>,
}

/// Has a broken service repaired.
#[event_handler("alert.triggered")]
async fn on_alert(ev: Event<Triggered>, ctx: EventContext) -> TaskResult {
    let Triggered { service, suspects, .. } = ev.payload;
    let repair = Bugfix { repo: service.repo, suspects, target: service.target };
    because(&ctx, bugfix::with(repair), None).await
}

/// Has what was merged deployed, if it goes anywhere. It is on behalf of whoever asked for the change, who may then not
/// approve it.
#[event_handler("pr.merged")]
async fn on_merge(ev: Event<Merged>, ctx: EventContext) -> TaskResult {
    let Merged { repo, commit, target, .. } = ev.payload;
    let Some(Target { site, address, environment, kb }) = target else { return Ok(()) };
    let release = Deploy { repo, rev: commit, site, address, environment: environment.clone(), kb };
    because(&ctx, deploy::with(release), Some(&environment)).await
}

/// Has the knowledge base told what is live, in the words of the commit. There is one document for each environment; a
/// later release replaces it.
#[event_handler("deploy.succeeded", start = kb_update)]
async fn on_deploy(ev: Event<Succeeded>) -> TaskResult<Option<KbUpdate>> {
    let Succeeded { environment, repo, live, kb, .. } = ev.payload;
    let Some(kb) = kb else { return Ok(None) };
    let message = git(&repo, &["log", "-1", "--format=%B", &live.commit]).await?;
    Ok(Some(KbUpdate { kb, document: what_is_live(&environment, &live, &message) }))
}

fn what_is_live(environment: &str, live: &Live, message: &str) -> Document {
    let Live { release, commit, tests, .. } = live;
    // What follows is for programs.
    let lines = message.lines().take_while(|line| !line.starts_with("Task-Id:"));
    let words: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = format!(
        "Release {release} is live in {environment}. It is commit {commit}, and all {tests} tests pass.\n\n\
         Its last change:\n{}",
        words.join("\n")
    );
    Document { id: format!("live-{environment}"), title: format!("What is live in {environment}"), text }
}
