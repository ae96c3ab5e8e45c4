//! The story of the demo: what a person would submit, one thing after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use orchestrator_examples::alert::Service;
use orchestrator_examples::children::ENVIRONMENT;
use orchestrator_examples::deploy::{Deploy, Deployed, deploy};
use orchestrator_examples::faq::{Faq, Reply, faq};
use orchestrator_examples::feature::{Added, Feature, feature};
use orchestrator_examples::figures::Thresholds;
use orchestrator_examples::http;
use orchestrator_examples::kb_update::{KbUpdate, kb_update};
use orchestrator_examples::knowledge::Document;
use orchestrator_examples::monitor::{Monitor, monitor};
use orchestrator_examples::refactor::{Refactor, Refactored, refactor};
use orchestrator_examples::rename::Rename;
use orchestrator_examples::repair::Repair;
use orchestrator_examples::rollout::sha256;
use orchestrator_examples::scratch::Scratch;
use orchestrator_examples::server::Server;
use orchestrator_examples::synthesis::{Example, Spec};
use orchestrator_worker::{NewTask, Orchestrator, Priority, SlaState, Status, Task, TaskHandle};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Failure;
use crate::record::{Answered, Approved, Commit, KB, REPO, Ran, Record, Release, SITE};
use crate::survey::survey;
use crate::timeline::Timeline;

/// The environments of the story.
pub(crate) const STAGING: &str = "staging";
pub(crate) const PRODUCTION: &str = "production";
/// Who submits everything, and may approve nothing of it.
pub(crate) const SUBMITTER: &str = "demo";

/// No step takes longer than this unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

const QUESTION: &str = "What is the release token?";
const STRANGE_QUESTION: &str = "How tall is the lighthouse?";

/// One run of the story.
pub(crate) struct Scenario<'a> {
    orch: &'a Orchestrator,
    timeline: Timeline<'a>,
    repo: PathBuf,
    site: PathBuf,
    kb: PathBuf,
}

impl<'a> Scenario<'a> {
    pub(crate) fn new(orch: &'a Orchestrator, dir: &Path, tell: &'a (dyn Fn(&str) + Sync)) -> Self {
        let timeline = Timeline::new(orch, tell);
        Self { orch, timeline, repo: dir.join(REPO), site: dir.join(SITE), kb: dir.join(KB) }
    }

    /// Every task so far.
    pub(crate) fn tasks(&self) -> &[Task] {
        self.timeline.tasks()
    }

    /// Plays it to its end.
    pub(crate) async fn play(&mut self, seed: u64, planted: &Scratch) -> Result<Record, Failure> {
        let (cause, repair) = self.watch().await?;
        let added = self.done(feature::with(self.wanted()), None).await?.1;
        let rename = Rename { function: "clashes".into(), parameter: None, to: "conflicts".into() };
        let wish = Refactor { repo: self.repo.clone(), rename, environment: STAGING.into() };
        let (refactoring, renamed) = self.done(refactor::with(wish), None).await?;

        let token = format!("{:012x}", rand::random::<u64>() >> 16);
        let update = KbUpdate { kb: self.kb.clone(), document: learned(&repair, &token) };
        self.done(kb_update::with(update), Some(&cause)).await?;

        let server = Server::start(&self.site).await?;
        let rev = renamed.commit.clone();
        // For production: the policy asks before it may start, and the agent asks about what it has built.
        let (_, Deployed { live, .. }) = self.done(self.release(&rev, &server, PRODUCTION), Some(&refactoring)).await?;
        let deployed = release(live.release.parse()?, rev, &server).await?;
        let broken = self.failed(self.release(&planted.commit, &server, STAGING)).await?;
        let rolled_back = release(broken.task_id, planted.commit.clone(), &server).await?;

        let slow = self.done(survey::with(()), None).await?.0;
        if slow.sla_clock.map(|clock| clock.state) != Some(SlaState::Violated) {
            return Err("the slow task kept its promise".into());
        }
        let (_, reply) = self.done(faq::with(self.question(QUESTION)), None).await?;
        let answered = answered(reply)?;
        let (_, Reply { passage, words, .. }) = self.done(faq::with(self.question(STRANGE_QUESTION)), None).await?;
        if passage.is_some() {
            return Err(format!("the knowledge base cannot know this: {words}").into());
        }
        self.timeline.look_again().await?;
        let approvals = self.orch.approvals_history(0, 10).await?.approvals;
        let approvals = approvals.iter().map(Approved::from).collect();
        let tasks = self.tasks().iter().map(Ran::from).collect();
        let commits = commits(planted, &repair, &added, &renamed);
        let unanswered = STRANGE_QUESTION.to_owned();
        Ok(Record { seed, token, tasks, approvals, commits, deployed, rolled_back, answered, unanswered })
    }

