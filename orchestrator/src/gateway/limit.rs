//! How often a client may ask: each request is counted in Redis, for all gateways together, before anybody looks at its
//! credential or reads its body.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::address::{Peer, client, client_bytes};
use super::{Problem, RateLimits, body};
use crate::Admission;
use crate::{Error, Network, Orchestrator};

/// Longest wait for Redis. A request that cannot be counted goes on: what needs Redis says itself that it is away.
const COUNT_TIME: Duration = Duration::from_secs(1);

/// The endpoint that all unknown paths are.
const UNKNOWN: &str = "(none)";

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Counts requests.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    orch: Orchestrator,
    limits: RateLimits,
    trusted: Arc<[Network]>,
}

impl Limiter {
    pub(super) fn new(orch: &Orchestrator, limits: RateLimits, trusted: &[Network]) -> Self {
        Self { orch: orch.clone(), limits, trusted: trusted.into() }
    }

    /// What a request counts as; nothing when it has no limit.
    fn counted(&self, request: &Request) -> Option<Counted> {
        let route = request.extensions().get::<MatchedPath>();
        let limit = self.limits.of(route.map_or(UNKNOWN, MatchedPath::as_str));
        let peer = request.extensions().get::<Peer>().filter(|_| limit > 0)?;
        let client = client_bytes(client(peer.0, request.headers(), &self.trusted));
        Some(Counted { route: route.cloned(), client, limit })
    }

    /// What became of a request; nothing when Redis does not count it.
    async fn admit(&self, Counted { route, client, limit }: &Counted) -> Option<Admission> {
        let endpoint = route.as_ref().map_or(UNKNOWN, MatchedPath::as_str);
        let counting = self.orch.admit(endpoint, client, *limit);
        let outcome = match tokio::time::timeout(COUNT_TIME, counting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Unavailable { reason: format!("no answer within {COUNT_TIME:?}"), source: None }),
        };
        outcome.inspect_err(|error| tracing::warn!(%error, "a request was not counted")).ok()
    }
}

/// As what a request is counted.
struct Counted {
    route: Option<MatchedPath>,
    client: Vec<u8>,
    limit: u32,
}

/// Lets a request through that its client may still send, and tells him what is left.
pub(super) async fn limit(State(limiter): State<Limiter>, request: Request, next: Next) -> Response {
    let Some(counted) = limiter.counted(&request) else { return next.run(request).await };
    let Some(admission) = limiter.admit(&counted).await else { return next.run(request).await };
    let mut response = match admission.admitted {
        true => next.run(request).await,
        false => {
            body::discard(request).await;
            let said = format!(
                "this address may send {} requests a minute here; there is a place again in {} s",
                counted.limit, admission.free_in
            );
            Problem::too_many(said, admission.free_in).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(LIMIT, counted.limit.into());
    headers.insert(REMAINING, admission.left.into());
    headers.insert(RESET, admission.free_at.into());
    response
}
