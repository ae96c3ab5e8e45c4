//! The body of an answer that follows events: Server-Sent Events, without end.
//!
//! It is read as fast as the client takes it: the next event is asked for when the last one was handed to the
//! connection, and the connection asks for more only while its buffer has room.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep, sleep};

use crate::{Event, Events, Heard};

/// Longest silence: then a comment is sent, so that both sides notice a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b": still here\n\n");
/// A read that fails is tried again so often, with such a pause; then the stream ends.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// What the client is told to wait before it comes again.
const RETRY_MS: u32 = 1000;

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One client's stream of events.
pub(super) struct Feed {
    /// To be sent before anything else is read.
    opening: VecDeque<Bytes>,
    /// The next event under way; `None` once the stream is over.
    next: Option<Pending<Option<(Events, Heard)>>>,
    silence: Pin<Box<Sleep>>,
    /// Over when the gateway closes its connections.
    stopped: Pending<()>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// Tells `first`, and then whatever `events` has. Without a `first`, the client learns the place where it begins, so
    /// that it loses nothing when it is cut before the first event.
    pub(super) fn new(
        events: Events,
        first: Option<&Heard>,
        mut stopped: watch::Receiver<()>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let id = match (first, events.cursor()) {
            (None, Some(cursor)) => format!("id: {cursor}\n"),
            _ => String::new(),
        };
        let mut opening = VecDeque::from([Bytes::from(format!(": following\nretry: {RETRY_MS}\n{id}\n"))]);
        opening.extend(first.map(block));
        Self {
            opening,
            next: Some(Box::pin(next(events))),
            silence: Box::pin(sleep(KEEP_ALIVE)),
            stopped: Box::pin(async move {
                // It is over too when nobody can say any more that it is.
                let _ = stopped.changed().await;
            }),
            _place: place,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(under_way) = &mut self.next else { return Poll::Ready(None) };
        if self.stopped.as_mut().poll(cx).is_ready() {
            self.next = None;
            return Poll::Ready(None);
        }
        if let Some(told) = self.opening.pop_front() {
            return Poll::Ready(Some(told));
        }
        if let Poll::Ready(heard) = under_way.as_mut().poll(cx) {
            self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
            let Some((events, heard)) = heard else {
                self.next = None;
                return Poll::Ready(None);
            };
            self.next = Some(Box::pin(next(events)));
            return Poll::Ready(Some(block(&heard)));
        }
        if self.silence.as_mut().poll(cx).is_ready() {
            self.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(Some(COMMENT));
        }
        Poll::Pending
    }
}

impl HttpBody for Feed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.get_mut().poll(cx).map(|told| told.map(|told| Ok(Frame::data(told))))
    }
}

/// Waits for the next event, across a Redis that is away for a while.
async fn next(mut events: Events) -> Option<(Events, Heard)> {
    for tried in 0..TRIES {
        match events.next().await {
            Ok(heard) => return Some((events, heard)),
            Err(error) if tried == 0 => tracing::warn!(%error, "an event stream waits for Redis"),
            Err(error) => tracing::debug!(%error, "an event stream waits for Redis"),
        }
        sleep(PAUSE).await;
    }
    tracing::warn!("an event stream ends: Redis is away for too long");
    None
}

/// What the client reads of it.
fn block(heard: &Heard) -> Bytes {
    match heard {
        Heard::Event(event) => told(event).into(),
        Heard::Gap => {
            let detail = "events between where you were and here are not kept any more; what follows is whole again";
            format!("event: gap\ndata: {}\n\n", json!({"detail": detail})).into()
        }
    }
}

fn told(event: &Event) -> String {
    // Nothing may break a line: JSON never does, and a type does not unless somebody else wrote it.
    let event_type: String = event.event_type.chars().filter(|c| !c.is_control()).collect();
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {event_type}\ndata: {data}\n\n", event.cursor)
}
