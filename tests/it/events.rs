//! Events: told once, kept under their names, read in order from anywhere, mirrored for those who know no streams.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use orchestrator::{
    Config, Error, Event, EventCursor, EventPattern, EventPriority, EventsFrom, Heard, NewEvent, NewTask, Orchestrator,
    patterns,
};
use orchestrator_tests::{Proxy, config, namespace, orch, raw, server, until, within};
use orchestrator_worker::{TaskContext, TaskResult, Worker, task_handler};
use redis::AsyncCommands;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

#[task_handler("hop", queue = "hop", crate = "orchestrator_worker")]
async fn hop(n: u64, ctx: TaskContext) -> TaskResult<u64> {
    let event = NewEvent::new("hop.done", &json!({"n": n})).task(ctx.task_id()).source("hopper");
    ctx.orchestrator().publish(&event).await?;
    Ok(n)
}

fn wanted(list: &str) -> Vec<EventPattern> {
    patterns(list).unwrap()
}

/// All events there are now.
async fn all(orch: &Orchestrator, list: &str, from: EventsFrom) -> Vec<Event> {
    let (mut events, mut found) = (orch.events(&wanted(list), from), Vec::new());
    while let Some(heard) = events.next_if_any().await.unwrap() {
        match heard {
            Heard::Event(event) => found.push(*event),
            Heard::Gap => panic!("nothing was dropped"),
        }
    }
    found
}

