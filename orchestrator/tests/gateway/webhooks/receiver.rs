//! What receives webhooks: it notes each request as it came, and answers what it was told to.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) const OK: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

/// A receiver on a port of its own, until it is dropped.
pub(super) struct Receiver {
    pub(super) port: u16,
    got: mpsc::UnboundedReceiver<Got>,
    serving: JoinHandle<()>,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) line: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Receiver {
    /// Answers the first request with the first answer, and so on; the last answer stays.
    pub(super) async fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (teller, got) = mpsc::unbounded_channel();
        let mut answers: Vec<String> = answers.iter().rev().map(|answer| (*answer).to_owned()).collect();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
                let got = Got::read(&mut stream).await;
                let _ = teller.send(got);
                // Who has seen enough hangs up.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, got, serving }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?x=1", self.port)
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Got {
        tokio::time::timeout(Duration::from_secs(40), self.got.recv()).await.expect("a request in time").unwrap()
    }

    /// Whether there was no request beside those that were looked at.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.got.try_recv().is_err()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Got {
    pub(super) async fn read(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "a whole head");
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.lines();
        let line = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers: HashMap<String, String> = lines.map(header).collect();
        let length: usize = headers["content-length"].parse().unwrap();
        let mut body = bytes.split_off(head + 4);
        while body.len() < length {
            assert!(stream.read_buf(&mut body).await.unwrap() > 0, "a whole body");
        }
        Self { line, headers, body }
    }

    pub(super) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(super) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of the signatures is by this secret.
    pub(super) fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut signed = format!("{}.{}.", self.id(), self.headers["webhook-timestamp"]).into_bytes();
        signed.extend(&self.body);
        let right = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &signed)));
        self.headers["webhook-signature"].split(' ').any(|signature| signature == right)
    }
}

/// HMAC (RFC 2104) with SHA-256, of a key that is no longer than a block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64);
    let pad = |byte: u8| (0..64).map(|at| key.get(at).unwrap_or(&0) ^ byte).collect::<Vec<u8>>();
    let hash = |parts: [&[u8]; 2]| Sha256::digest(parts.concat()).to_vec();
    hash([&pad(0x5c), &hash([&pad(0x36), message])])
}

#[test]
fn signatures_are_judged_by_the_vector_of_the_standard() {
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,bad v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let got = Got { line: String::new(), headers, body: br#"{"test": 2432232314}"#.to_vec() };
    assert!(got.is_signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    assert!(!got.is_signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"));
}
