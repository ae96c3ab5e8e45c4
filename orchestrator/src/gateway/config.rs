//! Settings of the gateway: from code or from the environment.

use std::ffi::OsString;
use std::time::Duration;

use super::keys::ApiKeys;
use super::token_settings::TokenSettings;
use super::{Origin, RateLimits, Role, Roles, ServerTls, Tokens};
use crate::config::file;
use crate::{Error, Network, Result};

/// How the gateway serves. No credential is accepted unless one is added.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// The port to listen on.
    pub port: u16,
    /// The certificate for HTTPS; plain HTTP without one.
    pub tls: Option<ServerTls>,
    /// The web origins whose pages may read answers, in a browser; none unless set.
    pub origins: Vec<Origin>,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// Longest wait for the head of a request, and so for the next one on an open connection.
    pub head_timeout: Duration,
    /// Longest wait for the body of a request.
    pub body_timeout: Duration,
    /// Longest time that a request may take in all. A stream of events has to begin within it, and may last.
    pub request_timeout: Duration,
    /// Connections served at the same time; more wait.
    pub connections_max: usize,
    /// Streams of events served at the same time; more are refused. Each holds a connection to Redis.
    pub streams_max: usize,
    /// How long a stopping gateway goes on accepting while `/readyz` already says no.
    pub drain_delay: Duration,
    /// How long it then waits for requests under way.
    pub drain_grace: Duration,
    /// The least role that may decide on approvals; never less than agent. Links carry their own right.
    pub approver_role: Role,
    /// How many requests a client may send in a minute.
    pub rate_limits: RateLimits,
    /// Proxies whose header `X-Forwarded-For` is believed; none unless set. To all others a client's address is that of the
    /// connection.
    pub trusted_proxies: Vec<Network>,
    /// The least role that may read the gateway's figures at `/metrics`; `None` lets anybody.
    pub metrics_role: Option<Role>,
    pub(super) keys: ApiKeys,
    pub(super) roles: Roles,
    pub(super) tokens: Option<Tokens>,
}

impl Default for GatewayConfig {
    /// Port 8000, bodies of 1 MiB, 1,000 connections, 256 streams of events; 30 s for a head, 10 s for a body,
    /// 30 s in all; on stopping 1 s and 25 s. No proxy is trusted.
    fn default() -> Self {
        Self {
            port: 8000,
            tls: None,
            origins: Vec::new(),
            body_max: 1 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connections_max: 1000,
            streams_max: 256,
            drain_delay: Duration::from_secs(1),
            drain_grace: Duration::from_secs(25),
            approver_role: Role::Agent,
            rate_limits: RateLimits::default(),
            trusted_proxies: Vec::new(),
            metrics_role: None,
            keys: ApiKeys::default(),
            roles: Roles::default(),
            tokens: None,
        }
    }
}

