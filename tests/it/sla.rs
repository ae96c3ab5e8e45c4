//! The service-level clock: warnings and violations once each and in time, pauses, what follows, reports, forecasts.

use std::collections::HashMap;
use std::time::Duration;

use orchestrator::event::unpack;
use orchestrator::{
    ApprovalId, ApprovalPolicy, Approver, Ballot, Config, Gate, NewTask, OnViolation, Orchestrator, Priority, SlaRule,
    SlaState, SlaTerms, Status, TaskId,
};
use orchestrator_tests::{Fixture, Server, config, orch, raw, until};
use orchestrator_worker::{TaskContext, TaskResult, Worker, task_handler};
use redis::AsyncCommands;

const START: u64 = 1_900_000_000;

/// A client whose time stands at [`START`] until it is moved.
async fn still() -> Orchestrator {
    let config = Config { test_clock: true, ..config() };
    set(&config.namespace, START).await;
    Orchestrator::with_config(config).await.unwrap()
}

async fn set(namespace: &str, seconds: u64) {
    let _: () =
        raw().await.hset_multiple(format!("{{{namespace}.0}}:now"), &[("s", seconds), ("us", 0)]).await.unwrap();
}

/// Moves the time to so many seconds after [`START`], and fires what is due.
async fn at(orch: &Orchestrator, seconds: u64) {
    set(&orch.config().namespace, START + seconds).await;
    orch.tick().await.unwrap();
    orch.clock_error().await.unwrap();
}

/// The service-level events of a task, with the seconds after [`START`] when they came (of the server's own clock: 0).
async fn told(orch: &Orchestrator, id: TaskId) -> Vec<&'static str> {
    all_told(orch).await.into_iter().filter(|(task, _, _)| *task == id).map(|(_, what, _)| what).collect()
}

/// All service-level events, with the server's milliseconds when they were written.
async fn all_told(orch: &Orchestrator) -> Vec<(TaskId, &'static str, u64)> {
    let key = format!("{{{}.0}}:e", orch.config().namespace);
    let stream: redis::streams::StreamRangeReply = raw().await.xrange_all(key).await.unwrap();
    let mut told = Vec::new();
    for entry in stream.ids {
        let ms = entry.id.split('-').next().unwrap().parse().unwrap();
        let bytes = |value| redis::from_redis_value::<Vec<u8>>(value).unwrap();
        let fields: Vec<(Vec<u8>, Vec<u8>)> =
            entry.map.into_iter().map(|(name, value)| (name.into_bytes(), bytes(value))).collect();
        let events = unpack(&fields).into_iter().filter(|event| event.event_type.starts_with("sla."));
        told.extend(events.map(|event| (event.task_id, event.event_type, ms)));
    }
    told
}

fn task(sla: SlaTerms) -> NewTask<()> {
    NewTask::new("slow", &()).queue("slow").sla(sla)
}

fn minutes(n: u64) -> SlaTerms {
    SlaTerms::new(Duration::from_secs(60 * n))
}

#[tokio::test]
async fn a_warning_and_a_violation_come_once_each_with_no_worker_at_all() {
    let orch = still().await;
    let id = orch.enqueue(task(minutes(10))).await.unwrap().id();
    at(&orch, 479).await;
    assert!(told(&orch, id).await.is_empty());
    let clock = orch.get(id).await.unwrap().sla_clock.unwrap();
    assert_eq!((clock.state, clock.queue_ms, clock.left_ms), (SlaState::Ok, 479_000, Some(121_000)));
    for _ in 0..3 {
        at(&orch, 480).await;
    }
    assert_eq!(told(&orch, id).await, ["sla.warning"]);
    for _ in 0..3 {
        at(&orch, 600).await;
    }
    assert_eq!(told(&orch, id).await, ["sla.warning", "sla.violation"]);
    assert_eq!(orch.get(id).await.unwrap().sla_clock.unwrap().state, SlaState::Violated);
}

