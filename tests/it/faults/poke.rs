//! Somebody overwrites a key with one of another type: all healthy work gets through, in few calls, and the key is
//! set aside or healed.

use std::sync::Arc;

use futures::future::join_all;
use orchestrator::{ApprovalId, ApprovalPolicy, Approver, Ballot, Config, Gate, Priority, TaskId, Triggered, Unique};
use orchestrator_tests::{Proxy, namespace, server, until, within};
use orchestrator_worker::{
    Data, Error, NewTask, Orchestrator, Overlap, Schedule, Status, Stop, TaskContext, TaskError, TaskResult,
    WorkerBuilder, task_handler,
};
use redis::AsyncCommands;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::look::{Look, id_bytes, slice};
use super::{SHORT, run, worker};

/// Calls of scripts and commands in which a round of work must be done; without a poke it takes about 80.
const CALLS_MAX: usize = 300;

#[task_handler("poked", queue = "act", backoff = "fixed(1ms)")]
async fn poked(how: String, started: Data<Arc<Notify>>, ctx: TaskContext) -> TaskResult<String> {
    match how.as_str() {
        "fail" if ctx.attempt() == 1 => Err("not yet".into()),
        "despair" => Err(TaskError::fatal("no way")),
        "hold" => {
            started.notify_one();
            ctx.cancelled().await;
            Err("stopped".into())
        }
        "talk" => {
            ctx.emit_chunk("word").await?;
            Ok(how)
        }
        _ => Ok(how),
    }
}

#[task_handler("asking", queue = "act")]
async fn asking(n: u32, ctx: TaskContext) -> TaskResult<u32> {
    ctx.step("before", || async { Ok::<_, TaskError>(n) }).await?;
    ctx.approve(n).await?;
    ctx.sleep("5ms").await;
    Ok(n)
}

#[task_handler("rare", queue = "act")]
async fn rare(_: ()) -> TaskResult {
    Ok(())
}

struct Ground {
    line: Proxy,
    orch: Orchestrator,
    look: Look,
    started: Arc<Notify>,
    first: TaskId,
    worker: (Stop, JoinHandle<orchestrator_worker::Result>),
}

impl Ground {
    /// A namespace where everything was done once, so that all keys are there.
    async fn new() -> Self {
        let line = Proxy::before(server::shared());
        let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
        let orch = Orchestrator::with_config(config).await.unwrap();
        let look = Look::at(&orch, server::shared().raw().await);
        let started = Arc::default();
        let worker = run(Self::builder(&orch, &started));
        let first = orch.enqueue(poked::with("first".into())).await.unwrap();
        let mut ground = Self { line, orch, look, started, first: first.id(), worker };
        ground.everything().await;
        ground
    }

    fn builder(orch: &Orchestrator, started: &Arc<Notify>) -> WorkerBuilder {
        worker(orch).data(Arc::clone(started)).register::<poked>().register::<asking>().lease(SHORT)
    }

    async fn ended(&self, task: NewTask<String>) -> (TaskId, Status) {
        let handle = self.orch.enqueue(task).await.unwrap();
        let status = match handle.result().await {
            Ok(_) => Status::Completed,
            Err(Error::TaskEnded { status, .. }) => status,
            Err(other) => panic!("{other}"),
        };
        (handle.id(), status)
    }

