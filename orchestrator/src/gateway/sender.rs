//! One request to a webhook: its address judged and resolved once, signed, sent, and its answer's head read.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use crate::bus::{Event, EventCursor};
use crate::webhook::target;
use crate::{Error, EventPriority, Result, TaskId, Webhook, WebhookPolicy};

/// Longest wait for a connection, over all addresses that are tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried, one after the other.
const ADDRESSES_TRIED: usize = 3;
/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer's body that are read, and thrown away.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest that a receiver may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

const AGENT: &str = concat!("orchestrator/", env!("CARGO_PKG_VERSION"));

/// Sends events to webhooks, within a policy. Clones are cheap.
#[derive(Clone)]
pub struct WebhookSender {
    policy: Arc<WebhookPolicy>,
    tls: TlsConnector,
}

/// What a receiver answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookAnswer {
    /// The status; 200 to 299 is a yes.
    pub status: u16,
    /// How long it asked to be left alone, an hour at most.
    pub retry_after: Option<Duration>,
    /// The time from before the name was resolved until the status was known.
    pub took: Duration,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unanswered {
    what: String,
}

fn unanswered(what: impl Into<String>) -> Unanswered {
    Unanswered { what: what.into() }
}

impl WebhookSender {
    /// # Errors
    /// [`Error::Invalid`] for an authority of the policy that cannot be trusted.
    pub fn new(policy: &WebhookPolicy) -> Result<Self> {
        policy.check()?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Unfit { what: format!("TLS is not at hand: {error}") })?
            .with_root_certificates(policy.roots()?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { policy: Arc::new(policy.clone()), tls: Arc::new(tls).into() })
    }

    /// Sends an event once. A redirect is an answer like others: it is not followed.
    ///
    /// # Errors
    /// [`Unanswered`] when the address must not be reached, or no answer came within the policy's time.
    pub async fn send(&self, webhook: &Webhook, event: &Event) -> Result<WebhookAnswer, Unanswered> {
        let started = Instant::now();
        let url = target(&webhook.url, &self.policy).map_err(|error| unanswered(error.to_string()))?;
        let request = request(webhook, &url, event)?;
        let exchange = self.exchange(&url, request, started);
        timeout(self.policy.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(unanswered(format!("no answer within {:?}", self.policy.timeout))))
    }

    /// Sends an event of the type `webhook.test`, which is nowhere else told.
    ///
    /// # Errors
    /// As [`WebhookSender::send`].
    pub async fn test(&self, webhook: &Webhook) -> Result<WebhookAnswer, Unanswered> {
        let now = Utc::now();
        let id = TaskId::at(u64::try_from(now.timestamp_millis()).unwrap_or(0));
        let event = Event {
            event_id: id.to_string(),
            event_type: "webhook.test".into(),
            priority: EventPriority::default(),
            source_agent: "orchestrator".into(),
            trace_id: id.as_trace_id(),
            traceparent: None,
            task_id: None,
            key: None,
            payload: json!({ "webhook": webhook.id }),
            timestamp: now,
            metadata: serde_json::Map::new(),
            cursor: EventCursor::default(),
        };
        self.send(webhook, &event).await
    }

    async fn exchange(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        started: Instant,
    ) -> Result<WebhookAnswer, Unanswered> {
        let addresses = self.addresses(url).await?;
        let stream = connect(&addresses).await?;
        let _ = stream.set_nodelay(true);
        let mut carrier = JoinSet::new();
        let answer = match url.scheme() {
            "https" => {
                let name = server_name(url)?;
                let stream = self.tls.connect(name, stream).await;
                ask(stream.map_err(|error| unanswered(format!("no TLS: {error}")))?, request, &mut carrier).await?
            }
            _ => ask(stream, request, &mut carrier).await?,
        };
        let told = WebhookAnswer {
            status: answer.status().as_u16(),
            retry_after: retry_after(answer.headers(), Utc::now()),
            took: started.elapsed(),
        };
        // The head has decided. The body is read so that its sender need not see a broken connection, as far as that is cheap.
        let left = self.policy.timeout.saturating_sub(started.elapsed()).mul_f64(0.9);
        let _ = timeout(left, drain(answer.into_body())).await;
        Ok(told)
    }

    /// Where to connect to: resolved here and never again, so that what was judged is what is reached.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, Unanswered> {
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(IpAddr::from(address), port).into()],
            Some(Host::Ipv6(address)) => vec![(IpAddr::from(address), port).into()],
            Some(Host::Domain(name)) => lookup_host((name, port))
                .await
                .map_err(|error| unanswered(format!("the name {name} cannot be resolved: {error}")))?
                .collect(),
            None => Vec::new(),
        };
        if found.is_empty() {
            return Err(unanswered("the name has no address"));
        }
        let plain = url.scheme() != "https";
        match self.policy.admit_all(found.iter().map(SocketAddr::ip), plain) {
            Ok(()) => Ok(found),
            Err(what) => Err(unanswered(format!("the address must not be reached: {what}"))),
        }
    }
}

