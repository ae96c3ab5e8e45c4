//! Schedules: each tick once, whatever happens, and what becomes of those that cannot be had as they come.

mod four_eyes;
mod handlers;
mod healing;
mod policies;
mod weeks;

use std::time::Duration;

use chrono::{DateTime, Utc};
use orchestrator::{
    Cron, Error, Incarnation, NewTask, Orchestrator, SCHEDULES_MAX, Schedule, ScheduleChange, ScheduleStatus, Status,
    Task, TaskFilter, Triggered,
};
use orchestrator_tests::{config, key, raw};
use orchestrator_worker::Config;
use redis::AsyncCommands;

/// A Tuesday at noon, UTC.
const START: u64 = 1_793_707_200;
const HOUR: u64 = 3600;

/// A client whose time stands at [`START`] until it is moved.
async fn still() -> Orchestrator {
    still_with(config()).await
}

async fn still_with(config: Config) -> Orchestrator {
    let config = Config { test_clock: true, ..config };
    let _: () = raw().await.hset_multiple(now_key(&config.namespace), &[("s", START), ("us", 0)]).await.unwrap();
    Orchestrator::with_config(config).await.unwrap()
}

fn now_key(namespace: &str) -> String {
    format!("{{{namespace}.0}}:now")
}

/// Moves the time to so many seconds behind [`START`], without firing anything.
async fn set(orch: &Orchestrator, seconds: u64) {
    let key = now_key(&orch.config().namespace);
    let _: () = raw().await.hset_multiple(key, &[("s", START + seconds), ("us", 0)]).await.unwrap();
    orch.clock_error().await.unwrap();
}

/// Moves the time to so many seconds behind [`START`], and fires what is due.
async fn at(orch: &Orchestrator, seconds: u64) {
    set(orch, seconds).await;
    orch.tick().await.unwrap();
}

fn instant(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp((START + seconds) as i64, 0).unwrap()
}

fn report() -> NewTask<()> {
    NewTask::new("report", &()).queue("reports")
}

fn hourly(name: &str) -> Schedule {
    Schedule::cron(name, "0 * * * *", report())
}

async fn put(orch: &Orchestrator, schedule: Schedule) {
    assert_eq!(orch.schedules().put(&schedule).await.unwrap(), ScheduleChange::Created);
}

/// All tasks there are, in the order of their ticks.
async fn runs(orch: &Orchestrator) -> Vec<Task> {
    let mut tasks = orch.list(&TaskFilter::default(), None, 100).await.unwrap().tasks;
    tasks.sort_by_key(|task| task.task_id);
    tasks
}

/// The seconds behind [`START`] for which tasks were made.
async fn ticks(orch: &Orchestrator) -> Vec<u64> {
    let of = |task: &Task| {
        let at: DateTime<Utc> = task.metadata["scheduled_for"].as_str().unwrap().parse().unwrap();
        (at - instant(0)).num_seconds() as u64
    };
    runs(orch).await.iter().map(of).collect()
}

async fn status(orch: &Orchestrator, name: &str) -> ScheduleStatus {
    orch.schedules().get(name).await.unwrap()
}

/// A worker that has the one task of a queue in its hands.
async fn claim(orch: &Orchestrator, queue: &str) -> (Incarnation, orchestrator::Claim) {
    let life = Incarnation::join(orch, &[queue.into()], &[], Duration::from_secs(6)).await.unwrap();
    let mut claims = life.step(&[], 1, &[queue.into()], None).await.unwrap().claims;
    (life, claims.pop().expect("a task"))
}