    /// Walks through every kind of call.
    async fn everything(&mut self) {
        let how = |how: &str| poked::with(how.into());
        let orch = self.orch.clone();
        // Somebody who has not heard of anything yet.
        let stranger = Orchestrator::with_config(orch.config().clone()).await.unwrap();
        stranger.enqueue(how("strange")).await.unwrap().result().await.unwrap();
        assert_eq!(self.ended(how("soon").delay("20ms").parent_id(self.first)).await.1, Status::Completed);
        assert_eq!(self.ended(how("fail")).await.1, Status::Completed);
        let (hopeless, status) = self.ended(how("despair")).await;
        assert_eq!(status, Status::Failed);
        orch.retry(hopeless).await.unwrap();
        orch.handle::<String>(hopeless).result().await.expect_err("hopeless again");
        for handle in orch.enqueue_all(["a", "b", "c"].map(how)).await.unwrap() {
            handle.result().await.unwrap();
        }
        let alone = how("alone").unique(Unique::until_done("one")).expires("1h");
        assert_eq!(self.ended(alone).await.1, Status::Completed);
        let later = orch.enqueue(how("later").delay("1h").priority(Priority::P0)).await.unwrap();
        assert_eq!(orch.set_priority(later.id(), Priority::P2).await.unwrap(), Status::Pending);
        assert_eq!(later.cancel().await.unwrap(), Status::Cancelled);
        let held = orch.enqueue(how("hold")).await.unwrap();
        within("the handler", self.started.notified()).await;
        assert_eq!(held.task().await.unwrap().status, Status::InProgress);
        held.cancel().await.unwrap();
        assert!(matches!(held.result().await, Err(Error::TaskEnded { status: Status::Cancelled, .. })));
        // People are asked twice, and a clock runs meanwhile.
        let task = asking::with(7).policies(Some(Gate::new()), None).sla_target("1h");
        let asked = orch.enqueue(task).await.unwrap();
        for number in 0..2 {
            let id = ApprovalId { task: asked.id(), number };
            until("the question", || async { orch.approval(id).await.ok() }).await;
            orch.decide(id, &Ballot::approve(Approver::named("alice"))).await.unwrap();
        }
        assert_eq!(asked.result().await.unwrap(), 7);
        orch.tick().await.unwrap();
        orch.approvals_history(0, 10).await.unwrap();
        // Nobody handles this one until somebody comes.
        let rare_one = orch.enqueue(rare::with(())).await.unwrap();
        until("the shelf", || async { rare_one.task().await.is_ok_and(|task| task.shelved).then_some(()) }).await;
        let (stop, running) = run(worker(&orch).register::<rare>().lease(SHORT));
        rare_one.result().await.unwrap();
        stop.drain();
        within("the other worker's end", running).await.unwrap().unwrap();
        let only = how("only").expires("1h").unique(Unique::until_done("one"));
        assert_eq!(self.ended(only).await.1, Status::Completed);
        // A schedule whose ticks wait for the end of the last run, which puts something out.
        let nightly = Schedule::every("nightly", "24h", how("talk")).overlap(Overlap::Queue);
        orch.schedules().put(&nightly).await.unwrap();
        let Triggered::Started(run) = orch.schedules().trigger("nightly").await.unwrap() else { panic!("it waits") };
        orch.handle::<String>(run).result().await.unwrap();
        assert_eq!(orch.schedules().list(None, None, 10).await.unwrap().schedules.len(), 1);
        let word = orch.chunks(run).next().await.unwrap().unwrap();
        assert_eq!(word.data.as_text(), Some("word"));
        let first = orch.chunks(self.first).next_if_any().await;
        assert!(matches!(first, Ok(None) | Err(Error::NotFound { .. })), "{first:?}");
        orch.pause("act").await.unwrap();
        orch.resume("act").await.unwrap();
        orch.stats().await.unwrap();
        orch.offers().await.unwrap();
        // Its slice of time may be over, so that nobody else looks there; and its bucket may have been overwritten.
        let first = orch.get(self.first).await;
        assert!(matches!(first, Ok(_) | Err(Error::NotFound { .. })), "{first:?}");
        assert_eq!(self.ended(how("last")).await.1, Status::Completed);
    }

    /// The key's short name, as it is now.
    async fn name(&mut self, key: &str) -> Vec<u8> {
        match key {
            "t" => slice(self.first),
            "c" => [b"c", &id_bytes(self.first)[..4]].concat(),
            "w" => [b"w:", self.look.workers().await.remove(0).as_bytes()].concat(),
            "i" => [b"i:", self.look.workers().await.remove(0).as_bytes()].concat(),
            "p" => [b"p:", &*id_bytes(self.first)].concat(),
            "D" => self.buckets().await.remove(0),
            "D later" => self.buckets().await.pop().unwrap(),
            other => other.into(),
        }
    }

    /// The names of the buckets, the present one first.
    async fn buckets(&mut self) -> Vec<Vec<u8>> {
        let mut buckets = self.look.names().await;
        buckets.retain(|name| name[0] == b'D');
        buckets.sort();
        buckets
    }
}

const KEYS: &[&str] = &[
    "r:act",
    "t",
    "T",
    "q",
    "k:act",
    "z",
    "g",
    "W",
    "w",
    "h",
    "n",
    "B",
    "D",
    "D later",
    "X",
    "U",
    "u:rare",
    "s",
    "e",
    "c",
    "i",
    "Q",
    "A",
    "H",
    "P",
    "y",
    "C",
    "audit",
    "l",
    "S",
    "S:nightly",
    "Z",
    "N",
    "p",
];

