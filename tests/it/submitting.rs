//! Many who submit at once share calls: whatever breaks, nobody waits for ever, and what was answered is stored once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use orchestrator::{ApprovalPolicy, Config, Error, NewTask, Orchestrator, Result, Status, Submitted, TaskId};
use orchestrator_tests::{Proxy, Server, config, key, namespace, orch, raw, server, within};
use redis::AsyncCommands;
use tokio::task::JoinHandle;

fn job(n: u32) -> NewTask<u32> {
    NewTask::new("job", &n).queue("q")
}

fn submit(orch: &Orchestrator, task: NewTask<u32>) -> JoinHandle<Result<Submitted>> {
    let orch = orch.clone();
    tokio::spawn(async move { orch.submit(task).await })
}

/// What everybody was answered.
async fn answers(submits: Vec<JoinHandle<Result<Submitted>>>) -> Vec<Result<TaskId>> {
    let all = join_all(submits.into_iter().map(|submit| within("an answer", submit)));
    all.await.into_iter().map(|answer| answer.unwrap().map(|submitted| submitted.id)).collect()
}

/// The ids that are ready, from the queue itself.
async fn ready(raw: &mut redis::aio::MultiplexedConnection, orch: &Orchestrator) -> usize {
    raw.zcard(key(orch, "r:q")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_when_the_last_call_has_just_returned_is_not_forgotten() {
    let orch = orch().await;
    let callers = (0..16u32).map(|caller| {
        let orch = orch.clone();
        tokio::spawn(async move {
            for n in 0..250 {
                within("an answer", orch.submit(job(caller * 1000 + n))).await.expect("nothing is broken");
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert_eq!(ready(&mut raw().await, &orch).await, 16 * 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_takes_as_many_as_it_holds_and_refuses_the_others() {
    let orch = Orchestrator::with_config(Config { queue_max: 10, ..config() }).await.unwrap();
    let answers = answers((0..50).map(|n| submit(&orch, job(n))).collect()).await;
    let stored: BTreeSet<TaskId> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
    assert_eq!(stored.len(), 10);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(refused, Error::QueueFull { bound: 10, .. }), "{refused}");
    }
    assert_eq!(ready(&mut raw().await, &orch).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_everybody_is_refused_and_afterwards_nobody() {
    let server = Server::start(&[]);
    let orch = Orchestrator::with_config(Config { url: server.url(), ..config() }).await.unwrap();
    orch.submit(job(0)).await.unwrap();
    let mut raw = server.raw().await;
    let limit = async |raw: &mut redis::aio::MultiplexedConnection, bytes: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async::<()>(raw).await.unwrap();
    };
    limit(&mut raw, "1").await;
    let submits: Vec<_> = (1..50).map(|n| submit(&orch, job(n))).collect();
    // An answer may also come only when there is memory again.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ready(&mut raw, &orch).await, 1);
    limit(&mut raw, "0").await;
    let stored = answers(submits).await.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(ready(&mut raw, &orch).await, 1 + stored);
    assert!(answers((50..60).map(|n| submit(&orch, job(n))).collect()).await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_outlives_the_server_and_is_there_once() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let orch = Orchestrator::with_config(Config { url: server.url(), ..config() }).await.unwrap();
    orch.submit(job(0)).await.unwrap();
    let mut submits: Vec<_> = (1..100).map(|n| submit(&orch, job(n))).collect();
    tokio::time::sleep(Duration::from_millis(2)).await;
    server.kill();
    submits.extend((100..200).map(|n| submit(&orch, job(n))));
    server.restart();
    submits.extend((200..300).map(|n| submit(&orch, job(n))));
    let answers = answers(submits).await;
    let mut stored = BTreeSet::new();
    for id in answers.iter().flatten() {
        assert!(stored.insert(*id), "two tasks under one id");
        assert_eq!(orch.get(*id).await.unwrap().status, Status::Assigned);
    }
    // What was answered as unknown may be there too; but none twice.
    let payloads: Vec<Vec<u8>> = server.raw().await.zrange(key(&orch, "r:q"), 0, -1).await.unwrap();
    assert!(payloads.len() > stored.len() && payloads.len() <= 300, "{} of {}", stored.len(), payloads.len());
    let mut seen = BTreeMap::new();
    for id in payloads.iter().map(|bytes| id_of(bytes)) {
        let task = orch.get(id).await.unwrap();
        assert_eq!(seen.insert(task.payload.to_string(), id), None, "one task is there twice");
    }
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() >= 100, "those after the restart");
}

fn id_of(bytes: &[u8]) -> TaskId {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (created, tail) = (number(&bytes[..6]), number(&bytes[6..14]));
    let high = created << 16 | 0x7000 | tail >> 52;
    let low = 0b10 << 62 | (tail & ((1 << 52) - 1)) << 10;
    uuid::Uuid::from_u64_pair(high, low).try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_takes_nobody_along() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let orch = Orchestrator::with_config(config).await.unwrap();
    orch.submit(job(0)).await.unwrap();
    line.darken(true);
    let mut submits: Vec<_> = (1..60).map(|n| submit(&orch, job(n))).collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    // The first of them is the one for whose sake the others were sent.
    let given_up: Vec<_> = submits.drain(..30).collect();
    given_up.iter().for_each(JoinHandle::abort);
    line.darken(false);
    let answers = answers(submits).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(orch.submit(job(60)).await.is_ok(), "and the next ones are served");
    let there = ready(&mut raw().await, &orch).await;
    assert!((31..=61).contains(&there), "{there}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_makes_one_task_whatever_answers_are_lost() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let plain = Config { url: server::shared().url(), ..config.clone() };
    let orch = Orchestrator::with_config(config).await.unwrap();
    let plain = Orchestrator::with_config(plain).await.unwrap();
    orch.submit(job(0)).await.unwrap();
    line.lose_one_in(40);
    for round in 0..4 {
        let keyed = |n| job(n).requested_by("ann").idempotency_key(&format!("k{round}"));
        let submits = (0..16).map(|_| submit(&orch, keyed(7))).collect();
        let ids: BTreeSet<TaskId> = answers(submits).await.into_iter().flatten().collect();
        assert_eq!(ids.len(), 1, "round {round}");
        let other = plain.submit(keyed(8)).await;
        assert!(matches!(other, Err(Error::Conflict { .. })), "{other:?}");
        let id = ids.into_iter().next().unwrap();
        assert_eq!(plain.get(id).await.unwrap().payload, serde_json::json!(7));
        // Of another caller the key is another one.
        let anothers = plain.submit(keyed(8).requested_by("bob")).await.unwrap().id;
        assert_ne!(anothers, id);
    }
    line.lose_one_in(0);
    assert_eq!(ready(&mut raw().await, &plain).await, 1 + 4 * 2);
}

#[tokio::test]
async fn one_call_tells_no_two_events_under_one_key() {
    let orch = orch().await;
    let event = |n: u32| orchestrator::NewEvent::new("a.b", &n).idempotency_key("ann", "k");
    let refused = orch.publish_all(&[event(1), event(1)]).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let first = orch.publish(&event(1)).await.unwrap();
    assert_eq!(orch.publish(&event(1)).await.unwrap(), first);
    assert_eq!(orchestrator_tests::all_events(&orch).await.len(), 1);
}