#[tokio::test]
async fn a_schedule_is_put_read_changed_paused_and_removed() {
    let orch = still().await;
    let task = || NewTask::<()>::new("bugfix", &serde_json::json!({"n": 1})).priority(orchestrator::Priority::P1);
    let nightly = |task| Schedule::cron("nightly", "30 2 * * mon-fri", task).tz("Europe/Berlin").made_by("ann");
    put(&orch, nightly(task().requested_by("ann").tenant("acme"))).await;
    let there = status(&orch, "nightly").await;
    assert_eq!((there.cron.as_deref(), there.time_zone.as_deref()), (Some("30 2 * * mon-fri"), Some("Europe/Berlin")));
    assert_eq!((there.task.payload["n"].as_u64(), there.task.priority), (Some(1), orchestrator::Priority::P1));
    assert_eq!((there.made_by.as_deref(), there.created_at), (Some("ann"), Some(instant(0))));
    let first = there.upcoming[0];
    assert_eq!((there.upcoming.len(), first.to_rfc3339()), (5, "2026-11-04T01:30:00+00:00".into()));
    assert_eq!(orch.schedules().upcoming("nightly", 2).await.unwrap(), there.upcoming[..2]);

    // The same is left as it is, something else takes its place.
    let again = nightly(task().requested_by("ann").tenant("acme"));
    assert_eq!(orch.schedules().put(&again).await.unwrap(), ScheduleChange::Same);
    assert_eq!(orch.schedules().put(&nightly(task()).tz("UTC")).await.unwrap(), ScheduleChange::Changed);
    assert_eq!(status(&orch, "nightly").await.upcoming[0].to_rfc3339(), "2026-11-04T02:30:00+00:00");

    assert!(orch.schedules().pause("nightly", Some("bob")).await.unwrap());
    assert!(!orch.schedules().pause("nightly", Some("eve")).await.unwrap());
    let paused = status(&orch, "nightly").await;
    assert_eq!((paused.paused, paused.paused_by.as_deref(), paused.upcoming.len()), (true, Some("bob"), 0));
    // Changing one that is paused does not begin it.
    assert_eq!(orch.schedules().put(&nightly(task())).await.unwrap(), ScheduleChange::Changed);
    at(&orch, 3 * 24 * HOUR).await;
    assert_eq!(runs(&orch).await.len(), 0);
    assert!(orch.schedules().resume("nightly").await.unwrap());
    assert!(!orch.schedules().resume("nightly").await.unwrap());
    assert_eq!(status(&orch, "nightly").await.upcoming[0].to_rfc3339(), "2026-11-09T01:30:00+00:00");

    put(&orch, hourly("a")).await;
    let page = orch.schedules().list(None, None, 1).await.unwrap();
    assert_eq!((page.schedules[0].name.as_str(), page.next.as_deref()), ("a", Some("a")));
    let page = orch.schedules().list(None, page.next.as_deref(), 1).await.unwrap();
    assert_eq!((page.schedules[0].name.as_str(), page.next), ("nightly", None));
    assert_eq!(orch.schedules().list(Some("acme"), None, 9).await.unwrap().schedules.len(), 0);

    orch.schedules().remove("nightly").await.unwrap();
    for outcome in [orch.schedules().remove("nightly").await, orch.schedules().get("nightly").await.map(drop)] {
        assert!(matches!(outcome, Err(Error::NotFound { .. })));
    }
    assert!(matches!(orch.schedules().pause("nightly", None).await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.schedules().resume("nightly").await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.schedules().trigger("nightly").await, Err(Error::NotFound { .. })));
    at(&orch, 30 * 24 * HOUR).await;
    assert!(runs(&orch).await.iter().all(|task| task.metadata["schedule"] == "a"));
}

#[tokio::test]
async fn what_no_schedule_can_be_is_refused_before_anything_is_stored() {
    let orch = still().await;
    let fault = async |schedule: Schedule| orch.schedules().put(&schedule).await.expect_err("a fault").to_string();
    for (schedule, said) in [
        (Schedule::cron("Big", "@daily", report()), "`Big` is no name for a schedule"),
        (Schedule::cron("handler.x", "@daily", report()), "are of handlers"),
        (Schedule::cron("x", "0 0 30 2 *", report()), "never comes"),
        (Schedule::cron("x", "0 25 * * *", report()), "`25` is no hour"),
        (Schedule::cron("x", "@daily", report()).tz("Mars"), "`Mars` is no time zone"),
        (Schedule::cron("x", "@daily", report().tenant("A b")), "tenant"),
        (Schedule::cron("x", "@daily", NewTask::<()>::new("nobody.knows", &())), "no queue is known for task type"),
        (Schedule::cron("x", "@daily", report().metadata("m", "x".repeat(20_000))), "metadata"),
    ] {
        let told = fault(schedule).await;
        assert!(told.contains(said), "{told}");
    }
    let stored: u64 = raw().await.hlen(key(&orch, "S")).await.unwrap();
    assert_eq!(stored, 0);
    // As many as there may be.
    let many: Vec<(String, &str)> = (0..SCHEDULES_MAX).map(|n| (format!("n{n}"), "x")).collect();
    let _: () = raw().await.hset_multiple(key(&orch, "S"), &many).await.unwrap();
    assert!(fault(hourly("one-more")).await.contains("10000 schedules, as many as there may be"));
    // What cannot be read is left out of the list.
    assert_eq!(orch.schedules().list(None, None, 100).await.unwrap().schedules.len(), 0);
}

