//! Runs that last, ticks that nobody was there for, definitions that change, and tasks that cannot be made.

use orchestrator::{
    CatchUp, LetGo, Overlap, Router, Rule, Schedule, ScheduleChange, Status, Triggered, Unique, encode_value,
};
use orchestrator_tests::{Proxy, Server, server};
use orchestrator_worker::{Config, NewTask, Orchestrator};

use super::*;

async fn with_overlap(overlap: Overlap) -> Orchestrator {
    let orch = still().await;
    put(&orch, hourly("a").overlap(overlap)).await;
    orch
}

#[tokio::test]
async fn a_tick_is_left_out_while_the_last_run_has_not_ended() {
    let orch = with_overlap(Overlap::Skip).await;
    for hour in 1..=3 {
        at(&orch, hour * HOUR).await;
    }
    assert_eq!(ticks(&orch).await, [HOUR]);
    let (life, claim) = claim(&orch, "reports").await;
    at(&orch, 4 * HOUR).await;
    let done = claim.complete(&encode_value("result", &(), 10).unwrap());
    life.step(&[done], 0, &[], None).await.unwrap();
    at(&orch, 5 * HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR, 5 * HOUR]);
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.skipped, there.missed), (2, 3, 0));
}

#[tokio::test]
async fn ticks_wait_for_the_end_of_the_last_run_however_it_ends() {
    let orch = with_overlap(Overlap::Queue).await;
    for hour in 1..=5 {
        at(&orch, hour * HOUR).await;
    }
    assert_eq!(ticks(&orch).await, [HOUR]);
    let there = status(&orch, "a").await;
    assert_eq!(there.waiting, (2..=5).map(|hour| instant(hour * HOUR)).collect::<Vec<_>>());
    // By hand: waits its turn, too.
    set(&orch, 5 * HOUR + 60).await;
    assert_eq!(orch.schedules().trigger("a").await.unwrap(), Triggered::Waits);

    // Its worker ends it, and hears at once that there is more to do.
    let (life, run) = claim(&orch, "reports").await;
    let done = run.complete(&encode_value("result", &(), 10).unwrap());
    let stepped = life.step(&[done], 1, &["reports".into()], None).await.unwrap();
    assert_eq!(stepped.due, Some(Duration::ZERO));
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
    // One that is called off, and one that fails.
    let second = status(&orch, "a").await.last_task_id.unwrap();
    orch.cancel(second).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR, 3 * HOUR]);
    let (life, run) = claim(&orch, "reports").await;
    let failed = run.fail("no", "fatal");
    life.step(&[failed], 0, &[], None).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, (1..=4).map(|hour| hour * HOUR).collect::<Vec<_>>());
    // One that comes back to life is waited for again.
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    orch.retry(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await.len(), 4);
    for left in [5, 6] {
        orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
        orch.tick().await.unwrap();
        assert_eq!(ticks(&orch).await.len(), left);
    }
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.skipped, there.waiting.len()), (6, 0, 0));
    let followed: u64 = raw().await.hlen(key(&orch, "N")).await.unwrap();
    assert_eq!(followed, 1, "one run a schedule is followed");
    orch.schedules().remove("a").await.unwrap();
    for left in ["N", "S", "Z", "S:a"] {
        assert!(!raw().await.exists::<_, bool>(key(&orch, left)).await.unwrap(), "{left}");
    }
}

#[tokio::test]
async fn no_more_than_a_hundred_ticks_wait() {
    let orch = with_overlap(Overlap::Queue).await;
    for hour in 1..=110 {
        at(&orch, hour * HOUR).await;
    }
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.waiting.len(), there.skipped), (1, 100, 9));
    assert_eq!(there.waiting[0], instant(2 * HOUR));
    assert!(matches!(orch.schedules().trigger("a").await, Err(Error::Conflict { .. })));
    // Those that wait are left out when none may any more.
    assert_eq!(orch.schedules().put(&hourly("a")).await.unwrap(), ScheduleChange::Changed);
    let there = status(&orch, "a").await;
    assert_eq!((there.waiting.len(), there.skipped), (0, 109));
}

