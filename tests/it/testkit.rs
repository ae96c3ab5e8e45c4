//! The test kit for handlers: alone, with people and time, and with a worker that dies at every await.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use futures::FutureExt;
use orchestrator::{NewTask, SlaState, SlaTerms, Status};
use orchestrator_worker::testing::{Answer, Effects, Harness, Seen, Solo};
use orchestrator_worker::{Data, Once, TaskContext, TaskError, TaskResult, payload, task_handler};
use serde_json::json;

const HOUR: u64 = 3600;

#[payload]
struct Release {
    service: String,
}

#[payload]
#[derive(PartialEq)]
struct Window {
    start: String,
}

/// A cluster that remembers by key what was done to it.
#[derive(Clone, Default)]
struct Cluster {
    effects: Effects,
    done: std::sync::Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    fn watched(h: &Harness) -> Self {
        Self { effects: h.effects(), ..Self::default() }
    }

    async fn plan(&self, service: &str) -> std::io::Result<String> {
        // Whoever plans talks to others for a while.
        tokio::task::yield_now().await;
        self.effects.happen("plan");
        Ok(format!("{service}: 3 pods"))
    }

    async fn apply(&self, key: &str) -> std::io::Result<String> {
        tokio::task::yield_now().await;
        if !self.has(key) {
            self.effects.happen("apply");
            self.done.lock().unwrap().push(key.into());
        }
        tokio::task::yield_now().await;
        Ok("applied".into())
    }

    fn has(&self, key: &str) -> bool {
        self.done.lock().unwrap().iter().any(|done| done == key)
    }
}

/// Everything that is durable.
#[task_handler("kit.release", sla = "4h", crate = "orchestrator_worker")]
async fn release(args: Release, cluster: Data<Cluster>, ctx: TaskContext) -> TaskResult<String> {
    let plan = ctx.step("plan", || cluster.plan(&args.service)).input(&args.service).await?;
    let plan = ctx.approve(plan).by("role:sre").form::<Window>().question("Go?").expires("5d").await?;
    ctx.sleep("1h").await;
    let applied =
        match ctx.once("apply", |key| async move { cluster.apply(&key).await.map(|word| (key, word)) }).await? {
            Once::Done((_, word)) => word,
            // Keyed by us: doing it again is doing it once.
            Once::Unknown(key) => ctx.state_of(&key).await?,
        };
    Ok(format!("{} at {} by {}: {applied}", *plan, plan.form.start, plan.by()))
}

/// What a handler asks outside when it does not know.
trait Outside {
    async fn state_of(&self, key: &str) -> std::io::Result<String>;
}

impl Outside for TaskContext {
    async fn state_of(&self, key: &str) -> std::io::Result<String> {
        let cluster = <Data<Cluster> as orchestrator_worker::FromContext>::from_context(self).unwrap();
        cluster.apply(key).await
    }
}

fn ship() -> NewTask<String> {
    release::with(Release { service: "api".into() })
}

fn yes(name: &str) -> Answer {
    Answer::yes(name).role("sre").form(Window { start: "noon".into() })
}

fn times(events: &[Seen], name: &str) -> Vec<u64> {
    events.iter().filter(|seen| seen.event == name).map(|seen| seen.at.as_secs()).collect()
}