#[tokio::test]
async fn the_clock_stands_while_a_person_has_the_task_but_a_deadline_does_not_move() {
    let orch = still().await;
    let deadline = chrono_at(START + 3 * 3600);
    let gated = |task: NewTask<()>| task.policies(Some(Gate::new()), None);
    let moving = orch.enqueue(gated(task(minutes(10)))).await.unwrap().id();
    let fixed = orch.enqueue(gated(task(minutes(10)).sla_deadline(deadline))).await.unwrap().id();
    let never = orch.enqueue(gated(task(minutes(10).pause(false)))).await.unwrap().id();
    at(&orch, 2 * 3600).await;
    let clock = orch.get(moving).await.unwrap().sla_clock.unwrap();
    assert_eq!((clock.state, clock.human_ms, clock.left_ms), (SlaState::Paused, 7_200_000, None));
    assert!(told(&orch, moving).await.is_empty() && told(&orch, fixed).await.is_empty());
    assert_eq!(told(&orch, never).await, ["sla.warning", "sla.violation"]);
    at(&orch, 3 * 3600).await;
    assert_eq!(told(&orch, fixed).await, ["sla.warning", "sla.violation"]);
    let id = ApprovalId { task: moving, number: 0 };
    orch.decide(id, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    let clock = orch.get(moving).await.unwrap().sla_clock.unwrap();
    assert_eq!((clock.state, clock.human_ms, clock.left_ms), (SlaState::Ok, 10_800_000, Some(600_000)));
    at(&orch, 3 * 3600 + 480).await;
    at(&orch, 3 * 3600 + 600).await;
    assert_eq!(told(&orch, moving).await, ["sla.warning", "sla.violation"]);
}

fn chrono_at(seconds: u64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap()
}

#[tokio::test]
async fn what_was_declared_follows_a_violation() {
    let orch = still().await;
    let one = |action| task(minutes(1).on_violation(action)).priority(Priority::P3);
    let announced = orch.enqueue(one(OnViolation::Announce)).await.unwrap().id();
    let raised = orch.enqueue(one(OnViolation::Raise)).await.unwrap().id();
    let cancelled = orch.enqueue(one(OnViolation::Cancel)).await.unwrap().id();
    let escalate = OnViolation::Escalate("role:lead".into());
    let escalated = task(minutes(1).pause(false).on_violation(escalate)).priority(Priority::P3);
    let escalated = orch.enqueue(escalated.policies(Some(Gate::new().by("role:sre")), None)).await.unwrap().id();
    at(&orch, 60).await;
    assert_eq!(orch.get(announced).await.unwrap().priority, Priority::P3);
    let task = orch.get(raised).await.unwrap();
    assert_eq!((task.priority, task.status), (Priority::P0, Status::Assigned));
    let task = orch.get(cancelled).await.unwrap();
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("sla")));
    let approval = orch.approval(ApprovalId { task: escalated, number: 0 }).await.unwrap();
    assert_eq!(approval.by, ["role:sre", "role:lead"]);
    for id in [announced, raised, cancelled, escalated] {
        assert_eq!(told(&orch, id).await, ["sla.warning", "sla.violation"]);
    }
    // The raised one is the first to be claimed.
    let queue = ["slow".to_owned()];
    let life = orchestrator::Incarnation::join(&orch, &queue, &[], Duration::from_secs(6)).await.unwrap();
    let stepped = life.step(&[], 1, &queue, None).await.unwrap();
    assert_eq!(stepped.claims[0].ticket().id, raised);
}

#[tokio::test]
async fn a_late_end_is_a_violation_and_the_report_counts_it() {
    let orch = still().await;
    let queue = ["slow".to_owned()];
    let life = orchestrator::Incarnation::join(&orch, &queue, &[], Duration::from_secs(6)).await.unwrap();
    let late = orch.enqueue(task(minutes(1))).await.unwrap().id();
    let good = orch.enqueue(task(minutes(10))).await.unwrap().id();
    set(&orch.config().namespace, START + 20).await;
    let claims = life.step(&[], 2, &queue, None).await.unwrap().claims;
    // Nobody ticks meanwhile: the end itself finds that it is late.
    set(&orch.config().namespace, START + 100).await;
    let finishes: Vec<_> = claims.into_iter().map(|claim| claim.complete(&[0xc0])).collect();
    assert!(life.step(&finishes, 0, &queue, None).await.unwrap().stale.is_empty());
    at(&orch, 1000).await;
    assert_eq!(told(&orch, late).await, ["sla.violation"]);
    assert!(told(&orch, good).await.is_empty());
    let clock = orch.get(good).await.unwrap().sla_clock.unwrap();
    assert_eq!((clock.queue_ms, clock.machine_ms, clock.human_ms, clock.state), (20_000, 80_000, 0, SlaState::Met));
    let report = orch.sla_report("1h").await.unwrap();
    let row = &report.rows[0];
    assert_eq!((row.task_type.as_str(), row.priority.as_str()), ("slow", "P2"));
    assert_eq!((row.ended, row.violated, row.attainment), (2, 1, 0.5));
    assert!((18_000..22_000).contains(&row.queue.p50_ms) && (72_000..88_000).contains(&row.machine.p99_ms), "{row:?}");
}