#[tokio::test]
async fn a_pause_holds_back_those_that_wait_too() {
    let orch = with_overlap(Overlap::Queue).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    orch.schedules().pause("a", None).await.unwrap();
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    at(&orch, 3 * HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR]);
    orch.schedules().resume("a").await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

#[tokio::test]
async fn a_run_takes_the_place_of_the_last_one() {
    let orch = with_overlap(Overlap::Replace).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    let statuses = async || runs(&orch).await.iter().map(|run| run.status).collect::<Vec<_>>();
    assert_eq!(statuses().await, [Status::Cancelled, Status::Assigned]);
    assert_eq!(runs(&orch).await[0].error.as_deref(), Some("the next run of its schedule took its place"));
    // One that runs is asked to stop, and the new one starts beside it.
    let (life, running) = claim(&orch, "reports").await;
    at(&orch, 3 * HOUR).await;
    let wake = life.doorbell().wait(&[], Duration::from_secs(5)).await.unwrap();
    assert_eq!(wake, Some(orchestrator::Wake::Cancel(running.ticket().id)));
    assert_eq!(life.retry(&running, Duration::from_secs(1), "stopped").await.unwrap(), LetGo::Cancelled);
    assert_eq!(statuses().await, [Status::Cancelled, Status::Cancelled, Status::Assigned]);
    assert_eq!(status(&orch, "a").await.fired, 3);
}

#[tokio::test]
async fn runs_go_side_by_side_where_that_is_allowed() {
    let orch = with_overlap(Overlap::Allow).await;
    for hour in 1..=3 {
        at(&orch, hour * HOUR).await;
    }
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR, 3 * HOUR]);
    assert!(runs(&orch).await.iter().all(|run| run.status == Status::Assigned));
}

#[tokio::test]
async fn a_task_that_is_the_only_one_of_its_kind_keeps_ticks_out_whoever_made_it() {
    let orch = still().await;
    let unique = || report().unique(Unique::until_done("all")).expires("90m");
    put(&orch, Schedule::cron("a", "0 * * * *", unique()).overlap(Overlap::Allow)).await;
    let other = orch.enqueue(unique()).await.unwrap().id();
    at(&orch, HOUR).await;
    let refused = orch.schedules().trigger("a").await.expect_err("a conflict").to_string();
    assert!(refused.contains(&other.to_string()), "{refused}");
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.skipped, there.last_task_id), (0, 1, None));
    // It expires at 13:30, so that the next tick comes; which expires in its turn.
    at(&orch, HOUR + 1800).await;
    at(&orch, 2 * HOUR).await;
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.skipped), (1, 1));
    at(&orch, 3 * HOUR + 1800).await;
    assert_eq!(orch.get(there.last_task_id.unwrap()).await.unwrap().status, Status::Failed);
}

