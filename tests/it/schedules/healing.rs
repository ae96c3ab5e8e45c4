//! Schedules that have lost their place among those that come, and such as this program cannot read.

use orchestrator::{Overlap, Schedule, ScheduleChange};

use super::*;

/// Puts what is there already.
async fn put_again(orch: &Orchestrator, schedule: Schedule) {
    assert_eq!(orch.schedules().put(&schedule).await.unwrap(), ScheduleChange::Same);
}

async fn lose_all_places(orch: &Orchestrator) {
    let lost: u64 = raw().await.del(key(orch, "Z")).await.unwrap();
    assert_eq!(lost, 1);
}

#[tokio::test]
async fn who_puts_it_again_brings_it_back() {
    let orch = still().await;
    let (lost, paused) = (|| hourly("lost").overlap(Overlap::Allow), || hourly("paused"));
    put(&orch, lost()).await;
    put(&orch, paused()).await;
    orch.schedules().pause("paused", None).await.unwrap();
    let _: u64 = raw().await.zrem(key(&orch, "Z"), "lost").await.unwrap();
    at(&orch, HOUR + 60).await;
    assert!(runs(&orch).await.is_empty());
    put_again(&orch, lost()).await;
    put_again(&orch, paused()).await;
    at(&orch, HOUR + 60).await;
    assert_eq!(ticks(&orch).await, [HOUR], "the tick that it waited for");
    at(&orch, 2 * HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
    let there = status(&orch, "lost").await;
    assert_eq!((there.fired, there.missed, there.changed_at), (2, 0, Some(instant(0))), "nobody has changed it");
}

#[tokio::test]
async fn a_tick_that_waits_goes_on_when_its_schedule_is_put_again() {
    let orch = still().await;
    let queued = || hourly("a").overlap(Overlap::Queue);
    put(&orch, queued()).await;
    at(&orch, HOUR).await;
    at(&orch, 2 * HOUR).await;
    lose_all_places(&orch).await;
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR]);
    put_again(&orch, queued()).await;
    orch.tick().await.unwrap();
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}

#[tokio::test]
async fn a_worker_that_starts_brings_those_of_its_handlers_back() {
    let orch = still().await;
    let name = orchestrator::Schedules::of_handler("report");
    let handlers = [("report", Some(hourly(&name)))];
    assert_eq!(orch.schedules().settle(&handlers).await.unwrap(), [(name, true)]);
    lose_all_places(&orch).await;
    assert_eq!(orch.schedules().settle(&handlers).await.unwrap(), [], "that is no change");
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR]);
}

#[tokio::test]
async fn one_that_does_not_know_what_it_waits_for_goes_on_with_its_next_tick() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    let _: u64 = raw().await.hdel(key(&orch, "S:a"), "n").await.unwrap();
    let _: () = raw().await.zadd(key(&orch, "Z"), "a", 0).await.unwrap();
    at(&orch, 10).await;
    assert_eq!((runs(&orch).await.len(), status(&orch, "a").await.upcoming[0]), (0, instant(HOUR)));
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR]);
}

#[tokio::test]
async fn one_that_cannot_be_read_is_left_to_others_and_stops_none() {
    let orch = still().await;
    put(&orch, hourly("a")).await;
    put(&orch, hourly("later")).await;
    let (all, places) = (key(&orch, "S"), key(&orch, "Z"));
    let mut raw = raw().await;
    // More than are looked at in one go, all in front of the one that can be read.
    let ours: Vec<u8> = raw.hget(&all, "later").await.unwrap();
    let theirs = b"digest of what a later program writes".to_vec();
    let names: Vec<String> = (0..60).map(|n| format!("n{n}")).chain(["later".into()]).collect();
    for name in &names {
        let _: () = raw.hset(&all, name, &theirs).await.unwrap();
        let _: () = raw.zadd(&places, name, START * 1000).await.unwrap();
    }
    at(&orch, HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR]);
    for name in &names {
        let (definition, looked_at): (Vec<u8>, f64) =
            (raw.hget(&all, name).await.unwrap(), raw.zscore(&places, name).await.unwrap());
        assert_eq!((definition == theirs, looked_at as u64), (true, (START + HOUR + 60) * 1000), "{name}");
    }
    // Somebody who can read it finds the tick that it waits for.
    let _: () = raw.hset(&all, "later", &ours).await.unwrap();
    at(&orch, HOUR + 60).await;
    assert_eq!(ticks(&orch).await, [HOUR, HOUR]);
    let there = status(&orch, "later").await;
    assert_eq!((there.last_tick, there.missed, there.error), (Some(instant(HOUR)), 0, None));
}

#[tokio::test]
async fn what_is_no_tick_waits_for_nothing() {
    let orch = still().await;
    put(&orch, hourly("a").overlap(Overlap::Queue)).await;
    at(&orch, HOUR).await;
    let _: () = raw().await.hset(key(&orch, "S:a"), "w", "not").await.unwrap();
    orch.cancel(status(&orch, "a").await.last_task_id.unwrap()).await.unwrap();
    orch.tick().await.unwrap();
    let due: u64 = raw().await.zcount(key(&orch, "Z"), "-inf", (START + HOUR) * 1000).await.unwrap();
    assert_eq!(due, 0, "it is not looked at again and again");
    at(&orch, 2 * HOUR).await;
    assert_eq!(ticks(&orch).await, [HOUR, 2 * HOUR]);
}