#[tokio::test]
async fn promises_come_from_the_task_its_handler_or_a_rule() {
    let rule = SlaRule { when: "type == 'slow' && priority == 'P1'".parse().unwrap(), sla: minutes(7) };
    let config = Config { sla: vec![rule], approvals: ApprovalPolicy::none(), ..config() };
    let orch = Orchestrator::with_config(config).await.unwrap();
    let plain = || NewTask::<()>::new("slow", &()).queue("slow");
    let target = async |task: NewTask<()>| {
        let id = orch.enqueue(task).await.unwrap().id();
        orch.get(id).await.unwrap().sla.and_then(|sla| sla.target)
    };
    assert_eq!(target(plain()).await, None);
    assert_eq!(target(plain().priority(Priority::P1)).await.as_deref(), Some("7m"));
    let handled = || plain().priority(Priority::P1).policies(None, Some(minutes(3)));
    assert_eq!(target(handled()).await.as_deref(), Some("3m"));
    assert_eq!(target(handled().sla_target("90s")).await.as_deref(), Some("1m 30s"));
}

#[tokio::test]
async fn business_hours_count_and_nights_do_not() {
    let orch = still().await;
    // START is a Tuesday, 2030-03-17 is in another year: what counts is the weekday and the hour.
    let begin = chrono_at(START);
    let day = begin.format("%a").to_string().to_lowercase();
    let (from, to) =
        (begin.format("%H:00").to_string(), (begin + Duration::from_secs(3600)).format("%H:00").to_string());
    let hours = format!("mon-sun {from}-{to} UTC");
    let terms = SlaTerms::new(Duration::from_secs(2 * 3600)).hours(&hours);
    let id = orch.enqueue(task(terms)).await.unwrap().id();
    let clock = orch.get(id).await.unwrap().sla_clock.unwrap();
    let left_today = 3600 - START % 3600;
    let expected = (24 * 3600 - START % 3600) + 24 * 3600 + (7200 - left_today - 3600);
    assert_eq!(clock.left_ms, Some(expected as i64 * 1000), "{hours} from {begin} {day}");
    at(&orch, expected - 1).await;
    assert_eq!(told(&orch, id).await, ["sla.warning"]);
    at(&orch, expected).await;
    assert_eq!(told(&orch, id).await, ["sla.warning", "sla.violation"]);
}

/// Takes its time.
#[task_handler("steady", queue = "steady", crate = "orchestrator_worker")]
async fn steady(n: u64, _ctx: TaskContext) -> TaskResult<u64> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_at_risk_is_told_before_it_breaks_with_what_would_help() {
    let orch = orch().await;
    let worker = Worker::builder(orch.clone()).discover(false).register::<steady>().slots(1).build().unwrap().start();
    let first = orch.enqueue_all((0..40).map(steady::with)).await.unwrap();
    first[20].result().await.unwrap();
    let more = orch.enqueue_all((0..400).map(steady::with)).await.unwrap();
    let tight = orch.enqueue(steady::with(1).sla_target("6s").priority(Priority::P3)).await.unwrap();
    let easy = orch.enqueue(steady::with(1).sla_target("2h").priority(Priority::P3)).await.unwrap();
    let at_risk = orch.forecast().await.unwrap();
    let risk = at_risk.iter().find(|risk| risk.task_id == tight.id()).expect("it will be late");
    eprintln!("{risk:?}");
    assert!(risk.ahead > 300 && risk.would_help.contains("workers for queue steady"), "{risk:?}");
    assert!(risk.predicted_finish.unwrap() > risk.due);
    assert!(at_risk.iter().all(|risk| risk.task_id != easy.id()));
    orch.forecast().await.unwrap();
    assert_eq!(told(&orch, tight.id()).await, ["sla.at_risk"]);
    drop(more);
    worker.stop().await.unwrap();
}

