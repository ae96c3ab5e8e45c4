//! Events over HTTP: telling them, and following them as they are told.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

use super::audience::Audience;
use super::cloud_event::CloudEvent;
use super::event_feed::{EventFeed, Form};
use super::feed::LAST_EVENT_ID;
use super::new_event::{NewEventBody, from_cloud_event, in_headers, traceparent};
use super::query::Pairs;
use super::standing::Standing;
use super::tasks::idempotency_key;
use super::{Caller, Gateway, Problem, body, cloud_event};
use crate::{Error, EventCursor, EventsFrom, patterns};

/// How long the answer may wait for the first event that is wanted; the search then goes on behind it.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// An event that was told.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPublished {
    success: bool,
    event_type: String,
    event_id: String,
    /// The same in words.
    message: String,
}

/// Tell an event
///
/// Everybody who follows it reads it. CloudEvents are taken as well, in structured mode (as the body) and in binary mode
/// (the attributes in headers `ce-…`, the data as the body).
#[utoipa::path(
    post, path = "/events/publish", tag = "events", operation_id = "publish_event",
    params(
        ("traceparent" = Option<String>, Header, description = "Puts the event into this trace (W3C Trace Context)"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
         description = "Of your choice: the same event under the same key is told once, for 24 h"),
    ),
    request_body(content((NewEventBody = "application/json"), (CloudEvent = "application/cloudevents+json"))),
    responses(
        (status = 200, description = "It was told", body = EventPublished),
        (status = 409, description = "Its id was made more than a minute ago, so that nobody knows whether it was told since; or another event was told under this Idempotency-Key"),
    ),
)]
pub(super) async fn publish(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<EventPublished>, Problem> {
    let trace = traceparent(&headers);
    let trace = trace.as_deref();
    let namespace = &gateway.orch.config().namespace;
    let (event_type, mut event) = match declared(&headers) {
        cloud_event::MANY => {
            let said = format!("send one event at a time, as {}", cloud_event::ONE);
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, said));
        }
        cloud_event::ONE => {
            let (attributes, _place) = gateway.read_body(request).await?;
            from_cloud_event(attributes, namespace, trace).map_err(|what| unfit(&what))?
        }
        _ => match in_headers(&headers) {
            Ok(None) => {
                let (asked, _place) = gateway.read_body::<NewEventBody>(request).await?;
                (asked.event_type.clone(), asked.into_event(&caller.name, trace))
            }
            Ok(Some(mut attributes)) => {
                let (data, _place) = gateway.read_value(request).await?;
                attributes.extend(data.map(|data| ("data".to_owned(), data)));
                from_cloud_event(attributes, namespace, trace).map_err(|what| unfit(&what))?
            }
            Err(what) => {
                body::discard(request).await;
                return Err(unfit(&what));
            }
        },
    };
    if let Some(tenant) = &caller.tenant {
        if let Some(task) = event.task_id() {
            gateway.check_task(&caller, task).await.map_err(|problem| problem.of_field("task_id"))?;
        }
        // Whatever it says itself.
        event = event.metadata("tenant", tenant.as_str());
    }
    let event = match idempotency_key(&headers)? {
        Some(key) => {
            let whose = format!("{} {}", caller.tenant.as_deref().unwrap_or_default(), caller.name);
            event.idempotency_key(&whose, key)
        }
        None => event,
    };
    let event_id = gateway.change(gateway.orch.publish(&event)).await.map_err(|error| refused(&error))?;
    let message = format!("Event published: {event_type}");
    Ok(Json(EventPublished { success: true, event_type, event_id, message }))
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
        Error::Conflict { what } if what.starts_with("LATE") => {
            let said = "id: this id was made more than a minute ago, and whether it was told since is not known any more; \
                        send it within a minute, or under a new id";
            Problem::new(StatusCode::CONFLICT, said)
        }
        other => Problem::of(other),
    }
}

/// The media type of the body, in small letters, without its parameters.
fn declared(headers: &HeaderMap) -> &'static str {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    [cloud_event::ONE, cloud_event::MANY].into_iter().find(|known| kind.eq_ignore_ascii_case(known)).unwrap_or_default()
}

/// Whether one of these media types is asked for by name, and plain JSON not more so. `*/*` asks for what is usual here.
pub(super) fn asks_for(headers: &HeaderMap, media: &[&str]) -> bool {
    let (mut asked, mut plain) = (0.0f32, 0.0f32);
    let given = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in given.flat_map(|value| split(value, ',')) {
        let mut parts = split(range, ';').into_iter();
        let name = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|part| part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")));
        let weight = weight.map_or(Ok(1.0), |(_, weight)| weight.trim().parse::<f32>());
        // A range whose weight is no number asks for nothing.
        let weight = weight.ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0);
        if media.iter().any(|media| name.eq_ignore_ascii_case(media)) {
            asked = asked.max(weight);
        } else if name.eq_ignore_ascii_case("application/json") {
            plain = plain.max(weight);
        }
    }
    asked > 0.0 && asked >= plain
}