/// Tells nothing of TLS.
impl std::fmt::Debug for WebhookSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSender").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The signed request.
fn request(webhook: &Webhook, url: &Url, event: &Event) -> Result<Request<Full<Bytes>>, Unanswered> {
    let fault = |error: &dyn std::fmt::Display| unanswered(format!("no request can be made: {error}"));
    let body = serde_json::to_vec(event).map_err(|error| fault(&error))?;
    let timestamp = Utc::now().timestamp();
    Request::builder()
        .method(Method::POST)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &event.event_id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", webhook.signature(&event.event_id, timestamp, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| fault(&error))
}

/// Who has to be at the other end.
fn server_name(url: &Url) -> Result<ServerName<'static>, Unanswered> {
    let name = match url.host() {
        Some(Host::Ipv4(address)) => Ok(ServerName::from(IpAddr::from(address))),
        Some(Host::Ipv6(address)) => Ok(ServerName::from(IpAddr::from(address))),
        // The dot behind a full name belongs to the resolver, not to the certificate.
        Some(Host::Domain(name)) => ServerName::try_from(name.trim_end_matches('.').to_owned()),
        None => ServerName::try_from(String::new()),
    };
    name.map_err(|_| unanswered("the host has no name that a certificate could be for"))
}

/// Connects to the first address that answers; they share the time.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Unanswered> {
    let tried = &addresses[..addresses.len().min(ADDRESSES_TRIED)];
    let share = CONNECT_TIMEOUT / u32::try_from(tried.len().max(1)).unwrap_or(1);
    let mut fault = unanswered("the name has no address");
    for address in tried {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => fault = unanswered(format!("no connection to {address}: {error}")),
            Err(_) => fault = unanswered(format!("no connection to {address} within {share:?}")),
        }
    }
    Err(fault)
}

/// Sends the request and waits for the head of the answer. The connection lives in `carrier` and ends with it.
async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
    carrier: &mut JoinSet<hyper::Result<()>>,
) -> Result<Response<Incoming>, Unanswered> {
    let broken = |error: hyper::Error| unanswered(format!("the connection broke before an answer came: {error}"));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    carrier.spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Reads a body to its end or to the bound.
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read < BODY_BYTES_MAX
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// How long to leave the receiver alone: seconds, or until an instant.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_may_ask_to_be_left_alone_for_an_hour() {
        let now = "2026-01-31T12:00:00Z".parse().expect("an instant");
        let said = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!((said("120"), said("0"), said("999999")), (Some(120), Some(0), Some(3600)));
        assert_eq!(said("Sat, 31 Jan 2026 12:01:30 GMT"), Some(90));
        assert_eq!(said("Sat, 31 Jan 2026 11:00:00 GMT"), Some(0));
        assert_eq!((said("soon"), said("-5")), (None, None));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[tokio::test]
    async fn names_of_this_machine_are_not_reached() {
        let sender = WebhookSender::new(&WebhookPolicy::default()).expect("a sender");
        for url in ["https://localhost/", "https://localhost./", "https://LOCALHOST:8443/hook"] {
            let webhook = Webhook::new("here", url, &[]);
            let said = sender.test(&webhook).await.expect_err(url).to_string();
            assert!(said.contains("loopback") || said.contains("cannot be resolved"), "{url}: {said}");
        }
    }
}