#[tokio::test]
async fn an_event_keeps_its_name_and_what_was_said_of_it() {
    let orch = orch().await;
    let mut live = orch.events(&wanted("deployment.*"), EventsFrom::Now);
    assert_eq!(live.next_if_any().await.unwrap(), None);
    let event = NewEvent::new("deployment.completed", &json!({"image": "api:7"}))
        .priority(EventPriority::High)
        .source("ops_agent")
        .trace_id("trace-1")
        .metadata("region", "eu");
    orch.publish(&NewEvent::new("other.thing", &())).await.unwrap();
    let id = orch.publish(&event).await.unwrap();
    let Heard::Event(told) = within("the event", live.next()).await.unwrap() else { panic!("no gap") };
    assert_eq!((told.event_id.as_str(), told.event_type.as_str()), (id.as_str(), "deployment.completed"));
    assert_eq!((told.priority, told.source_agent.as_str()), (EventPriority::High, "ops_agent"));
    assert_eq!((told.trace_id.as_str(), &told.payload), ("trace-1", &json!({"image": "api:7"})));
    assert_eq!(told.metadata["region"], "eu");
    for wrong in ["deployment", "Deploy.done", "task created", ""] {
        let error = orch.publish(&NewEvent::new(wrong, &())).await.expect_err(wrong);
        assert!(matches!(&error, Error::Invalid { what } if what.contains("is no event type")), "{error}");
    }
    assert_eq!(all(&orch, "", EventsFrom::Oldest).await.len(), 2, "nothing was renamed or added");
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_told_once() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { namespace: namespace(), ..Config::new(&line.url()) }).await.unwrap();
    for _ in 0..3 {
        line.cut("publish", |_| true);
    }
    let id = orch.publish(&NewEvent::new("deploy.started", &1)).await.unwrap();
    line.struck(3).await;
    let told = all(&orch, "", EventsFrom::Oldest).await;
    assert_eq!(told.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_agents_are_told_of_in_one_order_and_any_place_is_a_beginning() {
    let orch = orch().await;
    let worker = Worker::builder(orch.clone()).discover(false).register::<hop>().build().unwrap().start();
    let parent = orch.enqueue(NewTask::<()>::new("x", &()).queue("x").trace_id("trace-7")).await.unwrap();
    let parent = orch.get(parent.id()).await.unwrap();
    let handles = orch.enqueue_all((0..50).map(|n| hop::with(n).child_of(&parent))).await.unwrap();
    for handle in &handles {
        handle.result().await.unwrap();
    }
    worker.stop().await.unwrap();
    let whole = all(&orch, "", EventsFrom::Oldest).await;
    let ids: HashSet<&str> = whole.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), whole.len(), "every event has a name of its own");
    for handle in &handles {
        let of: Vec<&Event> = whole.iter().filter(|event| event.task_id == Some(handle.id())).collect();
        let types: Vec<&str> = of.iter().map(|event| event.event_type.as_str()).collect();
        assert_eq!(types, ["task.created", "task.started", "hop.done", "task.completed"]);
        assert!(of.iter().all(|event| event.trace_id == "trace-7"), "{of:?}");
        let numbers: Vec<u64> = of.iter().filter_map(|event| event.payload["number"].as_u64()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
    // Whoever is cut off anywhere, as often as one likes, goes on without missing or repeating anything.
    let mut read = Vec::new();
    let mut from = EventsFrom::Oldest;
    while read.len() < whole.len() {
        let mut events = orch.events(&[], from);
        for _ in 0..rand::random_range(1..20) {
            if let Some(Heard::Event(event)) = events.next_if_any().await.unwrap() {
                from = EventsFrom::Behind(event.cursor);
                read.push(*event);
            }
        }
    }
    assert_eq!(read, whole);
    let middle = whole[whole.len() / 2].cursor.to_string().parse::<EventCursor>().unwrap();
    let rest = all(&orch, "task.*", EventsFrom::Behind(middle)).await;
    let expected = whole.iter().filter(|event| event.cursor > middle && event.event_type.starts_with("task."));
    assert!(rest.iter().eq(expected));
    let ago = EventCursor::at(whole[0].timestamp);
    assert_eq!(all(&orch, "", EventsFrom::Behind(ago)).await, whole, "an instant is a place too");
}

#[tokio::test]
async fn a_reader_that_was_away_too_long_is_told_of_the_gap() {
    let orch = Orchestrator::with_config(Config { events_max: 100, ..config() }).await.unwrap();
    orch.publish(&NewEvent::new("first.one", &())).await.unwrap();
    let first = all(&orch, "", EventsFrom::Oldest).await[0].cursor;
    let mut kept = orch.events(&[], EventsFrom::Behind(first));
    assert_eq!(kept.next_if_any().await.unwrap(), None);
    let mut live = orch.events(&[], EventsFrom::Now);
    assert_eq!(live.next_if_any().await.unwrap(), None);
    for n in 0..10 {
        let events: Vec<NewEvent> = (0..100).map(|i| NewEvent::new("more.events", &(n * 100 + i))).collect();
        orch.publish_all(&events).await.unwrap();
    }
    let length: usize = raw().await.xlen(format!("{{{}.0}}:e", orch.config().namespace)).await.unwrap();
    assert!(length < 500, "the stream is bounded: {length}");
    // Whoever comes back, and whoever stood still.
    for mut late in [orch.events(&[], EventsFrom::Behind(first)), kept, live] {
        assert_eq!(late.next().await.unwrap(), Heard::Gap);
        assert!(matches!(late.next().await.unwrap(), Heard::Event(_)));
    }
}

#[tokio::test]
async fn a_gap_is_told_too_where_nothing_is_left_or_all_is_new() {
    let orch = orch().await;
    let (mut redis, key) = (raw().await, format!("{{{}.0}}:e", orch.config().namespace));
    for n in 0..3 {
        orch.publish(&NewEvent::new("old.one", &n)).await.unwrap();
    }
    let places: Vec<EventCursor> = all(&orch, "", EventsFrom::Oldest).await.iter().map(|event| event.cursor).collect();
    let mut at_the_end = orch.events(&[], EventsFrom::Behind(places[2]));
    assert_eq!(at_the_end.next_if_any().await.unwrap(), None);
    // All that there was is gone.
    let _: usize = redis.xtrim(&key, redis::streams::StreamMaxlen::Equals(0)).await.unwrap();
    assert_eq!(at_the_end.next_if_any().await.unwrap(), None, "it has missed nothing");
    let mut amid = orch.events(&[], EventsFrom::Behind(places[1]));
    assert_eq!(amid.next_if_any().await.unwrap(), Some(Heard::Gap));
    assert_eq!(amid.next_if_any().await.unwrap(), None);
    orch.publish(&NewEvent::new("new.one", &())).await.unwrap();
    for reader in [&mut at_the_end, &mut amid] {
        let Heard::Event(event) = within("the event", reader.next()).await.unwrap() else {
            panic!("one gap is enough")
        };
        assert_eq!(event.event_type, "new.one");
    }
    // The stream itself is another one, behind the places of before or ahead of them.
    let place = amid.cursor().unwrap();
    for id in [format!("{}-0", place.to_string().split('-').next().unwrap().parse::<u64>().unwrap() + 1), "1-1".into()]
    {
        let told: redis::streams::StreamRangeReply = redis.xrange_all(&key).await.unwrap();
        let bytes: Vec<u8> = told.ids[0].get("P").unwrap();
        let _: () = redis.del(&key).await.unwrap();
        let _: String = redis.xadd(&key, &id, &[("P", &bytes)]).await.unwrap();
        let mut back = orch.events(&[], EventsFrom::Behind(place));
        assert_eq!(within("the gap", back.next()).await.unwrap(), Heard::Gap, "{id}");
        assert!(matches!(within("the event", back.next()).await.unwrap(), Heard::Event(_)), "{id}");
    }
    assert_eq!(within("the gap", amid.next()).await.unwrap(), Heard::Gap);
    assert!(matches!(within("the event", amid.next()).await.unwrap(), Heard::Event(_)));
}

#[tokio::test]
async fn the_mirror_goes_on_where_it_was_when_its_group_is_gone() {
    let orch = orch().await;
    let (mut redis, key) = (raw().await, format!("{{{}.0}}:e", orch.config().namespace));
    let client = redis::Client::open(server::shared().url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.psubscribe(format!("{}:events:*", orch.config().namespace)).await.unwrap();
    let mirroring = {
        let orch = orch.clone();
        tokio::spawn(async move { orch.keep_mirroring().await })
    };
    let groups = async || -> usize {
        let told: redis::RedisResult<redis::streams::StreamInfoGroupsReply> = raw().await.xinfo_groups(&key).await;
        told.map_or(0, |told| told.groups.len())
    };
    until("the group", async || (groups().await == 1).then_some(())).await;
    let mut messages = listener.on_message();
    let mut heard = async || {
        let message = within("a message", futures::StreamExt::next(&mut messages)).await.expect("a message");
        let text: String = message.get_payload().unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["payload"].clone()
    };
    orch.publish(&NewEvent::new("a.b", &1)).await.unwrap();
    assert_eq!(heard().await, 1);
    let _: bool = redis.xgroup_destroy(&key, "mirror").await.unwrap();
    for n in 2..=9 {
        orch.publish(&NewEvent::new("a.b", &n)).await.unwrap();
    }
    for n in 2..=9 {
        assert_eq!(heard().await, n);
    }
    mirroring.abort();
}

#[tokio::test]
async fn events_that_are_too_old_go() {
    let age = Duration::from_secs(3600);
    let orch = Orchestrator::with_config(Config { events_age: age, ..config() }).await.unwrap();
    orch.publish(&NewEvent::new("young.one", &())).await.unwrap();
    let young = all(&orch, "", EventsFrom::Oldest).await;
    // As if it had been told two hours ago: the same bytes under the id of then.
    let (mut redis, key) = (raw().await, format!("{{{}.0}}:e", orch.config().namespace));
    let told: redis::streams::StreamRangeReply = redis.xrange_all(&key).await.unwrap();
    let bytes: Vec<u8> = told.ids[0].get("P").unwrap();
    let now = young[0].timestamp.timestamp_millis();
    let _: () = redis.del(&key).await.unwrap();
    for minutes in [120, 61, 59] {
        let _: String = redis.xadd(&key, format!("{}-0", now - minutes * 60_000), &[("P", &bytes)]).await.unwrap();
    }
    assert_eq!(all(&orch, "", EventsFrom::Oldest).await.len(), 3);
    orch.tick().await.unwrap();
    let kept = all(&orch, "", EventsFrom::Oldest).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].cursor.to_string(), format!("{}-0.0", now - 59 * 60_000));
}

