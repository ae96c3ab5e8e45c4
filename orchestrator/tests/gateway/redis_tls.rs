//! TLS to Redis. Not every server program has it, so what speaks TLS here stands in front of a plain server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator::{ApprovalPolicy, Config, Error, Incarnation, LEASE, NewTask, Offer, Orchestrator, RedisTls, Wake};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Identity};
use super::support::Redis;

/// What speaks TLS in front of a server, until it is dropped.
struct Front {
    port: u16,
    serving: JoinHandle<()>,
}

impl Front {
    async fn of(redis: &Redis, identity: &Identity, clients: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server(clients)));
        let socket = redis.url().replace("unix://", "");
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(stream).await else { return };
                    let mut server = UnixStream::connect(socket).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, serving }
    }

    fn config(&self, host: &str, tls: &RedisTls) -> Config {
        let url = format!("rediss://{host}:{}", self.port);
        Config { redis_tls: tls.clone(), approvals: ApprovalPolicy::none(), ..Config::new(&url) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn trusting(authority: &Authority) -> RedisTls {
    RedisTls { ca: Some(authority.pem()), ..RedisTls::default() }
}

fn showing(authority: &Authority, own: &Identity) -> RedisTls {
    RedisTls { certificate: Some(own.certificate.clone()), key: Some(own.key.clone()), ..trusting(authority) }
}

/// Why there is no connection; the time in which that is told is bounded.
async fn refusal(config: Config) -> Error {
    let started = Instant::now();
    let error = Orchestrator::with_config(config).await.expect_err("no connection");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?} {error}", started.elapsed());
    error
}

/// A task from its submission to its result, over blocking waits on both sides.
async fn one_task(orch: &Orchestrator) {
    let queues = vec!["encrypted".to_owned()];
    let life = Incarnation::join(orch, &queues, &[] as &[Offer], 10 * LEASE).await.unwrap();
    let bell = life.doorbell();
    assert!(life.step(&[], 1, &queues, None).await.unwrap().claims.is_empty());
    let waiting = tokio::spawn(async move { bell.wait(&["encrypted".to_owned()], Duration::from_secs(20)).await });
    let task = NewTask::<Value>::new("faq", &json!({"large": "x".repeat(100_000)})).queue("encrypted");
    let handle = orch.enqueue(task).await.unwrap();
    let result = tokio::spawn(handle.result().into_future());
    assert_eq!(waiting.await.unwrap().unwrap(), Some(Wake::Work("encrypted".into())));
    let claim = life.step(&[], 1, &queues, None).await.unwrap().claims.pop().expect("the task");
    assert_eq!(claim.args()["large"].as_str().map(str::len), Some(100_000));
    life.step(&[claim.complete(&[0x2a])], 0, &queues, None).await.unwrap();
    assert_eq!(result.await.unwrap().unwrap(), json!(42));
}

#[tokio::test]
async fn a_task_goes_through_when_the_authority_is_trusted() {
    let (redis, authority) = (Redis::start(), Authority::new());
    let front = Front::of(&redis, &authority.identity("localhost"), None).await;
    let orch = Orchestrator::with_config(front.config("localhost", &trusting(&authority))).await.unwrap();
    one_task(&orch).await;
}

#[tokio::test]
async fn who_is_not_known_is_refused() {
    let (redis, authority) = (Redis::start(), Authority::new());
    let front = Front::of(&redis, &authority.identity("localhost"), None).await;
    for tls in [RedisTls::default(), trusting(&Authority::new())] {
        let error = refusal(front.config("localhost", &tls)).await;
        let said = error.to_string();
        assert!(matches!(error, Error::Unfit { .. }) && said.contains("UnknownIssuer"), "{said}");
        assert!(
            said.contains(&format!("localhost:{}", front.port)) && said.contains("ORCHESTRATOR_REDIS_CA"),
            "{said}"
        );
    }
    let said = refusal(front.config("127.0.0.1", &trusting(&authority))).await.to_string();
    assert!(said.contains("not valid for name") && said.contains("for that host"), "{said}");
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_when_one_is_demanded() {
    let (redis, authority, clients) = (Redis::start(), Authority::new(), Authority::new());
    let front = Front::of(&redis, &authority.identity("localhost"), Some(&clients)).await;
    let own = clients.identity("worker");
    let orch = Orchestrator::with_config(front.config("localhost", &showing(&authority, &own))).await.unwrap();
    one_task(&orch).await;
    let stranger = showing(&authority, &Authority::new().identity("worker"));
    for (tls, part) in [(trusting(&authority), "CertificateRequired"), (stranger, "UnknownCA")] {
        let error = refusal(front.config("localhost", &tls)).await;
        let said = error.to_string();
        assert!(matches!(error, Error::Unfit { .. }) && said.contains("ORCHESTRATOR_REDIS_CERT"), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_named() {
    let (redis, authority) = (Redis::start(), Authority::new());
    let front = Front::of(&redis, &authority.identity("localhost"), None).await;
    let (own, other) = (authority.identity("one"), authority.identity("two"));
    let key = |key: &str| RedisTls { key: Some(key.into()), ..showing(&authority, &own) };
    for (tls, part) in [
        (
            RedisTls { ca: Some("hello".into()), ..RedisTls::default() },
            "ORCHESTRATOR_REDIS_CA has no sound certificate",
        ),
        (RedisTls { certificate: Some("hello".into()), ..key(&own.key) }, "ORCHESTRATOR_REDIS_CERT has no sound"),
        (RedisTls { key: None, ..key("") }, "goes with its private key"),
        (key("hello"), "rivate key"),
        (key(&other.key), "KeyMismatch"),
    ] {
        let error = refusal(front.config("localhost", &tls)).await;
        let said = error.to_string();
        assert!(matches!(error, Error::Invalid { .. }) && said.contains(part), "{part}: {said}");
        assert!(!said.contains("PRIVATE KEY") && !format!("{tls:?}").contains("PRIVATE KEY"), "{said} {tls:?}");
    }
    let plain = Config { redis_tls: trusting(&authority), ..Config::new("redis://localhost:1") };
    assert!(refusal(plain).await.to_string().contains("not encrypted"));
    let url = format!("rediss://u:hidden@localhost:{}#insecure", front.port);
    let said = refusal(Config::new(&url)).await.to_string();
    assert!(said.contains("always verified") && !said.contains("hidden"), "{said}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_of_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://localhost:{}", listener.local_addr().unwrap().port());
    let error = refusal(Config::new(&url)).await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_user_with_a_password_of_any_characters_works_and_is_never_shown() {
    let (redis, authority) = (Redis::start(), Authority::new());
    redis.command(&["ACL", "SETUSER", "app", "on", ">p@ss:w/rd#%", "~*", "&*", "+@all"]).await;
    redis.command(&["CONFIG", "SET", "requirepass", "another"]).await;
    let front = Front::of(&redis, &authority.identity("localhost"), None).await;
    let with = |user: &str| front.config(&format!("{user}@localhost"), &trusting(&authority));
    let config = with("app:p%40ss%3Aw%2Frd%23%25");
    let shown = format!("{config:?}");
    let orch = Orchestrator::with_config(config).await.unwrap();
    one_task(&orch).await;
    for shown in [shown, format!("{orch:?}")] {
        assert!(!shown.contains("p%40ss") && !shown.contains("p@ss"), "{shown}");
    }
    for user in ["app:p%40ss-hidden", "nobody:hidden", ":hidden"] {
        let error = refusal(with(user)).await;
        let said = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(said.contains("does not accept the user or the password"), "{user}: {said}");
        assert!(said.contains("localhost") && !said.contains("hidden"), "{user}: {said}");
    }
    for url in
        ["rediss://u:hidden@", "rediss://u:hidden@localhost:port", "rediss://u:hidden@localhost/db", "redis:u:hidden"]
    {
        let said = refusal(Config::new(url)).await.to_string();
        assert!(said.contains("rediss://host:6379") && !said.contains("hidden"), "{url}: {said}");
    }
}