/// The key is laid down by the handler: a schedule's own task cannot be both unique and replaced.
#[tokio::test]
async fn a_unique_run_that_nobody_has_begun_gives_way_and_takes_its_key_along() {
    let orch = still().await;
    let unique = || report().handler_rules(None, Some(Unique::until_done("all")));
    put(&orch, Schedule::cron("a", "0 * * * *", unique()).overlap(Overlap::Replace)).await;
    let statuses = async || runs(&orch).await.iter().map(|run| run.status).collect::<Vec<_>>();
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    assert_eq!(statuses().await, [Status::Cancelled, Status::Assigned]);
    let second = status(&orch, "a").await.last_task_id.unwrap();
    let rival = orch.enqueue(unique()).await.unwrap();
    assert_eq!((rival.id(), rival.existing()), (second, true), "the key is the new run's");
    // Begun, it keeps its key until it has ended: it goes on, and nothing takes its place.
    let (life, running) = claim(&orch, "reports").await;
    at(&orch, 3 * HOUR).await;
    let refused = orch.schedules().trigger("a").await.expect_err("a conflict").to_string();
    assert!(refused.contains(&second.to_string()), "{refused}");
    let seen = orch.get(second).await.unwrap();
    assert_eq!((seen.status, seen.cancel_requested), (Status::InProgress, false));
    assert_eq!(life.retry(&running, Duration::from_secs(2 * HOUR), "later").await.unwrap(), LetGo::Done);
    // It waits for its next attempt: nobody has it.
    at(&orch, 4 * HOUR).await;
    assert_eq!(statuses().await, [Status::Cancelled, Status::Cancelled, Status::Assigned]);
    // Somebody else has the key: a run that waits is not given up for nothing.
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    let plain = Schedule::cron("a", "0 * * * *", report()).overlap(Overlap::Replace);
    orch.schedules().put(&plain).await.unwrap();
    at(&orch, 5 * HOUR).await;
    let waits = status(&orch, "a").await.last_task_id.unwrap();
    assert!(!orch.enqueue(unique()).await.unwrap().existing());
    orch.schedules().put(&Schedule::cron("a", "0 * * * *", unique()).overlap(Overlap::Replace)).await.unwrap();
    at(&orch, 6 * HOUR).await;
    assert_eq!(orch.get(waits).await.unwrap().status, Status::Assigned);
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.skipped, there.last_task_id), (4, 2, Some(waits)));
}

