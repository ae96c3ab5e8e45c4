//! The order within a queue: strict, or with a head start for each step of priority; agreed upon, and changed by hand.

use std::collections::HashMap;
use std::time::Duration;

use orchestrator::{
    Aging, Claim, Config, Error, Incarnation, NewTask, OnViolation, Orchestrator, Priority, SlaTerms, TaskId,
};
use orchestrator_tests::{config, key, raw};
use redis::AsyncCommands;

use crate::model::bytes::{id_bytes, read_id};

const START: u64 = 1_900_000_000;
const QUEUE: &str = "order";
const MINUTE: u64 = 60;
const TEN: Aging = Aging::By(Duration::from_secs(600));

async fn set(namespace: &str, seconds: u64) {
    let _: () =
        raw().await.hset_multiple(format!("{{{namespace}.0}}:now"), &[("s", seconds), ("us", 0)]).await.unwrap();
}

/// A client whose time stands at [`START`] until it is moved.
async fn still(aging: Aging) -> Orchestrator {
    let config = Config { test_clock: true, aging, ..config() };
    set(&config.namespace, START).await;
    Orchestrator::with_config(config).await.unwrap()
}

/// Moves the time to so many seconds after [`START`], and fires what is due.
async fn at(orch: &Orchestrator, seconds: u64) {
    set(&orch.config().namespace, START + seconds).await;
    orch.tick().await.unwrap();
    orch.clock_error().await.unwrap();
}

async fn again(orch: &Orchestrator, aging: Aging) -> orchestrator::Result<Orchestrator> {
    Orchestrator::with_config(Config { aging, ..orch.config().clone() }).await
}

fn new(priority: Priority) -> NewTask<()> {
    NewTask::new("order", &()).queue(QUEUE).priority(priority)
}

async fn enqueue(orch: &Orchestrator, priority: Priority) -> TaskId {
    orch.enqueue(new(priority)).await.unwrap().id()
}

/// A lease as long as it may be: it is not what is tried here.
async fn join(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &[QUEUE.into()], &[], Duration::from_secs(3600)).await.unwrap()
}

async fn claim(worker: &Incarnation, count: usize) -> Vec<Claim> {
    worker.step(&[], count, &[QUEUE.into()], None).await.unwrap().claims
}

async fn ids(worker: &Incarnation, count: usize) -> Vec<TaskId> {
    claim(worker, count).await.iter().map(|claim| claim.ticket().id).collect()
}

/// Two tasks of P0 come each minute and one task is worked off; when the P3 of the first minute starts, in minutes.
async fn flood(orch: &Orchestrator, minutes: u64) -> Option<u64> {
    let worker = join(orch).await;
    let low = enqueue(orch, Priority::P3).await;
    let mut came = Vec::new();
    for minute in 0..minutes {
        at(orch, minute * MINUTE).await;
        for _ in 0..2 {
            came.push(enqueue(orch, Priority::P0).await);
        }
        let taken = ids(&worker, 1).await;
        if taken == [low] {
            return Some(minute);
        }
        assert_eq!(taken, [came.remove(0)], "among those of one priority the first in is the first out");
    }
    None
}

#[tokio::test]
async fn a_low_priority_starves_without_aging_and_the_order_is_exact() {
    let orch = still(Aging::Stored).await;
    assert_eq!(orch.config().aging, Aging::Off);
    assert_eq!(flood(&orch, 120).await, None);
}

#[tokio::test]
async fn with_aging_it_starts_within_the_bound_under_an_endless_flood() {
    let orch = still(TEN).await;
    // Those of P0 that came until minute 29 are 60, and one is worked off each minute.
    let started = flood(&orch, 120).await;
    assert_eq!(started, Some(60), "all that came less than 30 minutes behind it, and none that came later");
}