/// A listener that knows Pub/Sub alone, in another language.
const LISTENER: &str = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rb")
def send(*words): s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words)))
def read():
    line = f.readline()
    if line[:1] == b"*": return [read() for _ in range(int(line[1:]))]
    if line[:1] == b"$": data = f.read(int(line[1:])); f.read(2); return data.decode()
    return line[1:].strip().decode()
send("SUBSCRIBE", sys.argv[2]); read(); print("ready", flush=True)
print(json.dumps(json.loads(read()[2])), flush=True)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_who_knows_no_streams_hears_the_mirror_once() {
    let orch = orch().await;
    let mirrors = [orch.clone(), orch.clone()].map(|orch| tokio::spawn(async move { orch.keep_mirroring().await }));
    let channel = format!("{}:events:deploy.succeeded", orch.config().namespace);
    let mut python = tokio::process::Command::new("python3")
        .args(["-c", LISTENER])
        .arg(server::shared().socket())
        .arg(&channel)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let mut second = {
        let client = redis::Client::open(server::shared().url()).unwrap();
        client.get_async_pubsub().await.unwrap()
    };
    second.subscribe(&channel).await.unwrap();
    // The group of the mirrors begins with what comes after it was made.
    until("the mirrors", || async {
        let key = format!("{{{}.0}}:e", orch.config().namespace);
        let groups: redis::RedisResult<redis::streams::StreamInfoGroupsReply> = raw().await.xinfo_groups(key).await;
        groups.is_ok_and(|groups| !groups.groups.is_empty()).then_some(())
    })
    .await;
    let event = NewEvent::new("deploy.succeeded", &json!({"deployment_id": 7})).source("ops_agent");
    let id = orch.publish(&event).await.unwrap();
    let heard = within("the listener", lines.next_line()).await.unwrap().expect("a line");
    let heard: serde_json::Value = serde_json::from_str(&heard).unwrap();
    for name in [
        "event_id",
        "event_type",
        "priority",
        "source_agent",
        "trace_id",
        "task_id",
        "payload",
        "timestamp",
        "metadata",
    ] {
        assert!(heard.get(name).is_some(), "{name} is missing in {heard}");
    }
    assert_eq!((&heard["event_id"], &heard["payload"]["deployment_id"]), (&json!(id), &json!(7)));
    assert!(heard["trace_id"].as_str().is_some_and(|trace| !trace.is_empty()));
    // Two mirrors, and it came once: the next one that comes is the next one that was told.
    orch.publish(&NewEvent::new("deploy.succeeded", &json!({"deployment_id": 8}))).await.unwrap();
    let mut messages = futures::StreamExt::take(second.on_message(), 2);
    for n in [7, 8] {
        let message = within("a message", futures::StreamExt::next(&mut messages)).await.expect("a message");
        let text: String = message.get_payload().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["payload"]["deployment_id"], n);
    }
    mirrors.iter().for_each(tokio::task::JoinHandle::abort);
}
