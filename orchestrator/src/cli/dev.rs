//! `dev`: a private Redis and the gateway before it, for trying things out.

use std::time::Duration;

use clap::Args;
use orchestrator::gateway::{GatewayConfig, Role, serve};
use orchestrator::{Config, Embedded, Orchestrator};
use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use super::serve::{listen, local_url, told_to_stop};

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Port to listen on [default: $ORCHESTRATOR_PORT, else 8000, else a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(super) async fn run(command: Dev, namespace: Option<String>, out: &mut Output) -> Result<(), Failure> {
    let (_, mut settings) = Config::from_env()?;
    settings.namespace = namespace.unwrap_or(settings.namespace);
    let mut config = GatewayConfig::from_env()?;
    let key = format!("dev-{:032x}", rand::random::<u128>());
    config.drain_delay = Duration::ZERO;
    // The requests that are printed are plain.
    config.tls = None;
    let chosen = command.port.is_some() || std::env::var_os("ORCHESTRATOR_PORT").is_some();
    let listener = match listen("127.0.0.1", command.port.unwrap_or(config.port)).await {
        Err(_) if !chosen => listen("127.0.0.1", 0).await?,
        bound => bound?,
    };
    let config = config.api_key("dev.throw-away", &key, Role::Agent)?;
    let stop = told_to_stop()?;
    let orch = Orchestrator::on(Embedded::start()?, settings).await?;
    let url = local_url(listener.local_addr()?);
    let redis = orch.config().url.clone();
    if out.is_json() {
        out.object(&json!({ "url": url, "api_key": key, "redis": redis }))?;
    } else {
        out.line(&welcome(&url, &key, &redis))?;
    }
    serve(orch, config, listener, stop).await;
    Ok(())
}

fn welcome(url: &str, key: &str, redis: &str) -> String {
    format!(
        r#"Orchestrator is ready at {url}, with a private Redis. Ctrl-C ends both and clears everything away.
The key below is good until then.

Create a task:
  curl -X POST {url}/tasks -H "X-API-Key: {key}" -H "Content-Type: application/json" \
    -d '{{"type": "bugfix", "payload": {{"issue_id": "123", "description": "Fix login bug"}}, "priority": "P2", "source": "ops"}}'

Look at it, by the task_id of the answer; count; check:
  curl -H "X-API-Key: {key}" {url}/tasks/TASK_ID
  curl -H "X-API-Key: {key}" {url}/stats
  curl {url}/health

Tasks of priority P0 or P1 and changes of production wait for somebody else's approval first; with the Redis below:
  orchestrator approval list
  orchestrator approval approve APPROVAL_ID

Run workers and the command line against the same Redis:
  export REDIS_URL={redis}
"#
    )
}
