//! What consumer groups come through: handlers, processes, answers and entries that fail them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::{Backoff, Config, Delivery, EventsFrom, Group, NewEvent, NewTask, Orchestrator, Unhandled};
use orchestrator_tests::{Proxy, all_events, config, key, orch, raw, server, until};
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::Notify;

use crate::members::{Member, Seen, given, group, join, let_go_of, marks, note, noting, numbers, retry, served, tell};

/// A group whose events wait for long when they fail.
fn patient(name: &str) -> Group {
    group(name, "x.*").retries(100).backoff(Backoff::fixed(Duration::from_secs(3600)))
}

/// A member that fails with every `x.bad`, and is content with all else.
fn failing(orch: &Orchestrator, group: Group, seen: &Seen) -> Member {
    let seen = Arc::clone(seen);
    join(orch, group, move |delivery| {
        note(&seen, &delivery);
        std::future::ready(if delivery.event.event_type == "x.bad" { retry("later") } else { Ok(()) })
    })
}

async fn marked(orch: &Orchestrator, name: &str, count: usize) {
    until("Redis has the marks", async || (marks(orch, name).await == count).then_some(())).await;
}

/// How often `x.bad` was handed over.
fn attempts(seen: &Seen) -> usize {
    seen.lock().unwrap().iter().filter(|(event_type, ..)| event_type == "x.bad").count()
}

#[tokio::test]
async fn a_letter_of_a_packed_entry_that_is_noted_again_and_again_is_one() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { url: line.url(), ..config() }).await.unwrap();
    let (open, seen) = (Arc::new(Notify::new()), Seen::default());
    let gate = Arc::clone(&open);
    let member = join(&orch, group("letters", "task.created"), move |delivery| {
        let dies = seen.lock().unwrap().is_empty();
        note(&seen, &delivery);
        let gate = Arc::clone(&gate);
        async move {
            if dies {
                return Err(Unhandled::Never { error: "no".into() });
            }
            // Its entry stays pending.
            gate.notified().await;
            Ok(())
        }
    });
    served(&orch, "letters").await;
    for _ in 0..2 {
        line.cut("consume", |call| call.args.iter().any(|arg| arg == b"no"));
    }
    orch.enqueue_all((0..2).map(|n| NewTask::<()>::new("faq", &n))).await.unwrap();
    line.struck(2).await;
    assert_eq!(orch.dead_events("letters", None, 10).await.unwrap().len(), 1);
    open.notify_one();
    let_go_of(&orch, "letters").await;
    assert_eq!(orch.dead_events("letters", None, 10).await.unwrap().len(), 1);
    member.leave().await;
}

#[tokio::test]
async fn a_process_that_leaves_in_order_makes_no_event_suspect() {
    let (orch, seen) = (orch().await, Seen::default());
    // After as many crashes it would be a dead letter.
    for turn in 0..6 {
        let member = failing(&orch, patient("deploys"), &seen);
        served(&orch, "deploys").await;
        if turn == 0 {
            tell(&orch, "x.bad", 0).await;
        }
        // It is read behind what is pending.
        tell(&orch, "x.good", turn).await;
        given(&seen, "x.good", turn).await;
        member.leave().await;
    }
    assert_eq!(orch.dead_events("deploys", None, 10).await.unwrap(), []);
    assert_eq!(attempts(&seen), 1, "the others would come in an hour");
}

#[tokio::test]
async fn a_process_that_loses_its_seat_and_takes_it_again_makes_no_event_suspect() {
    let (orch, seen) = (orch().await, Seen::default());
    let member = failing(&orch, patient("seat"), &seen);
    served(&orch, "seat").await;
    tell(&orch, "x.bad", 0).await;
    marked(&orch, "seat", 1).await;
    for turn in 0..5 {
        // As if Redis had not answered for longer than the lease.
        raw().await.del::<_, ()>(key(&orch, "G:seat")).await.unwrap();
        tell(&orch, "x.good", turn).await;
        given(&seen, "x.good", turn).await;
    }
    member.leave().await;
    assert_eq!(orch.dead_events("seat", None, 10).await.unwrap(), []);
    assert_eq!(attempts(&seen), 1, "the others would come in an hour");
}

#[tokio::test]
async fn a_handler_that_never_returns_does_not_keep_its_process_from_a_seat_it_lost() {
    let (orch, seen) = (orch().await, Seen::default());
    let noted = Arc::clone(&seen);
    let member = join(&orch, group("stuck", "x.*"), move |delivery| {
        let hangs = noted.lock().unwrap().is_empty();
        note(&noted, &delivery);
        async move { if hangs { std::future::pending().await } else { Ok(()) } }
    });
    served(&orch, "stuck").await;
    tell(&orch, "x.hangs", 1).await;
    numbers(&seen, 1).await;
    raw().await.del::<_, ()>(key(&orch, "G:stuck")).await.unwrap();
    tell(&orch, "x.good", 2).await;
    numbers(&seen, 3).await;
    let mut all: Vec<_> = seen.lock().unwrap().clone();
    all.sort();
    let event = |event_type: &str, n| (event_type.to_owned(), n, 1);
    assert_eq!(all, [event("x.good", 2), event("x.hangs", 1), event("x.hangs", 1)]);
    member.leave().await;
}

