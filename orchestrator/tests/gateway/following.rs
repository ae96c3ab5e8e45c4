//! Following events: live, again, across cuts, gateways and gaps.

use std::time::{Duration, Instant};

use orchestrator::{Config, EventsFrom, Heard, NewEvent, NewTask, Orchestrator};
use serde_json::json;

use super::follower::{Follower, tell};
use super::support::{Redis, Running, gateway, gateway_of};

#[tokio::test]
async fn events_come_live_and_again_from_any_place() {
    let gateway = gateway().await;
    let mut live = Follower::open(&gateway, "/events", None).await;
    for header in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(live.head.contains(header), "{}", live.head);
    }
    let mut ids = Vec::new();
    for n in 0..4 {
        tell(&gateway.orch, "count.up", n).await;
        let block = live.next().await.expect("an event");
        assert_eq!((block.name.as_str(), &block.data["payload"]), ("count.up", &json!(n)));
        ids.push(block.id.expect("an id"));
    }
    let since = (chrono::Utc::now() - chrono::TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S+00:00");
    for (path, last, first) in [
        ("/events?from=oldest".to_owned(), None, 0),
        (format!("/events?from={since}"), None, 0),
        (format!("/events?from={}", ids[0]), None, 1),
        ("/events".to_owned(), Some(&ids[1]), 2),
        // The header is newer than the path.
        ("/events?from=oldest".to_owned(), Some(&ids[2]), 3),
    ] {
        let mut again = Follower::open(&gateway, &path, last.map(String::as_str)).await;
        for (n, id) in ids.iter().enumerate().skip(first) {
            let block = again.next().await.expect("an event");
            assert_eq!((block.id.as_ref(), &block.data["payload"]), (Some(id), &json!(n)), "{path} {last:?}");
        }
    }
}

#[tokio::test]
async fn only_the_types_that_are_wanted_come() {
    let gateway = gateway().await;
    let mut some = Follower::open(&gateway, "/events?types=deploy.*,%20*.failed", None).await;
    for (n, name) in ["deploy.started", "pr.merged", "test.failed", "a.b.failed", "deploy.eu.done"].iter().enumerate() {
        tell(&gateway.orch, name, n).await;
    }
    for name in ["deploy.started", "test.failed", "deploy.eu.done"] {
        assert_eq!(some.next().await.expect("an event").name, name);
    }
}

#[tokio::test]
async fn a_place_or_type_that_makes_no_sense_is_422() {
    let gateway = gateway().await;
    for (query, part) in [
        ("types=Deploy.*", "is no pattern of event types; write deploy.succeeded"),
        ("types=deploy", "is no pattern"),
        ("types=a.b&types=c.d", "given twice"),
        ("from=yesterday", "from: `yesterday` is no place in the event stream; write oldest, now"),
        ("from=2030-01-31", "an instant with its zone"),
        ("from=", "is no place"),
    ] {
        gateway.get(&format!("/events?{query}"), "user-key").await.refuses(422, part);
    }
    let headers = [("X-API-Key", "user-key"), ("Last-Event-ID", "7")];
    gateway.send("GET", "/events?from=now", &headers, b"").await.refuses(422, "Last-Event-ID: `7` is no place");
}

/// Everything that was told, in its order.
async fn all_ids(orch: &Orchestrator, count: usize) -> Vec<String> {
    let mut events = orch.events(&[], EventsFrom::Oldest);
    let mut ids = Vec::new();
    while ids.len() < count {
        match events.next().await.unwrap() {
            Heard::Event(event) => ids.push(event.event_id),
            Heard::Gap => panic!("nothing was dropped"),
        }
    }
    ids
}

#[tokio::test]
async fn a_reader_that_is_cut_again_and_again_gets_every_event_once() {
    let first = gateway().await;
    let second = gateway_of(first.orch.config().clone()).await;
    // Cut before the first event already.
    let mut last = Follower::open(&first, "/events", None).await.id;
    assert!(last.is_some(), "the place where it begins is told");
    let orch = first.orch.clone();
    let telling = tokio::spawn(async move {
        // 300 events in entries of their own, 200 of tasks, many in one entry.
        for round in 0..10 {
            let events: Vec<NewEvent> = (0..30).map(|n| NewEvent::new("count.up", &(round * 100 + n))).collect();
            orch.publish_all(&events[..7]).await.unwrap();
            orch.enqueue_all((0..20).map(|_| NewTask::<()>::new("faq", &()))).await.unwrap();
            orch.publish_all(&events[7..]).await.unwrap();
        }
    });
    let mut heard = Vec::new();
    let mut cuts = 0;
    while heard.len() < 500 {
        let gateway: &Running = [&first, &second][cuts % 2];
        let mut follower = Follower::open(gateway, "/events", last.as_deref()).await;
        for _ in 0..1 + cuts * 7 % 23 {
            let block = follower.next().await.expect("an event");
            assert_ne!(block.name, "gap");
            heard.push(block.data["event_id"].as_str().expect("an id").to_owned());
            if heard.len() == 500 {
                break;
            }
        }
        last = follower.id;
        cuts += 1;
    }
    telling.await.unwrap();
    assert_eq!(heard, all_ids(&first.orch, 500).await);
    assert!(cuts > 30, "{cuts}");
}

