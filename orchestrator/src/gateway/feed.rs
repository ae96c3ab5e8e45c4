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
use tokio::time::sleep;

use super::audience::Audience;
use super::cloud_event;
use super::standing::Standing;
use crate::{Event, EventCursor, Heard};

/// Longest silence: then a comment is sent, so that both sides notice a connection that is gone, and with it the place
/// of the reader, so that a client to whom little is told does not fall behind what is kept.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A read that fails is tried again so often, with such a pause; then the stream ends.
pub(super) const TRIES: u32 = 30;
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// What the client is told to wait before it comes again.
pub(super) const RETRY_MS: u32 = 1000;

pub(super) type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How events are written.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// As they are.
    Ours,
    /// As CloudEvents of this namespace.
    CloudEvents { namespace: String },
}

/// What ends a stream from outside.
pub(super) struct End {
    /// Over when the gateway closes its connections.
    stopped: Pending<()>,
    /// Over when the client's credential is, which is the last word to it.
    over: Pending<&'static str>,
}

impl End {
    /// `standing` is that of the client's credential.
    pub(super) fn new(mut stopped: watch::Receiver<()>, standing: Standing) -> Self {
        Self {
            stopped: Box::pin(async move {
                // It is over too when nobody can say any more that it is.
                let _ = stopped.changed().await;
            }),
            over: Box::pin(standing.over()),
        }
    }

    /// Whether the gateway closes its connections.
    pub(super) fn stopped(&mut self, cx: &mut Context<'_>) -> bool {
        self.stopped.as_mut().poll(cx).is_ready()
    }

    /// Why the client's credential is over, when it is.
    pub(super) fn over(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        match self.over.as_mut().poll(cx) {
            Poll::Ready(why) => Some(why),
            Poll::Pending => None,
        }
    }
}

/// One client's stream of events.
pub(super) struct Feed {
    /// To be sent before anything else is read.
    opening: VecDeque<Bytes>,
    /// The next event under way; `None` once the stream is over.
    next: Option<Pending<(Reader, Step)>>,
    form: Form,
    end: End,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// Tells `first`, and then whatever `events` has. Without a `first`, the client learns the place where it begins, so
    /// that it loses nothing when it is cut before the first event.
    pub(super) fn new(
        events: Audience,
        first: Option<&Heard>,
        form: Form,
        end: End,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let id = match first {
            None => id(events.cursor()),
            Some(_) => String::new(),
        };
        let mut opening = VecDeque::from([Bytes::from(format!(": following\nretry: {RETRY_MS}\n{id}\n"))]);
        opening.extend(first.map(|heard| form.block(heard, events.cursor())));
        let next = Some(Reader { events, failed: 0 }.step());
        Self { opening, next, form, end, _place: place }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(under_way) = &mut self.next else { return Poll::Ready(None) };
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
        let place = reader.events.cursor();
        self.next = Some(reader.step());
        Poll::Ready(match step {
            Step::Heard(heard) => Some(self.form.block(&heard, place)),
            Step::Silence => Some(format!(": still here\n{}\n", id(place)).into()),
            Step::Over => {
                self.next = None;
                None
            }
        })
    }
}

impl HttpBody for Feed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.get_mut().poll(cx).map(|told| told.map(|told| Ok(Frame::data(told))))
    }
}

/// Reads across a Redis that is away for a while.
struct Reader {
    events: Audience,
    /// Reads that failed since the last one that did not.
    failed: u32,
}

enum Step {
    Heard(Heard),
    /// Nothing for a while. All that was read was told, so that the reader's place is that of the client too.
    Silence,
    Over,
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
            match self.events.next_within(KEEP_ALIVE).await {
                Ok(heard) => {
                    self.failed = 0;
                    return heard.map_or(Step::Silence, Step::Heard);
                }
                Err(error) if self.failed == 0 => tracing::warn!(%error, "an event stream waits for Redis"),
                Err(error) => tracing::debug!(%error, "an event stream waits for Redis"),
            }
            self.failed += 1;
            sleep(PAUSE).await;
        }
        tracing::warn!("an event stream ends: Redis is away for too long");
        Step::Over
    }
}

impl Form {
    /// What the client reads of what was heard; `place` is the reader's then.
    fn block(&self, heard: &Heard, place: Option<EventCursor>) -> Bytes {
        match heard {
            Heard::Event(event) => self.told(event).into(),
            Heard::Gap => {
                let detail =
                    "events between where you were and here are not kept any more; what follows is whole again";
                let data = match self {
                    Self::Ours => json!({"detail": detail}),
                    Self::CloudEvents { namespace } => {
                        cloud_event::gap(namespace, &format!("{:032x}", rand::random::<u128>()), detail)
                    }
                };
                // The reader may be ahead of what it tells next, so that its place is none of the client's, which keeps
                // its own: it is told of the gap twice rather than of an event never. A reader that begins anew is not.
                let id = id(place.filter(|place| *place == EventCursor::default()));
                format!("{id}event: gap\ndata: {data}\n\n").into()
            }
        }
    }

    fn told(&self, event: &Event) -> String {
        // Nothing may break a line: JSON never does, and a type does not unless somebody else wrote it.
        let event_type: String = event.event_type.chars().filter(|c| !c.is_control()).collect();
        let data = match self {
            Self::Ours => serde_json::to_string(event).unwrap_or_default(),
            Self::CloudEvents { namespace } => cloud_event::told(event, namespace).to_string(),
        };
        format!("id: {}\nevent: {event_type}\ndata: {data}\n\n", event.cursor)
    }
}

/// The line that tells a place. Without data behind it, a client notes the place and dispatches no event.
fn id(place: Option<EventCursor>) -> String {
    place.map(|place| format!("id: {place}\n")).unwrap_or_default()
}