    /// Has the machine looked at. Nobody asks for the repair that follows: the threshold of one process is crossed on
    /// every machine, so that there is an alert.
    async fn watch(&mut self) -> Result<(Task, Repair), Failure> {
        let service = Service { name: "shop".into(), repo: self.repo.clone() };
        let thresholds = Thresholds { processes: 1, ..Thresholds::default() };
        let look = Monitor { disk: self.repo.clone(), thresholds, service: Some(service) };
        self.done(monitor::with(look), None).await?;
        let bugfix = self.tasks().iter().find(|task| task.task_type == "bugfix").ok_or("no bugfix was asked for")?;
        let result = bugfix.result.clone().ok_or_else(|| bugfix.error.clone().unwrap_or_default())?;
        Ok((bugfix.clone(), serde_json::from_value(result)?))
    }

    fn wanted(&self) -> Feature {
        let example =
            |args: [i64; 3], result: i64| Example { args: args.map(Into::into).to_vec(), result: json!(result) };
        let examples = [
            example([5, 1, 10], 5),
            example([0, 1, 10], 1),
            example([42, 1, 10], 10),
            example([-3, -5, -4], -4),
            example([7, 8, 9], 8),
        ];
        let spec = Spec {
            name: "within".into(),
            doc: "The wanted quantity, but at least the smallest and at most the largest that is sold.".into(),
            parameters: ["wanted", "smallest", "largest"].map(str::to_owned).to_vec(),
            examples: examples.to_vec(),
        };
        Feature { repo: self.repo.clone(), module: "shop/stock.py".into(), spec, environment: STAGING.into() }
    }

    fn release(&self, rev: &str, server: &Server, environment: &str) -> NewTask<Deployed> {
        let (repo, site, address) = (self.repo.clone(), self.site.clone(), Some(server.address()));
        let wish = Deploy { repo, rev: rev.to_owned(), site, address, environment: environment.to_owned() };
        deploy::with(wish).metadata(ENVIRONMENT, environment)
    }

    fn question(&self, question: &str) -> Faq {
        Faq { kb: self.kb.clone(), question: question.to_owned() }
    }

    /// Submits a task for staging, as the child of another if need be, and follows it and its children to the end.
    async fn follow<T>(&mut self, task: NewTask<T>, parent: Option<&Task>) -> Result<TaskHandle<T>, Failure> {
        let task = task.priority(Priority::P2).requested_by(SUBMITTER);
        let task = if let Some(parent) = parent { task.child_of(parent) } else { task };
        let handle = self.orch.enqueue(task).await?;
        self.timeline.follow(&[handle.id()], PATIENCE).await?;
        Ok(handle)
    }

    /// Has a task done; gives it and what it returned.
    async fn done<T>(&mut self, task: NewTask<T>, parent: Option<&Task>) -> Result<(Task, T), Failure>
    where
        T: DeserializeOwned + 'static,
    {
        let handle = self.follow(task, parent).await?;
        Ok((handle.task().await?, handle.result().await?))
    }

    /// Has a task done that is to fail.
    async fn failed<T>(&mut self, task: NewTask<T>) -> Result<Task, Failure> {
        let task = self.follow(task, None).await?.task().await?;
        if task.status == Status::Failed { Ok(task) } else { Err(format!("{} did not fail", task.task_id).into()) }
    }
}

/// What is known after the repair.
fn learned(repair: &Repair, token: &str) -> Document {
    let Repair { file, line, before, after, commit, tests_passed, .. } = repair;
    let (file, before, after) = (file.display(), before.trim(), after.trim());
    let text = format!(
        "Line {line} of {file} was wrong: it said `{before}` and says `{after}` now.\n\
         The repair is commit {commit}; all {tests_passed} tests pass with it.\n\n\
         The release token of this repair is {token}."
    );
    Document { id: format!("repair-{commit:.10}"), title: format!("Repair of {file}"), text }
}

/// What readers are served now.
async fn release(release: orchestrator_worker::TaskId, commit: String, server: &Server) -> Result<Release, Failure> {
    let page = http::get(server.address(), "/").await?;
    Ok(Release { release, commit, url: format!("http://{}/", server.address()), sha256: sha256(&page.body) })
}

fn answered(reply: Reply) -> Result<Answered, Failure> {
    let passage = reply.passage.ok_or("the knowledge base does not know the token")?;
    Ok(Answered { question: QUESTION.to_owned(), answer: passage.text, source: passage.source })
}

fn commits(planted: &Scratch, repair: &Repair, added: &Added, renamed: &Refactored) -> Vec<Commit> {
    let commit = |by: &str, branch: &str, commit: &str, tests_passed| Commit {
        by: by.to_owned(),
        branch: branch.to_owned(),
        commit: commit.to_owned(),
        tests_passed,
    };
    vec![
        commit("planted", "main", &planted.commit, None),
        commit("bugfix", &repair.branch, &repair.commit, Some(repair.tests_passed)),
        commit("feature", &added.branch, &added.commit, Some(added.tests_passed)),
        commit("refactor", &renamed.branch, &renamed.commit, Some(renamed.tests_passed)),
    ]
}
