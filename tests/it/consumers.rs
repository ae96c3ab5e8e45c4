//! Consumer groups: every event is handled in every group, by one process of it, in order, until it is handled or dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator::{Config, Error, EventsFrom, Group, NewEvent, NewTask, Orchestrator, Unhandled};
use orchestrator_tests::{Proxy, config, namespace, orch, server, until, within};
use serde_json::json;
use tokio::sync::Notify;

use crate::members::{Seen, group, join, let_go_of, note, noting, numbers, retry, served, tell};

#[tokio::test]
async fn each_group_gets_what_it_wants_once_however_many_processes_it_has() {
    let orch = orch().await;
    let (deploys, failures) = (Seen::default(), Seen::default());
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(join(&orch, group("deploys", "deploy.*"), noting(&deploys)));
        members.push(join(&orch, group("failures", "*.failed,ci.*.red"), noting(&failures)));
    }
    served(&orch, "deploys").await;
    served(&orch, "failures").await;
    for n in 0..50 {
        for event_type in ["deploy.failed", "deploy.canary.started", "ci.main.red", "ci.main.green"] {
            tell(&orch, event_type, n).await;
        }
    }
    numbers(&deploys, 100).await;
    numbers(&failures, 100).await;
    let_go_of(&orch, "deploys").await;
    let_go_of(&orch, "failures").await;
    let count = |seen: &Seen, event_type: &str| seen.lock().unwrap().iter().filter(|(t, ..)| t == event_type).count();
    assert_eq!((count(&deploys, "deploy.failed"), count(&deploys, "deploy.canary.started")), (50, 50));
    assert_eq!((count(&failures, "deploy.failed"), count(&failures, "ci.main.red")), (50, 50));
    assert_eq!((deploys.lock().unwrap().len(), failures.lock().unwrap().len()), (100, 100));
    for member in members {
        member.leave().await;
    }
}