#[orchestrator_worker::test]
async fn three_days_with_a_person_and_the_clock_stands_meanwhile(h: Harness) {
    let h = h.register::<release>().data(Cluster::default());
    let task = h.enqueue(ship().requested_by("bob")).await;
    assert_eq!(h.task(&task).await.status, Status::Assigned);
    h.advance("1h").await; // a worker that has time runs it at once; then it waits
    let asked = h.until_parked(&task).await.expect("a person is asked");
    assert_eq!(h.orchestrator().approval(asked).await.unwrap().question, "Go?");

    h.advance("2d 23h").await;
    let clock = h.sla(&task).await;
    assert_eq!((clock.state, clock.human_ms, clock.left_ms), (SlaState::Paused, 72 * HOUR * 1000, None));
    let no = h.try_answer(&task, Answer::yes("dave")).await.expect_err("no sre");
    assert!(no.to_string().contains("role:sre"), "{no}");
    h.answer(&task, yes("alice")).await;
    assert_eq!(h.until_parked(&task).await, None, "it sleeps");
    let clock = h.sla(&task).await;
    assert_eq!((clock.state, clock.left_ms), (SlaState::Ok, Some(4 * HOUR as i64 * 1000)));

    h.advance("59m 59s").await;
    assert_eq!(h.task(&task).await.status, Status::Blocked);
    h.advance("1s").await;
    assert_eq!(h.output::<String>(&task).await, "api: 3 pods at noon by alice: applied");
    let events = h.events(&task).await;
    assert_eq!(times(&events, "approval.approved"), [72 * HOUR]);
    assert_eq!(times(&events, "task.completed"), [73 * HOUR]);
    assert_eq!(h.sla(&task).await.state, SlaState::Met);
    assert_eq!(h.passed(), Duration::from_secs(73 * HOUR));
}

#[orchestrator_worker::test]
async fn a_question_expires_at_its_instant(h: Harness) {
    let h = h.register::<release>().data(Cluster::default());
    let task = h.enqueue(ship()).await;
    h.answer(&task, Answer::nobody()).await;
    let ended = h.finish(&task).await.expect_err("nobody decided");
    assert_eq!((ended.status, ended.reason.as_str()), (Status::Cancelled, "timeout"));
    assert_eq!(times(&h.events(&task).await, "approval.expired"), [5 * 24 * HOUR]);
}

/// Sleeps through its promise.
#[task_handler("kit.slow", crate = "orchestrator_worker")]
async fn slow(days: u32, ctx: TaskContext) -> TaskResult<u32> {
    for _ in 0..days {
        ctx.sleep("1d").await;
    }
    Ok(days)
}

#[orchestrator_worker::test]
async fn a_promise_is_warned_of_and_broken_at_its_instants(h: Harness) {
    let h = h.register::<slow>();
    let promise = SlaTerms::new(Duration::from_secs(50 * HOUR)).warn(0.8);
    let task = h.enqueue(slow::with(3).sla(promise)).await;
    h.advance("45h").await;
    assert_eq!(h.sla(&task).await.state, SlaState::Warning);
    h.advance("3d").await;
    assert_eq!(h.finish(&task).await, Ok(3));
    let events = h.events(&task).await;
    assert_eq!(times(&events, "sla.warning"), [40 * HOUR]);
    assert_eq!(times(&events, "sla.violation"), [50 * HOUR]);
    assert_eq!(times(&events, "task.completed"), [72 * HOUR]);
    assert_eq!(h.sla(&task).await.state, SlaState::Violated);
}

struct Flaky(Mutex<u32>);

#[task_handler("kit.flaky", retries = 3, backoff = "fixed(10m)", crate = "orchestrator_worker")]
async fn flaky(_nothing: (), calls: Data<Flaky>) -> TaskResult<u32> {
    let mut calls = calls.0.lock().unwrap();
    *calls += 1;
    match *calls {
        3.. => Ok(*calls),
        n => Err(TaskError::from(format!("try {n} failed"))),
    }
}

#[orchestrator_worker::test]
async fn retries_come_after_virtual_delays(h: Harness) {
    let h = h.register::<flaky>().data(Flaky(Mutex::new(0)));
    let task = h.enqueue(flaky::with(())).await;
    h.drain().await;
    let told = h.task(&task).await;
    assert_eq!((told.status, told.error.as_deref()), (Status::Pending, Some("try 1 failed")));
    let stuck = AssertUnwindSafe(h.until_parked(&task)).catch_unwind().await.expect_err("it is not parked");
    let text = stuck.downcast_ref::<String>().unwrap();
    assert!(text.contains("does not wait") && text.contains("try 1 failed"), "{text}");
    h.advance("1h").await;
    assert_eq!(h.finish(&task).await, Ok(3));
    assert_eq!(times(&h.events(&task).await, "task.started"), [0, 600, 1200]);
}