#[tokio::test]
async fn a_run_that_was_made_before_ticks_were_to_wait_lets_them_go_on_when_it_ends() {
    let orch = with_overlap(Overlap::Skip).await;
    at(&orch, HOUR).await;
    let (life, running) = claim(&orch, "reports").await;
    let changed = hourly("a").overlap(Overlap::Queue);
    assert_eq!(orch.schedules().put(&changed).await.unwrap(), ScheduleChange::Changed);
    at(&orch, 2 * HOUR).await;
    assert_eq!(status(&orch, "a").await.waiting, [instant(2 * HOUR)]);
    let done = running.complete(&encode_value("result", &(), 10).unwrap());
    let stepped = life.step(&[done], 1, &["reports".into()], None).await.unwrap();
    assert_eq!(stepped.due, Some(Duration::ZERO));
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

#[tokio::test]
async fn ticks_that_nobody_was_there_for_are_made_up_for_as_the_schedule_says() {
    let orch = still().await;
    let kind = |name: &str, catch_up| hourly(name).overlap(Overlap::Allow).catch_up(catch_up);
    put(&orch, kind("latest", CatchUp::Latest)).await;
    put(&orch, kind("all", CatchUp::All)).await;
    put(&orch, kind("few", CatchUp::All).catch_up_within("2h")).await;
    put(&orch, kind("none", CatchUp::Skip)).await;
    put(&orch, kind("late", CatchUp::Latest).catch_up_within("5m")).await;
    put(&orch, kind("in-turn", CatchUp::All).overlap(Overlap::Queue)).await;
    at(&orch, 7 * HOUR + 600).await;
    let made = async |name: &str| {
        let runs = runs(&orch).await.into_iter().filter(|run| run.metadata["schedule"] == name);
        runs.map(|run| (run.created_at - instant(0)).num_hours()).collect::<Vec<_>>()
    };
    assert_eq!(made("latest").await, [7]);
    assert_eq!(made("all").await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(made("few").await, [6, 7]);
    assert!(made("none").await.is_empty() && made("late").await.is_empty());
    assert_eq!(made("in-turn").await, [1]);
    assert_eq!(status(&orch, "in-turn").await.waiting.len(), 6);
    for (name, missed) in [("latest", 6), ("all", 0), ("few", 5), ("none", 7), ("late", 7)] {
        assert_eq!(status(&orch, name).await.missed, missed, "{name}");
    }
    // They go on with the next one, which is in time.
    at(&orch, 8 * HOUR + 1).await;
    for name in ["latest", "all", "few", "none", "late"] {
        assert_eq!(made(name).await.last(), Some(&8), "{name}");
    }
}

#[tokio::test]
async fn a_definition_that_changes_while_a_tick_is_due() {
    let orch = still().await;
    for name in ["same-times", "other-times", "shared"] {
        put(&orch, hourly(name)).await;
    }
    set(&orch, HOUR + 10).await;
    // What it makes has changed: the tick that is due makes that.
    let changed = Schedule::cron("same-times", "0 * * * *", report().metadata("new", true));
    orch.schedules().put(&changed).await.unwrap();
    // When it comes has changed: a tick that is none any more does not come; one that both have does.
    orch.schedules().put(&Schedule::cron("other-times", "30 * * * *", report())).await.unwrap();
    orch.schedules().put(&Schedule::cron("shared", "*/20 * * * *", report().metadata("new", true))).await.unwrap();
    orch.tick().await.unwrap();
    let runs = runs(&orch).await;
    let mut names: Vec<&str> = runs.iter().filter_map(|run| run.metadata["schedule"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["same-times", "shared"]);
    assert!(runs.iter().all(|run| run.metadata["new"] == true && run.created_at == instant(HOUR)));
    assert_eq!(status(&orch, "other-times").await.upcoming[0], instant(HOUR + 1800));
    assert_eq!(status(&orch, "shared").await.upcoming[0], instant(HOUR + 1200));
}

/// A firing that was computed from one definition, and reaches Redis when there is another, or when it was fired already.
#[tokio::test]
async fn a_firing_that_comes_late_changes_nothing() {
    let orch = still().await;
    let line = Proxy::before(server::shared());
    let slow = Config { url: line.url(), ..orch.config().clone() };
    let slow = Orchestrator::with_config(slow).await.unwrap();
    put(&orch, hourly("a").overlap(Overlap::Allow)).await;
    put(&orch, hourly("b").overlap(Overlap::Allow)).await;
    // One of the two is held back, after its task was put together.
    set(&orch, HOUR).await;
    line.hold("fire");
    assert!(slow.tick().await.is_err(), "its answer is lost");
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR, HOUR]);
    for name in ["a", "b"] {
        let task = report().metadata("new", true);
        let changed = Schedule::cron(name, "30 * * * *", task).overlap(Overlap::Allow);
        orch.schedules().put(&changed).await.unwrap();
    }
    let late = line.deliver().await;
    assert!(format!("{late:?}").contains("other"), "{late:?}");
    assert_eq!(ticks(&orch).await, [HOUR, HOUR]);
    at(&orch, HOUR + 1800).await;
    assert_eq!(ticks(&orch).await.len(), 4);
}

/// An answer that is lost: the tick was fired, and is not fired again.
#[tokio::test]
async fn a_lost_answer_makes_no_second_task() {
    let orch = still().await;
    let line = Proxy::before(server::shared());
    let flaky = Config { url: line.url(), ..orch.config().clone() };
    let flaky = Orchestrator::with_config(flaky).await.unwrap();
    put(&orch, hourly("a").overlap(Overlap::Allow)).await;
    set(&orch, HOUR).await;
    line.cut("fire", |_| true);
    assert!(flaky.tick().await.is_err());
    flaky.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR]);
    // By hand, the call repeats itself.
    line.cut("fire", |_| true);
    assert!(matches!(flaky.schedules().trigger("a").await.unwrap(), Triggered::Started(_)));
    line.struck(2).await;
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, ticks(&orch).await.len()), (2, 2));
}