#[tokio::test]
async fn events_of_one_task_are_handled_in_order_and_a_failing_one_holds_up_only_its_own() {
    let orch = orch().await;
    let seen = Seen::default();
    let open = Arc::new(Notify::new());
    let (noted, gate) = (Arc::clone(&seen), Arc::clone(&open));
    let member = join(&orch, group("order", "step.*"), move |delivery| {
        let (noted, gate) = (Arc::clone(&noted), Arc::clone(&gate));
        async move {
            let n = note(&noted, &delivery);
            match (n, delivery.attempt) {
                (1, 1) => retry("not yet"),
                (1, 2) => {
                    gate.notified().await;
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    });
    served(&orch, "order").await;
    let ids = orch.enqueue_all((0..2).map(|n| NewTask::<()>::new("faq", &n))).await.unwrap();
    let (slow, quick) = (ids[0].id(), ids[1].id());
    for n in 1..=3 {
        orch.publish(&NewEvent::new("step.slow", &json!({"n": n})).task(slow)).await.unwrap();
        orch.publish(&NewEvent::new("step.quick", &json!({"n": n + 10})).task(quick)).await.unwrap();
        orch.publish(&NewEvent::new("step.keyed", &json!({"n": n + 20})).key("one")).await.unwrap();
    }
    // The second attempt of the first is under way; all others are done.
    numbers(&seen, 8).await;
    let of = |event_type: &str| {
        let seen = seen.lock().unwrap();
        seen.iter().filter(|(t, ..)| t == event_type).map(|(_, n, attempt)| (*n, *attempt)).collect::<Vec<_>>()
    };
    assert_eq!(of("step.slow"), [(1, 1), (1, 2)]);
    assert_eq!(of("step.quick"), [(11, 1), (12, 1), (13, 1)]);
    assert_eq!(of("step.keyed"), [(21, 1), (22, 1), (23, 1)]);
    open.notify_one();
    numbers(&seen, 10).await;
    assert_eq!(of("step.slow"), [(1, 1), (1, 2), (2, 1), (3, 1)]);
    member.leave().await;
}

#[tokio::test]
async fn what_cannot_be_handled_is_a_dead_letter_that_can_be_looked_at_and_sent_anew() {
    let orch = orch().await;
    let (seen, other) = (Seen::default(), Seen::default());
    let mended = Arc::new(AtomicU32::new(0));
    let (noted, works) = (Arc::clone(&seen), Arc::clone(&mended));
    let bystander = join(&orch, group("bystander", "*"), noting(&other));
    let member = join(&orch, group("careful", "job.*").retries(2), move |delivery| {
        let n = note(&noted, &delivery);
        let works = works.load(Ordering::Relaxed) > 0;
        async move {
            match n {
                _ if works => Ok(()),
                1 => retry("out of order"),
                2 => Err(Unhandled::Never { error: "no such thing".into() }),
                3 => panic!("it broke"),
                _ => Ok(()),
            }
        }
    });
    served(&orch, "careful").await;
    served(&orch, "bystander").await;
    for n in 0..5 {
        tell(&orch, "job.came", n).await;
    }
    numbers(&other, 5).await;
    let letters = until("three dead letters", async || {
        let letters = orch.dead_events("careful", None, 10).await.unwrap();
        (letters.len() == 3).then_some(letters)
    })
    .await;
    let mut told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.event.payload["n"].as_u64().unwrap(), letter.attempts, letter.error.as_str()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(1, 3, "out of order"), (2, 1, "no such thing"), (3, 3, "the handler panicked: it broke")]);
    let page = orch.dead_events("careful", Some(&letters[0].id), 10).await.unwrap();
    assert_eq!(page, letters[1..], "the next page begins behind the last letter");
    let_go_of(&orch, "careful").await;
    assert_eq!(orch.groups().await.unwrap().iter().map(|group| group.dead).sum::<u64>(), 3);

    mended.store(1, Ordering::Relaxed);
    let before = other.lock().unwrap().len();
    let handled = seen.lock().unwrap().len();
    let ids: Vec<String> = letters[..2].iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(orch.replay_dead_events("careful", &ids).await.unwrap(), 2);
    assert_eq!(orch.replay_dead_events("careful", &ids).await.unwrap(), 0, "they are sent once");
    numbers(&seen, handled + 2).await;
    let_go_of(&orch, "careful").await;
    tell(&orch, "job.last", 9).await;
    until("the bystander saw the last", async || {
        other.lock().unwrap().iter().any(|(event_type, ..)| event_type == "job.last").then_some(())
    })
    .await;
    assert_eq!(other.lock().unwrap().len(), before + 1, "nobody else is told of what is sent anew");
    assert_eq!(orch.forget_dead_events("careful", &[letters[2].id.clone()]).await.unwrap(), 1);
    assert_eq!(orch.dead_events("careful", None, 10).await.unwrap(), []);
    let error = orch.dead_events("careful", Some("newest"), 1).await.expect_err("no id");
    assert!(error.to_string().contains("is no dead letter"), "{error}");
    for member in [member, bystander] {
        member.leave().await;
    }
}

#[tokio::test]
async fn a_group_that_was_away_catches_up_and_a_new_one_begins_where_it_says() {
    let orch = orch().await;
    let seen = Seen::default();
    let member = join(&orch, group("away", "day.*"), noting(&seen));
    served(&orch, "away").await;
    tell(&orch, "day.one", 1).await;
    numbers(&seen, 1).await;
    member.leave().await;
    for n in 2..200 {
        tell(&orch, "day.off", n).await;
    }
    let member = join(&orch, group("away", "day.*"), noting(&seen));
    assert_eq!(numbers(&seen, 199).await, (1..200).collect::<Vec<_>>());
    let all = Seen::default();
    let oldest = join(&orch, group("historian", "day.*").from(EventsFrom::Oldest), noting(&all));
    assert_eq!(numbers(&all, 199).await.len(), 199);
    let error = orch.remove_group("away").await.expect_err("it is served");
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    for member in [member, oldest] {
        member.leave().await;
    }
    assert!(orch.remove_group("away").await.unwrap() && !orch.remove_group("away").await.unwrap());
    assert_eq!(orch.groups().await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_stops_hands_over_at_once_and_finishes_what_he_had_begun() {
    let orch = orch().await;
    let (first, second) = (Seen::default(), Seen::default());
    let (open, noted) = (Arc::new(Notify::new()), Arc::clone(&first));
    let gate = Arc::clone(&open);
    let long = || group("relay", "leg.*").lease(Duration::from_secs(60)).at_once(1);
    let member = join(&orch, long(), move |delivery| {
        let (noted, gate) = (Arc::clone(&noted), Arc::clone(&gate));
        async move {
            note(&noted, &delivery);
            gate.notified().await;
            Ok(())
        }
    });
    served(&orch, "relay").await;
    for n in 0..3 {
        tell(&orch, "leg.run", n).await;
    }
    numbers(&first, 1).await;
    let stand_by = join(&orch, long(), noting(&second));
    let _ = member.stop.send(());
    open.notify_one();
    within("the first leaves", member.ended).await.unwrap().unwrap();
    assert_eq!(numbers(&second, 2).await, [1, 2]);
    assert_eq!(first.lock().unwrap().len(), 1);
    stand_by.leave().await;
}

#[tokio::test]
async fn events_that_tasks_made_are_handled_one_by_one_also_of_one_packed_entry() {
    let orch = orch().await;
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let member = join(&orch, group("births", "task.created").retries(1), move |delivery| {
        let index = u64::from(delivery.event.task_id.is_some());
        noted.lock().unwrap().push((delivery.event.event_id.clone(), index, delivery.attempt));
        async move { if delivery.attempt == 1 { retry("once more") } else { Ok(()) } }
    });
    served(&orch, "births").await;
    let tasks = (0..300).map(|n| NewTask::<()>::new("faq", &n));
    orch.enqueue_all(tasks).await.unwrap();
    until("all were handled twice", async || (seen.lock().unwrap().len() == 600).then_some(())).await;
    let_go_of(&orch, "births").await;
    let mut tries: HashMap<String, Vec<u32>> = HashMap::new();
    for (id, about_a_task, attempt) in seen.lock().unwrap().iter() {
        assert_eq!(*about_a_task, 1);
        tries.entry(id.clone()).or_default().push(*attempt);
    }
    assert_eq!(tries.len(), 300);
    assert!(tries.values().all(|tries| tries == &[1, 2]));
    assert_eq!(orch.groups().await.unwrap()[0].dead, 0);
    member.leave().await;
}

#[tokio::test]
async fn what_was_dropped_before_a_group_looked_is_counted() {
    let orch = Orchestrator::with_config(Config { events_max: 10, ..config() }).await.unwrap();
    let seen = Seen::default();
    tell(&orch, "day.none", 0).await;
    let member = join(&orch, group("slow", "day.*"), noting(&seen));
    served(&orch, "slow").await;
    tell(&orch, "day.one", 1).await;
    numbers(&seen, 1).await;
    let_go_of(&orch, "slow").await;
    assert_eq!(orch.groups().await.unwrap()[0].missed, Some(0));
    member.leave().await;
    for n in 0..500 {
        tell(&orch, "day.off", n).await;
    }
    let missed = orch.groups().await.unwrap()[0].missed.unwrap();
    assert!(missed > 300, "{missed}");
    let member = join(&orch, group("slow", "day.*"), noting(&seen));
    let_go_of(&orch, "slow").await;
    assert_eq!(seen.lock().unwrap().len() as u64, 501 - missed, "the rest was handled");
    member.leave().await;
}

#[tokio::test]
async fn a_group_out_of_its_bounds_is_refused() {
    let orch = Orchestrator::with_config(Config { namespace: namespace(), ..config() }).await.unwrap();
    let handle = |_| std::future::ready(Ok(()));
    for (wrong, text) in [
        (Group::new("Release Notes", &[]), "is no name for a group"),
        (Group::new("busy", &[]).at_once(0), "1 to 1024 events at once"),
    ] {
        let error = orch.consume(&wrong, handle, std::future::pending()).await.expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn lost_answers_lose_no_event_and_bury_none_twice() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { url: line.url(), ..config() }).await.unwrap();
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let member = join(&orch, group("lossy", "job.*").retries(1), move |delivery| {
        let n = note(&noted, &delivery);
        async move { if n % 10 == 3 { retry("never") } else { Ok(()) } }
    });
    served(&orch, "lossy").await;
    line.lose_one_in(6);
    for n in 0..4 {
        let some: Vec<NewEvent> =
            (0..50).map(|i| NewEvent::new("job.came", &json!({"n": 50 * n + i})).key(&format!("{}", i % 7))).collect();
        // A send that is lost is repeated under its ids.
        orch.publish_all(&some).await.unwrap();
    }
    until("all were handled", async || {
        let mut handled: Vec<u64> = seen.lock().unwrap().iter().map(|(_, n, _)| *n).collect();
        handled.sort_unstable();
        handled.dedup();
        (handled.len() == 200).then_some(())
    })
    .await;
    line.lose_one_in(0);
    let_go_of(&orch, "lossy").await;
    let letters = orch.dead_events("lossy", None, 100).await.unwrap();
    let mut dead: Vec<u64> = letters.iter().map(|letter| letter.event.payload["n"].as_u64().unwrap()).collect();
    dead.sort_unstable();
    assert_eq!(dead, (0..20).map(|n| 10 * n + 3).collect::<Vec<_>>());
    member.leave().await;
}
