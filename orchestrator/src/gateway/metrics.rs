//! The gateway's figures: what it has answered, and how the namespace stands.
//!
//! What comes from outside never becomes a label: requests are told by the route that matched, and task types only up to a
//! bound.

mod namespace;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use self::namespace::Namespace;
use super::{Gateway, rules};
use crate::Orchestrator;
use crate::meters::{Bounded, Counter, Gauge, Help, Histogram, Meters, OTHER, TEXT, TYPES_MAX};

const REQUESTS: &str = "orchestrator_http_requests_total";
const DURATION: &str = "orchestrator_http_request_duration_seconds";
const FAILED_LOGINS: &str = "orchestrator_http_failed_logins_total";
const RATE_LIMITED: &str = "orchestrator_http_rate_limited_total";
const PROBLEMS: &str = "orchestrator_http_problems_total";
const STREAMS: &str = "orchestrator_http_event_streams";
const CREATED: &str = "orchestrator_http_tasks_created_total";
const HUMAN: &str = "orchestrator_task_human_seconds";
const BUILD: &str = "orchestrator_build_info";

const HELP: &[Help] = &[
    (REQUESTS, "Requests answered by this gateway, by route, method and status."),
    (DURATION, "Time from the head of a request to the head of its answer, by route."),
    (FAILED_LOGINS, "Requests that this gateway refused for want of a good credential (401)."),
    (
        RATE_LIMITED,
        "Requests refused because their sender had asked too often (429), by route. A full queue is not counted.",
    ),
    (PROBLEMS, "Requests that this gateway answered with a problem, by status."),
    (STREAMS, "Event streams open at this gateway."),
    (CREATED, "Tasks created through this gateway, by type."),
    (
        HUMAN,
        "Time from asking for an approval to what became of it, by outcome, since this gateway began. \
         The same at every gateway of the namespace: aggregate with max.",
    ),
    (BUILD, "The version of this program."),
];

/// What one gateway tells of itself and of its namespace.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) counts: Arc<Counts>,
    namespace: Namespace,
}

impl Metrics {
    pub(super) fn new(orch: &Orchestrator) -> Self {
        Self { counts: Arc::new(Counts::new()), namespace: Namespace::new(orch.clone()) }
    }
}

/// What one gateway counts.
#[derive(Debug)]
pub(super) struct Counts {
    meters: Meters,
    failed_logins: Counter,
    streams: Gauge,
    types: Bounded,
}

impl Counts {
    pub(super) fn new() -> Self {
        let meters = Meters::new(HELP);
        meters.gauge(BUILD, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        // Rates need a first value: what has not happened yet and is watched is told as zero.
        for rule in rules() {
            let _ = meters.counter(RATE_LIMITED, &[("route", &rule.path)]);
        }
        for status in ["401", "429", "500", "503"] {
            let _ = meters.counter(PROBLEMS, &[("status", status)]);
        }
        Self {
            failed_logins: meters.counter(FAILED_LOGINS, &[]),
            streams: meters.gauge(STREAMS, &[]),
            types: Bounded::new(TYPES_MAX),
            meters,
        }
    }

    /// Keeps what is counted from growing, for ever.
    pub(super) fn keep_up(&self) -> impl Future<Output = Infallible> + use<> {
        self.meters.clone().keep_up()
    }

    /// A request was answered; `full` says that a queue was.
    pub(super) fn answered(&self, method: &Method, route: &str, status: StatusCode, full: bool, took: Duration) {
        let labels = [("route", route), ("method", name(method)), ("status", status.as_str())];
        self.meters.counter(REQUESTS, &labels).increment(1);
        self.duration(route).record(took.as_secs_f64());
        if status.is_client_error() || status.is_server_error() {
            self.meters.counter(PROBLEMS, &labels[2..]).increment(1);
        }
        match status {
            StatusCode::UNAUTHORIZED => self.failed_logins.increment(1),
            StatusCode::TOO_MANY_REQUESTS if !full => {
                self.meters.counter(RATE_LIMITED, &labels[..1]).increment(1);
            }
            _ => {}
        }
    }

    fn duration(&self, route: &str) -> Histogram {
        self.meters.histogram(DURATION, &[("route", route)])
    }

    /// A task was created.
    pub(super) fn created(&self, task_type: &str) {
        self.meters.counter(CREATED, &[("task_type", self.types.label(task_type))]).increment(1);
    }
}

/// A method by name; one that no route has could have any.
fn name(method: &Method) -> &'static str {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
    let names = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.iter().position(|known| known == method).map_or(OTHER, |at| names[at])
}

/// Read the figures
///
/// Prometheus text, version 0.0.4. When Redis is away, the gateway's own figures and `orchestrator_redis_up 0`. Figures of the
/// namespace are told by every gateway alike: take their maximum, not their sum.
#[utoipa::path(
    get, path = "/metrics", tag = "monitoring", operation_id = "read_metrics",
    responses((status = 200, description = "The figures", content_type = "text/plain", body = String)),
)]
pub(super) async fn metrics(State(gateway): State<Gateway>) -> Response {
    let Metrics { counts, namespace } = gateway.metrics.as_ref();
    let seen = namespace.look().await;
    for (outcome, ms) in seen.take_decided() {
        counts.meters.histogram(HUMAN, &[("outcome", &outcome)]).record(Duration::from_millis(ms).as_secs_f64());
    }
    counts.streams.set(gateway.streams_open() as f64);
    let text = counts.meters.text() + &seen.text;
    ([(CONTENT_TYPE, HeaderValue::from_static(TEXT))], text).into_response()
}