#[orchestrator_worker::test]
async fn a_handler_by_itself() {
    let cluster = Cluster::default();
    let solo = Solo::new().register::<release>().data(cluster.clone()).answer(yes("alice").note("go"));
    assert_eq!(solo.run(ship()).await.as_deref(), Ok("api: 3 pods at noon by alice: applied"));
    assert_eq!((solo.ran("plan"), solo.ran("apply"), solo.ran("none")), (1, 1, 0));
    assert_eq!((solo.entered(), solo.passed()), (3, Duration::from_secs(HOUR)));
    assert_eq!(cluster.effects.count("apply"), 1);

    let solo = Solo::new().register::<release>().data(Cluster::default());
    let no = solo.answer(Answer::no("alice", "not today").role("sre"));
    let ended = no.run(ship()).await.expect_err("rejected");
    assert_eq!((ended.status, ended.reason.as_str()), (Status::Cancelled, "rejected"));
    assert_eq!(ended.error, "rejected by alice: not today");
    assert_eq!((no.ran("plan"), no.ran("apply")), (1, 0));

    let solo = Solo::new().register::<release>().data(Cluster::default()).expire();
    let ended = solo.run(ship()).await.expect_err("expired");
    assert_eq!((ended.reason.as_str(), solo.passed()), ("timeout", Duration::from_secs(5 * 24 * HOUR)));

    let solo = Solo::new().register::<flaky>().data(Flaky(Mutex::new(0)));
    assert_eq!(solo.run(flaky::with(())).await, Ok(3));
    assert_eq!(solo.entered(), 3);
}

/// Needs a Redis.
#[task_handler("kit.parent", retries = 0, crate = "orchestrator_worker")]
async fn parent(_nothing: (), ctx: TaskContext) -> TaskResult {
    if ctx.attempt() > 1 {
        ctx.orchestrator().stats().await?;
    }
    ctx.enqueue(slow::with(1)).await?;
    Ok(())
}

#[orchestrator_worker::test]
async fn what_a_handler_by_itself_cannot_do_is_told() {
    let solo = Solo::new().register::<parent>();
    let ended = solo.run(parent::with(())).await.expect_err("no Redis");
    assert!(ended.error.contains("without a Redis: no child can be submitted"), "{ended}");
    let ended = solo.run(parent::with(()).max_retries(1)).await.expect_err("no Redis");
    assert!(
        ended.error.contains("panicked: this handler runs in a test without a Redis: there is no client"),
        "{ended}"
    );
    for (solo, told) in [
        (Solo::new().register::<release>(), "takes Data<"),
        (Solo::new().register::<release>().data(Cluster::default()), "no answer is left"),
        (Solo::new().register::<release>().data(Cluster::default()).approve_as("dave"), "dave may not decide"),
        (Solo::new().register::<slow>(), "there is no handler for `kit.release`"),
    ] {
        let panic = AssertUnwindSafe(solo.run(ship())).catch_unwind().await.expect_err(told);
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.contains(told), "{text}");
    }
}

#[orchestrator_worker::test]
async fn children_run_and_gates_hold(h: Harness) {
    let h = h.register::<parent>().register::<slow>();
    let task = h.enqueue(parent::with(())).await;
    assert_eq!(h.finish(&task).await, Ok(()));
    let child = h.task(&task).await.child_task_ids[0];
    assert_eq!(h.until_parked(&child).await, None);
    h.advance("1d").await;
    assert_eq!(h.output::<u32>(&child).await, 1);

    let strict = Harness::start_with(|config| config.approvals = orchestrator::ApprovalPolicy::default()).await;
    let strict = strict.register::<slow>();
    let task = strict.enqueue(slow::with(0).priority(orchestrator::Priority::P0).metadata("why", json!("now"))).await;
    assert!(strict.until_parked(&task).await.is_some());
    strict.reject_as(&task, "alice", "no").await;
    assert_eq!(strict.finish(&task).await.expect_err("rejected").reason, "rejected");
}