#[tokio::test]
async fn each_pair_of_priorities_has_its_head_start_to_the_millisecond() {
    let orch = still(Aging::By(Duration::from_secs(1))).await;
    let all = [Priority::P0, Priority::P1, Priority::P2, Priority::P3];
    for low in all {
        for high in all.into_iter().filter(|high| *high < low) {
            let bound = u64::from(low as u8 - high as u8);
            for (later, overtakes) in [(bound - 1, true), (bound, false), (bound + 1, false)] {
                at(&orch, 10_000).await;
                let first = enqueue(&orch, low).await;
                at(&orch, 10_000 + later).await;
                let second = enqueue(&orch, high).await;
                let worker = join(&orch).await;
                let taken = ids(&worker, 2).await;
                let expected = if overtakes { [second, first] } else { [first, second] };
                // At the very bound their places are the same, and the older id comes first.
                assert_eq!(taken, expected, "{low} and {later} s later {high}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_given_back_raised_or_reprioritised_keeps_its_time() {
    let orch = still(TEN).await;
    let worker = join(&orch).await;
    let old = enqueue(&orch, Priority::P3).await;
    let sla = SlaTerms::new(Duration::from_secs(20 * MINUTE)).on_violation(OnViolation::Raise);
    let promised = orch.enqueue(new(Priority::P3).sla(sla)).await.unwrap().id();
    at(&orch, 15 * MINUTE).await;
    let late = enqueue(&orch, Priority::P1).await;
    // 15 minutes late and 20 ahead.
    let held = claim(&worker, 1).await.pop().unwrap();
    assert_eq!(held.ticket().id, late);
    assert!(worker.release(&[held.ticket()]).await.unwrap().is_empty());
    assert_eq!(ids(&worker, 1).await, [late], "it came back to its place");
    let held = claim(&worker, 2).await;
    assert_eq!(held.iter().map(|claim| claim.ticket().id).collect::<Vec<_>>(), [old, promised]);
    worker.release(&held.iter().map(|claim| claim.ticket()).collect::<Vec<_>>()).await.unwrap();

    // The promise is broken: raised to P0, in the place of its creation.
    at(&orch, 20 * MINUTE).await;
    let urgent = enqueue(&orch, Priority::P0).await;
    assert_eq!(ids(&worker, 1).await, [promised]);
    // By hand: the one of minute 0 comes before the urgent one of minute 20 as P1, not as P3.
    let p3: f64 = raw().await.zscore(key(&orch, "r:order"), id_bytes(old)).await.unwrap();
    orch.set_priority(old, Priority::P1).await.unwrap();
    let p1: f64 = raw().await.zscore(key(&orch, "r:order"), id_bytes(old)).await.unwrap();
    assert_eq!(p3 - p1, 2.0 * 600_000.0);
    assert_eq!(ids(&worker, 2).await, [old, urgent]);

    // A worker that has died: what it had comes back to its place too.
    let dead = Incarnation::join(&orch, &[QUEUE.into()], &[], Duration::from_millis(1)).await.unwrap();
    let first = enqueue(&orch, Priority::P2).await;
    assert_eq!(ids(&dead, 1).await, [first]);
    at(&orch, 30 * MINUTE).await;
    let second = enqueue(&orch, Priority::P2).await;
    let watcher = Incarnation::join(&orch, &[QUEUE.into()], &[], Duration::from_millis(1)).await.unwrap();
    orchestrator_tests::until("it is rescued", async || {
        watcher.beat(&[], &[]).await.unwrap();
        (watcher.rescue().await.unwrap() > 0).then_some(())
    })
    .await;
    assert_eq!(ids(&worker, 2).await, [first, second]);
}

#[tokio::test]
async fn all_processes_of_a_namespace_have_one_order() {
    let orch = still(TEN).await;
    assert_eq!(again(&orch, Aging::Stored).await.unwrap().config().aging, TEN, "who asks for nothing takes it over");
    assert_eq!(again(&orch, TEN).await.unwrap().config().aging, TEN);
    for other in [Aging::Off, Aging::By(Duration::from_secs(60))] {
        let error = again(&orch, other).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Unfit { .. }), "{text}");
        assert!(text.contains("has the aging 10m") && text.contains(&format!("set to {other}")), "{text}");
        assert!(text.contains(&format!("orchestrator queue aging {other}")), "{text}");
    }
    let strict = still(Aging::Stored).await;
    assert!(again(&strict, TEN).await.unwrap_err().to_string().contains("has the aging off"));
    // One that is in use and says nothing, as an older version leaves it, has none.
    let _: () = raw().await.hdel(key(&orch, "g"), "a").await.unwrap();
    enqueue(&orch, Priority::P2).await;
    assert!(again(&orch, TEN).await.is_err());
    assert!(Orchestrator::with_config(Config { aging: Aging::By(Duration::ZERO), ..config() }).await.is_err());
}

/// Where every task stands, by its place and its priority.
async fn order(orch: &Orchestrator, name: &str) -> Vec<(TaskId, f64)> {
    let members: Vec<(Vec<u8>, f64)> = raw().await.zrange_withscores(key(orch, name), 0, -1).await.unwrap();
    members.iter().map(|(id, score)| (read_id(id).unwrap(), *score)).collect()
}

/// 1,700 tasks of all priorities within an hour, some of them on a shelf.
async fn populate(orch: &Orchestrator) -> HashMap<TaskId, (Priority, u64)> {
    let all = [Priority::P0, Priority::P1, Priority::P2, Priority::P3];
    let mut made = HashMap::new();
    for minute in 0..34 {
        at(orch, minute * 2 * MINUTE).await;
        let tasks = orch.enqueue_all((0..50).map(|i| new(all[i % 4]))).await.unwrap();
        let ms = (START + minute * 2 * MINUTE) * 1000;
        made.extend(tasks.iter().enumerate().map(|(i, task)| (task.id(), (all[i % 4], ms))));
    }
    let worker = join(orch).await;
    for held in claim(&worker, 100).await {
        worker.shelve(&held).await.unwrap();
    }
    worker.leave(&[]).await.unwrap();
    made
}

fn check(places: &[(TaskId, f64)], made: &HashMap<TaskId, (Priority, u64)>, aging: Aging) {
    let class = match aging {
        Aging::By(step) => step.as_millis() as u64,
        _ => 1 << 42,
    };
    for (id, place) in places {
        let (priority, ms) = made[id];
        assert_eq!(*place as u64, priority as u64 * class + ms, "{id} {priority}");
    }
}

#[tokio::test]
async fn a_change_gives_every_waiting_task_its_place_in_the_new_order() {
    let orch = still(Aging::Stored).await;
    let made = populate(&orch).await;
    let one = Aging::By(Duration::from_secs(60));
    for (before, after) in [(Aging::Off, TEN), (TEN, one), (one, Aging::Off), (Aging::Off, one)] {
        let (mut last, mut total) = (0, 0);
        let done = orch
            .set_aging(after, false, |looked, all| {
                assert!(looked >= last && looked <= all);
                (last, total) = (looked, all);
            })
            .await
            .unwrap();
        assert_eq!((done.before, done.aging), (before.to_string(), after.to_string()));
        assert_eq!((done.waiting, last), (1700, total));
        let (ready, shelf) = (order(&orch, "r:order").await, order(&orch, "u:order").await);
        assert_eq!((ready.len(), shelf.len()), (1600, 100));
        check(&ready, &made, after);
        check(&shelf, &made, after);
        let anew = again(&orch, Aging::Stored).await.unwrap();
        assert_eq!(anew.config().aging, after);
        // Once more changes nothing.
        assert_eq!(orch.set_aging(after, false, |_, _| ()).await.unwrap().rewritten, 0);
    }
}

#[tokio::test]
async fn a_change_that_was_interrupted_is_seen_and_gone_on_with() {
    let orch = still(TEN).await;
    let made = populate(&orch).await;
    let g = key(&orch, "g");
    let one = Aging::By(Duration::from_secs(60));
    for (found, to) in [("600000>60000", one), ("600000>60000", Aging::Off), ("60000>600000", TEN)] {
        let _: () = raw().await.hset(&g, "a", found).await.unwrap();
        assert!(orch.aging().await.unwrap().unfinished);
        orch.set_aging(to, false, |_, _| ()).await.unwrap();
        assert!(!orch.aging().await.unwrap().unfinished);
        if to != one {
            continue;
        }
        check(&order(&orch, "r:order").await, &made, one);
        // Half of it was done when it stopped.
        let some = order(&orch, "r:order").await;
        for (id, place) in some.iter().step_by(2) {
            let (priority, _) = made[id];
            let strict = *place + priority as u64 as f64 * ((1_u64 << 42) - 60_000) as f64;
            let _: () = raw().await.zadd(key(&orch, "r:order"), id_bytes(*id), strict).await.unwrap();
        }
        let _: () = raw().await.hset(&g, "a", "off>60000").await.unwrap();
        orch.set_aging(one, false, |_, _| ()).await.unwrap();
        check(&order(&orch, "r:order").await, &made, one);
        orch.set_aging(TEN, false, |_, _| ()).await.unwrap();
    }
}

#[tokio::test]
async fn who_is_present_stops_a_change_and_what_it_misplaces_is_repaired() {
    let orch = still(Aging::Stored).await;
    let worker = join(&orch).await;
    let error = orch.set_aging(TEN, false, |_, _| ()).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("1 leases run")), "{error}");
    assert_eq!(orch.aging().await.unwrap().aging, "off");
    let first = enqueue(&orch, Priority::P1).await;
    assert_eq!(orch.set_aging(TEN, true, |_, _| ()).await.unwrap().rewritten, 1);
    // This client knows the old order only: what it makes lies behind all others until that is repaired.
    let stale = enqueue(&orch, Priority::P1).await;
    let anew = again(&orch, TEN).await.unwrap();
    at(&anew, 5 * MINUTE).await;
    let behind = enqueue(&anew, Priority::P1).await;
    let places = async || order(&orch, "r:order").await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(places().await, [first, behind, stale]);
    // Whatever moves it meanwhile keeps its time.
    anew.set_priority(stale, Priority::P2).await.unwrap();
    anew.set_priority(stale, Priority::P1).await.unwrap();
    assert_eq!(anew.set_aging(TEN, false, |_, _| ()).await.unwrap().rewritten, 0);
    assert_eq!(places().await, [first, stale, behind]);
    let stale = enqueue(&orch, Priority::P3).await;
    assert_eq!(anew.set_aging(TEN, false, |_, _| ()).await.unwrap().rewritten, 1);
    assert_eq!(places().await.last(), Some(&stale));
    drop(worker);
}
