//! Web pages of other origins: which may read answers. No cookie is looked at anywhere, so a page has only the credentials
//! that somebody gave it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use super::Origin;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// What a page may send; beside it the attributes of a CloudEvent, whose names nobody knows beforehand.
const SENT: &str = "authorization, x-api-key, content-type, idempotency-key, last-event-id, traceparent, x-request-id";
/// What a page may read beyond what every page may.
const READ: HeaderValue = HeaderValue::from_static(
    "x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, retry-after, x-request-id, x-complete",
);
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Tells a browser which page may read the answer. To a page of another origin nothing is told, so its browser keeps the
/// answer from it.
pub(super) fn tell(response: &mut Response, listed: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = listed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }
}

/// The origin of a request, if it is one of these.
pub(super) fn listed(origins: &[Origin], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    origins.iter().any(|listed| listed.matches(text)).then(|| origin.clone())
}

/// Whether a browser asks what it may send.
pub(super) fn asks_beforehand(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a question beforehand, whatever the route. A credential comes only with the request itself.
pub(super) fn permit(headers: &HeaderMap) -> Response {
    let mut sent = SENT.to_owned();
    for line in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        let names = line.to_str().unwrap_or_default().split(',').map(str::trim);
        for name in names.filter(|name| is_attribute(name)) {
            sent.push_str(", ");
            sent.push_str(name);
        }
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, sent.parse().unwrap_or(HeaderValue::from_static(SENT)));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

fn is_attribute(name: &str) -> bool {
    name.to_ascii_lowercase()
        .strip_prefix("ce-")
        .is_some_and(|attribute| !attribute.is_empty() && attribute.bytes().all(|b| b.is_ascii_alphanumeric()))
}
