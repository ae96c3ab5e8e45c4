//! Checks the effects of a run against what it says of itself, with everything done again from what lies on disk.

use std::collections::BTreeSet;
use std::path::Path;

use orchestrator_examples::git::git;
use orchestrator_examples::knowledge::Knowledge;
use orchestrator_examples::releases::{State, read_note};
use orchestrator_examples::rollout::sha256;
use orchestrator_examples::server::Server;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{http, site};
use orchestrator_worker::{ApprovalStatus, Priority, Status};

use crate::Failure;
use crate::record::{Approved, FILE, KB, REPO, Ran, Record, SITE};
use crate::scenario::{PRODUCTION, SUBMITTER};

/// The types that take part, each at least once.
const TYPES: [&str; 9] =
    ["alert", "bugfix", "deploy", "faq", "feature", "investigate", "kb_update", "monitor", "refactor"];

/// What the agents tell, each once and in this order: its type, the type of the task that it is about, and that of the
/// task that it starts.
const CHAIN: [(&str, &str, Option<&str>); 4] = [
    ("investigation.done", "investigate", None),
    ("alert.triggered", "alert", Some("bugfix")),
    ("pr.merged", "bugfix", Some("deploy")),
    ("deploy.succeeded", "deploy", Some("kb_update")),
];

/// What was looked at, and how much of it was not as it should be.
struct Verdicts<'a> {
    tell: &'a (dyn Fn(&str) + Sync),
    wrong: usize,
}

impl Verdicts<'_> {
    fn note(&mut self, fine: bool, what: &str) {
        self.wrong += usize::from(!fine);
        (self.tell)(&format!("{}  {what}", if fine { "ok   " } else { "WRONG" }));
    }
}

/// Checks the run in `dir`; an error when anything is not as its record says.
pub(crate) async fn check(dir: &Path, tell: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
    let record = Record::read(dir)?;
    let mut verdicts = Verdicts { tell, wrong: 0 };
    tasks(&record, &mut verdicts);
    events(&record, &mut verdicts);
    commits(&record, &dir.join(REPO), &mut verdicts).await?;
    served(&record, dir, &mut verdicts).await?;
    known(&record, &dir.join(KB), &mut verdicts)?;
    let wrong = match verdicts.wrong {
        0 => return Ok(()),
        1 => "one thing is".to_owned(),
        many => format!("{many} things are"),
    };
    Err(format!("{wrong} not as {} says", dir.join(FILE).display()).into())
}

fn tasks(record: &Record, verdicts: &mut Verdicts<'_>) {
    let completed = record.tasks.iter().filter(|task| task.status == Status::Completed);
    let types: BTreeSet<&str> = completed.map(|task| task.task_type.as_str()).collect();
    verdicts.note(types.is_superset(&TYPES.into()), "tasks of all nine types have completed");
    let failed: Vec<&Ran> = record.tasks.iter().filter(|task| task.status != Status::Completed).collect();
    let back = matches!(&failed[..], [task] if task.id == record.rolled_back.release && task.task_type == "deploy");
    verdicts.note(back, "the one that failed is the deployment of the broken build");
    verdicts.note(record.tasks.iter().all(|task| task.priority == Priority::P2), "every task had priority P2");
    let live = record.deployed.release;
    let production = |task: &Ran| task.environment.as_deref() == Some(PRODUCTION);
    let only = record.tasks.iter().all(|task| production(task) == (task.id == live));
    verdicts.note(only, "only the deployment that is live was for production");
    let others = |of: &Approved| of.by != of.requested_by && of.requested_by.as_deref() == Some(SUBMITTER);
    let decided = |of: &Approved| of.task == live && of.status == ApprovalStatus::Approved && others(of);
    let asked = record.approvals.len() == 2 && record.approvals.iter().all(decided);
    verdicts.note(asked, "somebody else approved it twice: that it may start, and what was built");
    let parent = |task: &Ran| record.tasks.iter().find(|other| Some(other.id) == task.parent);
    let linked = record.tasks.iter().filter(|task| task.parent.is_some()).all(|task| {
        parent(task).is_some_and(|parent| parent.children.contains(&task.id) && parent.trace == task.trace)
    });
    verdicts.note(linked, "parents and children know each other and share their trace");
    let mut chain = Vec::new();
    let mut at = record.tasks.iter().find(|task| task.task_type == "kb_update");
    while let Some(task) = at {
        chain.push(task.task_type.as_str());
        at = parent(task);
    }
    let wanted = ["kb_update", "deploy", "bugfix", "alert", "monitor"];
    verdicts.note(chain == wanted, "monitor led to alert, bugfix, deploy and kb_update");
}

