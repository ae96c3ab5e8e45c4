//! `serve`: the HTTP gateway before a Redis that is there.

use std::io;
use std::net::SocketAddr;

use clap::Args;
use orchestrator::gateway::{GatewayConfig, serve};
use orchestrator::{Error, Orchestrator};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::output::{Output, note};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    host: String,
    /// Port to listen on; 0 takes a free one [default: $ORCHESTRATOR_PORT, else 8000]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(super) async fn run(orch: Orchestrator, command: Serve, out: &mut Output) -> Result<(), Failure> {
    let config = GatewayConfig::from_env()?;
    let listener = listen(&command.host, command.port.unwrap_or(config.port)).await?;
    let stop = told_to_stop()?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    if out.is_json() {
        out.object(&json!({ "url": url }))?;
    } else {
        note(&format!("serving at {url}; Ctrl-C stops it in order, a second one at once"));
    }
    serve(orch, config, listener, stop).await;
    Ok(())
}

pub(super) async fn listen(host: &str, port: u16) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind((host, port)).await;
    bound.map_err(|error| {
        Failure::refused(format!(
            "cannot listen on {host}:{port}: {error}; choose another port with --port, 0 for a free one"
        ))
    })
}

/// The address as a program on this machine reaches it.
pub(super) fn local_url(address: SocketAddr) -> String {
    format!("http://localhost:{}", address.port())
}

/// Is over at the first SIGTERM or Ctrl-C; the second ends the process at once.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error: io::Error| Error::Unfit { what: format!("no signals can be heard: {error}") })
    };
    let mut signals = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    async fn next((terminate, interrupt): &mut (Signal, Signal)) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    Ok(async move {
        next(&mut signals).await;
        tokio::spawn(async move {
            next(&mut signals).await;
            note("stopped at once");
            std::process::exit(130);
        });
    })
}
