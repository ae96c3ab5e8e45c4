//! The wire protocol of Redis (RESP2), as far as it takes to tell where a request or a reply ends.

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// One end of a connection, read frame by frame.
pub(crate) struct Side {
    pub(crate) stream: UnixStream,
    buffer: Vec<u8>,
}

impl Side {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads more; `None` at the end.
    pub(crate) async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// The next whole request or reply; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = frame_length(&self.buffer) {
                return Some(self.buffer.drain(..length).collect());
            }
            self.fill().await?;
        }
    }
}

/// How many bytes the first value of RESP2 takes, once it is there whole.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let count = || std::str::from_utf8(&bytes[1..line]).ok()?.parse::<i64>().ok();
    let mut at = line + 2;
    match bytes[0] {
        b'$' => at += usize::try_from(count()?).map_or(0, |length| length + 2),
        b'*' => {
            for _ in 0..count()?.max(0) {
                at += frame_length(bytes.get(at..)?)?;
            }
        }
        _ => {}
    }
    (at <= bytes.len()).then_some(at)
}
