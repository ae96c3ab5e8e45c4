//! Processes of consumer groups, as far as tests need them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::{Backoff, Delivery, Group, NewEvent, Orchestrator, Unhandled, patterns};
use orchestrator_tests::{key, raw, until, within};
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a group was given, in order: type, number, attempt.
pub(crate) type Seen = Arc<Mutex<Vec<(String, u64, u32)>>>;

/// A process of a group, as far as a test needs one.
pub(crate) struct Member {
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<orchestrator::Result>,
}

impl Member {
    pub(crate) async fn leave(self) {
        let _ = self.stop.send(());
        within("a member leaves", self.ended).await.unwrap().unwrap();
    }
}

pub(crate) fn group(name: &str, types: &str) -> Group {
    let quick = Backoff::fixed(Duration::from_millis(10));
    Group::new(name, &patterns(types).unwrap()).backoff(quick).lease(Duration::from_secs(1))
}

pub(crate) fn join<F>(
    orch: &Orchestrator,
    group: Group,
    handle: impl Fn(Delivery) -> F + Send + Sync + 'static,
) -> Member
where
    F: Future<Output = Result<(), Unhandled>> + Send + 'static,
{
    let (orch, (stop, stopped)) = (orch.clone(), oneshot::channel());
    let ended = tokio::spawn(async move {
        orch.consume(&group, handle, async {
            let _ = stopped.await;
        })
        .await
    });
    Member { stop, ended }
}

/// Notes what it is given, and is content.
pub(crate) fn noting(
    seen: &Seen,
) -> impl Fn(Delivery) -> std::future::Ready<Result<(), Unhandled>> + Send + Sync + 'static {
    let seen = Arc::clone(seen);
    move |delivery| {
        note(&seen, &delivery);
        std::future::ready(Ok(()))
    }
}

pub(crate) fn note(seen: &Seen, delivery: &Delivery) -> u64 {
    let n = delivery.event.payload["n"].as_u64().unwrap_or(0);
    seen.lock().unwrap().push((delivery.event.event_type.clone(), n, delivery.attempt));
    n
}

pub(crate) fn retry(error: &str) -> Result<(), Unhandled> {
    Err(Unhandled::Retry { error: error.into(), delay: None })
}

pub(crate) async fn tell(orch: &Orchestrator, event_type: &str, n: u64) {
    orch.publish(&NewEvent::new(event_type, &json!({"n": n}))).await.unwrap();
}

/// Until a process has the seat of a group, which is there then.
pub(crate) async fn served(orch: &Orchestrator, name: &str) {
    until("the group is served", async || {
        orch.groups().await.unwrap().into_iter().find(|group| group.name == name)?.consumer
    })
    .await;
}

/// The numbers of the first `count` deliveries at least.
pub(crate) async fn numbers(seen: &Seen, count: usize) -> Vec<u64> {
    until("all were handled", async || (seen.lock().unwrap().len() >= count).then_some(())).await;
    seen.lock().unwrap().iter().map(|(_, n, _)| *n).collect()
}

pub(crate) async fn let_go_of(orch: &Orchestrator, name: &str) {
    until("all was let go of", async || {
        let group = orch.groups().await.unwrap().into_iter().find(|group| group.name == name)?;
        (group.pending == 0 && group.behind == Some(0)).then_some(())
    })
    .await;
}

/// Until this event was handed to a member of the group.
pub(crate) async fn given(seen: &Seen, event_type: &str, n: u64) {
    until("it is handed over", async || {
        seen.lock().unwrap().iter().any(|(t, number, _)| t == event_type && *number == n).then_some(())
    })
    .await;
}

/// How many entries Redis keeps marks of.
pub(crate) async fn marks(orch: &Orchestrator, name: &str) -> usize {
    let fields: Vec<Vec<u8>> = raw().await.hkeys(key(orch, &format!("m:{name}"))).await.unwrap();
    // One says who was the last to serve the group.
    fields.iter().filter(|field| *field != b"\0by").count()
}
