//! `health`: asks a gateway or a worker how it is, for the health checks of containers. It needs no Redis and no curl.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failure::Failure;
use super::output::Output;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Most that is read of an answer, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// What to ask, by plain HTTP [default: http://127.0.0.1:$ORCHESTRATOR_PORT/readyz, else of port 8000]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) async fn run(command: Health, out: &mut Output) -> Result<(), Failure> {
    let port = || std::env::var("ORCHESTRATOR_PORT").ok().filter(|port| !port.is_empty());
    let own = || format!("http://127.0.0.1:{}/readyz", port().unwrap_or_else(|| "8000".into()));
    let url = command.url.unwrap_or_else(own);
    let (host, path) = split(&url)?;
    let asked = tokio::time::timeout(PATIENCE, ask(&host, &path)).await;
    let asked = asked.map_err(|_| Failure::refused(format!("{url} does not answer within {PATIENCE:?}")))?;
    let status = asked.map_err(|error| Failure::refused(format!("{url} does not answer: {error}")))?;
    match status {
        Some(200) if out.is_json() => out.object(&json!({"url": url, "status": 200})),
        Some(200) => out.line(&format!("{url} is well")),
        Some(status) => Err(Failure::refused(format!("{url} answers {status}"))),
        None => Err(Failure::refused(format!("{url} does not answer in HTTP"))),
    }
}

/// Host with port, and path.
fn split(url: &str) -> Result<(String, String), Failure> {
    let wrong = || Failure::usage(format!("`{url}` cannot be asked; write a URL like http://127.0.0.1:8000/readyz"));
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_fit = !host.is_empty() && !url.contains(|c: char| c.is_whitespace() || c.is_control());
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:80") };
    if is_fit { Ok((host, format!("/{path}"))) } else { Err(wrong()) }
}

/// The status of the answer; `None` when it is none.
async fn ask(host: &str, path: &str) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    let head = String::from_utf8_lossy(&answer);
    Ok(head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()))
}
