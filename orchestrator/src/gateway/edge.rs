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

use super::cors;
use super::limit::{Admitted, Limiter};
use super::metrics::Counts;
use super::page::Page;
use super::{Caller, Origin, Problem, new_event};

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

/// What stands around all routes.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) request_timeout: Duration,
    pub(super) limiter: Option<Limiter>,
    pub(super) origins: Vec<Origin>,
    pub(super) counts: Arc<Counts>,
}

/// Puts the edge around `routes`, as one layer: each costs every request a copy of all within.
pub(super) fn around(routes: Router, edge: Edge) -> Router {
    routes
        .fallback(|| async { Problem::bare(StatusCode::NOT_FOUND) })
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| {
            Problem::bare(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }))
        .layer(from_fn_with_state(Arc::new(edge), pass))
}

impl Edge {
    /// A request is counted before its time begins to run, so that every answer tells its limit.
    async fn serve(&self, request: Request, next: Next) -> Response {
        let within = async |request| {
            tokio::time::timeout(self.request_timeout, next.run(request)).await.unwrap_or_else(|_| {
                let said = "the request took too long and was given up; what it asked for may have been done";
                Problem::unavailable(said, 5).into_response()
            })
        };
        let listed = cors::listed(&self.origins, request.headers());
        let mut response = match (&listed, &self.limiter) {
            (Some(_), _) if cors::asks_beforehand(&request) => cors::permit(request.headers()),
            (_, Some(limiter)) => match limiter.admit(request).await {
                Admitted::Freely(request) => within(request).await,
                Admitted::Counted(request, tally) => tally.tell(within(request).await),
                Admitted::Refused(answer) => answer,
            },
            (_, None) => within(request).await,
        };
        cors::tell(&mut response, listed);
        response
    }
}

async fn pass(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let trace = new_event::traceparent(request.headers());
    let trace_id = trace.as_deref().and_then(|trace| crate::trace_of(trace).ok());
    // At the highest level, so that whatever is told on the way names the request.
    let span = tracing::error_span!("request", request_id = id, trace_id);
    let method = request.method().clone();
    let uri = request.uri().clone();
    // Ids and slips stay out of the log: the route is told, not the path.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = edge.serve(request, next).instrument(span.clone()).await;
    let caller = response.extensions_mut().remove::<Caller>();
    let status = response.status();
    let full = response.extensions().get::<Problem>().is_some_and(Problem::is_full);
    let is_page = response.extensions_mut().remove::<Page>().is_some();
    if !is_page && (status.is_client_error() || status.is_server_error()) {
        let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::bare(status));
        let path: String = uri.path().chars().take(200).collect();
        response = problem.render(&path, response.headers());
    }
    let headers = response.headers_mut();
    for (name, value) in SAFE {
        headers.entry(name).or_insert(value);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let took = started.elapsed();
    edge.counts.answered(&method, route, status, full, took);
    let (caller, ms) = (caller.map_or_else(String::new, |caller| caller.name), took.as_millis() as u64);
    let _within = span.entered();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(%method, route, status = status.as_u16(), ms, caller, "answered");
    } else if status.is_server_error() {
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
        let (request_timeout, counts) = (Duration::from_millis(500), Arc::new(Counts::new()));
        let router = around(routes, Edge { request_timeout, limiter: None, origins: Vec::new(), counts });
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
