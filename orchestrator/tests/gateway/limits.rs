//! How often a client may ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use orchestrator::Network;
use orchestrator::gateway::{GatewayConfig, RateLimits};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::support::{Answer, Redis, Running, config, gateway_on, gateway_with, serving};

const NAMES: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

fn limited(limits: RateLimits) -> GatewayConfig {
    let mut config = config();
    config.rate_limits = limits;
    config
}

/// All limits off but that of the default endpoints.
fn only_default(limit: u32) -> GatewayConfig {
    let mut limits = RateLimits::none();
    limits.default = limit;
    limited(limits)
}

/// Asks from an address of this machine.
async fn ask(gateway: SocketAddr, from: Ipv4Addr, line: &str, headers: &str) -> Answer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(gateway).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    Answer::read(stream).await
}

/// What is left, as the answer tells it; nothing when it tells of no limit at all.
fn left(answer: &Answer) -> Option<u32> {
    let told = NAMES.map(|name| answer.headers.get(name).map(|value| value.parse::<u32>().unwrap()));
    assert!(told.iter().all(Option::is_some) || told.iter().all(Option::is_none), "{answer:?}");
    told[1]
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn redis_of(gateway: &Running) -> MultiplexedConnection {
    let client = redis::Client::open(gateway.orch.config().url.as_str()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// The keys of the limits of a gateway's namespace.
async fn keys(gateway: &Running) -> Vec<Vec<u8>> {
    let mut link = redis_of(gateway).await;
    let pattern = format!("{{{}.0}}:L:*", gateway.orch.config().namespace);
    redis::cmd("KEYS").arg(pattern).query_async(&mut link).await.unwrap()
}

/// As if the `n`-th request that was admitted had come so much earlier.
async fn move_back(gateway: &Running, n: isize, seconds: i64) {
    let mut link = redis_of(gateway).await;
    let [key] = &keys(gateway).await[..] else { panic!("one key") };
    let at: i64 = link.lindex(key, n).await.unwrap();
    let _: () = link.lset(key, n, at - seconds * 1_000_000).await.unwrap();
}

#[tokio::test]
async fn two_gateways_admit_exactly_the_limit_whatever_is_forged() {
    const LIMIT: u32 = 40;
    let mut limits = RateLimits::none();
    limits.stats = LIMIT;
    let one = gateway_with(limited(limits)).await;
    let two = serving(one.orch.config().clone(), limited(limits)).await;
    for run in 0..20 {
        let mut clients = JoinSet::new();
        for client in 0..50_u8 {
            let addresses = [one.address, two.address];
            clients.spawn(async move {
                let mut admitted = Vec::new();
                for turn in 0..2_u8 {
                    let forged = format!("X-API-Key: user-key\r\nX-Forwarded-For: 6.6.{client}.{turn}\r\n");
                    let from = Ipv4Addr::new(127, 0, 7, run + 1);
                    let gateway = addresses[usize::from((client + turn) % 2)];
                    let answer = ask(gateway, from, "GET /stats", &forged).await;
                    match answer.status {
                        200 => admitted.extend(left(&answer)),
                        _ => answer.refuses(429, "40 requests a minute"),
                    }
                }
                admitted
            });
        }
        let mut told = clients.join_all().await.concat();
        told.sort_unstable();
        assert_eq!(told, (0..LIMIT).collect::<Vec<_>>(), "run {run}: each place was given once");
    }
}

#[tokio::test]
async fn all_ids_of_a_route_share_what_it_has_and_so_do_its_methods() {
    let gateway = gateway_with(only_default(4)).await;
    for (left_now, path) in [(3, "/tasks/a"), (2, "/tasks/b"), (1, "/tasks/a")] {
        assert_eq!(left(&gateway.get(path, "user-key").await), Some(left_now), "{path}");
    }
    let wrong = gateway.send("DELETE", "/tasks/c", &[], b"").await;
    assert_eq!((wrong.status, left(&wrong)), (405, Some(0)));
    gateway.get("/tasks/d", "user-key").await.refuses(429, "4 requests a minute");
    assert_eq!(left(&gateway.get("/tasks/a/sla", "user-key").await), Some(3), "another route");
    assert_eq!(keys(&gateway).await.len(), 2);
}

#[tokio::test]
async fn unknown_paths_share_one_budget_and_leave_one_key() {
    let gateway = gateway_with(only_default(10)).await;
    for path in 0..10 {
        let answer = gateway.send("GET", &format!("/none/{path}"), &[], b"").await;
        assert_eq!((answer.status, left(&answer)), (404, Some(9 - path)));
    }
    gateway.send("POST", "/another", &[], b"").await.refuses(429, "10 requests a minute");
    let keys = keys(&gateway).await;
    assert_eq!(keys.len(), 1);
    assert!(keys[0].ends_with(b":L:(none) \x7f\0\0\x01"), "{:?}", String::from_utf8_lossy(&keys[0]));
    let ttl: i64 = redis_of(&gateway).await.pttl(&keys[0]).await.unwrap();
    assert!((59_000..=61_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_client_that_goes_on_asking_is_let_in_when_its_window_ends() {
    let gateway = gateway_with(only_default(3)).await;
    for _ in 0..3 {
        assert_eq!(gateway.send("GET", "/", &[], b"").await.status, 200);
    }
    // The first came 50 s ago: in 10 s there is a place.
    move_back(&gateway, 0, 50).await;
    let mut link = redis_of(&gateway).await;
    let key = keys(&gateway).await.remove(0);
    let before: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut link).await.unwrap();
    for _ in 0..50 {
        let answer = gateway.send("GET", "/", &[], b"").await;
        answer.refuses(429, "3 requests a minute here; there is a place again in");
        let wait: u64 = answer.headers["retry-after"].parse().unwrap();
        let reset: u64 = answer.headers["x-ratelimit-reset"].parse().unwrap();
        assert!((5..=10).contains(&wait) && reset.abs_diff(unix_now() + wait) <= 1, "{answer:?}");
    }
    let after: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut link).await.unwrap();
    assert_eq!(before, after, "what is refused leaves no trace");
    move_back(&gateway, 0, 10).await;
    assert_eq!(gateway.send("GET", "/", &[], b"").await.status, 200);
    gateway.send("GET", "/", &[], b"").await.refuses(429, "a place again in 60 s");
    let kept: usize = link.llen(&key).await.unwrap();
    assert_eq!(kept, 3, "the key holds no more than the limit");
}

#[tokio::test]
async fn no_60_seconds_have_more_than_the_limit() {
    let gateway = gateway_with(only_default(4)).await;
    for _ in 0..4 {
        assert_eq!(gateway.send("GET", "/", &[], b"").await.status, 200);
    }
    // Two at the end of the minute before, two at its beginning: only those two make place.
    move_back(&gateway, 0, 61).await;
    move_back(&gateway, 1, 60).await;
    move_back(&gateway, 2, 30).await;
    for admitted in [true, true, false, false] {
        assert_eq!(gateway.send("GET", "/", &[], b"").await.status == 200, admitted);
    }
}

#[tokio::test]
async fn every_answer_tells_the_limit_but_those_to_probes() {
    let gateway = gateway_with(limited(RateLimits::default())).await;
    let json = [("X-API-Key", "agent-key"), ("Content-Type", "application/json")];
    for (method, path, headers, status, limit) in [
        ("GET", "/", &[][..], 200, "60"),
        ("GET", "/health", &[], 200, "300"),
        ("GET", "/tasks/a", &[], 401, "60"),
        ("POST", "/tasks", &[("X-API-Key", "user-key")], 403, "30"),
        ("POST", "/tasks", &json, 400, "30"),
        ("POST", "/events/publish", &json, 400, "100"),
        ("GET", "/approvals/approval_x", &json, 404, "60"),
        ("GET", "/no/such/path", &[], 404, "60"),
        ("PUT", "/health", &[], 405, "300"),
        ("HEAD", "/health", &[], 200, "300"),
    ] {
        let answer = gateway.send(method, path, headers, b"").await;
        assert_eq!((answer.status, answer.headers[NAMES[0]].as_str()), (status, limit), "{method} {path} {answer:?}");
        let reset: u64 = answer.headers[NAMES[2]].parse().unwrap();
        assert!(left(&answer).is_some() && (50..=61).contains(&(reset - unix_now())), "{answer:?}");
        assert!(answer.headers.contains_key("x-request-id"), "{answer:?}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(left(&gateway.send("GET", path, &[], b"").await), None, "{path}");
    }
    assert_eq!(left(&gateway_with(config()).await.send("GET", "/", &[], b"").await), None, "no limit, no headers");
}

#[tokio::test]
async fn a_request_is_counted_before_its_credential_is_judged_or_its_body_read() {
    let mut limits = RateLimits::none();
    limits.tasks = 1;
    let gateway = gateway_with(limited(limits)).await;
    gateway.post("/tasks", "wrong", "").await.refuses(401, "not known");
    gateway.post("/tasks", "agent-key", r#"{"type":"faq","payload":{}}"#).await.refuses(429, "1 requests a minute");
    // The body never comes, and the answer does not wait for it.
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\
                Content-Length: 900000\r\n\r\n";
    gateway.raw(head.as_bytes()).await.refuses(429, "1 requests a minute");
    // A client that sends everything first still reads why it is refused.
    gateway.send("POST", "/tasks", &[], &vec![b'x'; 900_000]).await.refuses(429, "1 requests a minute");
}

#[tokio::test]
async fn whom_a_trusted_proxy_names_is_the_client() {
    let mut behind = only_default(2);
    behind.trusted_proxies = Network::list("127.0.0.1, 10.0.0.0/8").unwrap();
    let gateway = gateway_with(behind).await;
    let asked = async |proxy: [u8; 4], named: &str| {
        let header = format!("X-Forwarded-For: {named}\r\n");
        ask(gateway.address, proxy.into(), "GET /", &header).await.status
    };
    // What the client itself puts in front changes nothing; a second proxy is walked past.
    for (named, status) in [("1.1.1.1", 200), ("6.6.6.6, 1.1.1.1", 200), ("1.1.1.1,10.0.0.9", 429)] {
        assert_eq!(asked([127, 0, 0, 1], named).await, status, "{named}");
    }
    assert_eq!(asked([127, 0, 0, 1], "2.2.2.2").await, 200, "another client");
    for (named, status) in [("3.3.3.3", 200), ("4.4.4.4", 200), ("5.5.5.5", 429)] {
        assert_eq!(asked([127, 0, 0, 2], named).await, status, "not a trusted proxy: {named}");
    }
}

#[tokio::test]
async fn without_redis_requests_go_on_uncounted() {
    let mut redis = Redis::start();
    let gateway = gateway_on(&redis.url(), limited(RateLimits::default())).await;
    assert_eq!(left(&gateway.send("GET", "/", &[], b"").await), Some(59));
    redis.kill();
    let (about, health) = tokio::join!(gateway.send("GET", "/", &[], b""), gateway.send("GET", "/health", &[], b""));
    assert_eq!((about.status, left(&about)), (200, None));
    health.refuses(503, "Redis does not serve now");
    assert_eq!(left(&health), None);
}

#[tokio::test]
async fn what_is_no_list_of_instants_stops_nothing() {
    let gateway = gateway_with(only_default(2)).await;
    assert_eq!(left(&gateway.send("GET", "/", &[], b"").await), Some(1));
    let key = keys(&gateway).await.remove(0);
    let mut link = redis_of(&gateway).await;
    let _: () = link.set(&key, "poked").await.unwrap();
    assert_eq!(left(&gateway.send("GET", "/", &[], b"").await), Some(1), "a key of another type is set aside");
    // An instant of before the clock was set back by an hour, and none at all.
    for poke in ["9000000000000000", "x", ""] {
        let _: () = link.lset(&key, 0, poke).await.unwrap();
        assert_eq!(left(&gateway.send("GET", "/", &[], b"").await), Some(1), "{poke:?}");
    }
}