/// The chain, by what was told and by what ran.
fn events(record: &Record, verdicts: &mut Verdicts<'_>) {
    let told: Vec<&str> = record.events.iter().map(|event| event.event_type.as_str()).collect();
    let wanted = CHAIN.map(|(event, ..)| event);
    verdicts.note(told == wanted, &format!("{} were told, each once, in this order", wanted.join(", ")));
    let traces: BTreeSet<&str> = record.events.iter().map(|event| event.trace.as_str()).collect();
    verdicts.note(traces.len() == 1, "they are all of one trace");
    for (event, (name, about, starts)) in record.events.iter().zip(CHAIN) {
        let teller = record.tasks.iter().find(|task| Some(task.id) == event.task);
        let own = teller.is_some_and(|task| task.task_type == about && task.trace == event.trace);
        verdicts.note(own, &format!("{name} was told by the task {about} of that trace"));
        let Some(starts) = starts else { continue };
        let children = record.tasks.iter().filter(|task| task.parent.is_some() && task.parent == event.task);
        let started: Vec<&Ran> =
            children.filter(|task| task.task_type == starts && task.trace == event.trace).collect();
        let fine = matches!(&started[..], [task] if task.status == Status::Completed);
        verdicts.note(fine, &format!("{name} started one {starts}, which completed"));
    }
}

/// Runs the tests of every commit in a clone.
async fn commits(record: &Record, repo: &Path, verdicts: &mut Verdicts<'_>) -> Result<(), Failure> {
    let mut before = None;
    for commit in &record.commits {
        let (by, id) = (&commit.by, &commit.commit);
        let folder = TempDir::new("orchestrator-check")?;
        let built = site::build(repo, id, "staging", folder.path()).await?;
        match commit.tests_passed {
            Some(tests) => {
                let fine = built.status == "passing" && built.tests == tests;
                verdicts.note(fine, &format!("{by}: all {tests} tests of {id:.10} pass"));
            }
            None => verdicts.note(built.status == "failing", &format!("{by}: tests of {id:.10} fail")),
        }
        let branch = git(repo, &["rev-parse", &format!("refs/heads/{}", commit.branch)]).await?;
        let parent = git(repo, &["log", "-1", "--format=%P", id]).await?;
        let follows = branch == *id && parent == before.unwrap_or_default();
        verdicts.note(follows, &format!("{by}: {id:.10} is the tip of {}, on the commit before it", commit.branch));
        before = Some(id.clone());
    }
    Ok(())
}

/// Serves the site again, and builds the live release again.
async fn served(record: &Record, dir: &Path, verdicts: &mut Verdicts<'_>) -> Result<(), Failure> {
    let (live, back) = (&record.deployed, &record.rolled_back);
    let root = dir.join(SITE);
    let server = Server::start(&root).await?;
    let page = http::get(server.address(), "/").await?;
    let (hash, release) = (sha256(&page.body), live.release.to_string());
    let same = page.status == 200 && page.release.as_deref() == Some(release.as_str()) && hash == live.sha256;
    verdicts.note(same, "the page that is served is the one that was deployed");
    verdicts.note(http::get(server.address(), "/health").await?.status == 200, "its health is fine");
    let folder = TempDir::new("orchestrator-check")?;
    site::build(&dir.join(REPO), &live.commit, PRODUCTION, folder.path()).await?;
    let again = sha256(&std::fs::read(folder.path().join("index.html"))?);
    verdicts.note(again == live.sha256, &format!("building {:.10} again gives the same page", live.commit));
    verdicts.note(back.sha256 == live.sha256, "after the rollback the page was the one from before");
    let note = read_note(&root, &release)?;
    let fine = note.is_some_and(|note| note.state == State::Live && note.commit == live.commit);
    verdicts.note(fine, "the first deployment is noted as live");
    let note = read_note(&root, &back.release.to_string())?;
    let fine = note.is_some_and(|note| {
        note.state == State::RolledBack && note.previous == Some(release) && note.commit == back.commit
    });
    verdicts.note(fine, "the second deployment is noted as rolled back to the first");
    Ok(())
}

/// Asks the knowledge base again.
fn known(record: &Record, kb: &Path, verdicts: &mut Verdicts<'_>) -> Result<(), Failure> {
    let knowledge = Knowledge::open(kb)?;
    let answered = &record.answered;
    let found = knowledge.ask(&answered.question)?;
    let fine = found.is_some_and(|found| {
        let release = record.deployed.release.to_string();
        found.text == answered.answer && found.source == answered.source && found.text.contains(&release)
    });
    verdicts.note(fine, &format!("\"{}\" is answered with the release, from the same source", answered.question));
    let none = knowledge.ask(&record.unanswered)?.is_none();
    verdicts.note(none, &format!("\"{}\" has no answer there", record.unanswered));
    Ok(())
}
