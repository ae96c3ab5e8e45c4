//! What a command says on standard error: lines for the log, how far it is, and the end of it for the error.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the end that are kept.
const TAIL_MAX: usize = 4096;
/// Longer lines are parted.
const LINE_MAX: usize = 4096;

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

/// Reads to the end; `progress` gets the share and the text of each `@progress 0.4 text`, which is no part of the tail.
pub(super) async fn listen(stream: Option<impl AsyncRead + Unpin>, tail: &mut Tail, progress: impl Fn(f64, &str)) {
    let Some(mut stream) = stream else { return };
    let (mut buffer, mut line) = ([0; 8192], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        for byte in &buffer[..read] {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE_MAX {
                hear(&line, tail, &progress);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        hear(&line, tail, &progress);
    }
}

fn hear(line: &[u8], tail: &mut Tail, progress: &impl Fn(f64, &str)) {
    let text = String::from_utf8_lossy(line);
    if let Some((share, text)) = read_progress(&text) {
        return progress(share, text);
    }
    tracing::debug!(line = text.trim_end(), "the command says");
    tail.push(line);
}

/// `@progress 0.4 text`, the text as one likes.
fn read_progress(line: &str) -> Option<(f64, &str)> {
    let told = line.trim().strip_prefix("@progress ")?.trim_start();
    let (share, text) = told.split_once(' ').unwrap_or((told, ""));
    let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
    Some((share, text.trim()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn the_end_is_kept_and_progress_is_told() {
        let told = RefCell::new(Vec::new());
        let progress = |share, text: &str| told.borrow_mut().push((share, text.to_owned()));
        let mut tail = Tail::default();
        let said =
            format!("{}\n@progress 0.5 half way\n@progress much\n\x1b[31mred\x07\n@progress 1", "x".repeat(10_000));
        listen(Some(said.as_bytes()), &mut tail, progress).await;
        assert_eq!(*told.borrow(), [(0.5, "half way".to_owned()), (1.0, String::new())]);
        let text = tail.text(4096);
        assert!(text.len() <= 4100 && text.starts_with("xxx"), "{}", text.len());
        assert!(text.ends_with("\n@progress much\n\u{fffd}[31mred\u{fffd}"), "{text}");
        assert_eq!((tail.text(4).as_str(), tail.text(2).as_str()), ("d\u{fffd}", ""), "cut between characters");
    }
}
