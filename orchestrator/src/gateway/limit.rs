//! How often a client may ask: each request is counted in Redis, for all gateways together, before anybody looks at its
//! credential or reads its body.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderName;
use axum::response::{IntoResponse, Response};

use super::address::{Peer, client, client_bytes};
use super::{Problem, RateLimits, body};
use crate::{Admission, Error, Network, Orchestrator};

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

    /// Counts a request.
    pub(super) async fn admit(&self, request: Request) -> Admitted {
        let Some(counted) = self.counted(&request) else { return Admitted::Freely(request) };
        let Some(admission) = self.count(&counted).await else { return Admitted::Freely(request) };
        let tally = Tally { limit: counted.limit, admission };
        if admission.admitted {
            return Admitted::Counted(request, tally);
        }
        body::discard(request).await;
        let said = format!(
            "this address may send {} requests a minute here; there is a place again in {} s",
            counted.limit, admission.free_in
        );
        Admitted::Refused(tally.tell(Problem::too_many(said, admission.free_in).into_response()))
    }

    /// What became of a request; nothing when Redis does not count it.
    async fn count(&self, Counted { route, client, limit }: &Counted) -> Option<Admission> {
        let endpoint = route.as_ref().map_or(UNKNOWN, MatchedPath::as_str);
        let counting = self.orch.admit(endpoint, client, *limit);
        let outcome = match tokio::time::timeout(COUNT_TIME, counting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Unavailable { reason: format!("no answer within {COUNT_TIME:?}"), source: None }),
        };
        outcome.inspect_err(|error| tracing::warn!(%error, "a request was not counted")).ok()
    }
}

/// What becomes of a request.
pub(super) enum Admitted {
    /// It goes on, uncounted.
    Freely(Request),
    /// It goes on, and its answer tells what is left.
    Counted(Request, Tally),
    /// Its client has sent too many.
    Refused(Response),
}

/// What a client may still send.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    limit: u32,
    admission: Admission,
}

impl Tally {
    /// Tells it in the headers of an answer.
    pub(super) fn tell(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.admission.left.into());
        headers.insert(RESET, self.admission.free_at.into());
        response
    }
}

/// As what a request is counted.
struct Counted {
    route: Option<MatchedPath>,
    client: Vec<u8>,
    limit: u32,
}
