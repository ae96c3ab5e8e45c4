//! The story of the demo: what a person would submit, one thing after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use orchestrator_examples::children::ENVIRONMENT;
use orchestrator_examples::deploy::{Deploy, Deployed, deploy};
use orchestrator_examples::faq::{Faq, Reply, faq};
use orchestrator_examples::feature::{Added, Feature, feature};
use orchestrator_examples::figures::Thresholds;
use orchestrator_examples::http;
use orchestrator_examples::monitor::{Monitor, monitor};
use orchestrator_examples::refactor::{Refactor, Refactored, refactor};
use orchestrator_examples::rename::Rename;
use orchestrator_examples::repair::Repair;
use orchestrator_examples::rollout::sha256;
use orchestrator_examples::scratch::Scratch;
use orchestrator_examples::server::Server;
use orchestrator_examples::service::{Service, Target};
use orchestrator_examples::synthesis::{Example, Spec};
use orchestrator_worker::{NewTask, Orchestrator, Priority, SlaState, Status, Task, TaskHandle};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Failure;
use crate::record::{self, Answered, Approved, Commit, KB, REPO, Ran, Record, Release, SITE};
use crate::survey::survey;
use crate::timeline::Timeline;
use crate::told::Told;

/// The environments of the story.
pub(crate) const STAGING: &str = "staging";
pub(crate) const PRODUCTION: &str = "production";
/// Who submits everything, and may approve nothing of it.
pub(crate) const SUBMITTER: &str = "demo";

/// No step takes longer than this unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

const QUESTION: &str = "Which release is live in production?";
const STRANGE_QUESTION: &str = "How tall is the lighthouse?";

/// One run of the story.
pub(crate) struct Scenario<'a> {
    orch: &'a Orchestrator,
    told: &'a Told,
    timeline: Timeline<'a>,
    repo: PathBuf,
    site: PathBuf,
    kb: PathBuf,
}

impl<'a> Scenario<'a> {
    pub(crate) fn new(orch: &'a Orchestrator, told: &'a Told, dir: &Path, tell: &'a (dyn Fn(&str) + Sync)) -> Self {
        let timeline = Timeline::new(orch, told, tell);
        Self { orch, told, timeline, repo: dir.join(REPO), site: dir.join(SITE), kb: dir.join(KB) }
    }

    /// Every task so far.
    pub(crate) fn tasks(&self) -> &[Task] {
        self.timeline.tasks()
    }

    /// Plays it to its end.
    pub(crate) async fn play(&mut self, seed: u64, planted: &Scratch) -> Result<Record, Failure> {
        let server = Server::start(&self.site).await?;
        let (repair, Deployed { live, .. }) = self.watch(&server).await?;
        let deployed = release(live.release.parse()?, live.commit, &server).await?;
        let added = self.done(feature::with(self.wanted())).await?.1;
        let rename = Rename { function: "clashes".into(), parameter: None, to: "conflicts".into() };
        let wish = Refactor { repo: self.repo.clone(), rename, environment: STAGING.into() };
        let renamed = self.done(refactor::with(wish)).await?.1;

        let broken = self.failed(self.broken(&planted.commit, &server)).await?;
        let rolled_back = release(broken.task_id, planted.commit.clone(), &server).await?;

        let slow = self.done(survey::with(())).await?.0;
        if slow.sla_clock.map(|clock| clock.state) != Some(SlaState::Violated) {
            return Err("the slow task kept its promise".into());
        }
        let (_, reply) = self.done(faq::with(self.question(QUESTION))).await?;
        let answered = answered(reply)?;
        let (_, Reply { passage, words, .. }) = self.done(faq::with(self.question(STRANGE_QUESTION))).await?;
        if passage.is_some() {
            return Err(format!("the knowledge base cannot know this: {words}").into());
        }
        self.timeline.look_again().await?;
        let approvals = self.orch.approvals_history(0, 10).await?.approvals;
        let approvals = approvals.iter().map(Approved::from).collect();
        let tasks = self.tasks().iter().map(Ran::from).collect();
        let events = self.told.since(0).iter().map(record::Told::from).collect();
        let commits = commits(planted, &repair, &added, &renamed);
        let unanswered = STRANGE_QUESTION.to_owned();
        Ok(Record { seed, tasks, events, approvals, commits, deployed, rolled_back, answered, unanswered })
    }

