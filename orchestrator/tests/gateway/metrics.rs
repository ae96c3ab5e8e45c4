//! Figures: they follow what happens, their labels come from nobody outside, and they are there when Redis is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use orchestrator::gateway::Role;
use orchestrator::{Aging, Config, Incarnation, LEASE};

use super::support::{Redis, Running, config, gateway, gateway_of, gateway_on, gateway_with, settings, strict};

const TASK: &str = r#"{"type":"faq","payload":{}}"#;

/// The figures by name and labels, as told. Fails on what no scraper could read.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut help, mut kinds, mut series) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, said) = rest.split_once(' ').unwrap();
            assert!(said.ends_with('.'), "{line}");
            assert!(help.insert(name), "{name} is described twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} has two types");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} is told twice");
            let bare = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                let family = bare.strip_suffix(end)?;
                (kinds.get(family) == Some(&"histogram")).then_some(family)
            });
            let family = family.unwrap_or(bare);
            assert!(family.starts_with("orchestrator_") && help.contains(family), "no help: {line}");
            match kinds.get(family).unwrap_or_else(|| panic!("no type: {line}")) {
                &"counter" => assert!(family.ends_with("_total"), "{line}"),
                &"histogram" => assert!(family.ends_with("_seconds"), "{line}"),
                kind => assert_eq!(*kind, "gauge", "{line}"),
            }
        }
    }
    series
}

async fn figures(gateway: &Running) -> BTreeMap<String, f64> {
    let answer = gateway.send("GET", "/metrics", &[], b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&answer.text)
}

