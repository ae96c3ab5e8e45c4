//! A small server for who watches the worker: `/metrics`, `/livez` and `/readyz`, one request a connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use orchestrator::meters::TEXT;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Counts;

/// Connections served at the same time; more wait.
const CONNECTIONS_MAX: usize = 16;
/// Longest time of one connection.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Longest wait for a request.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const SAFE: [(HeaderName, HeaderValue); 2] = [
    (hyper::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    _tasks: JoinSet<Infallible>,
}

impl Serving {
    pub(super) fn start(listener: TcpListener, counts: Arc<Counts>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(counts.meters.clone().keep_up());
        tasks.spawn(accept(listener, counts));
        Self { _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) -> Infallible {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("the worker's figures are at http://{address}/metrics");
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let counts = Arc::clone(&counts);
                connections.spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(CONNECTION_TIME, connection(stream, counts)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, counts: Arc<Counts>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let answer = counts.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Counts {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const JSON: &str = "application/json";
        let ready = || {
            if self.is_draining.load(Ordering::Relaxed) {
                return (StatusCode::SERVICE_UNAVAILABLE, JSON, r#"{"status":"draining"}"#.to_owned());
            }
            match self.is_leased.load(Ordering::Relaxed) {
                true => (StatusCode::OK, JSON, r#"{"status":"ready"}"#.to_owned()),
                false => (StatusCode::SERVICE_UNAVAILABLE, JSON, r#"{"status":"without a lease"}"#.to_owned()),
            }
        };
        let known = matches!(*method, Method::GET | Method::HEAD);
        let (status, kind, body) = match path {
            "/metrics" | "/livez" | "/readyz" if !known => {
                (StatusCode::METHOD_NOT_ALLOWED, JSON, r#"{"detail":"only GET is taken here"}"#.into())
            }
            "/metrics" => (StatusCode::OK, TEXT, self.meters.text()),
            "/livez" => (StatusCode::OK, JSON, r#"{"status":"alive"}"#.into()),
            "/readyz" => ready(),
            _ => (StatusCode::NOT_FOUND, JSON, r#"{"detail":"there are /metrics, /livez and /readyz"}"#.into()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.extend(SAFE);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