/// The parts of a header between separators, none of which counts within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |c| {
        let is_escaped = std::mem::take(&mut escaped);
        match c {
            '"' if !is_escaped => quoted = !quoted,
            '\\' if quoted && !is_escaped => escaped = true,
            _ => {}
        }
        c == separator && !quoted
    });
    parts.map(str::trim).collect()
}

/// Follow events
///
/// Server-Sent Events without end: `id` is the place behind which to go on, `event` the type, `data` an `Event`, or a
/// `CloudEvent` for whoever asks for `application/cloudevents+json`. A comment comes when nothing else does for 15 seconds.
/// An event named `gap` says that events were missed. The stream begins behind the header `Last-Event-ID`, else where `from`
/// says; any gateway of the namespace goes on where another one ended. A stream that was opened with a token ends when the
/// token does.
#[utoipa::path(
    get, path = "/events", tag = "events", operation_id = "follow_events",
    params(
        ("types" = Option<String>, Query, example = "deploy.*,task.failed",
         description = "Which types: names, or words with `*` for any one word; 100 at most. All unless told"),
        ("from" = Option<String>, Query, example = "oldest",
         description = "Where to begin: `now` (the default), `oldest`, the id of an event, or an instant with its zone"),
        ("Last-Event-ID" = Option<String>, Header, description = "The place behind which to begin; wins over `from`"),
    ),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = String,
         example = "id: 1790000000000-0.0\nevent: task.completed\ndata: {\"event_type\":\"task.completed\"}\n\n"),
        (status = 503, description = "Redis does not serve now, or as many streams are open here as may be"),
    ),
)]
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Extension(standing): Extension<Standing>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    let wanted = patterns(pairs.one("types")?.unwrap_or_default())?;
    let from = beginning(&headers, pairs.one("from")?)?;
    let seat = gateway.seat()?;
    let events = gateway.orch.events(&wanted, from);
    let mut events = Audience::new(&gateway.orch, events, caller.tenant.as_deref());
    let first = match tokio::time::timeout(LOOK_TIME, events.next_if_any()).await {
        Ok(first) => first?,
        // There is much to look through.
        Err(_) if events.cursor().is_some() => None,
        Err(_) => {
            let reason = format!("no answer within {LOOK_TIME:?}");
            return Err(Problem::of(&Error::Unavailable { reason, source: None }));
        }
    };
    let form = match asks_for(&headers, &[cloud_event::ONE]) {
        true => Form::CloudEvents { namespace: gateway.orch.config().namespace.clone() },
        false => Form::Ours,
    };
    let feed = EventFeed { events, form };
    let first = first.map(|heard| feed.block(&heard));
    Ok(gateway.stream(feed, first, standing, seat))
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
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn cloud_events_come_to_those_who_ask_for_them_by_name() {
        let asks = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for accept in accept {
                headers.append(ACCEPT, HeaderValue::from_static(accept));
            }
            asks_for(&headers, &[cloud_event::ONE, cloud_event::MANY])
        };
        for accept in [
            "application/cloudevents+json",
            "Application/CloudEvents+JSON; charset=\"utf-8\"",
            "application/cloudevents-batch+json",
            "text/event-stream, application/cloudevents+json;q=0.2",
            "application/json;q=0.5,application/cloudevents+json ; Q=0.5",
            "application/cloudevents+json;profile=\"a,b;q=0\"",
            "application/cloudevents+json;q=0, application/cloudevents-batch+json",
            "application/cloudevents+json, */*;q=0.1",
        ] {
            assert!(asks(&[accept]), "{accept}");
        }
        assert!(asks(&["text/event-stream", "application/cloudevents+json"]));
        for accept in [
            "",
            "*/*",
            "application/*",
            "application/json",
            "text/event-stream",
            "application/cloudevents+json;q=0",
            "application/cloudevents+json; q=0.000",
            "application/cloudevents+json;q=much",
            "application/cloudevents+json;q=0.4, application/json;q=0.5",
            "application/cloudevents+xml",
            "xapplication/cloudevents+json",
            "text/plain;note=\"application/cloudevents+json, application/cloudevents+json\"",
        ] {
            assert!(!asks(&[accept]), "{accept}");
        }
        assert!(!asks(&[]));
    }

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
