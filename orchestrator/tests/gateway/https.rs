//! HTTPS, with a real client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator::gateway::{GatewayConfig, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, SupportedProtocolVersion};

use super::authority::Authority;
use super::support::{Answer, Running, config, gateway_with};

struct Https {
    gateway: Running,
    authority: Authority,
}

impl Https {
    async fn start(settings: GatewayConfig) -> Self {
        let authority = Authority::new();
        let identity = authority.identity("localhost");
        let mut settings = settings;
        settings.tls = Some(ServerTls::from_pem(&identity.certificate, &identity.key).unwrap());
        Self { gateway: gateway_with(settings).await, authority }
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> TlsConnector {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = self.gateway.connect().await;
        self.client(&[&TLS13], &["http/1.1"]).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn send(&self, head: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        let lines = "Host: localhost\r\nConnection: close\r\nX-API-Key: agent-key\r\nContent-Type: application/json";
        let request = format!("{head} HTTP/1.1\r\n{lines}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::read(stream).await
    }
}

#[tokio::test]
async fn requests_and_answers_of_any_size_go_through() {
    let https = Https::start(config()).await;
    assert_eq!(https.send("GET /health", "").await.status, 200);
    let large = "x".repeat(900_000);
    let created = https.send("POST /tasks", &format!(r#"{{"type":"faq","payload":{{"text":"{large}"}}}}"#)).await;
    assert_eq!(created.status, 200, "{created:?}");
    let path = format!("GET /tasks/{}", created.body["task_id"].as_str().unwrap());
    assert_eq!(https.send(&path, "").await.body["task"]["payload"]["text"], large.as_str());
    https.send("GET /none", "").await.refuses(404, "no such route");
}

#[tokio::test]
async fn both_versions_of_tls_and_http_1_1_are_spoken_and_nothing_else() {
    let https = Https::start(config()).await;
    let connect = async |versions: &[&'static SupportedProtocolVersion], alpn: &[&str]| {
        let stream = https.gateway.connect().await;
        https.client(versions, alpn).connect("localhost".try_into().unwrap(), stream).await
    };
    for version in [&TLS12, &TLS13] {
        let stream = connect(&[version], &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(connect(&[version], &[]).await.is_ok(), "a client that names none is taken");
        assert!(connect(&[version], &["h2"]).await.is_err(), "there is no HTTP/2");
    }
    let mut plain = https.gateway.connect().await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "nothing is answered in the clear");
    assert_eq!(https.send("GET /livez", "").await.status, 200, "that harmed nobody");
}

#[tokio::test]
async fn who_does_not_shake_hands_loses_the_place() {
    let mut narrow = config();
    (narrow.connections_max, narrow.head_timeout) = (1, Duration::from_millis(500));
    let https = Https::start(narrow).await;
    let mut silent = https.gateway.connect().await;
    let started = Instant::now();
    let answer = https.send("GET /livez", "").await;
    assert_eq!(answer.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(400), "the one place was taken: {:?}", started.elapsed());
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0, "it was closed");
    // After the handshake the head has its time, as ever.
    let mut idle = https.connect().await;
    idle.write_all(b"GET /li").await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(10), idle.read_to_end(&mut Vec::new())).await;
    assert!(cut.is_ok(), "a head that does not come is not waited for");
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_waits_for_no_handshake() {
    let mut https = Https::start(config()).await;
    let mut under_way = https.connect().await;
    let body = r#"{"type":"faq","payload":{}}"#;
    let head = format!(
        "POST /tasks HTTP/1.1\r\nHost: h\r\nX-API-Key: agent-key\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();
    let mut idle = https.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);
    let mut silent = https.gateway.connect().await;
    assert_eq!(https.send("GET /livez", "").await.status, 200, "all of them are accepted by now");

    https.gateway.stop();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0, "closed in order, with TLS's own good-bye");
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    under_way.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(under_way).await.status, 200);
    tokio::time::timeout(Duration::from_secs(5), https.gateway.served).await.expect("it ends").unwrap();
}