#[tokio::test]
async fn a_line_that_is_held_up_leaves_room_for_all_others() {
    let (orch, seen) = (orch().await, Seen::default());
    let member = failing(&orch, patient("roomy"), &seen);
    served(&orch, "roomy").await;
    // More than are read ahead of what is handled.
    let line: Vec<_> = (0..200).map(|n| NewEvent::new("x.bad", &json!({"n": n})).key("one")).collect();
    for some in line.chunks(100) {
        orch.publish_all(some).await.unwrap();
    }
    tell(&orch, "x.good", 1).await;
    given(&seen, "x.good", 1).await;
    assert_eq!(attempts(&seen), 1);
    member.leave().await;
}

#[tokio::test]
async fn a_group_behind_a_place_within_a_packed_entry_gets_the_rest_of_it() {
    let orch = orch().await;
    orch.enqueue_all((0..3).map(|n| NewTask::<()>::new("faq", &n))).await.unwrap();
    let events = all_events(&orch).await;
    let entry = |n: usize| events[n].event_id.rsplit_once('-').unwrap().0;
    assert_eq!(entry(0), entry(2));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let behind = group("behind", "task.created").from(EventsFrom::Behind(events[0].cursor));
    let member = join(&orch, behind, move |delivery| {
        noted.lock().unwrap().push(delivery.event.cursor);
        std::future::ready(Ok(()))
    });
    until("the last of it", async || seen.lock().unwrap().contains(&events[2].cursor).then_some(())).await;
    assert_eq!(*seen.lock().unwrap(), [events[1].cursor, events[2].cursor]);
    member.leave().await;
}

#[tokio::test]
async fn a_panic_of_a_handler_before_its_future_is_a_failed_attempt() {
    let (orch, seen) = (orch().await, Seen::default());
    let noted = Arc::clone(&seen);
    let member = join(&orch, group("panics", "x.y").retries(0), move |delivery: Delivery| {
        assert!(note(&noted, &delivery) != 1, "it broke");
        std::future::ready(Ok(()))
    });
    served(&orch, "panics").await;
    tell(&orch, "x.y", 1).await;
    tell(&orch, "x.y", 2).await;
    assert_eq!(numbers(&seen, 2).await, [1, 2]);
    member.leave().await;
    let letters = orch.dead_events("panics", None, 10).await.unwrap();
    let errors: Vec<&str> = letters.iter().map(|letter| letter.error.as_str()).collect();
    assert_eq!(errors, ["the handler panicked: it broke"]);
}

#[tokio::test]
async fn a_delay_without_end_holds_up_its_own_event_alone() {
    let (orch, seen) = (orch().await, Seen::default());
    let noted = Arc::clone(&seen);
    // One at once: the second begins when the outcome of the first has been seen.
    let member = join(&orch, group("delays", "x.y").at_once(1), move |delivery| {
        let ends = note(&noted, &delivery) == 2;
        let never = Unhandled::Retry { error: "never".into(), delay: Some(Duration::MAX) };
        std::future::ready(if ends { Ok(()) } else { Err(never) })
    });
    served(&orch, "delays").await;
    tell(&orch, "x.y", 1).await;
    tell(&orch, "x.y", 2).await;
    assert_eq!(numbers(&seen, 2).await, [1, 2]);
    member.leave().await;
    assert_eq!(orch.groups().await.unwrap()[0].pending, 1);
}

#[tokio::test]
async fn the_most_retries_that_there_are_come_to_an_end() {
    let (orch, seen) = (orch().await, Seen::default());
    let quick = Backoff::fixed(Duration::from_millis(1));
    let member = failing(&orch, group("many", "x.bad").retries(255).backoff(quick), &seen);
    served(&orch, "many").await;
    tell(&orch, "x.bad", 1).await;
    // As many as one byte counts.
    let letter = until("a dead letter", async || orch.dead_events("many", None, 1).await.unwrap().pop()).await;
    assert_eq!((attempts(&seen), letter.attempts), (255, 255));
    member.leave().await;
}

#[tokio::test]
async fn nothing_is_kept_of_entries_that_were_dropped_while_they_were_pending() {
    let (orch, seen) = (orch().await, Seen::default());
    let member = failing(&orch, patient("trim"), &seen);
    served(&orch, "trim").await;
    for n in 0..20 {
        tell(&orch, "x.bad", n).await;
    }
    marked(&orch, "trim", 20).await;
    member.leave().await;
    let mut trim = redis::cmd("XTRIM");
    trim.arg(key(&orch, "e")).arg("MAXLEN").arg(0).query_async::<()>(&mut raw().await).await.unwrap();
    let member = join(&orch, patient("trim"), noting(&seen));
    served(&orch, "trim").await;
    tell(&orch, "x.good", 1).await;
    given(&seen, "x.good", 1).await;
    member.leave().await;
    let status = orch.groups().await.unwrap().pop().unwrap();
    assert_eq!((status.pending, marks(&orch, "trim").await, attempts(&seen)), (0, 0, 20));
}
