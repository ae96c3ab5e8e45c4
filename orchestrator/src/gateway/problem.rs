//! What the gateway says when it cannot do what was asked: one shape for every error.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::Error;

/// Longest text shown to a caller, in characters.
const DETAIL_MAX: usize = 1000;

/// An error on its way to the caller. It becomes a body in one place, [`Problem::render`].
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u64>,
    challenge: Option<&'static str>,
    full: bool,
    more: Map<String, Value>,
}

impl Problem {
    /// `detail` tells what was wrong and what is right.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, challenge: None, full: false, more: Map::new() }
    }

    /// The caller has to say who he is, or said it wrong.
    pub(super) fn unauthorized(detail: impl Into<String>, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    /// The caller showed something that is not good.
    pub(super) fn bad_credential(detail: impl Into<String>) -> Self {
        Self::unauthorized(detail, super::caller::BAD)
    }

    /// Not now; perhaps in `seconds`.
    pub(super) fn unavailable(detail: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// The client asked too often; in `seconds` it may again.
    pub(super) fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// The status and the text, for answers of another shape.
    pub(super) fn said(&self) -> (StatusCode, &str) {
        (self.status, &self.detail)
    }

    /// Whether a queue is full, so that its status is not about this caller.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// What a field names is not there: then the request is wrong, not its path.
    pub(super) fn of_field(self, field: &str) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {}", self.detail)),
            _ => self,
        }
    }

    /// A member beside the usual ones.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.into(), value.into());
        self
    }

    /// What a failed call of the client means over HTTP.
    pub(super) fn of(error: &Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
            Error::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, text),
            Error::Forbidden { .. } => Self::new(StatusCode::FORBIDDEN, text),
            Error::Conflict { .. } => Self::new(StatusCode::CONFLICT, text),
            Error::QueueFull { .. } => {
                Self { retry_after: Some(10), full: true, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
            }
            Error::OutOfMemory => Self::unavailable(text, 10).with("redis", super::health::state(error)),
            Error::Unavailable { .. } | Error::Unfit { .. } => {
                tracing::warn!(%error, "a request found Redis not serving");
                let state = super::health::state(error);
                Self::unavailable(format!("Redis does not serve now: {state}"), 2).with("redis", state)
            }
            _ => {
                tracing::error!(%error, "a request failed");
                Self::bare(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// For answers that come without a text of ours.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self::new(
            status,
            match status {
                StatusCode::NOT_FOUND => "there is no such route",
                StatusCode::METHOD_NOT_ALLOWED => {
                    "this route does not take this method; the header Allow names those it takes"
                }
                StatusCode::INTERNAL_SERVER_ERROR => {
                    "something went wrong here; the log has more under the request id of this answer"
                }
                _ => status.canonical_reason().unwrap_or("the request failed"),
            },
        )
    }

    /// The answer itself; `instance` is the path asked for, `before` the headers of the answer that it replaces.
    pub(super) fn render(self, instance: &str, before: &HeaderMap) -> Response {
        let mut body = self.more;
        let detail: String = self.detail.chars().take(DETAIL_MAX).collect();
        body.insert("detail".into(), detail.into());
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("instance".into(), json!(instance));
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // All but what speaks of the body that is replaced.
        headers.clone_from(before);
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

/// The status, and the problem for the edge to write.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
