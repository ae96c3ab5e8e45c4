//! The body of an answer that follows a task's output: Server-Sent Events up to the task's end. Read as fast as the client
//! takes it, as `feed.rs`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::feed::{End, KEEP_ALIVE, PAUSE, Pending, RETRY_MS, TRIES};
use crate::{Chunk, Chunks, Error};

/// One client's reading of a task's output.
pub(super) struct OutputFeed {
    /// To be sent before anything else is read.
    opening: VecDeque<Bytes>,
    /// What comes next, under way; `None` once the stream is over.
    next: Option<Pending<(Reader, Step)>>,
    end: End,
    _seat: OwnedSemaphorePermit,
}

impl OutputFeed {
    pub(super) fn new(chunks: Chunks, end: End, seat: OwnedSemaphorePermit) -> Self {
        let id = id(chunks.place());
        let opening = VecDeque::from([Bytes::from(format!(": following\nretry: {RETRY_MS}\n{id}\n"))]);
        Self { opening, next: Some(Reader { chunks, failed: 0 }.step()), end, _seat: seat }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(under_way) = &mut self.next else { return Poll::Ready(self.opening.pop_front()) };
        if self.end.stopped(cx) {
            self.next = None;
            return Poll::Ready(None);
        }
        if let Some(told) = self.opening.pop_front() {
            return Poll::Ready(Some(told));
        }
        if let Some(why) = self.end.over(cx) {
            self.next = None;
            return Poll::Ready(Some(format!(": {why}\n\n").into()));
        }
        let Poll::Ready((reader, step)) = under_way.as_mut().poll(cx) else { return Poll::Pending };
        Poll::Ready(match step {
            Step::Some(chunks) => {
                self.next = Some(reader.step());
                Some(blocks(&chunks))
            }
            Step::Silence => {
                let told = format!(": still here\n{}\n", id(reader.chunks.place()));
                self.next = Some(reader.step());
                Some(told.into())
            }
            Step::End => {
                self.next = None;
                let (place, status) = (reader.chunks.place(), reader.chunks.status());
                Some(format!("{}event: end\ndata: {}\n\n", id(place), json!({"status": status})).into())
            }
            Step::Broken => {
                self.next = None;
                None
            }
        })
    }
}

impl HttpBody for OutputFeed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.get_mut().poll(cx).map(|told| told.map(|told| Ok(Frame::data(told))))
    }
}

/// The line that tells a place; none at the beginning.
fn id(place: u64) -> String {
    if place == 0 { String::new() } else { format!("id: {place}\n") }
}

fn blocks(chunks: &[Chunk]) -> Bytes {
    let mut text = String::new();
    for chunk in chunks {
        let data = serde_json::to_string(chunk).unwrap_or_default();
        let _ = write!(text, "id: {}\nevent: chunk\ndata: {data}\n\n", chunk.number);
    }
    text.into()
}

/// Reads across a Redis that is away for a while.
struct Reader {
    chunks: Chunks,
    /// Reads that failed since the last one that did not.
    failed: u32,
}

enum Step {
    Some(Vec<Chunk>),
    Silence,
    End,
    Broken,
}

impl Reader {
    fn step(mut self) -> Pending<(Self, Step)> {
        Box::pin(async move {
            let step = self.next().await;
            (self, step)
        })
    }

    async fn next(&mut self) -> Step {
        while self.failed < TRIES {
            let outcome = timeout(KEEP_ALIVE, self.chunks.next_some()).await;
            if !matches!(outcome, Ok(Err(_))) {
                self.failed = 0;
            }
            match outcome {
                Err(_) => return Step::Silence,
                Ok(Ok(Some(chunks))) => return Step::Some(chunks),
                Ok(Ok(None)) => return Step::End,
                Ok(Err(Error::NotFound { .. })) => return Step::Broken,
                Ok(Err(error)) => tracing::debug!(%error, "a reader of output waits for Redis"),
            }
            self.failed += 1;
            sleep(PAUSE).await;
        }
        tracing::warn!("a stream of output ends: Redis is away for too long");
        Step::Broken
    }
}
