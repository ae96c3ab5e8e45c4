//! What a command says on standard error: lines for the log, how far it is, and the end of it for the error.

use std::collections::VecDeque;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the end that are kept.
const TAIL_MAX: usize = 4096;
/// Longer lines are parted.
const LINE_MAX: usize = 1 << 16;

/// What a command says to more than the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// `@progress 0.4 text`: how far it is.
    Progress(f64, String),
    /// `@chunk text`: a piece of its output. As a JSON string it may hold anything.
    Chunk(String),
}

/// Who listens to that.
#[async_trait]
pub(super) trait Hears: Sync {
    async fn hear(&self, said: Said);
}

/// The end of what was said.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, line: &[u8]) {
        self.0.extend(line);
        self.0.push_back(b'\n');
        let over = self.0.len().saturating_sub(TAIL_MAX);
        self.0.drain(..over);
    }

    /// The last `most` bytes of it at most, in characters that harm no terminal.
    pub(super) fn text(&self, most: usize) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes).chars().map(harmless).collect();
        let text = text.trim();
        let mut from = text.len().saturating_sub(most);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text[from..].to_owned()
    }
}

fn harmless(c: char) -> char {
    if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

/// Reads to the end. What is meant for `listener` is no part of the tail.
pub(super) async fn listen(stream: Option<impl AsyncRead + Unpin>, tail: &mut Tail, listener: &impl Hears) {
    let Some(mut stream) = stream else { return };
    let (mut buffer, mut line) = ([0; 8192], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        for byte in &buffer[..read] {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE_MAX {
                hear(&line, tail, listener).await;
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        hear(&line, tail, listener).await;
    }
}

async fn hear(line: &[u8], tail: &mut Tail, listener: &impl Hears) {
    let text = String::from_utf8_lossy(line);
    if let Some(said) = read(&text) {
        return listener.hear(said).await;
    }
    tracing::debug!(line = text.trim_end(), "the command says");
    tail.push(line);
}

fn read(line: &str) -> Option<Said> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if let Some(told) = line.strip_prefix("@chunk ") {
        return Some(Said::Chunk(serde_json::from_str(told).unwrap_or_else(|_| told.to_owned())));
    }
    let told = line.strip_prefix("@progress ")?.trim();
    let (share, text) = told.split_once(' ').unwrap_or((told, ""));
    let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
    Some(Said::Progress(share, text.trim().chars().map(harmless).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[async_trait]
    impl Hears for Mutex<Vec<Said>> {
        async fn hear(&self, said: Said) {
            self.lock().expect("one user").push(said);
        }
    }

    #[tokio::test]
    async fn the_end_is_kept_and_what_is_meant_for_others_is_told() {
        let (told, mut tail) = (Mutex::default(), Tail::default());
        let said = format!(
            "{}\n@progress 0.5 half way\n@chunk two \n@chunk \"a\\nb\"\n@progress much\n\x1b[31mred\x07\n@progress 1",
            "x".repeat(100_000)
        );
        listen(Some(said.as_bytes()), &mut tail, &told).await;
        let progress = |share, text: &str| Said::Progress(share, text.into());
        let expected =
            [progress(0.5, "half way"), Said::Chunk("two ".into()), Said::Chunk("a\nb".into()), progress(1.0, "")];
        assert_eq!(*told.lock().expect("one user"), expected);
        let text = tail.text(4096);
        assert!(text.len() <= 4100 && text.starts_with("xxx"), "{}", text.len());
        assert!(text.ends_with("\n@progress much\n\u{fffd}[31mred\u{fffd}"), "{text}");
        assert_eq!((tail.text(4).as_str(), tail.text(2).as_str()), ("d\u{fffd}", ""), "cut between characters");
    }
}