#[orchestrator_worker::test]
async fn a_sound_handler_survives_a_crash_at_every_await(h: Harness) {
    h.register::<release>().data(Cluster::watched(&h));
    let sweep = h.crash_everywhere(ship, |run| async move {
        run.until_parked().await;
        run.advance("3h").await;
        run.answer(yes("reviewer-1")).await;
        run.advance("1h").await;
        assert_eq!(run.finish().await.as_deref(), Ok("api: 3 pods at noon by reviewer-1: applied"));
        assert_eq!(run.effect("apply"), 1);
    });
    let sweep = sweep.await;
    // Plan: its work and its note; the journal, read twice; apply: its intent, its work twice, its note; and three ends.
    assert_eq!(sweep.points, 11, "{:#?}", sweep.places);
    assert!(sweep.to_string().contains("11 crash points"), "{sweep}");
    assert_eq!(sweep.places.len(), sweep.points);
    for place in
        ["the work of `plan` ran", "the intent of `apply`", "the work of `apply` ran", "before its end was sent"]
    {
        assert!(sweep.places.iter().any(|at| at.contains(place)), "{place}: {:#?}", sweep.places);
    }
    assert_eq!(sweep.steps["plan"].noted, sweep.points as u32, "once a run");
}

/// Does things side by side, and fails now and then.
#[task_handler("kit.wide", backoff = "fixed(10m)", crate = "orchestrator_worker")]
async fn wide(_nothing: (), cluster: Data<Cluster>, ctx: TaskContext) -> TaskResult<u32> {
    let work = |name: &'static str, awaits: u32| {
        let cluster = cluster.clone();
        move || async move {
            for _ in 0..awaits {
                tokio::task::yield_now().await;
            }
            cluster.effects.happen(name);
            Ok::<_, std::io::Error>(awaits)
        }
    };
    let (short, long) = (ctx.step("short", work("short", 1)), ctx.step("long", work("long", 4)));
    let (a, b) = futures::join!(short.into_future(), long.into_future());
    let last = ctx.step("late", || async {
        // The task's own first failure; attempts lost to crashes count too.
        match ctx.attempt() {
            1 => Err(TaskError::from("not yet")),
            n => Ok(u32::from(n > 1)),
        }
    });
    let c = last.await?;
    let (ask, d) = (ctx.approve("this").into_future(), ctx.step("meanwhile", work("meanwhile", 2)).into_future());
    let (asked, d) = futures::join!(ask, d);
    asked?;
    Ok(a? + b? + c + d?)
}

#[orchestrator_worker::test]
async fn calls_side_by_side_and_retries_survive_crashes(h: Harness) {
    h.register::<wide>().data(Cluster::watched(&h));
    let sweep = h.crash_everywhere(
        || wide::with(()),
        |run| async move {
            run.advance("1h").await;
            run.approve_as("alice").await;
            assert_eq!(run.finish().await, Ok(8));
        },
    );
    let sweep = sweep.await;
    assert_eq!(sweep.points, 14, "{:#?}", sweep.places);
    assert_eq!(sweep.steps["long"].noted, 14, "once a run");
}

#[payload]
struct Size {
    replicas: u8,
}

/// Asks two people, twice if need be, then waits for an instant beside a step.
#[task_handler("kit.asks", crate = "orchestrator_worker")]
async fn asks(until: u64, cluster: Data<Cluster>, ctx: TaskContext) -> TaskResult<u8> {
    let size = ctx.approve("size").named("size").by("role:sre").quorum(2).form::<Size>().await?.form.replicas;
    let until = UNIX_EPOCH + Duration::from_secs(until);
    let count = || async {
        tokio::task::yield_now().await;
        cluster.effects.happen("count");
        Ok::<_, std::io::Error>(())
    };
    let (count, ()) = futures::join!(ctx.step("count", count).into_future(), ctx.sleep_until(until));
    count?;
    match ctx.approve(size).named("sure").await {
        Ok(size) => Ok(*size),
        Err(no) if no.is_expired() => Ok(0),
        Err(no) => Err(no.into()),
    }
}