impl GatewayConfig {
    /// `ORCHESTRATOR_PORT`, `CORS_ORIGINS` (or `ORCHESTRATOR_CORS_ORIGINS`), `ORCHESTRATOR_JWT_SECRET` (signs and is
    /// accepted), `ORCHESTRATOR_JWT_SECRET_PREVIOUS` (accepted too; several are separated by blanks),
    /// `ORCHESTRATOR_JWT_AUDIENCE`, `ORCHESTRATOR_JWT_ISSUER`, `ORCHESTRATOR_JWT_JWKS` (a file of public keys),
    /// `ORCHESTRATOR_API_KEY_<NAME>` = `<key>:<role>`, `ORCHESTRATOR_APPROVER_ROLE` (agent or admin),
    /// `ORCHESTRATOR_METRICS_ACCESS` (public, user, agent or admin),
    /// `ORCHESTRATOR_ROLE_<NAME>` = `alice,bob` (who has the approver's role `<name>`, in small letters),
    /// `ORCHESTRATOR_RATE_LIMIT_TASKS`, `_EVENTS`, `_APPROVALS`, `_STATS`, `_HEALTH`, `_WORKERS` and `_DEFAULT`
    /// ([`RateLimits`]), `ORCHESTRATOR_TRUSTED_PROXIES` (networks: `10.0.0.0/8`), `ORCHESTRATOR_TLS_CERT` and
    /// `ORCHESTRATOR_TLS_KEY` (files of PEM, for HTTPS).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that makes no sense, naming the variable; secrets are never shown.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(std::env::vars_os())
    }

    fn from_vars(vars: impl Iterator<Item = (OsString, OsString)>) -> Result<Self> {
        let mut config = Self::default();
        let mut origins: Option<(String, String)> = None;
        let (mut certificate, mut private_key) = (None, None);
        let mut tokens = TokenSettings::default();
        for (name, value) in vars {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with("ORCHESTRATOR_") && name != "CORS_ORIGINS" {
                continue;
            }
            let refuse = |what: &str| Error::Invalid { what: format!("{name} {what}") };
            let value = value.into_string().map_err(|_| refuse("is not UTF-8"))?;
            match name.as_str() {
                "ORCHESTRATOR_PORT" => {
                    config.port = value.parse().map_err(|_| refuse("is no port; write a number like 8000"))?;
                }
                name if tokens.take(name, &value) => {}
                "CORS_ORIGINS" | "ORCHESTRATOR_CORS_ORIGINS" if !value.is_empty() => match &origins {
                    Some((other, before)) if *before != value => {
                        return Err(refuse(&format!("and {other} say different things; set one of them")));
                    }
                    _ => {
                        config.origins = Origin::list(&value).map_err(|what| refuse(&format!("is wrong: {what}")))?;
                        origins = Some((name, value));
                    }
                },
                "ORCHESTRATOR_APPROVER_ROLE" if !value.is_empty() => {
                    let role = value.parse().ok().filter(|role| *role >= Role::Agent);
                    config.approver_role =
                        role.ok_or_else(|| refuse("is no role that decides; write agent or admin"))?;
                }
                "ORCHESTRATOR_METRICS_ACCESS" => {
                    config.metrics_role = match value.as_str() {
                        "" | "public" => None,
                        role => Some(role.parse().map_err(|_| refuse("is wrong; write public, user, agent or admin"))?),
                    };
                }
                name if name.starts_with("ORCHESTRATOR_ROLE_") => {
                    let role = name.strip_prefix("ORCHESTRATOR_ROLE_").unwrap_or_default().to_ascii_lowercase();
                    config.roles.add(&role, value.split(',')).map_err(|error| refuse(&error.to_string()))?;
                }
                "ORCHESTRATOR_TLS_CERT" if !value.is_empty() => certificate = Some(file(&name, &value)?),
                "ORCHESTRATOR_TLS_KEY" if !value.is_empty() => private_key = Some(file(&name, &value)?),
                "ORCHESTRATOR_TRUSTED_PROXIES" => {
                    let list = Network::list(&value);
                    config.trusted_proxies = list.map_err(|error| refuse(&format!("is wrong: {error}")))?;
                }
                name if name.starts_with("ORCHESTRATOR_RATE_LIMIT_") && !value.is_empty() => {
                    let endpoint = name.strip_prefix("ORCHESTRATOR_RATE_LIMIT_").unwrap_or_default();
                    config.rate_limits.set(endpoint, &value).map_err(|error| refuse(&error.to_string()))?;
                }
                _ => {
                    let Some(key_name) = name.strip_prefix("ORCHESTRATOR_API_KEY_") else { continue };
                    let (key, role) = value.rsplit_once(':').ok_or_else(|| refuse("lacks a role; write KEY:ROLE"))?;
                    let role = role.parse().map_err(|error| refuse(&format!("ends in no role: {error}")))?;
                    config.keys.add(key_name, key, role).map_err(|error| refuse(&format!("is refused: {error}")))?;
                }
            }
        }
        config.tls = match (certificate, private_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(ServerTls::from_pem(&certificate, &key).map_err(|error| {
                Error::invalid(format!("ORCHESTRATOR_TLS_CERT and ORCHESTRATOR_TLS_KEY are refused: {error}"))
            })?),
            _ => return Err(Error::invalid("ORCHESTRATOR_TLS_CERT and ORCHESTRATOR_TLS_KEY go together; set both")),
        };
        config.tokens = tokens.judge()?;
        Ok(config)
    }

    /// Accepts `key` in the header `X-API-Key` from a caller called `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name or key that cannot be used, or is used already.
    pub fn api_key(mut self, name: &str, key: &str, role: Role) -> Result<Self> {
        self.keys.add(name, key, role)?;
        Ok(self)
    }

    /// Gives the approver's role `role` (without a prefix: `sre`) to callers of these names, in any case.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a role or name that cannot be one, and for the roles that come with credentials.
    pub fn role(mut self, role: &str, names: &[&str]) -> Result<Self> {
        self.roles.add(role, names.iter().copied())?;
        Ok(self)
    }

    /// Accepts the tokens of one secret, and the links signed with it.
    #[must_use]
    pub fn tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Says in the log what somebody should know who runs this.
    pub(super) fn remark(&self) {
        if self.keys.is_empty() && self.tokens.is_none() {
            tracing::warn!(
                "no API key and no token secret is set: beside public routes only callers with a key of \
                 `orchestrator key create` are answered; set ORCHESTRATOR_API_KEY_<NAME>=<key>:<role> or ORCHESTRATOR_JWT_SECRET"
            );
        }
        for name in self.keys.short() {
            tracing::warn!(key = name, "the API key of this name is shorter than 16 characters and can be guessed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Result<GatewayConfig> {
        GatewayConfig::from_vars(pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))))
    }

    fn fault(name: &str, value: &str) -> String {
        vars(&[(name, value)]).expect_err("a fault").to_string()
    }

    #[test]
    fn the_environment_is_read() {
        let config = vars(&[
            ("ORCHESTRATOR_PORT", "9000"),
            ("CORS_ORIGINS", "http://localhost:3000, https://*.example.com"),
            ("ORCHESTRATOR_API_KEY_DEV", "dev-key-123:agent"),
            ("ORCHESTRATOR_API_KEY_OPS", "with:colons:in:it:admin"),
            ("ORCHESTRATOR_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("ORCHESTRATOR_RATE_LIMIT_TASKS", "20"),
            ("ORCHESTRATOR_RATE_LIMIT_STATS", ""),
            ("ORCHESTRATOR_RATE_LIMIT_HEALTH", "0"),
            ("ORCHESTRATOR_TRUSTED_PROXIES", "10.0.0.0/8,::1"),
            ("ORCHESTRATOR_APPROVER_ROLE", "admin"),
            ("ORCHESTRATOR_METRICS_ACCESS", "agent"),
            ("ORCHESTRATOR_ROLE_SRE", "alice, OPS"),
            ("PATH", "/bin"),
        ])
        .expect("a fair environment");
        assert_eq!((config.port, config.origins.len(), config.tokens.is_some()), (9000, 2, true));
        assert_eq!((config.approver_role, config.roles.of("ops")), (Role::Admin, &["sre".to_owned()][..]));
        assert_eq!(config.metrics_role, Some(Role::Agent));
        let ops = config.keys.caller(b"with:colons:in:it").expect("the key up to the last colon");
        assert_eq!((ops.name.as_str(), ops.role), ("OPS", Role::Admin));
        assert_eq!(config.rate_limits, RateLimits { tasks: 20, health: 0, ..RateLimits::default() });
        assert_eq!(config.trusted_proxies.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_named_and_secrets_are_not_shown() {
        assert_eq!(fault("ORCHESTRATOR_PORT", "80000"), "ORCHESTRATOR_PORT is no port; write a number like 8000");
        assert!(fault("ORCHESTRATOR_APPROVER_ROLE", "user").contains("agent or admin"));
        for value in ["-1", "many", "10001", "1.5"] {
            let said = fault("ORCHESTRATOR_RATE_LIMIT_TASKS", value);
            assert_eq!(
                said,
                "ORCHESTRATOR_RATE_LIMIT_TASKS is no limit; write requests a minute, 1 to 10000, or 0 for no limit"
            );
        }
        let said = fault("ORCHESTRATOR_TRUSTED_PROXIES", "10.0.0.0/8,proxy");
        assert!(said.contains("ORCHESTRATOR_TRUSTED_PROXIES") && said.contains("`proxy` is no network"), "{said}");
        assert!(fault("ORCHESTRATOR_METRICS_ACCESS", "private").contains("public, user, agent or admin"));
        assert!(fault("ORCHESTRATOR_ROLE_ADMIN", "eve").contains("comes with the credential"));
        assert!(fault("ORCHESTRATOR_ROLE_SRE", "two words").contains("ORCHESTRATOR_ROLE_SRE"));
        for secret in ["", "your-secret-key-here"] {
            let said = fault("ORCHESTRATOR_JWT_SECRET", secret);
            assert!(said.starts_with(&format!("ORCHESTRATOR_JWT_SECRET has {} bytes", secret.len())), "{said}");
        }
        for value in ["hidden", "hidden:root", "hidden:", ":agent", "hidden key:agent", "agent:hidden"] {
            let said = fault("ORCHESTRATOR_API_KEY_DEV", value);
            assert!(said.starts_with("ORCHESTRATOR_API_KEY_DEV ") && !said.contains("hidden"), "{said}");
        }
        assert!(fault("ORCHESTRATOR_API_KEY_", "k:agent").contains("name of an API key"));
        assert!(fault("ORCHESTRATOR_TLS_CERT", "/no/such/file").contains("ORCHESTRATOR_TLS_CERT names the file"));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(fault("ORCHESTRATOR_TLS_KEY", file).contains("go together"));
        let said =
            vars(&[("ORCHESTRATOR_TLS_CERT", file), ("ORCHESTRATOR_TLS_KEY", file)]).expect_err("no PEM").to_string();
        assert!(said.starts_with("ORCHESTRATOR_TLS_CERT and ORCHESTRATOR_TLS_KEY are refused: there is no"), "{said}");
        let twice = vars(&[("CORS_ORIGINS", "http://a.io"), ("ORCHESTRATOR_CORS_ORIGINS", "http://b.io")]);
        assert!(twice.expect_err("two answers").to_string().contains("different things"));
    }
}
