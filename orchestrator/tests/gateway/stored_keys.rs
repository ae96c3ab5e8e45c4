//! API keys that are kept in Redis: made, used, expired, revoked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator::gateway::Role;
use orchestrator::{API_KEYS_MAX, Error};
use tokio::task::JoinSet;

use super::follower::Follower;
use super::support::{Answer, Redis, Running, config, gateway, gateway_on};

const CLOSED: &str = "/approvals/pending";
/// What no key of ours is, in the form of one.
fn made_up(n: u64) -> String {
    format!("ork_{n:016x}_{}", "0".repeat(64))
}

async fn key(gateway: &Running, name: &str, role: Role) -> String {
    gateway.orch.create_key(name, role, None, None).await.unwrap().1.reveal().to_owned()
}

/// What all of these are answered, at the same time.
async fn shown(gateway: &Arc<Running>, keys: impl IntoIterator<Item = String>) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for key in keys {
        let gateway = Arc::clone(gateway);
        asking.spawn(async move { gateway.get(CLOSED, &key).await });
    }
    asking.join_all().await
}

/// How often Redis was asked for a whole hash.
async fn reads(gateway: &Running) -> u64 {
    let client = redis::Client::open(gateway.orch.config().url.as_str()).unwrap();
    let mut link = client.get_multiplexed_async_connection().await.unwrap();
    let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut link).await.unwrap();
    let line = told.lines().find(|line| line.starts_with("cmdstat_hgetall:")).unwrap_or_default();
    line.split(['=', ',']).nth(1).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn a_new_key_works_at_once_and_does_what_its_role_may() {
    let gateway = gateway().await;
    for round in 0..5 {
        // What was read just now does not know the next key.
        gateway.get(CLOSED, &made_up(round)).await.refuses(401, "not known");
        let key = key(&gateway, &format!("ci-{round}"), Role::User).await;
        assert_eq!(gateway.get(CLOSED, &key).await.status, 200);
        gateway.post("/tasks", &key, "{}").await.refuses(403, &format!("ci-{round} has the role user"));
    }
    let agent = key(&gateway, "agent", Role::Agent).await;
    let created = gateway.post("/tasks", &agent, r#"{"type":"faq","payload":{}}"#).await;
    assert_eq!(created.body["task"]["requested_by"], "agent", "{created:?}");
    let other = key(&gateway, "other", Role::Admin).await;
    for wrong in [
        format!("{}{}", &agent[..21], &other[21..]),
        agent.to_uppercase(),
        agent[..84].to_owned(),
        format!("{agent}0"),
        agent.replace("ork_", ""),
        agent[..20].to_owned(),
        made_up(u64::MAX),
    ] {
        let refused = gateway.get(CLOSED, &wrong).await;
        refused.refuses(401, "not known");
        assert!(refused.headers["www-authenticate"].contains("invalid_token"));
    }
    let bearer = format!("Bearer {agent}");
    gateway.send("GET", CLOSED, &[("Authorization", &bearer)], b"").await.refuses(401, "cannot be read");
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_two_seconds_and_an_expired_one_is_told_so() {
    let gateway = gateway().await;
    let secret = key(&gateway, "ci", Role::User).await;
    assert_eq!(gateway.get(CLOSED, &secret).await.status, 200);
    let known = gateway.orch.revoke_key("CI").await.unwrap();
    let revoked = Instant::now();
    while gateway.get(CLOSED, &secret).await.status != 401 {
        assert!(revoked.elapsed() < Duration::from_millis(2500), "it still works");
    }
    assert!(matches!(gateway.orch.revoke_key(&known.id).await, Err(Error::NotFound { .. })));
    let secret = key(&gateway, "ci", Role::User).await;
    let mut stream = Follower::open_with(&gateway, "/events", &[("X-API-Key", &secret)]).await;
    gateway.orch.revoke_key("ci").await.unwrap();
    let revoked = Instant::now();
    assert_eq!(stream.raw().await, ": the API key was revoked", "what it has opened ends");
    assert!(revoked.elapsed() < Duration::from_millis(2500), "{:?}", revoked.elapsed());
    key(&gateway, "ci", Role::User).await;

    let life = Some(Duration::from_secs(2));
    let (brief, secret) = gateway.orch.create_key("brief", Role::User, None, life).await.unwrap();
    assert_eq!(brief.expires_at.map(|end| end - brief.created_at), Some(chrono::TimeDelta::seconds(2)));
    // A stream that was opened with it ends with it.
    let stream = gateway.get("/events", secret.reveal()).await;
    assert!(stream.status == 200 && stream.text.contains(": the API key has expired"), "{stream:?}");
    let ended = Instant::now();
    let refused = loop {
        // The clock that counts is Redis's.
        match gateway.get(CLOSED, secret.reveal()).await {
            answer if answer.status == 200 && ended.elapsed() < Duration::from_secs(1) => {}
            answer => break answer,
        }
    };
    refused.refuses(401, "this API key has expired");
    let listed = gateway.orch.api_keys().await.unwrap();
    assert_eq!(listed.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["brief", "ci"]);
}

#[tokio::test]
async fn made_up_ids_cost_redis_ten_reads_a_second_at_most() {
    let gateway = Arc::new(gateway().await);
    let secret = key(&gateway, "ci", Role::User).await;
    let (before, began) = (reads(&gateway).await, Instant::now());
    let (answers, fair) =
        tokio::join!(shown(&gateway, (0..300).map(made_up)), shown(&gateway, vec![secret.clone(); 20]));
    answers.iter().for_each(|answer| answer.refuses(401, "not known"));
    assert!(fair.iter().all(|answer| answer.status == 200));
    let most = 5 + u64::try_from(began.elapsed().as_millis() / 100).unwrap();
    let read = reads(&gateway).await - before;
    assert!(read <= most && read < 100, "{read} reads in {:?}", began.elapsed());
    // One after the other, too.
    let (before, began) = (reads(&gateway).await, Instant::now());
    for n in 0..10 {
        gateway.get(CLOSED, &made_up(n)).await.refuses(401, "not known");
    }
    // The gateway asks for its webhooks meanwhile.
    let most = 3 + u64::try_from(began.elapsed().as_millis() / 100).unwrap();
    assert!(reads(&gateway).await - before <= most, "in {:?}", began.elapsed());
    // Who shows a known key, right or wrong, causes none within two seconds.
    let before = reads(&gateway).await;
    let wrong = format!("{}_{}", &secret[..20], "0".repeat(64));
    let began = Instant::now();
    for _ in 0..50 {
        gateway.get(CLOSED, &wrong).await.refuses(401, "not known");
        assert_eq!(gateway.get(CLOSED, &secret).await.status, 200);
    }
    let most = 4 + 2 * began.elapsed().as_secs();
    assert!(reads(&gateway).await - before <= most);
}

#[tokio::test]
async fn the_last_use_is_noted_and_not_more_than_once_a_minute() {
    let gateway = gateway().await;
    let secret = key(&gateway, "ci", Role::User).await;
    assert_eq!(gateway.orch.api_key("ci").await.unwrap().last_used_at, None);
    gateway.get(CLOSED, &made_up(1)).await.refuses(401, "not known");
    gateway.get(CLOSED, &format!("{}_{}", &secret[..20], "0".repeat(64))).await.refuses(401, "not known");
    assert_eq!(gateway.orch.api_key("ci").await.unwrap().last_used_at, None, "who is refused has not used it");
    let used = async || {
        let began = Instant::now();
        loop {
            if let Some(at) = gateway.orch.api_key("ci").await.unwrap().last_used_at {
                return at;
            }
            assert!(began.elapsed() < Duration::from_secs(5), "its use is not noted");
        }
    };
    assert_eq!(gateway.get(CLOSED, &secret).await.status, 200);
    let first = used().await;
    // Another gateway of the namespace notes nothing either, so soon.
    let settings = gateway.orch.config().clone();
    let other = super::support::gateway_of(settings).await;
    for gateway in [&gateway, &other, &gateway, &other] {
        assert_eq!(gateway.get(CLOSED, &secret).await.status, 200);
    }
    assert_eq!(used().await, first);
}

#[tokio::test]
async fn without_redis_nobody_is_told_that_a_key_is_wrong() {
    let mut redis = Redis::start();
    let gateway = Arc::new(gateway_on(&redis.url(), config()).await);
    let secret = key(&gateway, "ci", Role::User).await;
    redis.kill();
    let began = Instant::now();
    let keys = (0..20).map(|n| if n % 2 == 0 { secret.clone() } else { made_up(n) });
    for answer in shown(&gateway, keys).await {
        answer.refuses(503, "Redis does not serve");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "they do not wait for one another: {:?}", began.elapsed());
    // Who can be judged without Redis is: his request fails for its own reasons.
    gateway.get("/events?from=x", "user-key").await.refuses(422, "no place");
    redis.restart();
    // It kept nothing: the key is gone.
    let began = Instant::now();
    while gateway.get(CLOSED, &secret).await.status != 401 {
        assert!(began.elapsed() < Duration::from_secs(20), "Redis is back");
    }
}

#[tokio::test]
async fn names_are_given_once_and_the_table_has_a_bound() {
    let gateway = gateway().await;
    let orch = &gateway.orch;
    let make = async |name: &str| orch.create_key(name, Role::User, None, None).await;
    make("Ci").await.unwrap();
    for twin in ["Ci", "ci", "CI"] {
        let said = make(twin).await.unwrap_err();
        assert!(matches!(&said, Error::Conflict { .. }) && said.to_string().contains("revoke it first"), "{said}");
    }
    for wrong in ["", "a b", "é", &"x".repeat(65), "0123456789abcdef", "=ci", "@ci"] {
        assert!(matches!(make(wrong).await, Err(Error::Invalid { .. })), "{wrong}");
    }
    for (tenant, life) in [(Some("ACME"), None), (Some(""), None), (None, Some(0)), (None, Some(367 * 24 * 3600))] {
        let made = orch.create_key("x", Role::User, tenant, life.map(Duration::from_secs)).await;
        assert!(matches!(made, Err(Error::Invalid { .. })), "{tenant:?} {life:?}");
    }
    for n in 1..API_KEYS_MAX {
        make(&format!("k{n}")).await.unwrap();
    }
    assert!(make("one-more").await.unwrap_err().to_string().contains("1000 API keys"));
    orch.revoke_key("k7").await.unwrap();
    make("one-more").await.unwrap();
    assert_eq!(orch.api_keys().await.unwrap().len(), API_KEYS_MAX);
}