/// Puts a reader on the next gateway every 100 ms, wherever it is then, while events are told all the time.
#[tokio::test]
async fn a_reader_that_is_cut_every_100_ms_gets_every_event_once() {
    const ALL: usize = 1000;
    let first = gateway().await;
    let second = gateway_of(first.orch.config().clone()).await;
    let mut last = Follower::open(&first, "/events", None).await.id;
    let orch = first.orch.clone();
    let telling = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(35));
        for round in 0..ALL / 10 {
            pace.tick().await;
            let events: Vec<NewEvent> = (0..10).map(|n| NewEvent::new("count.up", &(round * 10 + n))).collect();
            orch.publish_all(&events).await.unwrap();
        }
    });
    let (started, mut heard, mut cuts) = (Instant::now(), Vec::new(), 0);
    let mut cut = tokio::time::interval(Duration::from_millis(100));
    cut.tick().await;
    while heard.len() < ALL {
        let gateway: &Running = [&first, &second][cuts % 2];
        let reading = async {
            let mut follower = Follower::open(gateway, "/events", last.clone().as_deref()).await;
            while heard.len() < ALL {
                let block = follower.next().await.expect("an event");
                assert_eq!(block.name, "count.up");
                heard.push(block.data["event_id"].as_str().expect("an id").to_owned());
                last.clone_from(&follower.id);
            }
        };
        tokio::select! {
            biased;
            _ = cut.tick() => cuts += 1,
            () = reading => {}
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{} after {cuts} cuts", heard.len());
    }
    telling.await.unwrap();
    assert_eq!(heard, all_ids(&first.orch, ALL).await);
    assert!(cuts >= 30 && started.elapsed() > Duration::from_secs(3), "{cuts} cuts in {:?}", started.elapsed());
}

#[tokio::test]
async fn events_that_are_not_kept_any_more_are_told_as_a_gap() {
    let redis = Redis::start();
    let gateway = gateway_of(Config::new(&redis.url())).await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    for n in 0..6 {
        tell(&gateway.orch, "count.up", n).await;
    }
    let place = follower.next().await.expect("the first").id;
    redis.command(&["XTRIM", "{orchestrator.0}:e", "MAXLEN", "2"]).await;
    let mut again = Follower::open(&gateway, "/events", place.as_deref()).await;
    let gap = again.next().await.expect("the gap");
    assert_eq!((gap.name.as_str(), gap.id), ("gap", None));
    assert!(gap.data["detail"].as_str().is_some_and(|said| said.contains("not kept any more")), "{}", gap.data);
    assert_eq!(again.id, None, "a gap is no place");
    for n in [4, 5] {
        assert_eq!(again.next().await.expect("an event").data["payload"], n);
    }
    let mut whole = Follower::open(&gateway, "/events", again.id.as_deref()).await;
    tell(&gateway.orch, "count.up", 6).await;
    assert_eq!(whole.next().await.expect("an event").data["payload"], 6, "nothing was missed since");
}

#[tokio::test]
async fn a_reader_of_a_stream_that_is_gone_begins_anew_and_is_told_once() {
    let gateway = gateway().await;
    for n in 0..2 {
        tell(&gateway.orch, "count.up", n).await;
    }
    let mut reader = Follower::open(&gateway, "/events", Some("9999999999999-0.0")).await;
    assert_eq!(reader.next().await.expect("the gap").name, "gap");
    // Cut here, it comes back with what the gap told.
    assert_eq!(reader.id.as_deref(), Some("0-0.0"));
    let mut again = Follower::open(&gateway, "/events", reader.id.as_deref()).await;
    for reader in [&mut reader, &mut again] {
        for n in 0..2 {
            assert_eq!(reader.next().await.expect("an event").data["payload"], n);
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything_in_order() {
    let gateway = gateway().await;
    let mut slow = Follower::open(&gateway, "/events", None).await;
    // More than all buffers on the way hold.
    let large = "x".repeat(200_000);
    for n in 0..150 {
        gateway.orch.publish(&NewEvent::new("count.up", &json!({"n": n, "large": large}))).await.unwrap();
    }
    for n in 0..150 {
        assert_eq!(slow.next().await.expect("an event").data["payload"]["n"], n);
    }
}

#[tokio::test]
async fn a_client_that_reads_too_late_is_told_of_the_gap() {
    let redis = Redis::start();
    let gateway = gateway_of(Config::new(&redis.url())).await;
    let mut slow = Follower::open(&gateway, "/events", None).await;
    // More than the buffers on the way and what is read at once hold.
    let large = "x".repeat(50_000);
    for n in 0..1200 {
        gateway.orch.publish(&NewEvent::new("count.up", &json!({"n": n, "large": large}))).await.unwrap();
    }
    redis.command(&["XTRIM", "{orchestrator.0}:e", "MAXLEN", "2"]).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&json!(1199)) {
        let block = slow.next().await.expect("an event");
        heard.push(if block.name == "gap" { json!("gap") } else { block.data["payload"]["n"].clone() });
    }
    let before = heard.iter().position(|heard| heard == "gap").expect("it is told");
    let expected: Vec<_> = (0..before).map(|n| json!(n)).chain([json!("gap"), json!(1198), json!(1199)]).collect();
    assert_eq!(heard, expected);
}
