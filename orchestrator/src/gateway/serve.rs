//! The server: connections, their limits, and stopping in order.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::address::Peer;
use super::body::Bounds;
use super::caller::{Judge, require};
use super::deliver::keep_delivering;
use super::edge::Edge;
use super::limit::Limiter;
use super::metrics::Metrics;
use super::patience::{PATIENCE, Patient};
use super::routes::table;
use super::stored_keys::StoredKeys;
use super::{Gateway, GatewayConfig, ROOM, Role, ServerTls, Shared, edge};
use crate::Orchestrator;

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Pause after the system refused a connection, for want of files as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `shutdown` is over, then stops in order: `/readyz` says no, a moment later no connection is accepted any
/// more, streams of events end, other requests under way are finished within the grace, the rest is cut off.
///
/// Fires the timers of the namespace, mirrors its events on Pub/Sub and delivers them to webhooks as long as it serves.
///
/// A connection that the system refuses is logged and tried again.
pub async fn serve(
    orch: Orchestrator,
    config: GatewayConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    serve_beside(None, orch, config, listener, shutdown).await;
}

/// [`serve`], with a route of somebody else's behind the same edge, for agents: for measuring what a handler of ours costs.
#[doc(hidden)]
pub async fn serve_beside(
    other: Option<(&str, MethodRouter)>,
    orch: Orchestrator,
    config: GatewayConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    config.remark();
    let stopping = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = watch::channel(());
    let limiter = Limiter::new(&orch, config.rate_limits, &config.trusted_proxies);
    let metrics = Arc::new(Metrics::new(&orch));
    let counts = Arc::clone(&metrics.counts);
    let streams_max = config.streams_max.min(Semaphore::MAX_PERMITS);
    let gateway = Gateway(Arc::new(Shared {
        orch: orch.clone(),
        body: Bounds { bytes: config.body_max, time: config.body_timeout },
        room: Semaphore::new(ROOM),
        stopping: Arc::clone(&stopping),
        stopped: stopped.clone(),
        streams: Arc::new(Semaphore::new(streams_max)),
        streams_max,
        roles: config.roles.clone(),
        metrics,
        tokens: config.tokens.clone(),
    }));
    // Ends with this function, and with its future when somebody drops that.
    let mut background = JoinSet::new();
    let (ahead, mirror, teller, rescuer) = (orch.clone(), orch.clone(), orch.clone(), orch.clone());
    background.spawn(async move { orch.keep_time().await });
    background.spawn(async move { rescuer.keep_rescuing().await });
    background.spawn(async move { ahead.keep_forecasting().await });
    background.spawn(async move { mirror.keep_mirroring().await });
    background.spawn(counts.keep_up());
    let mut delivering = JoinSet::new();
    delivering.spawn(keep_delivering(teller, stopped.clone()));
    let stored = Some(StoredKeys::new(gateway.orch.clone()));
    let judge = Arc::new(Judge { keys: config.keys.clone(), tokens: config.tokens.clone(), stored });
    let (routes, _) = table(&judge, config.approver_role.max(Role::Agent), config.metrics_role).split();
    let mut routes = routes.with_state(gateway);
    if let Some((path, other)) = other {
        routes = routes.route(path, other.route_layer(from_fn_with_state((judge, Role::Agent), require)));
    }
    let router = edge::around(
        routes,
        Edge {
            request_timeout: config.request_timeout,
            limiter: Some(limiter),
            origins: config.origins.clone(),
            counts,
        },
    );
    let serving = Serving { router, tls: config.tls, head_timeout: config.head_timeout, stopped };
    let places = Arc::new(Semaphore::new(config.connections_max.max(1)));
    let mut connections = JoinSet::new();
    let mut end = pin!(async {
        shutdown.await;
        stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping: no longer ready, finishing what is under way");
        tokio::time::sleep(config.drain_delay).await;
    });
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut end => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let connection = serving.clone().welcome(stream, Peer(peer.ip()));
                    connections.spawn(async move {
                        let _place = place;
                        connection.await;
                    });
                }
                Err(error) if is_the_peers_fault(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = stop.send(());
    let finished = async {
        while connections.join_next().await.is_some() {}
        while delivering.join_next().await.is_some() {}
    };
    if tokio::time::timeout(config.drain_grace, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "the grace is over; the connections left are cut off");
        connections.shutdown().await;
    }
    background.shutdown().await;
}

/// How connections are served.
#[derive(Clone)]
struct Serving {
    router: Router,
    tls: Option<ServerTls>,
    head_timeout: Duration,
    stopped: watch::Receiver<()>,
}

impl Serving {
    /// One connection, with TLS if the gateway has a certificate.
    async fn welcome(mut self, stream: TcpStream, peer: Peer) {
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, PATIENCE);
        let Some(tls) = self.tls.take() else { return self.talk(stream, peer).await };
        let accepted = tokio::select! {
            accepted = tls.accept(stream, self.head_timeout) => accepted,
            _ = self.stopped.changed() => return,
        };
        match accepted {
            Ok(stream) => self.talk(stream, peer).await,
            Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
        }
    }

    /// Request after request until either side closes, the client takes nothing of its answer for too long, or the gateway
    /// stops and the present request is done.
    async fn talk(mut self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut served = pin!(served);
        let outcome = tokio::select! {
            outcome = &mut served => outcome,
            _ = self.stopped.changed() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

fn is_the_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
