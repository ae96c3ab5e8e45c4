//! Events over HTTP: telling them, and following them as they are told.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use chrono::DateTime;
use serde_json::{Value, json};

use super::feed::Feed;
use super::new_event::NewEventBody;
use super::query::Pairs;
use super::{Caller, Gateway, Problem};
use crate::{Error, EventCursor, EventsFrom, patterns};

/// How long the answer may wait for the first event that is wanted; the search then goes on behind it.
const LOOK_TIME: Duration = Duration::from_secs(2);
/// Seconds after which a place may be free.
const FULL_RETRY: u64 = 10;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies to pass every event on at once.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// `POST /events/publish`
pub(super) async fn publish(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (asked, place) = gateway.read_body::<NewEventBody>(request).await?;
    let event_type = asked.event_type.clone();
    let event = asked.into_event(&caller.name);
    drop(place);
    let id = gateway.orch.publish(&event).await.map_err(|error| refused(&error))?;
    let message = format!("Event published: {event_type}");
    Ok(Json(json!({"success": true, "event_type": event_type, "event_id": id, "message": message})))
}

/// An event that could not be told, or of which nobody knows.
fn refused(error: &Error) -> Problem {
    match error {
        Error::Unavailable { .. } => {
            let state = super::health::state(error);
            tracing::warn!(%error, "an event was told and no answer came");
            let said = format!("Redis does not serve now: {state}. Whether the event was told is not known");
            Problem::unavailable(said, 2).with("redis", state)
        }
        other => Problem::of(other),
    }
}

/// `GET /events?types=&from=`
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let wanted = patterns(pairs.one("types")?.unwrap_or_default())?;
    let from = beginning(&headers, pairs.one("from")?)?;
    let place = Arc::clone(&gateway.streams).try_acquire_owned().map_err(|_| {
        Problem::unavailable("as many event streams are open here as may be; try again later", FULL_RETRY)
    })?;
    let mut events = gateway.orch.events(&wanted, from);
    let first = match tokio::time::timeout(LOOK_TIME, events.next_if_any()).await {
        Ok(first) => first?,
        // There is much to look through.
        Err(_) if events.cursor().is_some() => None,
        Err(_) => {
            let reason = format!("no answer within {LOOK_TIME:?}");
            return Err(Problem::of(&Error::Unavailable { reason, source: None }));
        }
    };
    let mut response = Response::new(Body::new(Feed::new(events, first.as_ref(), gateway.stopped.clone(), place)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(UNBUFFERED.0, UNBUFFERED.1);
    Ok(response)
}

/// Where a reader begins: behind what it read last, else where it asks to.
fn beginning(headers: &HeaderMap, from: Option<&str>) -> Result<EventsFrom, Problem> {
    if let Some(last) = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty()) {
        let last = String::from_utf8_lossy(last.as_bytes());
        let cursor = last.parse().map_err(|error: Error| unfit(&format!("Last-Event-ID: {error}")))?;
        return Ok(EventsFrom::Behind(cursor));
    }
    match from {
        None | Some("now") => Ok(EventsFrom::Now),
        Some("oldest") => Ok(EventsFrom::Oldest),
        Some(text) => place(text).map(EventsFrom::Behind).ok_or_else(|| {
            unfit(&format!(
                "from: `{}` is no place in the event stream; write oldest, now, the id of an event as it was streamed \
                 (1790000000000-0.0), or an instant with its zone (2030-01-31T12:00:00Z)",
                crate::error::excerpt(text)
            ))
        }),
    }
}

/// The place that an event's id or an instant means. In a query, a bare `+` has become a space.
fn place(text: &str) -> Option<EventCursor> {
    let instant = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|at| EventCursor::at(at.to_utc()));
    let plus = || text.rsplit_once(' ').map(|(instant, zone)| format!("{instant}+{zone}"));
    text.parse().ok().or_else(|| instant(text)).or_else(|| instant(&plus()?))
}

fn unfit(what: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_begins_where_it_says() {
        let mut headers = HeaderMap::new();
        let said = |headers: &HeaderMap, from| beginning(headers, from).map_err(|problem| problem.said().1.to_owned());
        let cursor = |text: &str| Ok(EventsFrom::Behind(text.parse().expect("a cursor")));
        assert_eq!(said(&headers, None), Ok(EventsFrom::Now));
        assert_eq!(said(&headers, Some("now")), Ok(EventsFrom::Now));
        assert_eq!(said(&headers, Some("oldest")), Ok(EventsFrom::Oldest));
        assert_eq!(said(&headers, Some("1790000000000-0.2")), cursor("1790000000000-0.2"));
        let utc = said(&headers, Some("2030-01-31T12:00:00Z"));
        assert!(utc.is_ok());
        for same in ["2030-01-31T14:00:00+02:00", "2030-01-31T14:00:00 02:00"] {
            assert_eq!(said(&headers, Some(same)), utc, "{same}");
        }
        for wrong in ["", "yesterday", "1790000000000", "2030-01-31", "2030-01-31T12:00:00"] {
            assert!(said(&headers, Some(wrong)).expect_err(wrong).contains("oldest, now"), "{wrong}");
        }
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("1790000000000-7.0"));
        assert_eq!(said(&headers, Some("oldest")), cursor("1790000000000-7.0"), "the header wins");
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("oldest"));
        assert!(said(&headers, None).expect_err("no cursor").starts_with("Last-Event-ID: `oldest`"));
    }
}
