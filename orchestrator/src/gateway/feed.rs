//! The body of an answer that follows something: Server-Sent Events.
//!
//! It is read as fast as the client takes it: what comes next is asked for when the last of it was handed to the
//! connection, and the connection asks for more only while its buffer has room.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

use super::standing::Standing;
use super::{Gateway, Problem};
use crate::Error;

/// Longest silence: then a comment is sent, so that both sides notice a connection that is gone, and with it the place
/// of the reader, so that a client to whom little is told does not fall behind what is kept.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A read that fails is tried again so often, with such a pause; then the stream ends.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// What the client is told to wait before it comes again.
const RETRY_MS: u32 = 1000;
/// Seconds after which a place may be free.
const FULL_RETRY: u64 = 10;

/// Where a client goes on.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies to pass everything on at once.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a stream tells of.
pub(super) trait Source: Send + 'static {
    /// What comes next, within [`KEEP_ALIVE`]. After an error it is asked again.
    fn next(&mut self) -> impl Future<Output = Result<Step, Error>> + Send;

    /// The line that tells the place behind all that `next` has told; empty when there is none. Without data behind it, a
    /// client notes the place and dispatches no event.
    fn place(&self) -> String;
}

/// What a source tells.
pub(super) enum Step {
    /// Blocks of the stream.
    Told(Bytes),
    /// Nothing for a while. All that was read was told, so that the reader's place is that of the client too.
    Silence,
    /// There is no more, and this is the last word.
    End(Option<Bytes>),
}

/// One client's stream.
struct Feed<S> {
    /// To be sent before anything else is read.
    opening: VecDeque<Bytes>,
    /// What comes next, under way; `None` once the stream is over.
    next: Option<Pending<(Reader<S>, Step)>>,
    /// Over when the gateway closes its connections.
    stopped: Pending<()>,
    /// Over when the client's credential is, which is the last word to it.
    over: Pending<&'static str>,
    _seat: OwnedSemaphorePermit,
}

impl Gateway {
    /// A place among the clients that are told of things as they come.
    pub(super) fn seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::unavailable("as many event streams are open here as may be; try again later", FULL_RETRY)
        })
    }

    /// The answer that tells `first`, and then whatever the source has. Without a `first`, the client learns the place where
    /// it begins, so that it loses nothing when it is cut before anything came. `standing` is that of its credential.
    pub(super) fn stream<S: Source>(
        &self,
        source: S,
        first: Option<Bytes>,
        standing: Standing,
        seat: OwnedSemaphorePermit,
    ) -> Response {
        let place = if first.is_none() { source.place() } else { String::new() };
        let mut opening = VecDeque::from([Bytes::from(format!(": following\nretry: {RETRY_MS}\n{place}\n"))]);
        opening.extend(first);
        let feed = Feed {
            opening,
            next: Some(Reader { source, failed: 0 }.step()),
            stopped: Box::pin(stopped(self.stopped.clone())),
            over: Box::pin(standing.over()),
            _seat: seat,
        };
        let mut response = Response::new(Body::new(feed));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(UNBUFFERED.0, UNBUFFERED.1);
        response
    }
}

async fn stopped(mut stopped: watch::Receiver<()>) {
    // It is over too when nobody can say any more that it is.
    let _ = stopped.changed().await;
}

impl<S: Source> Feed<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(under_way) = &mut self.next else { return Poll::Ready(None) };
        if self.stopped.as_mut().poll(cx).is_ready() {
            self.next = None;
            return Poll::Ready(None);
        }
        if let Some(told) = self.opening.pop_front() {
            return Poll::Ready(Some(told));
        }
        if let Poll::Ready(why) = self.over.as_mut().poll(cx) {
            self.next = None;
            return Poll::Ready(Some(format!(": {why}\n\n").into()));
        }
        let Poll::Ready((reader, step)) = under_way.as_mut().poll(cx) else { return Poll::Pending };
        let place = reader.source.place();
        self.next = Some(reader.step());
        Poll::Ready(match step {
            Step::Told(blocks) => Some(blocks),
            Step::Silence => Some(format!(": still here\n{place}\n").into()),
            Step::End(last) => {
                self.next = None;
                last
            }
        })
    }
}

impl<S: Source> HttpBody for Feed<S> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.get_mut().poll(cx).map(|told| told.map(|told| Ok(Frame::data(told))))
    }
}

/// Reads across a Redis that is away for a while.
struct Reader<S> {
    source: S,
    /// Reads that failed since the last one that did not.
    failed: u32,
}

impl<S: Source> Reader<S> {
    fn step(mut self) -> Pending<(Self, Step)> {
        Box::pin(async move {
            let step = self.next().await;
            (self, step)
        })
    }

    async fn next(&mut self) -> Step {
        while self.failed < TRIES {
            match self.source.next().await {
                Ok(step) => {
                    self.failed = 0;
                    return step;
                }
                Err(error) if self.failed == 0 => tracing::warn!(%error, "a stream waits for Redis"),
                Err(error) => tracing::debug!(%error, "a stream waits for Redis"),
            }
            self.failed += 1;
            sleep(PAUSE).await;
        }
        tracing::warn!("a stream ends: Redis is away for too long");
        Step::End(None)
    }
}
