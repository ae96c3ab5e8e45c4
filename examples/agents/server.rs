//! Serves the current release of a site over HTTP: files by GET, and nothing outside the release.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::site::HEALTH;

/// A request's head is no longer.
const HEAD_MAX: usize = 8 * 1024;
/// A file that is served is no larger.
const FILE_MAX: u64 = 4 * 1024 * 1024;
/// Nobody takes longer to ask, or to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// At most this many requests are answered at a time; others wait.
const AT_ONCE: usize = 64;

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves what `<site>/current` leads to, at the time of each request, on a free port of this machine only.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(site: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, site.join("current")));
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, current: PathBuf) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // Dropped with this future, and then all connections are.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let current = current.clone();
                connections.spawn(async move {
                    // Who goes away in the middle gets no answer; there is nobody to tell.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, current)).await;
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What is answered to one request.
#[derive(Debug)]
struct Answer {
    status: &'static str,
    kind: &'static str,
    release: String,
    body: Vec<u8>,
}

impl Answer {
    fn plain(status: &'static str) -> Self {
        let body = format!("{status}\n").into_bytes();
        Self { status, kind: "text/plain; charset=utf-8", release: String::new(), body }
    }
}

async fn answer(mut stream: TcpStream, current: PathBuf) -> io::Result<()> {
    let mut head = Vec::new();
    let answer = loop {
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&head).into_owned();
            break tokio::task::spawn_blocking(move || respond(&head, &current)).await?;
        }
        if head.len() > HEAD_MAX {
            break Answer::plain("431 Request Header Fields Too Large");
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let Answer { status, kind, release, body } = answer;
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let release = if release.is_empty() { release } else { format!("X-Release: {release}\r\n") };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}{release}\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

fn respond(head: &str, current: &Path) -> Answer {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Answer::plain("400 Bad Request");
    };
    if method != "GET" {
        return Answer::plain("405 Method Not Allowed");
    }
    let Some(path) = file_of(target) else {
        return Answer::plain("400 Bad Request");
    };
    // Resolved once: a switch in the middle of a request does not mix two releases.
    let Ok(release) = current.canonicalize() else {
        return Answer::plain("503 Service Unavailable");
    };
    let Some(body) = contents(&release, &path) else {
        return Answer::plain("404 Not Found");
    };
    let sick = path == Path::new(HEALTH) && !is_passing(&body);
    let status = if sick { "503 Service Unavailable" } else { "200 OK" };
    let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Answer { status, kind: kind_of(&path), release, body }
}

/// The file that a request's target means; `None` for what would lead out of the release.
fn file_of(target: &str) -> Option<PathBuf> {
    let path = target.strip_prefix('/')?.split(['?', '#']).next()?;
    let path = match path {
        "" => "index.html".to_owned(),
        "health" => HEALTH.to_owned(),
        path => unescaped(path)?,
    };
    let fine =
        |part: Component<'_>| matches!(part, Component::Normal(name) if !name.to_string_lossy().starts_with('.'));
    let path = PathBuf::from(path);
    path.components().all(fine).then_some(path)
}

/// `%20` and the like made what they stand for.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        };
        if byte < b' ' || byte == b'\\' {
            return None;
        }
        plain.push(byte);
    }
    String::from_utf8(plain).ok()
}

/// What a file of the release says; `None` when there is none, when a link leads out of the release, and when it is
/// too large.
fn contents(release: &Path, path: &Path) -> Option<Vec<u8>> {
    let file = release.join(path).canonicalize().ok().filter(|file| file.starts_with(release))?;
    let about = file.metadata().ok()?;
    (about.is_file() && about.len() <= FILE_MAX).then(|| std::fs::read(file).ok())?
}

fn is_passing(health: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(health).is_ok_and(|health| health["status"] == "passing")
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("css") => "text/css; charset=utf-8",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