    /// Has the machine looked at, and nothing else: the threshold of one process is crossed on every machine, so that there
    /// is an alert, and the repair, its deployment to production and what is known of that follow by events.
    async fn watch(&mut self, server: &Server) -> Result<(Repair, Deployed), Failure> {
        let (site, address, kb) = (self.site.clone(), Some(server.address()), Some(self.kb.clone()));
        let target = Some(Target { site, address, environment: PRODUCTION.into(), kb });
        let service = Service { name: "shop".into(), repo: self.repo.clone(), target };
        let thresholds = Thresholds { processes: 1, ..Thresholds::default() };
        let look = Monitor { disk: self.repo.clone(), thresholds, service: Some(service) };
        self.follow(monitor::with(look), Some("kb_update")).await?;
        Ok((self.result_of("bugfix")?, self.result_of("deploy")?))
    }

    /// What the first task of this type returned.
    fn result_of<T: DeserializeOwned>(&self, task_type: &str) -> Result<T, Failure> {
        let task = self.tasks().iter().find(|task| task.task_type == task_type);
        let task = task.ok_or_else(|| format!("there is no {task_type}: the chain ended before it"))?;
        let why = || format!("{task_type} ended as {}: {}", task.status, task.error.clone().unwrap_or_default());
        Ok(serde_json::from_value(task.result.clone().ok_or_else(why)?)?)
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

    /// The deployment of a commit whose tests do not pass.
    fn broken(&self, rev: &str, server: &Server) -> NewTask<Deployed> {
        let (repo, site, address) = (self.repo.clone(), self.site.clone(), Some(server.address()));
        let wish = Deploy { repo, rev: rev.to_owned(), site, address, environment: STAGING.into(), kb: None };
        deploy::with(wish).metadata(ENVIRONMENT, STAGING)
    }

    fn question(&self, question: &str) -> Faq {
        Faq { kb: self.kb.clone(), question: question.to_owned() }
    }

    /// Submits a task, and follows it and its children to the end; that of one of type `last`, if it is to come to that.
    async fn follow<T>(&mut self, task: NewTask<T>, last: Option<&str>) -> Result<TaskHandle<T>, Failure> {
        let handle = self.orch.enqueue(task.priority(Priority::P2).requested_by(SUBMITTER)).await?;
        self.timeline.follow(handle.id(), last, PATIENCE).await?;
        Ok(handle)
    }

    /// Has a task done; gives it and what it returned.
    async fn done<T>(&mut self, task: NewTask<T>) -> Result<(Task, T), Failure>
    where
        T: DeserializeOwned + 'static,
    {
        let handle = self.follow(task, None).await?;
        Ok((handle.task().await?, handle.result().await?))
    }

    /// Has a task done that is to fail.
    async fn failed<T>(&mut self, task: NewTask<T>) -> Result<Task, Failure> {
        let task = self.follow(task, None).await?.task().await?;
        if task.status == Status::Failed { Ok(task) } else { Err(format!("{} did not fail", task.task_id).into()) }
    }
}

/// What readers are served now.
async fn release(release: orchestrator_worker::TaskId, commit: String, server: &Server) -> Result<Release, Failure> {
    let page = http::get(server.address(), "/").await?;
    Ok(Release { release, commit, url: format!("http://{}/", server.address()), sha256: sha256(&page.body) })
}

fn answered(reply: Reply) -> Result<Answered, Failure> {
    let passage = reply.passage.ok_or("the knowledge base does not know the release")?;
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
