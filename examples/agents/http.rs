//! Fetches a page over HTTP from this machine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A page comes within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of a longer page nothing is kept.
const LONGEST: u64 = 8 * 1024 * 1024;

/// A page that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status, 200 when all is well.
    pub status: u16,
    /// The release that it is of, if the server says so.
    pub release: Option<String>,
    /// The page.
    pub body: Vec<u8>,
}

/// Fetches `path`, which is sent as it is.
///
/// # Errors
/// When the address is not of this machine, nothing answers in time, or what comes is no whole answer.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Page> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not on this machine")));
    }
    let fetch = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(LONGEST).read_to_end(&mut bytes).await?;
        parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is no whole answer"))
    };
    timeout(PATIENCE, fetch).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn parse(bytes: &[u8]) -> Option<Page> {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let field = |name: &str| {
        let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let body = bytes[end + 4..].to_vec();
    let whole = field("Content-Length")?.parse() == Ok(body.len());
    whole.then(|| Page { status, release: field("X-Release").map(str::to_owned), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_counts() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Release: r\r\n\r\nhi";
        let page = Page { status: 200, release: Some("r".into()), body: b"hi".to_vec() };
        assert_eq!(parse(text.as_bytes()), Some(page));
        assert_eq!(parse(&text.as_bytes()[..text.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nhi"), None);
    }

    #[tokio::test]
    async fn nothing_outside_this_machine_is_asked() {
        let error = get(([192, 0, 2, 1], 80).into(), "/").await.expect_err("not here");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