#[tokio::test]
async fn the_task_of_a_tick_tells_its_schedule_and_instant_and_passes_what_other_tasks_pass() {
    let orch = still().await;
    let gate = orchestrator::Gate::new();
    let task = report().policies(Some(gate), None).sla_target("2h").metadata("who", "ann").requested_by("ann");
    put(&orch, Schedule::cron("gated", "0 * * * *", task)).await;
    put(&orch, hourly("plain")).await;
    at(&orch, HOUR + 5).await;
    let runs = runs(&orch).await;
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run.created_at, instant(HOUR));
        assert_eq!(run.metadata["scheduled_for"], "2026-11-03T13:00:00Z");
        assert_eq!(run.source, orchestrator::Source::System);
    }
    let of = |name: &str| runs.iter().find(|run| run.metadata["schedule"] == name).unwrap();
    let (gated, plain) = (of("gated"), of("plain"));
    assert_eq!((gated.status, plain.status), (Status::Blocked, Status::Assigned));
    assert!(gated.sla.is_some() && gated.approval_id.is_some() && plain.sla.is_none());
    assert_eq!((&gated.metadata["who"], gated.requested_by.as_deref()), (&"ann".into(), Some("ann")));
    let there = status(&orch, "plain").await;
    assert_eq!(
        (there.last_task_id, there.last_tick, there.last_is_live),
        (Some(plain.task_id), Some(instant(HOUR)), true)
    );
    assert_eq!((there.fired, there.skipped, there.missed), (1, 0, 0));
    // It can be claimed.
    let (_, claim) = claim(&orch, "reports").await;
    assert_eq!(claim.ticket().id, plain.task_id);
}

#[tokio::test]
async fn spans_come_at_their_multiples() {
    let orch = still().await;
    put(&orch, Schedule::every("pulse", "90m", report()).overlap(orchestrator::Overlap::Allow)).await;
    // Noon is a multiple of 90 minutes since 1970.
    for minutes in 1..=300 {
        at(&orch, 60 * minutes).await;
    }
    assert_eq!(ticks(&orch).await, [5400, 10_800, 16_200]);
    assert_eq!(status(&orch, "pulse").await.every.as_deref(), Some("1h 30m"));
}

#[tokio::test]
async fn the_time_until_a_schedule_is_due_is_told_with_that_of_timers() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    assert_eq!(orch.tick().await.unwrap(), Some(Duration::from_secs(3600)));
    set(&orch, HOUR - 1).await;
    let life = Incarnation::join(&orch, &["q".into()], &[], Duration::from_secs(6)).await.unwrap();
    let stepped = life.step(&[], 1, &["q".into()], None).await.unwrap();
    assert_eq!(stepped.due, Some(Duration::from_secs(1)), "who is idle hears of it");
    assert_eq!(life.beat(&[], &[]).await.unwrap().due, Some(Duration::from_secs(1)));
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR]);
}

