//! What every request passes, whatever its route: a time limit, panics caught, one shape of errors, safe headers, a line
//! in the log that shows neither payload nor secret.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::cors::{Origins, cors};
use super::limit::{Limiter, limit};
use super::metrics::Counts;
use super::page::Page;
use super::{Caller, Problem, new_event};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What stands for the route of a request that has none.
const NO_ROUTE: &str = "(none)";

/// On every answer that does not say otherwise: it is no page, and nothing may be stored on the way.
const SAFE: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Puts the edge around `routes`. A request is counted before its time begins to run, so that every answer tells its limit.
pub(super) fn around(
    routes: Router,
    request_timeout: Duration,
    limiter: Option<Limiter>,
    origins: Origins,
    counts: Arc<Counts>,
) -> Router {
    let routes = routes
        .fallback(|| async { Problem::bare(StatusCode::NOT_FOUND) })
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| {
            Problem::bare(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }))
        .layer(from_fn_with_state(request_timeout, within));
    let routes = match limiter {
        Some(limiter) => routes.layer(from_fn_with_state(limiter, limit)),
        None => routes,
    };
    routes.layer(from_fn_with_state(origins, cors)).layer(from_fn_with_state(counts, edge))
}

async fn within(State(time): State<Duration>, request: Request, next: Next) -> Response {
    tokio::time::timeout(time, next.run(request)).await.unwrap_or_else(|_| {
        Problem::unavailable("the request took too long and was given up; what it asked for may have been done", 5)
            .into_response()
    })
}

async fn edge(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let trace = new_event::traceparent(request.headers());
    let trace_id = trace.as_deref().and_then(|trace| crate::trace_of(trace).ok());
    // At the highest level, so that whatever is told on the way names the request.
    let span = tracing::error_span!("request", request_id = id, trace_id);
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    // Ids and slips stay out of the log: the route is told, not the path.
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let mut response = next.run(request).instrument(span.clone()).await;
    let caller = response.extensions_mut().remove::<Caller>();
    let status = response.status();
    let full = response.extensions().get::<Problem>().is_some_and(Problem::is_full);
    let is_page = response.extensions_mut().remove::<Page>().is_some();
    if !is_page && (status.is_client_error() || status.is_server_error()) {
        let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::bare(status));
        response = problem.render(&path, response.headers());
    }
    let headers = response.headers_mut();
    for (name, value) in SAFE {
        headers.entry(name).or_insert(value);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let route = route.as_deref().unwrap_or(NO_ROUTE);
    let took = started.elapsed();
    counts.answered(&method, route, status, full, took);
    let (caller, ms) = (caller.map_or_else(String::new, |caller| caller.name), took.as_millis() as u64);
    let _within = span.entered();
    if status.is_server_error() {
        tracing::error!(%method, route, status = status.as_u16(), ms, caller, "answered");
    } else {
        tracing::info!(%method, route, status = status.as_u16(), ms, caller, "answered");
    }
    response
}

/// The caller's own id if it is a sound one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sound = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    match headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sound) {
        Some(id) => id.into(),
        None => format!("{:032x}", rand::random::<u128>()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn answer(path: &str) -> (StatusCode, HeaderMap, serde_json::Value) {
        let routes = Router::new()
            .route("/panic", get(|| async { panic!("a slip in a handler") as () }))
            .route("/slow", get(std::future::pending::<()>));
        let counts = Arc::new(Counts::new());
        let router = around(routes, Duration::from_millis(500), None, Origins::default(), counts);
        let service = TowerToHyperService::new(router);
        let request =
            Request::builder().uri(path).header("x-request-id", "bad id").body(Body::empty()).expect("a request");
        let (head, body) = service.call(request).await.expect("an answer").into_parts();
        let body = to_bytes(body, 10_000).await.expect("a body");
        (head.status, head.headers, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn panics_and_endless_requests_are_answered_in_the_usual_shape() {
        for (path, expected, detail) in
            [("/panic", 500, "something went wrong"), ("/slow", 503, "took too long"), ("/none", 404, "no such route")]
        {
            let (status, headers, body) = answer(path).await;
            assert_eq!(
                (status.as_u16(), &body["status"], &body["instance"]),
                (expected, &expected.into(), &path.into())
            );
            assert!(body["detail"].as_str().is_some_and(|said| said.contains(detail)), "{body}");
            assert!(!body.to_string().contains("slip"), "nothing internal is shown: {body}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["x-request-id"].len(), 32, "an unsound request id is replaced");
        }
    }
}
