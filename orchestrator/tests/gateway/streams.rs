//! Streams of events: how long they last, what ends them, and who gets one.

use std::time::{Duration, Instant};

use orchestrator::gateway::Role;
use orchestrator::{Config, NewEvent};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use super::follower::{Follower, tell};
use super::support::{Redis, Running, SECRET, config, gateway, gateway_of, gateway_with, tokens};
use super::tokens::{HEADER, now, signed};

#[tokio::test]
async fn a_stream_outlasts_the_time_of_a_request() {
    let mut hasty = config();
    hasty.request_timeout = Duration::from_millis(300);
    hasty.head_timeout = Duration::from_millis(300);
    let gateway = gateway_with(hasty).await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    tell(&gateway.orch, "count.up", 1).await;
    assert_eq!(follower.next().await.expect("an event").data["payload"], 1);
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_still_there() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    let started = Instant::now();
    let place = follower.id.clone().expect("a place");
    assert_eq!(follower.raw().await, format!(": still here\nid: {place}"));
    assert!(started.elapsed() > Duration::from_secs(14));
    tell(&gateway.orch, "count.up", 1).await;
    assert_eq!(follower.next().await.expect("an event").data["payload"], 1);
}

#[tokio::test]
async fn a_client_to_whom_nothing_is_told_moves_on_all_the_same() {
    let redis = Redis::start();
    let gateway = gateway_of(Config::new(&redis.url())).await;
    let path = "/events?types=never.told";
    let mut narrow = Follower::open(&gateway, path, None).await;
    let before = narrow.id.clone();
    for n in 0..5 {
        tell(&gateway.orch, "count.up", n).await;
    }
    assert!(narrow.raw().await.starts_with(": still here\nid: "));
    tell(&gateway.orch, "never.told", 0).await;
    // The comment has no event; what its line tells is what a client comes back with.
    let mut again = Follower::open(&gateway, path, None).await;
    for n in 5..10 {
        tell(&gateway.orch, "count.up", n).await;
    }
    let comment = again.raw().await;
    let place = comment.strip_prefix(": still here\nid: ").expect("a place").to_owned();
    redis.command(&["XTRIM", "{orchestrator.0}:e", "MAXLEN", "1"]).await;
    tell(&gateway.orch, "never.told", 1).await;
    let back = Follower::open(&gateway, path, Some(&place)).await.next().await.expect("an event");
    assert_eq!((back.name.as_str(), &back.data["payload"]), ("never.told", &json!(1)), "nothing was missed");
    let late = Follower::open(&gateway, path, before.as_deref()).await.next().await.expect("news");
    assert_eq!(late.name, "gap", "whoever did not move on has missed something");
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let gateway = gateway().await;
    // Clocks may be 10 s apart: this token is over in two to three.
    let claims = json!({"sub": "eve", "role": "user", "exp": now() - 8}).to_string();
    let bearer = format!("Bearer {}", signed(HEADER, &claims, SECRET));
    let mut short = Follower::open_with(&gateway, "/events", &[("Authorization", &bearer)]).await;
    let long = format!("Bearer {}", tokens().mint("ada", Role::User, Duration::from_secs(600)).unwrap());
    let mut long = Follower::open_with(&gateway, "/events", &[("Authorization", &long)]).await;
    let mut key = Follower::open(&gateway, "/events", None).await;
    tell(&gateway.orch, "count.up", 1).await;
    assert_eq!(short.next().await.expect("an event").data["payload"], 1);
    assert_eq!(short.raw().await, ": the token has expired");
    assert!(short.next().await.is_none(), "the stream ends in order");
    gateway.send("GET", "/events", &[("Authorization", &bearer)], b"").await.refuses(401, "expired");
    tell(&gateway.orch, "count.up", 2).await;
    for other in [&mut long, &mut key] {
        for n in [1, 2] {
            assert_eq!(other.next().await.expect("an event").data["payload"], n);
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_leaves_its_place() {
    let mut narrow = config();
    narrow.streams_max = 1;
    let gateway = gateway_with(narrow).await;
    let mut deaf = gateway.connect().await;
    deaf.write_all(b"GET /events HTTP/1.1\r\nHost: h\r\nX-API-Key: user-key\r\n\r\n").await.unwrap();
    deaf.readable().await.unwrap();
    let started = Instant::now();
    // More than the buffers between hold.
    let large = "x".repeat(200_000);
    for _ in 0..100 {
        gateway.orch.publish(&NewEvent::new("count.up", &large)).await.unwrap();
    }
    gateway.get("/events", "user-key").await.refuses(503, "event streams are open");
    let cut = tokio::time::timeout(Duration::from_secs(60), deaf.ready(Interest::ERROR));
    assert!(cut.await.expect("it is cut").unwrap().is_error());
    assert!(started.elapsed() > Duration::from_secs(29), "it had its time");
    gets_a_place(&gateway).await;
}

/// A client that is gone leaves its place.
async fn gets_a_place(gateway: &Running) {
    let started = Instant::now();
    loop {
        let mut stream = gateway.connect().await;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: h\r\nX-API-Key: user-key\r\n\r\n").await.unwrap();
        let mut bytes = vec![0; 1 << 16];
        let read = stream.read(&mut bytes).await.unwrap();
        if bytes[..read].starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "a place gets free");
    }
}

#[tokio::test]
async fn streams_end_when_the_gateway_stops() {
    let mut gateway = gateway().await;
    let mut followers = Vec::new();
    for _ in 0..5 {
        followers.push(Follower::open(&gateway, "/events", None).await);
    }
    let mut chunked = gateway.connect().await;
    chunked.write_all(b"GET /events HTTP/1.1\r\nHost: h\r\nX-API-Key: user-key\r\n\r\n").await.unwrap();
    let mut bytes = vec![0; 1 << 16];
    assert!(chunked.read(&mut bytes).await.unwrap() > 0);
    let started = Instant::now();
    gateway.stop();
    for follower in &mut followers {
        assert!(follower.next().await.is_none());
    }
    let mut rest = Vec::new();
    chunked.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "it ends in order: {rest:?}");
    tokio::time::timeout(Duration::from_secs(10), gateway.served).await.expect("it ends").unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "long before the grace is over");
}

#[tokio::test]
async fn more_streams_than_places_are_refused() {
    let mut narrow = config();
    narrow.streams_max = 2;
    let gateway = gateway_with(narrow).await;
    let first = Follower::open(&gateway, "/events", None).await;
    let _second = Follower::open(&gateway, "/events", None).await;
    let full = gateway.get("/events", "user-key").await;
    full.refuses(503, "event streams are open");
    assert_eq!(full.headers["retry-after"], "10");
    assert_eq!(gateway.get("/stats", "user-key").await.status, 200);
    drop(first);
    gets_a_place(&gateway).await;
}

#[tokio::test]
async fn a_stream_goes_on_when_redis_is_back() {
    let mut redis = Redis::start();
    let gateway = gateway_of(Config::new(&redis.url())).await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    tell(&gateway.orch, "count.up", 1).await;
    assert_eq!(follower.next().await.expect("an event").data["payload"], 1);
    redis.kill();
    gateway.get("/events", "user-key").await.refuses(503, "Redis does not serve now");
    redis.restart();
    let started = Instant::now();
    while gateway.orch.publish(&NewEvent::new("count.up", &2)).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "Redis serves again");
    }
    // Redis kept nothing: what lay between is not known.
    assert_eq!(follower.next().await.expect("an event").name, "gap");
    assert_eq!(follower.next().await.expect("an event").data["payload"], 2);
}
