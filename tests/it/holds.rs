//! Tasks in the hands of agents outside, when answers are lost, leases end, and others want the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use orchestrator::{
    Answer, ApprovalId, ApprovalPolicy, Approver, Ballot, Config, Error, Gate, HOLD_LEASE_MAX, HOLD_LEASE_MIN, Hold,
    HoldToken, Incarnation, NewTask, Orchestrator, Result, Status, TaskId, Terms, Wanted,
};
use orchestrator_tests::{Proxy, config, key, namespace, orch, raw, server, until, within};
use orchestrator_worker::{Data, TaskContext, TaskError, TaskResult, Worker, task_handler};
use redis::AsyncCommands;
use serde_json::json;

const START: u64 = 1_900_000_000;
/// Lease of workers that tests make.
const BRIEF: Duration = Duration::from_millis(10);

fn job() -> NewTask<u32> {
    NewTask::new("job", &1u32).queue("q").max_retries(3)
}

async fn task(orch: &Orchestrator) -> TaskId {
    orch.enqueue(job()).await.unwrap().id()
}

fn jobs() -> Wanted {
    Wanted { types: vec!["job".into()], queues: vec!["q".into()], tenant: None }
}

async fn hold(orch: &Orchestrator, agent: &str, id: TaskId) -> Hold {
    orch.hold(agent, id, HOLD_LEASE_MAX).await.unwrap()
}

async fn status(orch: &Orchestrator, id: TaskId) -> Status {
    orch.get(id).await.unwrap().status
}

async fn life(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &["q".into()], &[], BRIEF).await.unwrap()
}

fn is_conflict<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Conflict { .. }))
}

/// A client whose time stands at [`START`] until it is moved.
async fn still() -> Orchestrator {
    let config = Config { test_clock: true, ..config() };
    set(&config.namespace, 0).await;
    Orchestrator::with_config(config).await.unwrap()
}

async fn set(namespace: &str, seconds: u64) {
    let at = [("s", START + seconds), ("us", 0)];
    let _: () = raw().await.hset_multiple(format!("{{{namespace}.0}}:now"), &at).await.unwrap();
}

/// What Redis knows of agents outside: leases, generations, what is held, notes, and what has begun.
async fn left_of_agents(orch: &Orchestrator) -> Vec<String> {
    let mut raw = raw().await;
    let leases: Vec<String> = raw.zrange(key(orch, "W"), 0, -1).await.unwrap();
    let generations: Vec<String> = raw.hkeys(key(orch, "g")).await.unwrap();
    let begun: Vec<String> = raw.hvals(key(orch, "s")).await.unwrap();
    let mut left: Vec<String> = leases.into_iter().filter(|name| name.starts_with("h:")).collect();
    left.extend(generations.into_iter().filter(|name| name.starts_with("wh:")));
    left.extend(begun.into_iter().filter(|told| told.contains(" h:")));
    for kind in ["w:h:*", "i:h:*"] {
        left.extend(raw.keys::<_, Vec<String>>(key(orch, kind)).await.unwrap());
    }
    left
}

/// How often a kind of event came for a task.
async fn told(orch: &Orchestrator, id: TaskId, event_type: &str) -> usize {
    let key = key(orch, "e");
    let stream: redis::streams::StreamRangeReply = raw().await.xrange_all(key).await.unwrap();
    let bytes = |value| redis::from_redis_value::<Vec<u8>>(value).unwrap();
    let entries = stream.ids.into_iter();
    let fields =
        entries.map(|entry| entry.map.into_iter().map(|(n, v)| (n.into_bytes(), bytes(v))).collect::<Vec<_>>());
    let events = fields.flat_map(|fields| orchestrator::event::unpack(&fields));
    events.filter(|event| event.task_id == id && event.event_type == event_type).count()
}

/// Says it again as long as no answer comes.
async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    loop {
        match call().await {
            Err(Error::Unavailable { .. }) => {}
            outcome => return outcome,
        }
    }
}

