//! A copy of a submission is long under way and comes when the task is done: nothing is revived.

use std::time::{SystemTime, UNIX_EPOCH};

use orchestrator::{Config, Incarnation, NewTask, Orchestrator, TaskHandle, encode_value};
use orchestrator_tests::{Proxy, namespace, server};
use redis::{AsyncCommands, Value};

use super::SHORT;
use super::look::Look;

/// How long after its making a first send may come.
const WINDOW_MS: u64 = 10_000;

struct Ground {
    line: Proxy,
    orch: Orchestrator,
    look: Look,
    now_ms: u64,
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
        Self { line, orch, look, now_ms }
    }

    async fn set_clock(&mut self, now_ms: u64) {
        let key = self.look.key("now");
        let _: () = self.look.raw.hset_multiple(key, &[("s", now_ms / 1000), ("us", now_ms % 1000 * 1000)]).await.unwrap();
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
    ground.set_clock(ground.now_ms + WINDOW_MS + 1).await;
    let before = ground.look.dump().await;
    let reply = ground.line.deliver().await;
    assert!(matches!(&reply, Value::ServerError(error) if error.code() == "LATE"), "{reply:?}");
    assert_eq!(ground.look.dump().await, before);
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test]
async fn a_copy_within_its_window_does_not_revive_what_is_done() {
    let mut ground = Ground::new().await;
    let handle = ground.submit().await;
    ground.complete().await;
    ground.set_clock(ground.now_ms + WINDOW_MS / 2).await;
    let before = ground.look.dump().await;
    let reply = ground.line.deliver().await;
    assert_eq!(reply, Value::Int(0));
    assert_eq!(ground.look.dump().await, before);
    assert_eq!(handle.result().await.unwrap(), 7);
}
