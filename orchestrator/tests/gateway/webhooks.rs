//! Events on their way out, through running gateways.

mod receiver;
mod sender;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use orchestrator::{ApprovalPolicy, Config, Error, NewEvent, Orchestrator, Webhook, WebhookSecret, patterns};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use self::receiver::{Got, OK, Receiver};
use self::sender::here;
use super::support::{Redis, Running, gateway_of};

const MS: Duration = Duration::from_millis(1);

async fn gateway(redis: &Redis) -> Running {
    gateway_of(Config { webhooks: here(), approvals: ApprovalPolicy::none(), ..Config::new(&redis.url()) }).await
}

async fn tell(orch: &Orchestrator, event_type: &str) -> String {
    orch.publish(&NewEvent::new(event_type, &json!({"image": "api:7"}))).await.unwrap()
}

/// Lets the clock go on by more than it is read with, so that two instants are told apart.
async fn later(orch: &Orchestrator) {
    let started = Instant::now();
    until("the clock goes on", async || orch.clock_error().await.is_ok() && started.elapsed() > 10 * MS).await;
}

/// Asks until it is so.
async fn until(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !fact().await {
        assert!(started.elapsed() < Duration::from_secs(40), "{what}");
    }
}

#[tokio::test]
async fn events_that_are_wanted_arrive_signed_from_one_of_the_gateways() {
    let redis = Redis::start();
    let gateway_a = gateway(&redis).await;
    let _gateway_b = gateway(&redis).await;
    let orch = &gateway_a.orch;
    let mut receiver = Receiver::answering(&[OK]).await;
    tell(orch, "deploy.before").await;
    later(orch).await;
    let webhook = Webhook::new("slack", &receiver.url(), &patterns("deploy.*,task.created").unwrap());
    let webhook = orch.add_webhook(webhook).await.unwrap();
    // From the very moment that it was added, though no gateway knows of it yet.
    let first = tell(orch, "deploy.succeeded").await;
    tell(orch, "smoke.done").await;

    let got = receiver.next().await;
    assert_eq!(got.id(), first);
    assert_eq!(
        (&got.event()["event_type"], &got.event()["payload"]["image"]),
        (&"deploy.succeeded".into(), &"api:7".into())
    );
    let secret = webhook.secrets()[0].reveal();
    assert!(got.is_signed_by(&secret) && !got.is_signed_by(&WebhookSecret::generate().reveal()));

    let mut told = HashSet::new();
    for _ in 0..20 {
        told.insert(tell(orch, "deploy.started").await);
    }
    let task = gateway_a.create(r#"{"type":"faq","payload":{}}"#).await.body["task_id"].clone();
    let mut came = HashSet::new();
    for _ in 0..21 {
        let got = receiver.next().await;
        match got.event()["event_type"].as_str() {
            Some("task.created") => assert_eq!((&got.event()["task_id"], got.is_signed_by(&secret)), (&task, true)),
            _ => assert!(came.insert(got.id().to_owned()), "once each"),
        }
    }
    assert_eq!(came, told);
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn an_event_is_sent_until_it_is_taken_under_the_same_id() {
    let redis = Redis::start();
    let gateway = gateway(&redis).await;
    let failing = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    let mut receiver = Receiver::answering(&[failing, busy, OK]).await;
    gateway.orch.add_webhook(Webhook::new("flaky", &receiver.url(), &[])).await.unwrap();
    let id = tell(&gateway.orch, "deploy.succeeded").await;
    for _ in 0..3 {
        let got = receiver.next().await;
        assert_eq!((got.id(), got.event()["event_id"].as_str()), (id.as_str(), Some(id.as_str())));
    }
    let next = tell(&gateway.orch, "deploy.succeeded").await;
    assert_eq!(receiver.next().await.id(), next, "what was taken is not sent again");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_until_it_is_resumed() {
    let redis = Redis::start();
    let gateway = gateway(&redis).await;
    let orch = &gateway.orch;
    let mut receiver = Receiver::answering(&["HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", OK]).await;
    orch.add_webhook(Webhook::new("gone", &receiver.url(), &[])).await.unwrap();
    let id = tell(orch, "deploy.succeeded").await;
    assert_eq!(receiver.next().await.id(), id);
    until("it is paused", async || orch.webhook("gone").await.unwrap().paused).await;
    let because = orch.webhook("gone").await.unwrap().paused_because.unwrap();
    assert!(because.contains("410"), "{because}");

    let meanwhile = tell(orch, "deploy.failed").await;
    assert!(orch.resume_webhook("gone").await.unwrap());
    let came = HashSet::from([receiver.next().await.id().to_owned(), receiver.next().await.id().to_owned()]);
    assert_eq!(came, HashSet::from([id, meanwhile]));
}

#[tokio::test]
async fn rotation_and_removal_reach_what_is_being_delivered() {
    let redis = Redis::start();
    let gateway = gateway(&redis).await;
    let orch = &gateway.orch;
    let mut receiver = Receiver::answering(&[OK]).await;
    let old = orch.add_webhook(Webhook::new("slack", &receiver.url(), &[])).await.unwrap().secrets()[0].reveal();
    tell(orch, "deploy.succeeded").await;
    assert!(receiver.next().await.is_signed_by(&old));
    let new = orch.rotate_webhook_secret("slack", None).await.unwrap().secrets()[0].reveal();
    tell(orch, "deploy.succeeded").await;
    let got = receiver.next().await;
    assert!(got.is_signed_by(&old) && got.is_signed_by(&new), "whoever knows one of them");

    let groups = async || orch.groups().await.unwrap().into_iter().map(|group| group.name).collect::<Vec<_>>();
    assert_eq!(groups().await, ["webhook.slack"]);
    orch.remove_webhook("slack").await.unwrap();
    let mut other = Receiver::answering(&[OK]).await;
    tell(orch, "deploy.before").await;
    later(orch).await;
    orch.add_webhook(Webhook::new("slack", &other.url(), &[])).await.unwrap();
    let id = tell(orch, "deploy.succeeded").await;
    assert_eq!(other.next().await.id(), id, "what happened before it was added is not told");
    assert!(receiver.is_quiet(), "nothing is sent where the removed one went");
    orch.remove_webhook("slack").await.unwrap();
    until("nothing is left of it", async || groups().await.is_empty()).await;
}

/// Accepts the next request and keeps its sender waiting.
async fn held(listener: &TcpListener) -> (Got, TcpStream) {
    let taken = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        (Got::read(&mut stream).await, stream)
    };
    tokio::time::timeout(Duration::from_secs(40), taken).await.expect("a request in time")
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_what_it_sends_and_one_that_dies_is_taken_over() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut stopping = gateway(&redis).await;
    let orch = stopping.orch.clone();
    orch.add_webhook(Webhook::new("slack", &url, &[])).await.unwrap();
    let first = tell(&orch, "deploy.started").await;
    let (got, mut sender) = held(&listener).await;
    assert_eq!(got.id(), first);
    stopping.stop();
    sender.write_all(OK.as_bytes()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), stopping.served).await.expect("an end in time").unwrap();

    let dying = gateway(&redis).await;
    let second = tell(&orch, "deploy.succeeded").await;
    let (got, sender) = held(&listener).await;
    assert_eq!(got.id(), second, "the first was taken, and is not sent again");
    let _next = gateway(&redis).await;
    dying.served.abort();
    drop(sender);
    let (got, _sender) = held(&listener).await;
    assert_eq!(got.id(), second, "at least once, under one id");
}

#[tokio::test]
async fn the_list_is_kept_and_an_id_is_never_taken_over() {
    let redis = Redis::start();
    let settings = Config { webhooks: here(), ..Config::new(&redis.url()) };
    let orch = Orchestrator::with_config(settings).await.unwrap();
    let slack = orch.add_webhook(Webhook::new("slack", "https://example.com/a", &[])).await.unwrap();
    let chat = Webhook::new("chat", "http://0x7f.1:9/", &patterns("deploy.*").unwrap());
    assert_eq!(orch.add_webhook(chat).await.unwrap().url, "http://127.0.0.1:9/");
    assert_eq!(orch.add_webhook(slack.clone()).await.unwrap(), slack, "the same one changes nothing");
    let refused = orch.add_webhook(Webhook::new("slack", "https://example.com/a", &[])).await.unwrap_err();
    assert!(matches!(&refused, Error::Conflict { what } if what.contains("is there already")), "{refused}");
    for (id, url, right) in [
        ("Slack", "https://example.com/", "is no name for a webhook"),
        ("here", "https://10.0.0.1/", "ORCHESTRATOR_WEBHOOK_ALLOW"),
        ("plain", "http://93.184.215.14/", "write https"),
    ] {
        let refused = orch.add_webhook(Webhook::new(id, url, &[])).await.unwrap_err();
        assert!(matches!(&refused, Error::Invalid { what } if what.contains(right)), "{refused}");
    }
    assert!(orch.pause_webhook("chat", None).await.unwrap() && !orch.pause_webhook("chat", None).await.unwrap());
    let ids = |all: Vec<Webhook>| all.into_iter().map(|one| (one.id, one.paused)).collect::<Vec<_>>();
    assert_eq!(ids(orch.webhooks().await.unwrap()), [("chat".to_owned(), true), ("slack".to_owned(), false)]);
    assert!(orch.resume_webhook("chat").await.unwrap() && !orch.resume_webhook("chat").await.unwrap());

    // Changes at the same time are all made.
    let (rotated, paused) = tokio::join!(orch.rotate_webhook_secret("slack", None), orch.pause_webhook("slack", None));
    let now = orch.webhook("slack").await.unwrap();
    assert!(paused.unwrap() && now.paused && now.secrets() == rotated.unwrap().secrets() && now.secrets().len() == 2);

    orch.remove_webhook("slack").await.unwrap();
    assert!(matches!(orch.remove_webhook("slack").await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.webhook("slack").await, Err(Error::NotFound { .. })));
    for n in 1..100 {
        orch.add_webhook(Webhook::new(&format!("n{n}"), "https://example.com/", &[])).await.unwrap();
    }
    let refused = orch.add_webhook(Webhook::new("more", "https://example.com/", &[])).await.unwrap_err();
    assert!(refused.to_string().contains("100 webhooks"), "{refused}");
    redis.command(&["HSET", "{orchestrator.0}:M", "n1", "junk"]).await;
    assert_eq!(orch.webhooks().await.unwrap().len(), 99, "one that cannot be read does not hide the others");
}
