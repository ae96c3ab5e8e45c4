//! A client of a stream of events: it reads block by block, and can be cut at any byte.

use std::time::Duration;

use orchestrator::{NewEvent, Orchestrator};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::Running;

const PATIENCE: Duration = Duration::from_secs(20);

/// A stream that is open.
pub(crate) struct Follower {
    stream: TcpStream,
    /// Read and not looked at yet.
    rest: Vec<u8>,
    pub(crate) head: String,
    /// The last id that was told.
    pub(crate) id: Option<String>,
}

/// One event as it came.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Follower {
    /// Asks for `path`, behind `last`, and reads until the stream has begun.
    pub(crate) async fn open(gateway: &Running, path: &str, last: Option<&str>) -> Self {
        let mut headers = vec![("X-API-Key", "user-key")];
        headers.extend(last.map(|last| ("Last-Event-ID", last)));
        Self::open_with(gateway, path, &headers).await
    }

    /// Asks for `path` with these headers and no others.
    pub(crate) async fn open_with(gateway: &Running, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = gateway.connect().await;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // By the older version of the protocol the body comes as it is, without chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: h\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut follower = Self { stream, rest: Vec::new(), head: String::new(), id: None };
        follower.head = follower.until("\r\n\r\n").await.expect("a head");
        assert!(follower.head.contains(" 200 OK"), "{}", follower.head);
        let opening = follower.until("\n\n").await.expect("an opening");
        assert!(opening.starts_with(": following\nretry: "), "{opening}");
        follower.id = opening.lines().find_map(|line| line.strip_prefix("id: ")).map(Into::into);
        follower
    }

    /// The next event; `None` when the stream has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Block> {
        loop {
            let text = self.until("\n\n").await?;
            if text.starts_with(':') {
                // It may tell a place all the same.
                self.id = text.lines().find_map(|line| line.strip_prefix("id: ")).map(Into::into).or(self.id.take());
                continue;
            }
            let field = |name: &str| {
                let mut found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let value = found.next().map(str::to_owned);
                assert!(found.next().is_none(), "one line each: {text}");
                value
            };
            let id = field("id");
            self.id = id.clone().or(self.id.take());
            let data = serde_json::from_str(&field("data").expect("data")).expect("JSON");
            return Some(Block { name: field("event").expect("a name"), id, data });
        }
    }

    /// What comes next, be it a comment.
    pub(crate) async fn raw(&mut self) -> String {
        self.until("\n\n").await.expect("more of the stream")
    }

    /// What comes before `end`; `None` at the end of the connection.
    async fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.rest.windows(end.len()).position(|bytes| bytes == end.as_bytes()) {
                let text = self.rest.drain(..at + end.len()).take(at).collect();
                return Some(String::from_utf8(text).unwrap());
            }
            let mut bytes = vec![0; 1 << 16];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("more of the stream");
            match read.unwrap_or(0) {
                0 => {
                    assert!(self.rest.is_empty(), "cut off: {:?}", String::from_utf8_lossy(&self.rest));
                    return None;
                }
                read => self.rest.extend_from_slice(&bytes[..read]),
            }
        }
    }
}

/// Tells an event.
pub(crate) async fn tell(orch: &Orchestrator, event_type: &str, payload: usize) {
    orch.publish(&NewEvent::new(event_type, &payload)).await.unwrap();
}