/// The figures once these are among them.
async fn until(gateway: &Running, wanted: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let started = Instant::now();
    loop {
        let figures = figures(gateway).await;
        if wanted.iter().all(|(name, value)| figures.get(*name) == Some(value)) {
            return figures;
        }
        assert!(started.elapsed() < Duration::from_secs(15), "{wanted:?} are not in {figures:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_oldest_task_is_found_in_an_order_with_aging_too() {
    // A place of the lowest priority lies 90 days ahead.
    let aging = Aging::By(Duration::from_secs(30 * 24 * 3600));
    let gateway = gateway_of(Config { aging, ..settings() }).await;
    assert_eq!(gateway.create(r#"{"type":"faq","payload":{},"priority":"P3"}"#).await.status, 200);
    let queue = gateway.orch.stats().await.unwrap().queues[0].queue.clone();
    let oldest = format!(r#"orchestrator_queue_oldest_age_seconds{{queue="{queue}"}}"#);
    let started = Instant::now();
    while figures(&gateway).await.get(&oldest).is_none_or(|age| !(0.05..60.0).contains(age)) {
        assert!(started.elapsed() < Duration::from_secs(15), "it grows no older");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_figures_follow_what_happens() {
    let gateway = gateway().await;
    let before = figures(&gateway).await;
    assert_eq!(before["orchestrator_http_failed_logins_total"], 0.0, "what has not happened yet is told");
    for _ in 0..3 {
        assert_eq!(gateway.create(TASK).await.status, 200);
    }
    assert_eq!(gateway.get("/approvals/pending", "wrong").await.status, 401);
    assert_eq!(gateway.get("/tasks/none", "user-key").await.status, 404);
    let queue = gateway.orch.stats().await.unwrap().queues[0].queue.clone();
    let after = until(
        &gateway,
        &[
            (r#"orchestrator_http_requests_total{route="/tasks",method="POST",status="200"}"#, 3.0),
            (r#"orchestrator_http_requests_total{route="/tasks/{id}",method="GET",status="404"}"#, 1.0),
            (r#"orchestrator_http_request_duration_seconds_count{route="/tasks"}"#, 3.0),
            (r#"orchestrator_http_request_duration_seconds_bucket{route="/tasks",le="+Inf"}"#, 3.0),
            ("orchestrator_http_failed_logins_total", 1.0),
            (r#"orchestrator_http_problems_total{status="404"}"#, 1.0),
            (r#"orchestrator_http_tasks_created_total{task_type="faq"}"#, 3.0),
            (r#"orchestrator_tasks{state="ready"}"#, 3.0),
            (&format!(r#"orchestrator_queue_ready_tasks{{queue="{queue}"}}"#), 3.0),
            ("orchestrator_redis_up", 1.0),
            ("orchestrator_workers", 0.0),
            ("orchestrator_approvals_pending", 0.0),
            ("orchestrator_sla_at_risk_tasks", 0.0),
        ],
    )
    .await;
    let oldest = format!(r#"orchestrator_queue_oldest_age_seconds{{queue="{queue}"}}"#);
    assert!((0.0..60.0).contains(&after[&oldest]), "{after:#?}");
    let life = Incarnation::join(&gateway.orch, std::slice::from_ref(&queue), &[], 10 * LEASE).await.unwrap();
    let claims = life.step(&[], 2, &[queue], None).await.unwrap().claims;
    let aged = until(&gateway, &[(r#"orchestrator_tasks{state="running"}"#, 2.0), ("orchestrator_workers", 1.0)]).await;
    assert_eq!((claims.len(), aged[r#"orchestrator_tasks{state="ready"}"#]), (2, 1.0));
    assert!(aged[&oldest] > after[&oldest], "a task that waits grows older");
}

#[tokio::test]
async fn open_streams_are_counted_until_they_are_closed() {
    let gateway = gateway().await;
    let head = "GET /events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: user-key\r\n\r\n";
    let mut stream = gateway.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    until(&gateway, &[("orchestrator_http_event_streams", 1.0)]).await;
    drop(stream);
    until(&gateway, &[("orchestrator_http_event_streams", 0.0)]).await;
}

#[tokio::test]
async fn nothing_from_outside_becomes_a_label() {
    let gateway = gateway().await;
    let mut methods = 0;
    for n in 0..40 {
        let path = format!("/tasks/evil{n}");
        gateway.send("GET", &path, &[("X-API-Key", "user-key"), ("X-Request-Id", "evil-id")], b"").await;
        gateway.send("GET", &format!("/evil{n}%0A%22/\"}}?evil=1"), &[], b"").await;
        gateway.get("/approvals/pending", &format!("evil{n}")).await;
        gateway.create(&format!(r#"{{"type":"evil{n}","payload":{{}}}}"#)).await;
        methods += u32::from(gateway.send(&format!("EVIL{n}"), "/tasks", &[], b"").await.status == 405);
    }
    assert_eq!(methods, 40, "odd methods reach the gateway");
    let other = r#"orchestrator_http_requests_total{route="/tasks",method="other",status="405"}"#;
    let figures = until(&gateway, &[(other, 40.0)]).await;
    assert!(!figures.keys().any(|name| name.to_ascii_lowercase().contains("evil")), "{figures:#?}");
    assert_eq!(figures[r#"orchestrator_http_requests_total{route="(none)",method="GET",status="404"}"#], 40.0);
    assert!(figures.len() < 250, "{} figures", figures.len());
}

#[tokio::test]
async fn only_so_many_types_are_told_by_name() {
    let rule = orchestrator::Rule::new("gen.*", "generated");
    let redis = Redis::start();
    let mut settings = Config { approvals: orchestrator::ApprovalPolicy::none(), ..Config::new(&redis.url()) };
    settings.router.add(rule).unwrap();
    let gateway = gateway_of(settings).await;
    for n in 0..205 {
        let answer = gateway.create(&format!(r#"{{"type":"gen.{n}","payload":{{}}}}"#)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    until(&gateway, &[(r#"orchestrator_http_tasks_created_total{task_type="other"}"#, 5.0)]).await;
}

#[tokio::test]
async fn what_people_take_is_told_by_outcome() {
    let gateway = strict().await;
    figures(&gateway).await;
    let (_, yes) = gateway.gated_task(&serde_json::json!({"n": 1})).await;
    let (_, no) = gateway.gated_task(&serde_json::json!({"n": 2})).await;
    until(&gateway, &[("orchestrator_approvals_pending", 2.0), (r#"orchestrator_tasks{state="blocked"}"#, 2.0)]).await;
    let waiting = figures(&gateway).await;
    assert!((0.0..60.0).contains(&waiting["orchestrator_approvals_oldest_age_seconds"]));
    assert_eq!(gateway.post(&format!("/approvals/{yes}/approve"), "admin-key", "{}").await.status, 200);
    assert_eq!(gateway.post(&format!("/approvals/{no}/reject"), "admin-key", r#"{"reason":"no"}"#).await.status, 200);
    let wanted = [
        (r#"orchestrator_task_human_seconds_count{outcome="approved"}"#, 1.0),
        (r#"orchestrator_task_human_seconds_count{outcome="rejected"}"#, 1.0),
        (r#"orchestrator_task_human_seconds_bucket{outcome="approved",le="60"}"#, 1.0),
        ("orchestrator_approvals_pending", 0.0),
    ];
    until(&gateway, &wanted).await;
    // A later look, which sees a third question, counts no decision twice.
    gateway.gated_task(&serde_json::json!({"n": 3})).await;
    let later = until(&gateway, &[("orchestrator_approvals_pending", 1.0)]).await;
    assert_eq!(later[wanted[0].0], 1.0);
}

#[tokio::test]
async fn a_redis_that_is_away_is_a_figure() {
    let mut redis = Redis::start();
    let gateway = gateway_on(&redis.url(), config()).await;
    assert_eq!(gateway.create(TASK).await.status, 200);
    until(&gateway, &[("orchestrator_redis_up", 1.0)]).await;
    redis.kill();
    let created = r#"orchestrator_http_tasks_created_total{task_type="faq"}"#;
    let away = until(&gateway, &[("orchestrator_redis_up", 0.0), (created, 1.0)]).await;
    assert!(!away.contains_key("orchestrator_workers"), "nobody knows: {away:#?}");
    let started = Instant::now();
    let both = tokio::join!(figures(&gateway), figures(&gateway), figures(&gateway), figures(&gateway));
    assert_eq!(both.0["orchestrator_redis_up"], 0.0);
    assert!(started.elapsed() < Duration::from_secs(6), "scrapers wait once, together: {:?}", started.elapsed());
    redis.restart();
    until(&gateway, &[("orchestrator_redis_up", 1.0), ("orchestrator_workers", 0.0)]).await;
}

#[tokio::test]
async fn a_full_queue_is_no_rate_limit() {
    let redis = Redis::start();
    let gateway = gateway_of(Config { queue_max: 1, ..Config::new(&redis.url()) }).await;
    assert_eq!((gateway.create(TASK).await.status, gateway.create(TASK).await.status), (200, 429));
    let figures = until(&gateway, &[(r#"orchestrator_http_problems_total{status="429"}"#, 1.0)]).await;
    let limited = figures.iter().filter(|(name, _)| name.starts_with("orchestrator_http_rate_limited_total{"));
    let limited: Vec<f64> = limited.map(|(_, value)| *value).collect();
    assert!(
        limited.len() > 10 && limited.iter().sum::<f64>() == 0.0,
        "each route is watched from the start: {figures:#?}"
    );
}

#[tokio::test]
async fn scraping_asks_redis_once_a_second() {
    let redis = Redis::start();
    let gateway = gateway_on(&redis.url(), config()).await;
    let calls = || async {
        let client = redis::Client::open(redis.url()).unwrap();
        let mut link = client.get_multiplexed_async_connection().await.unwrap();
        let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut link).await.unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_zcard:calls="));
        line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    figures(&gateway).await;
    let (started, before) = (Instant::now(), calls().await);
    for _ in 0..300 {
        figures(&gateway).await;
    }
    let (looks, asked) = (1 + started.elapsed().as_secs(), calls().await - before);
    // A look counts seven sorted sets.
    assert!(asked <= 10 * looks + 10, "{asked} counts for {looks} looks");
}

#[tokio::test]
async fn who_may_read_the_figures_can_be_narrowed() {
    let mut config = config();
    config.metrics_role = Some(Role::Agent);
    let gateway = gateway_with(config).await;
    gateway.send("GET", "/metrics", &[], b"").await.refuses(401, "needs a credential");
    gateway.get("/metrics", "user-key").await.refuses(403, "needs the role agent");
    assert_eq!(gateway.get("/metrics", "agent-key").await.status, 200);
}
