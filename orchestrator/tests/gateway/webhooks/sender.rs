//! One request to a webhook: what it reaches, whom it trusts, how long it waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator::gateway::WebhookSender;
use orchestrator::{Network, Webhook, WebhookPolicy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::receiver::{Got, OK, Receiver};

/// A policy by which this machine may be reached.
pub(super) fn here() -> WebhookPolicy {
    WebhookPolicy { allow: Network::list("127.0.0.0/8,::1").unwrap(), ..WebhookPolicy::default() }
}

fn webhook(url: &str) -> Webhook {
    Webhook::new("slack", url, &[])
}

#[tokio::test]
async fn a_test_event_is_signed_and_its_answer_told() {
    let mut receiver =
        Receiver::answering(&["HTTP/1.1 202 Accepted\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nok"]).await;
    let webhook = webhook(&receiver.url());
    let answer = WebhookSender::new(&here()).unwrap().test(&webhook).await.unwrap();
    assert_eq!((answer.status, answer.retry_after), (202, Some(Duration::from_secs(7))));
    let got = receiver.next().await;
    assert_eq!(got.line, "POST /hook?x=1 HTTP/1.1");
    assert_eq!(got.headers["host"], format!("127.0.0.1:{}", receiver.port));
    assert_eq!(got.headers["content-type"], "application/json");
    assert_eq!(got.headers["user-agent"], concat!("orchestrator/", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        (got.event()["event_type"].as_str(), got.event()["event_id"].as_str()),
        (Some("webhook.test"), Some(got.id()))
    );
    assert!(got.is_signed_by(&webhook.secrets()[0].reveal()));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let mut other = Receiver::answering(&[OK]).await;
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.url());
    let receiver = Receiver::answering(&[&redirect]).await;
    let sender = WebhookSender::new(&here()).unwrap();
    assert_eq!(sender.test(&webhook(&receiver.url())).await.unwrap().status, 307);
    assert!(other.is_quiet());
}

#[tokio::test]
async fn what_is_not_allowed_is_not_even_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let strict = WebhookSender::new(&WebhookPolicy::default()).unwrap();
    let elsewhere = WebhookPolicy { allow: Network::list("10.0.0.0/8").unwrap(), ..WebhookPolicy::default() };
    let elsewhere = WebhookSender::new(&elsewhere).unwrap();
    for (sender, url, why) in [
        (&strict, format!("http://127.0.0.1:{port}/"), "write https"),
        (&strict, format!("https://127.0.0.1:{port}/"), "loopback"),
        (&strict, format!("https://2130706433:{port}/"), "loopback"),
        (&strict, format!("https://[::ffff:127.0.0.1]:{port}/"), "IPv4"),
        (&strict, format!("https://localhost:{port}/"), "loopback"),
        (&elsewhere, format!("http://localhost:{port}/"), "loopback"),
        (&elsewhere, format!("http://0x7f.1:{port}/"), "loopback"),
    ] {
        let said = sender.test(&webhook(&url)).await.expect_err(&url).to_string();
        assert!(said.contains(why), "{url}: {said}");
    }
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err());
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let policy = WebhookPolicy { timeout: Duration::from_millis(200), ..here() };
    let sender = WebhookSender::new(&policy).unwrap();
    let started = Instant::now();
    let said = sender.test(&webhook(&url)).await.unwrap_err().to_string();
    assert!(said.contains("no answer within 200ms") && started.elapsed() < Duration::from_secs(5), "{said}");
    // Over TLS too.
    let said = sender.test(&webhook(&url.replace("http:", "https:"))).await.unwrap_err().to_string();
    assert!(said.contains("no answer within"), "{said}");
    drop(listener);
    assert!(sender.test(&webhook(&url)).await.unwrap_err().to_string().contains("no connection"));
}

#[tokio::test]
async fn a_huge_answer_is_not_read_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Tells how much could be written before the other side hung up.
    let pouring = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        Got::read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n").await.unwrap();
        let (mut written, piece) = (0_u64, vec![b'x'; 64 * 1024]);
        while stream.write_all(&piece).await.is_ok() {
            written += piece.len() as u64;
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        Got::read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"X-More: and more and more\r\n").await.is_ok() {}
        written
    });
    let sender = WebhookSender::new(&here()).unwrap();
    assert_eq!(sender.test(&webhook(&url)).await.unwrap().status, 200, "the head has decided");
    let said = sender.test(&webhook(&url)).await.unwrap_err().to_string();
    assert!(said.contains("broke"), "a head without end: {said}");
    let written = tokio::time::timeout(Duration::from_secs(20), pouring).await.unwrap().unwrap();
    assert!(written < 100 << 20, "{written} bytes were let in, where only the buffers of two sockets should be");
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust us hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            Got::read(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    let trusting = WebhookSender::new(&WebhookPolicy { ca: Some(authority.pem()), ..here() }).unwrap();
    let by_name = webhook(&format!("https://localhost:{port}/"));
    let by_address = webhook(&format!("https://127.0.0.1:{port}/"));
    assert_eq!(trusting.test(&by_name).await.unwrap().status, 204);
    for (sender, webhook) in [(&WebhookSender::new(&here()).unwrap(), &by_name), (&trusting, &by_address)] {
        let said = sender.test(webhook).await.unwrap_err().to_string();
        assert!(said.contains("no TLS") && said.contains("certificate"), "{said}");
    }
    serving.abort();
}