#[tokio::test]
async fn a_clock_that_steps_back_brings_no_tick_again() {
    let orch = still().await;
    put(&orch, hourly("a").overlap(orchestrator::Overlap::Allow)).await;
    at(&orch, 2 * HOUR).await;
    assert_eq!(ticks(&orch).await, [2 * HOUR]);
    for seconds in [0, HOUR, 2 * HOUR - 1, 2 * HOUR, 3 * HOUR - 1] {
        at(&orch, seconds).await;
    }
    // Nor does a change, nor a pause, while it is back.
    set(&orch, 10).await;
    let changed = Schedule::cron("a", "0,30 * * * *", report()).overlap(orchestrator::Overlap::Allow);
    assert_eq!(orch.schedules().put(&changed).await.unwrap(), ScheduleChange::Changed);
    orch.schedules().pause("a", None).await.unwrap();
    orch.schedules().resume("a").await.unwrap();
    for seconds in [HOUR, 2 * HOUR, 2 * HOUR + 1799] {
        at(&orch, seconds).await;
    }
    assert_eq!(ticks(&orch).await, [2 * HOUR]);
    at(&orch, 2 * HOUR + 1800).await;
    assert_eq!(ticks(&orch).await, [2 * HOUR, 2 * HOUR + 1800]);
}

#[tokio::test]
async fn a_run_by_hand_is_a_tick_of_its_own() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    orch.schedules().pause("a", None).await.unwrap();
    let Triggered::Started(id) = orch.schedules().trigger("a").await.unwrap() else { panic!("it starts") };
    let run = orch.get(id).await.unwrap();
    assert_eq!(
        (&run.metadata["schedule"], &run.metadata["scheduled_for"]),
        (&"a".into(), &"2026-11-03T12:00:00Z".into())
    );
    // The last one has not ended.
    let refused = orch.schedules().trigger("a").await.expect_err("a conflict").to_string();
    assert!(refused.contains(&id.to_string()), "{refused}");
    orch.cancel(id).await.unwrap();
    assert!(matches!(orch.schedules().trigger("a").await.unwrap(), Triggered::Started(other) if other != id));
    assert_eq!(status(&orch, "a").await.fired, 2);
    assert!(status(&orch, "a").await.paused);
}

#[tokio::test]
async fn what_others_have_written_into_the_keys_stops_no_schedule() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    put(&orch, hourly("b")).await;
    let mut raw = raw().await;
    let _: () = raw.zadd(key(&orch, "Z"), "nobody", 0).await.unwrap();
    let _: () = raw.set(key(&orch, "N"), "x").await.unwrap();
    let _: () = raw.del(key(&orch, "S:b")).await.unwrap();
    let _: () = raw.set(key(&orch, "S:b"), "x").await.unwrap();
    let _: () = raw.zadd(key(&orch, "Z"), "b", 0).await.unwrap();
    let _: () = raw.hset(key(&orch, "S"), "c", "not ours").await.unwrap();
    let _: () = raw.zadd(key(&orch, "Z"), "c", 0).await.unwrap();
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR], "a comes");
    let due: u64 = raw.zcount(key(&orch, "Z"), "-inf", (START + HOUR) * 1000).await.unwrap();
    assert_eq!(due, 0, "nothing is looked at again and again");
    let _: () = raw.del(key(&orch, "Z")).await.unwrap();
    let _: () = raw.set(key(&orch, "Z"), "x").await.unwrap();
    assert!(orch.tick().await.is_ok());
    // Who puts it anew mends it.
    let changed = hourly("a").made_by("ann");
    assert_eq!(orch.schedules().put(&changed).await.unwrap(), ScheduleChange::Changed);
    at(&orch, 2 * HOUR).await;
    assert_eq!(status(&orch, "a").await.skipped, 1);
}

#[tokio::test]
async fn an_expression_tells_its_ticks_without_a_redis() {
    let from = "2026-03-28T12:00:00Z".parse().unwrap();
    let ticks = Schedule::cron("x", "30 2 * * *", report()).tz("Europe/Berlin").upcoming(from, 2).unwrap();
    assert_eq!(ticks[0].to_rfc3339(), "2026-03-29T01:00:00+00:00");
    assert_eq!(Cron::new("30 2 * * *", "Europe/Berlin").unwrap().next_after(ticks[0]), Some(ticks[1]));
    assert!(Schedule::cron("x", "30 2 * *", report()).upcoming(from, 2).is_err());
}