/// Waits for two beats, between which next to nothing may be sent.
async fn quiet(ground: &Ground, key: &str) {
    let before = ground.line.calls().len();
    let since = || ground.line.calls().split_off(before);
    until("two beats", || async { (since().iter().filter(|name| *name == "beat").count() >= 2).then_some(()) }).await;
    let others: Vec<String> = since().into_iter().filter(|name| name != "beat" && name != "SCRIPT").collect();
    assert!(others.len() <= 10, "{key}: it goes round in circles: {others:?}");
}

async fn survives(key: &str, at_rest: bool) {
    let mut ground = Ground::new().await;
    let name = ground.name(key).await;
    let full = ground.look.key(&name);
    let _: () = ground.look.raw.set(&full, "poke").await.unwrap();
    if at_rest {
        // One task, so that everybody has met the key, then nothing.
        assert_eq!(ground.ended(poked::with("plain".into())).await.1, Status::Completed, "{key}");
        quiet(&ground, key).await;
    }
    let before = ground.line.calls().len();
    ground.everything().await;
    // Whoever connects loads the scripts.
    let calls = ground.line.calls().split_off(before).into_iter().filter(|name| name != "SCRIPT").collect::<Vec<_>>();
    assert!(calls.len() <= CALLS_MAX, "{key}: {} calls: {calls:?}", calls.len());
    quiet(&ground, key).await;
    let present: redis::RedisResult<Option<String>> = ground.look.raw.get(&full).await;
    assert!(!matches!(present, Ok(Some(_))), "{key} was never set aside");
    let aside: Option<String> = ground.look.raw.get(ground.look.key([b"bad:", &*name].concat())).await.unwrap();
    eprintln!("{key}: {} calls; {}", calls.len(), if aside.is_some() { "set aside" } else { "replaced" });
    ground.worker.0.drain();
    within("the worker's end", ground.worker.1).await.unwrap().unwrap();
}

async fn all_survive(at_rest: bool) {
    let only = std::env::var("POKE").ok();
    let keys = KEYS.iter().filter(|key| only.as_deref().is_none_or(|only| only == **key));
    join_all(keys.map(|key| tokio::spawn(survives(key, at_rest)))).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_may_be_overwritten_under_work() {
    all_survive(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_may_be_overwritten_at_rest() {
    all_survive(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_may_be_overwritten_before_it_comes() {
    let mut ground = Ground::new().await;
    ground.orch.pause("act").await.unwrap();
    let talk = ground.orch.enqueue(poked::with("talk".into())).await.unwrap();
    let key = [b"p:", &*id_bytes(talk.id())].concat();
    let full = ground.look.key(&key);
    let _: () = ground.look.raw.set(&full, "poke").await.unwrap();
    ground.orch.resume("act").await.unwrap();
    assert_eq!(talk.result().await.unwrap(), "talk");
    let word = ground.orch.chunks(talk.id()).next().await.unwrap().unwrap();
    assert_eq!((word.number, word.data.as_text()), (1, Some("word")));
    let aside: String = ground.look.raw.get(ground.look.key([b"bad:", &*key].concat())).await.unwrap();
    assert_eq!(aside, "poke");
    ground.worker.0.drain();
    within("the worker's end", ground.worker.1).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiters_inbox_may_be_overwritten() {
    let mut ground = Ground::new().await;
    let held = ground.orch.enqueue(poked::with("hold".into())).await.unwrap();
    let waiting = tokio::spawn({
        let held = held.clone();
        async move { held.result().timeout("20s").await }
    });
    let (raw, notes) = (ground.look.raw.clone(), ground.look.key("n"));
    let inbox: String = until("the waiter to be known", || {
        let (mut raw, notes, id) = (raw.clone(), notes.clone(), held.id());
        async move { raw.hget(notes, id_bytes(id)).await.unwrap() }
    })
    .await;
    let key = ground.look.key(format!("i:{inbox}"));
    let _: () = ground.look.raw.set(key, "poke").await.unwrap();
    held.cancel().await.unwrap();
    let ended = waiting.await.unwrap();
    assert!(matches!(ended, Err(Error::TaskEnded { status: Status::Cancelled, .. })), "{ended:?}");
    quiet(&ground, "the waiter's inbox").await;
    ground.worker.0.drain();
    within("the worker's end", ground.worker.1).await.unwrap().unwrap();
}
