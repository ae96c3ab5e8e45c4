//! A copy of a call is long under way and comes when everything has gone on: it changes nothing any more.

use std::time::{SystemTime, UNIX_EPOCH};

use orchestrator::{Config, Incarnation, NewTask, Orchestrator, TaskHandle, encode_value};
use orchestrator_tests::{Proxy, namespace, server, within};
use orchestrator_worker::{TaskContext, TaskResult, task_handler};
use redis::{AsyncCommands, Value};

use super::look::Look;
use super::{SHORT, run, worker};

#[task_handler("ok", queue = "q", retries = 2, backoff = "fixed(1ms)")]
async fn ok(fails: u32, ctx: TaskContext) -> TaskResult<u32> {
    if ctx.attempt() <= fails { Err("not yet".into()) } else { Ok(7) }
}

/// How long after its making a first send may come.
const WINDOW_MS: u64 = 10_000;

struct Ground {
    line: Proxy,
    orch: Orchestrator,
    look: Look,
}

impl Ground {
    /// A namespace whose clock is ours, behind a line.
    async fn new() -> Self {
        let line = Proxy::before(server::shared());
        let config = Config { namespace: namespace(), test_clock: true, ..Config::new(&line.url()) };
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let key = format!("{{{}.0}}:now", config.namespace);
        let mut raw = server::shared().raw().await;
        let _: () = raw.hset_multiple(key, &[("s", now_ms / 1000), ("us", now_ms % 1000 * 1000)]).await.unwrap();
        let orch = Orchestrator::with_config(config).await.unwrap();
        let look = Look::at(&orch, raw);
        Self { line, orch, look }
    }

    async fn set_clock(&mut self, now_ms: u64) {
        let key = self.look.key("now");
        let _: () =
            self.look.raw.hset_multiple(key, &[("s", now_ms / 1000), ("us", now_ms % 1000 * 1000)]).await.unwrap();
    }

    /// Submits a task whose first copy stays under way.
    async fn submit(&self) -> TaskHandle<u32> {
        self.line.hold("enqueue");
        let handle = self.orch.enqueue(NewTask::<u32>::new("t", &1u32).queue("q")).await.unwrap();
        self.line.struck(1).await;
        handle
    }

    async fn complete(&self) {
        let life = Incarnation::join(&self.orch, &["q".into()], &[], SHORT).await.unwrap();
        let stepped = life.step(&[], 1, &["q".into()], None).await.unwrap();
        let claim = stepped.claims.into_iter().next().expect("the task");
        let finish = claim.complete(&encode_value("result", &7u32, 100).unwrap());
        assert!(life.step(&[finish], 0, &[], None).await.unwrap().stale.is_empty());
        life.leave(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_late_copy_leaves_a_live_task_as_it_is() {
    let mut ground = Ground::new().await;
    let handle = ground.submit().await;
    let before = ground.look.dump().await;
    assert_eq!(ground.line.deliver().await, Value::Int(0));
    assert_eq!(ground.look.dump().await, before);
    ground.complete().await;
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test]
async fn a_copy_later_than_its_window_does_not_revive_what_is_done() {
    let mut ground = Ground::new().await;
    let handle = ground.submit().await;
    ground.complete().await;
    ground.set_clock(handle.id().created_at_ms() + WINDOW_MS + 1).await;
    let before = ground.look.dump().await;
    let reply = ground.line.deliver().await;
    assert!(matches!(&reply, Value::ServerError(error) if error.code() == "LATE"), "{reply:?}");
    assert_eq!(ground.look.dump().await, before);
    assert_eq!(handle.result().await.unwrap(), 7);
}

/// Known not to hold: a first send looks among the live tasks alone. It takes somebody between client and server who
/// keeps bytes of a closed connection while the same task is sent again, claimed and done on another, all within 10 s
/// of its making; TCP alone does not do that.
#[tokio::test]
#[ignore = "known gap: a first send that comes late, but within its 10 s, revives a task that has ended meanwhile"]
async fn a_copy_within_its_window_does_not_revive_what_is_done() {
    let mut ground = Ground::new().await;
    let handle = ground.submit().await;
    ground.complete().await;
    ground.set_clock(handle.id().created_at_ms() + WINDOW_MS / 2).await;
    let before = ground.look.dump().await;
    let reply = ground.line.deliver().await;
    assert_eq!(reply, Value::Int(0));
    assert_eq!(ground.look.dump().await, before);
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_late_words_are_refused_once_it_has_asked_what_it_holds() {
    for (verb, fails) in [("step", 0), ("retry", 1)] {
        let line = Proxy::before(server::shared());
        let orch =
            Orchestrator::with_config(Config { namespace: namespace(), ..Config::new(&line.url()) }).await.unwrap();
        let mut look = Look::at(&orch, server::shared().raw().await);
        let (stop, running) = run(worker(&orch).register::<ok>());
        // Settled, so that the next step is the one with the claim, or with the finish.
        orch.enqueue(ok::with(0)).await.unwrap().result().await.unwrap();
        line.hold(verb);
        let handle = orch.enqueue(ok::with(fails)).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 7);
        line.struck(1).await;
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.attempt, seen.retry_count), (fails + 1, fails), "{verb}");
        // Work for the late step to claim.
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        let waiting = orch.enqueue(ok::with(0)).await.unwrap();
        let before = look.dump().await;
        let reply = line.deliver().await;
        assert!(matches!(&reply, Value::ServerError(error) if error.code() == "LOST"), "{verb}: {reply:?}");
        assert_eq!(look.dump().await, before, "{verb}");
        waiting.cancel().await.unwrap();
    }
}