/// The same of a run by hand that is stored with more than its id: it is there, and nothing takes its place or waits for it.
#[tokio::test]
async fn a_run_by_hand_that_is_sent_again_is_known_whatever_it_is_stored_with() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Replace, Overlap::Allow] {
        let orch = still().await;
        let line = Proxy::before(server::shared());
        let flaky = Config { url: line.url(), ..orch.config().clone() };
        let flaky = Orchestrator::with_config(flaky).await.unwrap();
        put(&orch, Schedule::cron("a", "0 * * * *", report().expires("90m")).overlap(overlap)).await;
        line.cut("fire", |_| true);
        let triggered = flaky.schedules().trigger("a").await.unwrap();
        line.struck(1).await;
        let runs = runs(&orch).await;
        assert_eq!((runs.len(), runs[0].status), (1, Status::Assigned), "{overlap}");
        assert_eq!(triggered, Triggered::Started(runs[0].task_id), "{overlap}");
        let there = status(&orch, "a").await;
        assert_eq!((there.fired, there.skipped, there.waiting.len()), (1, 0, 0), "{overlap}");
    }
}

/// The run that a tick waits for has come back to life when a process looks, which finds nothing to do and is slow to say so.
#[tokio::test]
async fn a_tick_that_waits_goes_on_though_somebody_slow_puts_it_off() {
    let orch = with_overlap(Overlap::Queue).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    let run = status(&orch, "a").await.last_task_id.unwrap();
    orch.cancel(run).await.unwrap();
    orch.retry(run).await.unwrap();
    let slow = orch.see_due_schedules(1).await.unwrap().pop().expect("it is due");
    orch.cancel(run).await.unwrap();
    orch.fire_seen(&slow).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

/// Its end is waited for by a definition that came when it had ended, and before it came back to life.
#[tokio::test]
async fn a_run_that_comes_back_to_life_is_waited_for() {
    let orch = with_overlap(Overlap::Skip).await;
    at(&orch, HOUR).await;
    let run = status(&orch, "a").await.last_task_id.unwrap();
    orch.cancel(run).await.unwrap();
    orch.schedules().put(&hourly("a").overlap(Overlap::Queue)).await.unwrap();
    orch.retry(run).await.unwrap();
    at(&orch, 2 * HOUR).await;
    assert_eq!(status(&orch, "a").await.waiting, [instant(2 * HOUR)]);
    orch.cancel(run).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

/// The clock steps back, and a schedule of the same name is made anew: its first tick has come before.
#[tokio::test]
async fn a_run_that_was_made_before_is_waited_for() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    at(&orch, HOUR).await;
    orch.schedules().remove("a").await.unwrap();
    set(&orch, HOUR - 1).await;
    put(&orch, hourly("a").overlap(Overlap::Queue)).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    let there = status(&orch, "a").await;
    assert_eq!((there.last_tick, there.fired, there.waiting), (Some(instant(HOUR)), 0, vec![instant(2 * HOUR)]));
    orch.cancel(there.last_task_id.unwrap()).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

#[tokio::test]
async fn a_full_queue_puts_a_tick_off_and_is_told() {
    let orch = still_with(Config { queue_max: 1, ..config() }).await;
    put(&orch, hourly("patient")).await;
    put(&orch, hourly("hasty").catch_up(CatchUp::Skip)).await;
    let blocker = orch.enqueue(report()).await.unwrap().id();
    at(&orch, HOUR).await;
    assert_eq!(runs(&orch).await.len(), 1);
    let there = status(&orch, "patient").await;
    let error = there.error.expect("it is told");
    assert!(
        error.error.contains("queue `reports` is full at its bound of 1") && error.at == instant(HOUR),
        "{error:?}"
    );
    assert_eq!((there.missed, status(&orch, "hasty").await.missed), (0, 1));
    assert_eq!(orch.tick().await.unwrap(), Some(Duration::from_secs(10)), "nobody tries again and again");
    orch.cancel(blocker).await.unwrap();
    at(&orch, HOUR + 10).await;
    let there = status(&orch, "patient").await;
    assert_eq!((there.fired, there.last_tick, there.error), (1, Some(instant(HOUR)), None));
}

#[tokio::test]
async fn a_task_that_cannot_be_made_any_more_is_told_and_left_out() {
    let mut router = Router::default();
    router.add(Rule::new("odd", "reports")).unwrap();
    let knows = still_with(Config { router, ..config() }).await;
    put(&knows, Schedule::cron("a", "0 * * * *", NewTask::<()>::new("odd", &()))).await;
    put(&knows, hourly("b")).await;
    // A process without the rule.
    let orch = Orchestrator::with_config(Config { router: Router::default(), ..knows.config().clone() }).await.unwrap();
    at(&orch, HOUR).await;
    let there = status(&orch, "a").await;
    assert!(there.error.is_some_and(|error| error.error.contains("no queue is known for task type `odd`")));
    assert_eq!((there.missed, there.fired, there.upcoming[0]), (1, 0, instant(2 * HOUR)));
    assert_eq!(status(&orch, "b").await.fired, 1, "others go on");
    at(&knows, 2 * HOUR).await;
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.error), (1, None));
}