/// Ten thousand timers, and five processes that fire them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_timers_fire_once_each_in_time_and_never_early() {
    const TASKS: u64 = 5_000;
    let orch = orch().await;
    let effects = Server::start(&[]);
    let fixture = Fixture {
        program: env!("CARGO_BIN_EXE_fixture"),
        redis: orch.config().url.clone(),
        namespace: orch.config().namespace.clone(),
        effects: effects.url(),
        tag: "timer".into(),
        slots: 1,
        lease: Duration::from_secs(6),
        grace: Duration::from_secs(1),
        hold: 0,
        test_clock: false,
        group: None,
    };
    let processes: Vec<_> = (0..5).map(|n| fixture.tagged(&n.to_string()).start()).collect();
    until("five workers", || async { (orch.stats().await.unwrap().workers == 5).then_some(()) }).await;
    // Warned of from 6 s on, violated up to 12 s from now: all of them pending at first.
    let target = |n: u64| Duration::from_millis(8_000 + n * 4_000 / TASKS);
    let tasks = (0..TASKS).map(|n| task(SlaTerms::new(target(n)).warn(0.75)));
    let ids: Vec<TaskId> = orch.enqueue_all(tasks).await.unwrap().iter().map(|handle| handle.id()).collect();
    let pending: usize = raw().await.zcard(format!("{{{}.0}}:y", orch.config().namespace)).await.unwrap();
    assert_eq!(pending as u64, 2 * TASKS, "all of them were stored before the first was due");
    let key = format!("{{{}.0}}:y", orch.config().namespace);
    until("all of them to have fired", || {
        let key = key.clone();
        async move { (raw().await.zcard::<_, usize>(key).await.unwrap() == 0).then_some(()) }
    })
    .await;
    let mut seen: HashMap<(TaskId, &str), u64> = HashMap::new();
    for (id, what, ms) in all_told(&orch).await {
        assert!(seen.insert((id, what), ms).is_none(), "{what} of {id} was told twice");
    }
    let mut late: Vec<u64> = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let target = target(n as u64).as_millis() as u64;
        for (what, due) in [("sla.warning", target * 3 / 4), ("sla.violation", target)] {
            let due = id.created_at_ms() + due;
            let fired = seen[&(*id, what)];
            assert!(fired >= due, "{what} of {id} came {} ms early", due - fired);
            late.push(fired - due);
        }
    }
    late.sort_unstable();
    let p99 = late[late.len() * 99 / 100];
    eprintln!(
        "{} timers: late by p50 {} ms, p99 {p99} ms, at most {} ms",
        late.len(),
        late[late.len() / 2],
        late[late.len() - 1]
    );
    assert!(p99 < 1000);
    drop(processes);
}

#[tokio::test]
async fn a_submitter_cannot_bring_about_what_a_handler_declared() {
    let orch = still().await;
    let declared = || Some(minutes(10).on_violation(OnViolation::Raise));
    let plain = || NewTask::<()>::new("slow", &()).queue("slow").priority(Priority::P3).policies(None, declared());
    let hasty = orch.enqueue(plain().sla_target("1ms")).await.unwrap().id();
    let soon = orch.enqueue(plain().sla_deadline(chrono_at(START + 5))).await.unwrap().id();
    let fair = orch.enqueue(plain().sla_target("20m")).await.unwrap().id();
    at(&orch, 1200).await;
    for (id, priority) in [(hasty, Priority::P3), (soon, Priority::P3), (fair, Priority::P0)] {
        assert_eq!(told(&orch, id).await.last(), Some(&"sla.violation"));
        assert_eq!(orch.get(id).await.unwrap().priority, priority);
    }
    let refused = |task: NewTask<()>| async { orch.enqueue(task).await.expect_err("refused").to_string() };
    assert!(refused(plain().sla_deadline(chrono_at(START - 5))).await.contains("lies in the past"));
    assert!(refused(plain().sla_target(Duration::from_micros(400))).await.contains("less than a millisecond"));
}