/// A client behind a line of its own, and one that is not.
async fn behind_a_line() -> (Proxy, Orchestrator, Orchestrator) {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let plain = Config { url: server::shared().url(), ..config.clone() };
    let agent = Orchestrator::with_config(config).await.unwrap();
    (line, agent, Orchestrator::with_config(plain).await.unwrap())
}

/// The whole life of a task in the hands of agents, each call of which is said until an answer comes.
async fn worked(agent: &Orchestrator, id: TaskId) {
    let holder = |hold: &Hold| agent.holder("ann", id, Some(hold.token));
    let held = insist(async || agent.hold("ann", id, HOLD_LEASE_MIN).await).await.unwrap();
    let first = holder(&held);
    insist(async || first.renew(HOLD_LEASE_MIN).await).await.unwrap();
    insist(async || first.progress(0.5, "half", HOLD_LEASE_MIN).await).await.unwrap();
    for _ in 0..2 {
        let failed = insist(async || first.fail("no", true, Some(Duration::ZERO)).await).await.unwrap();
        assert_eq!(failed, Status::Pending, "said twice it is what it was");
    }
    agent.tick().await.unwrap();
    // When the answer to a release or to a question is lost, its repetition tells that the task is not held any more.
    let second = holder(&insist(async || agent.hold("ann", id, HOLD_LEASE_MIN).await).await.unwrap());
    let released = insist(async || second.release().await).await;
    assert!(released.is_ok() || is_conflict(&released), "{released:?}");
    assert_eq!(status(agent, id).await, Status::Assigned);
    let third = holder(&insist(async || agent.hold("ann", id, HOLD_LEASE_MIN).await).await.unwrap());
    let question = async |holder: &orchestrator::Holder| {
        insist(async || holder.ask("q", "Really?", json!({"plan": 1}), Vec::new(), Terms::default()).await).await
    };
    let asked = question(&third).await;
    assert!(matches!(asked, Ok(Answer::Asked(_)) | Err(Error::Conflict { .. })), "{asked:?}");
    let approval = agent.get(id).await.unwrap().approval_id.expect("it was asked");
    insist(async || agent.decide(approval, &Ballot::approve(Approver::named("bob"))).await).await.unwrap();
    let last = holder(&insist(async || agent.hold("ann", id, HOLD_LEASE_MIN).await).await.unwrap());
    let decided = question(&last).await.unwrap();
    assert!(matches!(&decided, Answer::Decided { by, .. } if by == "bob"), "{decided:?}");
    for stale in [&first, &second, &third] {
        assert!(is_conflict(&stale.complete(json!("stale")).await), "an end of what it has not got any more");
    }
    for _ in 0..2 {
        insist(async || last.complete(json!("done")).await).await.expect("said twice it is what it was");
    }
    assert!(is_conflict(&last.fail("no", false, None).await), "another end than the one it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_answer_is_lost_the_task_ends_once_and_nothing_is_left_behind() {
    let scripts = ["none", "hold", "renew", "step", "retry", "release", "park", "leave"];
    let lives =
        scripts.iter().flat_map(|script| [(script, 1), (script, 2), (script, 3)]).map(async |(script, times)| {
            let (line, agent, orch) = behind_a_line().await;
            let id = task(&orch).await;
            // Every script is called at least once, some of them four times.
            let cuts = match *script {
                "none" => 0,
                "hold" | "leave" => times,
                "renew" => times.min(2),
                _ => 1,
            };
            (0..cuts).for_each(|_| line.cut(script, |_| true));
            worked(&agent, id).await;
            line.struck(cuts).await;
            let task = orch.get(id).await.unwrap();
            assert_eq!(
                (task.status, task.result, task.retry_count),
                (Status::Completed, Some(json!("done")), 1),
                "{script}"
            );
            assert_eq!(task.crashes, 0, "{script}");
            for (event, times) in
                [("task.completed", 1), ("task.retrying", 1), ("task.released", 1), ("task.started", 4)]
            {
                assert_eq!(told(&orch, id, event).await, times, "{event} after a lost answer of {script}");
            }
            assert_eq!(told(&orch, id, "task.blocked").await, 1, "{script}");
            assert_eq!(left_of_agents(&orch).await, Vec::<String>::new(), "after a lost answer of {script}");
        });
    join_all(lives).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_late_or_twice_changes_nothing() {
    for script in ["step", "retry", "release", "renew", "leave"] {
        let (line, agent, orch) = behind_a_line().await;
        let id = task(&orch).await;
        let hold = agent.hold("ann", id, HOLD_LEASE_MIN).await.unwrap();
        let holder = agent.holder("ann", id, Some(hold.token));
        line.hold(script);
        let said = match script {
            "retry" => holder.fail("no", true, Some(Duration::ZERO)).await.map(drop),
            "release" => holder.release().await.map(drop),
            "renew" => holder.renew(HOLD_LEASE_MIN).await.map(drop),
            "leave" => holder.release().await.map(drop),
            _ => holder.complete(json!("first")).await,
        };
        line.struck(1).await;
        if said.is_err() {
            let _ = holder.release().await.unwrap();
        }
        if script == "renew" {
            holder.release().await.unwrap();
        }
        if script == "step" {
            assert_eq!(status(&orch, id).await, Status::Completed);
            line.deliver().await;
        } else {
            // Somebody else has it when the call comes.
            let other = hold_of(&orch, "bob", id).await;
            line.deliver().await;
            assert_eq!(status(&orch, id).await, Status::InProgress, "after a late {script}");
            other.complete(json!("first")).await.unwrap_or_else(|error| panic!("after a late {script}: {error}"));
        }
        let task = orch.get(id).await.unwrap();
        assert_eq!((task.status, task.result), (Status::Completed, Some(json!("first"))), "after a late {script}");
        assert_eq!((task.crashes, task.retry_count), (0, 0), "after a late {script}");
    }
}

async fn hold_of(orch: &Orchestrator, agent: &str, id: TaskId) -> orchestrator::Holder {
    let token = hold(orch, agent, id).await.token;
    orch.holder(agent, id, Some(token))
}

#[tokio::test]
async fn the_late_leave_of_an_agent_takes_its_next_hold_from_nobody() {
    for next in ["ann", "bob"] {
        let (line, agent, orch) = behind_a_line().await;
        let id = task(&orch).await;
        line.hold("leave");
        hold_of(&agent, "ann", id).await.release().await.unwrap();
        line.struck(1).await;
        let holder = hold_of(&orch, next, id).await;
        line.deliver().await;
        holder.renew(HOLD_LEASE_MIN).await.expect("its own");
        assert!(orch.get(id).await.unwrap().started_at.is_some());
        holder.complete(json!(1)).await.expect("its own");
        assert_eq!(left_of_agents(&orch).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_worker_that_tells_late_what_it_has_left_takes_it_from_no_agent() {
    let orch = orch().await;
    let id = task(&orch).await;
    let worker = Incarnation::join(&orch, &["q".into()], &[], Duration::from_secs(30)).await.unwrap();
    let claim = worker.step(&[], 1, &["q".into()], None).await.unwrap().claims.remove(0);
    worker.beat(&[(id, 1)], &[]).await.unwrap();
    worker.release(&[claim.ticket()]).await.unwrap();
    let holder = hold_of(&orch, "ann", id).await;
    worker.beat(&[], &[id]).await.unwrap();
    holder.renew(HOLD_LEASE_MIN).await.expect("the agent has it");
    assert_eq!(worker.leave(&[id]).await.unwrap(), 0);
    holder.complete(json!(1)).await.expect("the agent has it");
}

#[tokio::test]
async fn a_lease_that_is_lost_in_between_is_told_with_how_the_task_stands() {
    let orch = orch().await;
    let id = task(&orch).await;
    let holder = hold_of(&orch, "ann", id).await;
    // As if it went between the look at the task and the call.
    let _: () = raw().await.hdel(key(&orch, "g"), format!("wh:{id}:ann")).await.unwrap();
    let said = [
        holder.renew(HOLD_LEASE_MIN).await.map(drop),
        holder.progress(0.5, "", HOLD_LEASE_MIN).await.map(drop),
        holder.fail("no", true, None).await.map(drop),
        holder.fail("no", false, None).await.map(drop),
        holder.complete(json!(1)).await,
        holder.release().await.map(drop),
        holder.ask("q", "?", json!(1), Vec::new(), Terms::default()).await.map(drop),
    ];
    for outcome in said {
        assert!(
            is_conflict(&outcome) && outcome.as_ref().unwrap_err().to_string().contains("in_progress"),
            "{outcome:?}"
        );
    }
    // The generation is there, the task is not.
    let id = task(&orch).await;
    let holder = hold_of(&orch, "ann", id).await;
    let _: () = raw().await.del(key(&orch, &format!("w:h:{id}:ann"))).await.unwrap();
    assert!(is_conflict(&holder.renew(HOLD_LEASE_MIN).await));
}

#[task_handler("job", queue = "q", retries = 3, backoff = "fixed(1ms)")]
async fn by_worker(_: u32) -> TaskResult<String> {
    Ok("worker".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_and_a_worker_race_and_each_task_ends_once() {
    let orch = orch().await;
    let ids: Vec<TaskId> =
        orch.enqueue_all((0..150).map(|_| job())).await.unwrap().iter().map(|handle| handle.id()).collect();
    let agents = ["ann", "bob"].map(|agent| {
        let orch = orch.clone();
        tokio::spawn(async move {
            let (mut ended, mut stale, mut n) = (BTreeSet::new(), Vec::new(), 0);
            loop {
                let held = orch.hold_next(agent, &jobs(), 3, HOLD_LEASE_MIN, Duration::from_millis(300)).await.unwrap();
                if held.is_empty() {
                    return (ended, stale);
                }
                for hold in held {
                    n += 1;
                    let (id, token) = (hold.task.task_id, hold.token);
                    let holder = orch.holder(agent, id, Some(token));
                    match n % 4 {
                        0 => {
                            holder.release().await.unwrap();
                            stale.push((agent, id, token));
                        }
                        1 => {
                            assert_eq!(holder.fail("no", true, Some(Duration::ZERO)).await.unwrap(), Status::Pending);
                            stale.push((agent, id, token));
                        }
                        _ => {
                            holder.complete(json!(agent)).await.unwrap();
                            assert!(ended.insert(id), "ended twice");
                        }
                    }
                }
                orch.tick().await.unwrap();
            }
        })
    });
    let running =
        Worker::builder(orch.clone()).discover(false).register::<by_worker>().slots(2).build().unwrap().start();
    let mut by_agents = BTreeMap::new();
    let mut stale: Vec<(&str, TaskId, HoldToken)> = Vec::new();
    for (agent, done) in ["ann", "bob"].into_iter().zip(join_all(agents).await) {
        let (ended, late) = done.unwrap();
        for id in ended {
            assert_eq!(by_agents.insert(id, agent), None, "two agents ended one task");
        }
        stale.extend(late);
    }
    until("the end", || async { (orch.stats().await.unwrap().total_tasks == 0).then_some(()) }).await;
    running.stop().await.unwrap();
    for (agent, id, token) in stale {
        assert!(is_conflict(&orch.holder(agent, id, Some(token)).complete(json!("stale")).await));
    }
    for id in ids {
        let task = orch.get(id).await.unwrap();
        let by = by_agents.get(&id).copied().unwrap_or("worker");
        assert_eq!((task.status, task.result, task.crashes), (Status::Completed, Some(json!(by)), 0));
        assert_eq!(told(&orch, id, "task.completed").await, 1);
    }
    assert!(!by_agents.is_empty());
    assert_eq!(left_of_agents(&orch).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_too_late_for_one_task_takes_the_next() {
    // Many agents, and one that calls many times at once.
    for agents in [20, 1] {
        let orch = orch().await;
        orch.enqueue_all((0..20).map(|_| job())).await.unwrap();
        let calls = (0..20).map(async |n| {
            let agent = format!("a{}", n % agents);
            orch.hold_next(&agent, &jobs(), 1, HOLD_LEASE_MIN, Duration::ZERO).await.unwrap()
        });
        let held: BTreeSet<TaskId> = join_all(calls).await.iter().flatten().map(|hold| hold.task.task_id).collect();
        assert_eq!(held.len(), 20, "there was one for every call of {agents} agents");
    }
}

#[tokio::test]
async fn a_namespace_with_too_many_leases_says_so() {
    let orch = orch().await;
    let id = task(&orch).await;
    let leases: Vec<(f64, String)> = (0..10_000).map(|n| (9e15, format!("x{n}"))).collect();
    let _: () = raw().await.zadd_multiple(key(&orch, "W"), &leases).await.unwrap();
    assert!(is_conflict(&orch.hold("ann", id, HOLD_LEASE_MIN).await));
    assert!(is_conflict(&orch.hold_next("ann", &jobs(), 1, HOLD_LEASE_MIN, Duration::ZERO).await));
    let _: () = raw().await.zrem(key(&orch, "W"), "x1").await.unwrap();
    assert_eq!(orch.hold_next("ann", &jobs(), 1, HOLD_LEASE_MIN, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_agent_finds_its_tasks_behind_those_of_others_on_a_shelf() {
    let orch = orch().await;
    for tenant in ["a", "a", "a", "b"] {
        orch.enqueue(job().tenant(tenant)).await.unwrap();
    }
    let worker = Incarnation::join(&orch, &["q".into()], &[], Duration::from_secs(30)).await.unwrap();
    for claim in worker.step(&[], 4, &["q".into()], None).await.unwrap().claims {
        worker.shelve(&claim).await.unwrap();
    }
    let wanted = Wanted { tenant: Some("b".into()), ..jobs() };
    let held = orch.hold_next("ann", &wanted, 1, HOLD_LEASE_MIN, Duration::ZERO).await.unwrap();
    assert_eq!(held.iter().map(|hold| hold.task.tenant.as_deref()).collect::<Vec<_>>(), [Some("b")]);
}

#[tokio::test]
async fn the_third_silence_over_a_task_is_poison() {
    let orch = still().await;
    let id = task(&orch).await;
    for crash in 1..=3u64 {
        let silent = hold_of(&orch, "ann", id).await;
        set(&orch.config().namespace, crash * 100_000).await;
        let worker = life(&orch).await;
        worker.beat(&[], &[]).await.unwrap();
        until("the rescue", || async { (worker.rescue().await.unwrap() == 1).then_some(()) }).await;
        let task = orch.get(id).await.unwrap();
        assert_eq!(u64::from(task.crashes), crash);
        assert_eq!(task.status, if crash < 3 { Status::Assigned } else { Status::Failed });
        assert!(is_conflict(&silent.complete(json!("late")).await), "its end comes too late");
        assert!(is_conflict(&silent.renew(HOLD_LEASE_MIN).await));
        assert_eq!(left_of_agents(&orch).await, Vec::<String>::new());
        worker.leave(&[]).await.unwrap();
    }
    assert_eq!(orch.get(id).await.unwrap().reason.as_deref(), Some("poison"));
}

#[tokio::test]
async fn a_gateway_takes_back_what_an_agent_is_silent_about() {
    let orch = orch().await;
    let id = task(&orch).await;
    let hold = orch.hold("ann", id, HOLD_LEASE_MIN).await.unwrap();
    let rescuing = tokio::spawn({
        let orch = orch.clone();
        async move { orch.keep_rescuing().await }
    });
    until("the rescue", || async { (status(&orch, id).await == Status::Assigned).then_some(()) }).await;
    assert_eq!(orch.get(id).await.unwrap().crashes, 1);
    assert!(chrono::Utc::now() >= hold.expires_at, "not before its end");
    assert!(is_conflict(&orch.holder("ann", id, Some(hold.token)).complete(json!(1)).await));
    rescuing.abort();
}

#[tokio::test]
async fn a_jump_of_the_clock_robs_nobody_of_a_long_lease() {
    let orch = still().await;
    let id = task(&orch).await;
    let holder = hold_of(&orch, "ann", id).await;
    let worker = life(&orch).await;
    worker.beat(&[], &[]).await.unwrap();
    set(&orch.config().namespace, 2 * 24 * 3600).await;
    for _ in 0..5 {
        worker.beat(&[], &[]).await.unwrap();
        tokio::time::sleep(2 * BRIEF).await;
        assert_eq!(worker.rescue().await.unwrap(), 0, "it was to last for a day");
    }
    holder.renew(HOLD_LEASE_MIN).await.expect("it has the task still");
    holder.complete(json!(1)).await.expect("it has the task still");
}

#[tokio::test]
async fn cancelling_reaches_an_agent_among_thousands() {
    let orch = orch().await;
    let id = task(&orch).await;
    let holder = hold_of(&orch, "ann", id).await;
    let leases: Vec<(f64, String)> = (0..1500).map(|n| (1.0, format!("x{n}"))).collect();
    let _: () = raw().await.zadd_multiple(key(&orch, "W"), &leases).await.unwrap();
    assert_eq!(orch.cancel(id).await.unwrap(), Status::InProgress);
    assert!(holder.renew(HOLD_LEASE_MIN).await.unwrap().cancel_requested);
    assert!(holder.progress(0.1, "", HOLD_LEASE_MIN).await.unwrap().cancel_requested);
    assert_eq!(holder.release().await.unwrap(), Status::Cancelled);
    assert_eq!(status(&orch, id).await, Status::Cancelled);
    assert_eq!(left_of_agents(&orch).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_queue_gives_nothing_out_and_a_quiet_one_is_looked_at_again() {
    let orch = orch().await;
    let id = task(&orch).await;
    orch.pause("q").await.unwrap();
    let next = async |patience| orch.hold_next("ann", &jobs(), 1, HOLD_LEASE_MIN, patience).await.unwrap();
    assert!(next(Duration::ZERO).await.is_empty());
    let refused = orch.hold("ann", id, HOLD_LEASE_MIN).await.unwrap_err().to_string();
    assert!(refused.contains("paused"), "{refused}");
    orch.resume("q").await.unwrap();
    assert_eq!(next(Duration::ZERO).await.len(), 1);
    orch.set_queue_events("q", false).await.unwrap();
    let waiting = tokio::spawn({
        let orch = orch.clone();
        async move { orch.hold_next("ann", &jobs(), 1, HOLD_LEASE_MIN, Duration::from_secs(20)).await.unwrap() }
    });
    let quiet = raw_task(&orch).await;
    let held = within("what no event tells of", waiting).await.unwrap();
    assert_eq!(held.iter().map(|hold| hold.task.task_id).collect::<Vec<_>>(), [quiet]);
    assert_eq!(told(&orch, quiet, "task.started").await, 0, "nothing is told of it");
}

/// A task by a client that has just come, and knows that the queue is quiet.
async fn raw_task(orch: &Orchestrator) -> TaskId {
    let fresh = Orchestrator::with_config(orch.config().clone()).await.unwrap();
    task(&fresh).await
}

#[tokio::test]
async fn nobody_takes_a_task_past_its_gate() {
    let orch = orch().await;
    let id = orch.enqueue(job().policies(Some(Gate::new()), None)).await.unwrap().id();
    let refused = orch.hold("ann", id, HOLD_LEASE_MIN).await.unwrap_err().to_string();
    assert!(refused.contains("is blocked"), "{refused}");
    assert!(orch.hold_next("ann", &jobs(), 9, HOLD_LEASE_MIN, Duration::ZERO).await.unwrap().is_empty());
    assert!(is_conflict(&orch.holder("ann", id, None).complete(json!(1)).await), "nor ends it by the name alone");
    let approval = orch.get(id).await.unwrap().approval_id.unwrap();
    orch.decide(approval, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    assert_eq!(orch.hold_next("ann", &jobs(), 9, HOLD_LEASE_MIN, Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_question_on_a_task_that_was_to_be_cancelled_is_not_the_gate_it_has_passed() {
    let orch = orch().await;
    let id = orch.enqueue(job().policies(Some(Gate::new()), None)).await.unwrap().id();
    let gate = ApprovalId { task: id, number: 0 };
    orch.decide(gate, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    let holder = hold_of(&orch, "ann", id).await;
    assert_eq!(orch.cancel(id).await.unwrap(), Status::InProgress);
    let asked = holder.ask("q", "?", json!(1), Vec::new(), Terms::default()).await;
    assert!(is_conflict(&asked) && asked.as_ref().unwrap_err().to_string().contains("cancelled"), "{asked:?}");
    assert_eq!(status(&orch, id).await, Status::Cancelled);
}

#[tokio::test]
async fn the_clock_of_a_task_turns_for_agents_as_for_workers() {
    let orch = still().await;
    let at = async |seconds| {
        set(&orch.config().namespace, seconds).await;
        orch.clock_error().await.unwrap();
    };
    let id = orch.enqueue(job().sla_target("1h")).await.unwrap().id();
    at(10).await;
    let holder = hold_of(&orch, "ann", id).await;
    at(30).await;
    let asked = holder.ask("q", "?", json!(1), Vec::new(), Terms::default()).await.unwrap();
    let Answer::Asked(approval) = asked else { panic!("{asked:?}") };
    at(60).await;
    orch.decide(approval, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    at(65).await;
    hold_of(&orch, "bob", id).await.release().await.unwrap();
    at(70).await;
    let holder = hold_of(&orch, "ann", id).await;
    at(100).await;
    holder.complete(json!(1)).await.unwrap();
    let clock = orch.get(id).await.unwrap().sla_clock.unwrap();
    assert_eq!([clock.queue_ms, clock.machine_ms, clock.human_ms], [20_000, 50_000, 30_000]);
}

type Steps = Arc<AtomicU32>;

#[task_handler("job", queue = "q", retries = 3)]
async fn durable(_: u32, steps: Data<Steps>, ctx: TaskContext) -> TaskResult<u32> {
    let done = ctx.step("a", || async { Ok::<_, TaskError>(steps.fetch_add(1, Ordering::SeqCst)) }).await?;
    ctx.approve(1).await?;
    Ok(done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_tells_of_its_progress_disturbs_no_durable_step() {
    let (orch, steps) = (orch().await, Steps::default());
    let worker = || {
        let worker = Worker::builder(orch.clone()).discover(false).register::<durable>().data(Arc::clone(&steps));
        worker.build().unwrap().start()
    };
    let id = task(&orch).await;
    let running = worker();
    orchestrator_tests::blocked(&orch, id).await;
    running.stop().await.unwrap();
    let approval = orch.get(id).await.unwrap().approval_id.unwrap();
    orch.decide(approval, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    let holder = hold_of(&orch, "ann", id).await;
    holder.progress(0.25, "a quarter", HOLD_LEASE_MIN).await.unwrap();
    assert_eq!(orch.get(id).await.unwrap().progress, Some(0.25));
    holder.release().await.unwrap();
    let running = worker();
    assert_eq!(orch.handle::<u32>(id).result().await.unwrap(), 0, "the output of the step that was done first");
    running.stop().await.unwrap();
    assert_eq!(steps.load(Ordering::SeqCst), 1, "the step was done once");
}