#[tokio::test]
async fn a_full_memory_leaves_the_tick_due() {
    let server = Server::start(&["--maxmemory", "16mb", "--maxmemory-policy", "noeviction"]);
    let mut raw = server.raw().await;
    let config = Config { url: server.url(), test_clock: true, ..config() };
    let now = now_key(&config.namespace);
    let _: () = raw.hset_multiple(&now, &[("s", START), ("us", 0)]).await.unwrap();
    let orch = Orchestrator::with_config(config).await.unwrap();
    put(&orch, hourly("a")).await;
    let _: () = raw.hset(&now, "s", START + HOUR).await.unwrap();
    let _: () = raw.set("ballast", vec![0u8; 64]).await.unwrap();
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").query_async(&mut raw).await.unwrap();
    assert_eq!(orch.tick().await.unwrap(), Some(Duration::from_secs(5)), "it is put off");
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.missed, there.upcoming[0]), (0, 0, instant(HOUR)));
    assert!(there.error.is_some_and(|error| error.error.contains("out of memory")));
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").query_async(&mut raw).await.unwrap();
    let _: () = raw.hset(&now, "s", START + HOUR + 5).await.unwrap();
    orch.tick().await.unwrap();
    let there = status(&orch, "a").await;
    assert_eq!((there.fired, there.last_tick), (1, Some(instant(HOUR))));
}

/// Its answer was lost, and the schedule is another one, or none, when the call is sent again.
#[tokio::test]
async fn a_run_by_hand_that_is_sent_again_is_known_though_the_schedule_has_changed() {
    for removed in [false, true] {
        let orch = with_overlap(Overlap::Allow).await;
        let life = Incarnation::join(&orch, &["any".into()], &[], Duration::from_secs(6)).await.unwrap();
        let (seen, run) = (orch.see_schedule("a").await.unwrap().unwrap(), (START * 1000, life.new_id()));
        let started = Some(Triggered::Started(run.1));
        assert_eq!(orch.trigger_seen(&seen, None, run).await.unwrap(), started);
        if removed {
            orch.schedules().remove("a").await.unwrap();
        } else {
            assert_eq!(orch.schedules().put(&hourly("a")).await.unwrap(), ScheduleChange::Changed);
        }
        assert_eq!(orch.trigger_seen(&seen, None, run).await.unwrap(), started, "removed: {removed}");
        assert_eq!(runs(&orch).await.len(), 1);
    }
}

#[tokio::test]
async fn a_run_by_hand_waits_for_no_one_while_ticks_wait_for_the_end_of_a_pause() {
    let orch = with_overlap(Overlap::Queue).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    orch.schedules().pause("a", None).await.unwrap();
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    // Nothing runs that it would have to wait for.
    let Triggered::Started(id) = orch.schedules().trigger_by("a", Some("bob")).await.unwrap() else {
        panic!("it starts")
    };
    orch.schedules().resume("a").await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR], "the tick waits for the run by hand");
    assert_eq!(status(&orch, "a").await.waiting, [instant(2 * HOUR)]);
    orch.cancel(id).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(runs(&orch).await.len(), 3);
    assert!(status(&orch, "a").await.waiting.is_empty());
}