#[tokio::test]
async fn a_promise_that_broke_is_told_whatever_happened_since() {
    let orch = still().await;
    let queue = ["slow".to_owned()];
    let life = orchestrator::Incarnation::join(&orch, &queue, &[], Duration::from_secs(60)).await.unwrap();
    // It waits for a person from an instant on when it had broken already and nobody had looked.
    let id = orch.enqueue(task(minutes(1))).await.unwrap().id();
    let claim = life.step(&[], 1, &queue, None).await.unwrap().claims.pop().unwrap();
    set(&orch.config().namespace, START + 90).await;
    let asking = orchestrator::Asking::about(&claim, serde_json::json!(1), "", vec![], orchestrator::Terms::default());
    let asking = asking.unwrap();
    let noted = orchestrator::Noted::Asked {
        number: 0,
        status: orchestrator::ApprovalStatus::Pending,
        hash: orchestrator::hash_bytes(asking.hash()),
        decision: orchestrator::Decision::default(),
    };
    let entry = orchestrator::Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted };
    life.park(&claim, &orchestrator::Wait::Person { name: "q".into(), entry, asking }, &[]).await.unwrap();
    at(&orch, 91).await;
    assert_eq!(told(&orch, id).await, ["sla.warning", "sla.violation"]);
    // A task that its clock cancels has broken its promise too.
    let off = orch.enqueue(task(minutes(1).on_violation(OnViolation::Cancel))).await.unwrap().id();
    at(&orch, 200).await;
    assert_eq!(orch.get(off).await.unwrap().status, Status::Cancelled);
    let total = orch.sla_report("1h").await.unwrap().total;
    assert_eq!((total.ended, total.violated), (1, 1));
    // The target of one that is to start later counts from there.
    let later = orch.enqueue(task(minutes(1)).delay("1h")).await.unwrap().id();
    at(&orch, 200 + 3600 + 59).await;
    assert_eq!(told(&orch, later).await, ["sla.warning"]);
    at(&orch, 200 + 3600 + 60).await;
    assert_eq!(told(&orch, later).await, ["sla.warning", "sla.violation"]);
}

#[tokio::test]
async fn hours_that_count_for_the_target_do_not_hasten_a_deadlines_warning() {
    let orch = still().await;
    let terms = SlaTerms::new(Duration::from_secs(3600)).hours("mon-sun 09:00-10:00 UTC");
    let task = NewTask::<()>::new("slow", &()).queue("slow").policies(None, Some(terms));
    let id = orch.enqueue(task.sla_deadline(chrono_at(START + 10 * 24 * 3600))).await.unwrap().id();
    at(&orch, 8 * 24 * 3600 - 1).await;
    assert!(told(&orch, id).await.is_empty());
    at(&orch, 8 * 24 * 3600).await;
    assert_eq!(told(&orch, id).await, ["sla.warning"]);
}

#[tokio::test]
async fn a_clock_that_somebody_spoilt_stops_nothing() {
    let orch = still().await;
    let queue = ["slow".to_owned()];
    let life = orchestrator::Incarnation::join(&orch, &queue, &[], Duration::from_secs(60)).await.unwrap();
    let ids: Vec<TaskId> =
        orch.enqueue_all((0..3).map(|_| task(minutes(1)))).await.unwrap().iter().map(|handle| handle.id()).collect();
    let claims = life.step(&[], 3, &queue, None).await.unwrap().claims;
    let states: Vec<(Vec<u8>, Vec<u8>)> =
        raw().await.hgetall(format!("{{{}.0}}:C", orch.config().namespace)).await.unwrap();
    let _: () =
        raw().await.hset(format!("{{{}.0}}:C", orch.config().namespace), &states[0].0, vec![0xffu8; 46]).await.unwrap();
    let finishes: Vec<_> = claims.into_iter().map(|claim| claim.complete(&[0xc0])).collect();
    assert!(life.step(&finishes, 0, &queue, None).await.unwrap().stale.is_empty());
    at(&orch, 100).await;
    for id in ids {
        assert_eq!(orch.get(id).await.unwrap().status, Status::Completed);
    }
}