#[orchestrator_worker::test]
async fn votes_forms_and_refusals_survive_crashes(h: Harness) {
    h.register::<asks>().data(Cluster::watched(&h));
    for (last, told) in [
        (Answer::yes("carol"), Ok(3)),
        (Answer::nobody(), Ok(0)),
        (Answer::no("carol", "no"), Err("cancelled (rejected): rejected by carol: no".to_owned())),
    ] {
        let sweep = h.crash_everywhere(
            || asks::with(h.now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 48 * HOUR),
            |run| {
                let (last, told) = (last.clone(), told.clone());
                async move {
                    let vote = |name: &str, form| Answer::yes(name).role("sre").form(form);
                    for form in [json!({"replicas": "many"}), json!({"replicas": 3})] {
                        run.answer(vote("alice", form.clone())).await;
                        run.answer(vote("bob", form)).await;
                        run.until_parked().await;
                    }
                    run.advance("2d").await;
                    run.answer(last).await;
                    assert_eq!(run.finish().await.map_err(|ended| ended.to_string()), told);
                }
            },
        );
        let sweep = sweep.await;
        assert!(sweep.points > 8, "{sweep}{:#?}", sweep.places);
    }
}

/// Does things that nobody has noted.
#[task_handler("kit.careless", crate = "orchestrator_worker")]
async fn careless(how: String, cluster: Data<Cluster>, ctx: TaskContext) -> TaskResult<String> {
    match how.as_str() {
        "outside a step" => cluster.effects.happen("mail"),
        "in the middle of a step" => {
            let mail = || async {
                cluster.effects.happen("mail");
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(())
            };
            ctx.step("mail", mail).await?;
        }
        "an output of its own" => {
            ctx.step("mail", || async { Ok::<_, std::io::Error>(()) }).await?;
            return Ok(format!("attempt {}", ctx.attempt()));
        }
        "a name of its own" => {
            let name = format!("mail {}", ctx.attempt());
            ctx.step(&name, || async { Ok::<_, std::io::Error>(()) }).await?;
        }
        _ => {
            // Takes what nobody knows for done.
            ctx.once("mail", |_| async {
                cluster.effects.happen("mail");
                Ok::<_, std::io::Error>(())
            })
            .await?;
        }
    }
    ctx.step("file", || async { Ok::<_, std::io::Error>("filed".to_owned()) }).await
}

#[orchestrator_worker::test]
async fn an_unsound_handler_does_not(h: Harness) {
    h.register::<careless>().data(Cluster::watched(&h));
    for (how, told) in [
        ("outside a step", "the effect `mail` happened 2×, without a crash 1×"),
        ("in the middle of a step", "(while the work of `mail` ran): the effect `mail` happened 2×"),
        ("an output of its own", "the task ended as completed with \"attempt 2\", without a crash as completed with"),
        ("a name of its own", "the step `mail 2` is not made without a crash"),
        ("an effect taken for done", "(while the intent of `mail` was being noted): the effect `mail` happened 0×"),
    ] {
        let sweep =
            h.crash_everywhere(|| careless::with(how.to_owned()), |run| async move { run.harness().drain().await });
        let panic = AssertUnwindSafe(sweep).catch_unwind().await.expect_err(how);
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.starts_with("crash point ") && text.contains(told), "{how}: {text}");
    }
}

#[orchestrator_worker::test]
async fn what_people_see_after_a_crash_is_told_with_its_place(h: Harness) {
    let h = h.register::<careless>().data(Cluster::default());
    let sweep = h.crash_everywhere(
        || careless::with("an output of its own".to_owned()),
        |run| async move { assert_eq!(run.finish().await.as_deref(), Ok("attempt 1")) },
    );
    let panic = AssertUnwindSafe(sweep).catch_unwind().await.expect_err("attempt 2");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.starts_with("crash point 1 of about 2 (while `mail` was being noted as done): "), "{text}");
    assert!(text.contains("attempt 2"), "{text}");
}
