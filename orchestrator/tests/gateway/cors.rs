//! What browsers are told about pages of other origins.

use orchestrator::gateway::{GatewayConfig, RateLimits};

use super::support::{Answer, Running, config, gateway, gateway_with};

const PAGE: &str = "https://app.example.com";

/// A gateway whose answers pages of two origins may read, one of them a pattern.
async fn with_origins(limits: RateLimits) -> Running {
    let mut config: GatewayConfig = config();
    config.origins = ["https://*.example.com", "http://localhost:3000"].map(|one| one.parse().unwrap()).into();
    config.rate_limits = limits;
    gateway_with(config).await
}

fn cors_headers(answer: &Answer) -> Vec<&str> {
    answer.headers.keys().filter(|name| name.starts_with("access-control-")).map(String::as_str).collect()
}

#[tokio::test]
async fn a_browser_asks_beforehand_without_a_credential_and_is_not_counted() {
    let mut limits = RateLimits::none();
    (limits.tasks, limits.default) = (1, 1);
    let gateway = with_origins(limits).await;
    for path in ["/tasks", "/tasks", "/tasks/x", "/events/publish", "/no/such/path"] {
        let headers = [
            ("Origin", PAGE),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-api-key, ce-id,CE-tenant,ce-,ce-a b,x-forwarded-for"),
        ];
        let answer = gateway.send("OPTIONS", path, &headers, b"").await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path} {answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
        assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST, PUT, PATCH, DELETE");
        assert_eq!(
            answer.headers["access-control-allow-headers"],
            "authorization, x-api-key, content-type, idempotency-key, last-event-id, traceparent, x-request-id, \
             ce-id, CE-tenant"
        );
        assert_eq!(
            (answer.headers["access-control-max-age"].as_str(), answer.headers["vary"].as_str()),
            ("600", "origin")
        );
        assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{answer:?}");
        assert!(!answer.headers.contains_key("x-ratelimit-limit"), "{answer:?}");
        assert!(answer.headers.contains_key("x-request-id"), "{answer:?}");
    }
}

#[tokio::test]
async fn pages_of_listed_origins_read_answers_and_errors() {
    let mut limits = RateLimits::none();
    limits.tasks = 2;
    let gateway = with_origins(limits).await;
    let origin = ("Origin", "http://localhost:3000");
    let json = [origin, ("X-API-Key", "agent-key"), ("Content-Type", "application/json")];
    for (method, path, headers, body, status) in [
        ("POST", "/tasks", &json[..], r#"{"type":"faq","payload":{}}"#, 200),
        ("POST", "/tasks", &[origin], "", 401),
        ("POST", "/tasks", &[origin], "", 429),
        ("PUT", "/health", &[origin], "", 405),
        ("GET", "/no/such/path", &[origin], "", 404),
    ] {
        let answer = gateway.send(method, path, headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], origin.1, "{answer:?}");
        for readable in ["x-ratelimit-remaining", "retry-after", "x-request-id", "x-complete"] {
            assert!(answer.headers["access-control-expose-headers"].contains(readable), "{answer:?}");
        }
        assert_eq!(answer.headers["vary"], "origin");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_told_nothing() {
    let gateway = with_origins(RateLimits::none()).await;
    for origin in
        ["https://example.com", "https://a.b.example.com", "https://evil.io", "null", "https://app.example.com.evil.io"]
    {
        let asked = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let beforehand = gateway.send("OPTIONS", "/stats", &asked, b"").await;
        let answer = gateway.send("GET", "/health", &[("Origin", origin)], b"").await;
        assert_eq!((beforehand.status, answer.status), (405, 200), "{origin}");
        for answer in [beforehand, answer] {
            assert!(cors_headers(&answer).is_empty(), "{origin} {answer:?}");
            assert_eq!(answer.headers["vary"], "origin", "a cache must not give it to a listed page");
        }
    }
    let plain = gateway.send("GET", "/health", &[], b"").await;
    assert!(cors_headers(&plain).is_empty() && plain.headers["vary"] == "origin");
}

#[tokio::test]
async fn without_the_setting_no_page_reads_anything() {
    let gateway = gateway().await;
    let asked = [("Origin", PAGE), ("Access-Control-Request-Method", "GET")];
    let beforehand = gateway.send("OPTIONS", "/health", &asked, b"").await;
    let answer = gateway.send("GET", "/health", &[("Origin", PAGE)], b"").await;
    assert_eq!((beforehand.status, answer.status), (405, 200));
    assert!(cors_headers(&beforehand).is_empty() && cors_headers(&answer).is_empty(), "{answer:?}");
}
