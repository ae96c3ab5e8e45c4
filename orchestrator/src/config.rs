//! Settings: from code or from the environment. What code says beats the environment.

use std::fmt;
use std::time::Duration;

use crate::router::{Router, check_name};
use crate::{Aging, ApprovalPolicy, Error, RedisTls, Result, SlaRule};

/// Environment names that are understood (by this library or by the gateway). Others that begin with
/// `ORCHESTRATOR_` are refused, because a setting that is misspelt is a setting that is not made.
pub const ENVIRONMENT: &[&str] = &[
    "ORCHESTRATOR_AGING",
    "ORCHESTRATOR_APPROVAL_HISTORY_TTL",
    "ORCHESTRATOR_APPROVAL_RULES",
    "ORCHESTRATOR_APPROVAL_TIMEOUT",
    "ORCHESTRATOR_APPROVER_ROLE",
    "ORCHESTRATOR_CORS_ORIGINS",
    "ORCHESTRATOR_DEAD_LETTER_TTL",
    "ORCHESTRATOR_IDEMPOTENCY_TTL",
    "ORCHESTRATOR_JWT_AUDIENCE",
    "ORCHESTRATOR_JWT_ISSUER",
    "ORCHESTRATOR_JWT_JWKS",
    "ORCHESTRATOR_JWT_SECRET",
    "ORCHESTRATOR_JWT_SECRET_PREVIOUS",
    "ORCHESTRATOR_MAX_APPROVAL_HISTORY",
    "ORCHESTRATOR_MAX_DEAD_LETTERS",
    "ORCHESTRATOR_METRICS_ACCESS",
    "ORCHESTRATOR_METRICS_ADDRESS",
    "ORCHESTRATOR_PORT",
    "ORCHESTRATOR_QUEUE_PREFIX",
    "ORCHESTRATOR_RATE_LIMIT_APPROVALS",
    "ORCHESTRATOR_RATE_LIMIT_DEFAULT",
    "ORCHESTRATOR_RATE_LIMIT_EVENTS",
    "ORCHESTRATOR_RATE_LIMIT_HEALTH",
    "ORCHESTRATOR_RATE_LIMIT_STATS",
    "ORCHESTRATOR_RATE_LIMIT_TASKS",
    "ORCHESTRATOR_RATE_LIMIT_WORKERS",
    "ORCHESTRATOR_REDIS_BIN",
    "ORCHESTRATOR_REDIS_CA",
    "ORCHESTRATOR_REDIS_CERT",
    "ORCHESTRATOR_REDIS_KEY",
    "ORCHESTRATOR_SELF_APPROVAL",
    "ORCHESTRATOR_SLA_RULES",
    "ORCHESTRATOR_TASK_TTL",
    "ORCHESTRATOR_TLS_CERT",
    "ORCHESTRATOR_TLS_KEY",
    "ORCHESTRATOR_TRUSTED_PROXIES",
    "ORCHESTRATOR_WEBHOOK_ALLOW",
    "ORCHESTRATOR_WEBHOOK_CA",
];

/// Names that begin so are understood whatever follows.
const ENVIRONMENT_PREFIXES: [&str; 2] = ["ORCHESTRATOR_API_KEY_", "ORCHESTRATOR_ROLE_"];

/// What a worker tells the commands that it runs. These are no settings, but a command may well be a client.
#[doc(hidden)]
pub const COMMAND_ENVIRONMENT: [&str; 8] = [
    "ORCHESTRATOR_TASK_ID",
    "ORCHESTRATOR_TASK_TYPE",
    "ORCHESTRATOR_ATTEMPT",
    "ORCHESTRATOR_PRIORITY",
    "ORCHESTRATOR_QUEUE",
    "ORCHESTRATOR_TRACE_ID",
    "ORCHESTRATOR_FENCING_TOKEN",
    "ORCHESTRATOR_EXEC_MARK",
];

/// Where Redis is, and the bounds of this namespace. All processes of a namespace should use the same.
#[derive(Clone)]
pub struct Config {
    /// `redis://host:6379`, `redis://user:password@host/0`, `unix:///path/to/socket`, or `rediss://…` for TLS. What is no
    /// letter or digit in a password is percent-encoded.
    pub url: String,
    /// Whom a `rediss://` URL trusts, and the certificate that it shows.
    pub redis_tls: RedisTls,
    /// First part of every key, so that several installations share one Redis: 1 to 64 of `a-z 0-9 _ . -`.
    pub namespace: String,
    /// How long finished tasks and their results are kept; 1 minute to 30 days.
    pub retention: Duration,
    /// How long failed tasks are kept; never shorter than `retention`.
    pub dead_retention: Duration,
    /// Failed tasks kept at most; the oldest goes first.
    pub dead_max: u32,
    /// Tasks that may wait in one queue; more are refused.
    pub queue_max: u64,
    /// Whether tasks of low priority get on in a queue that never empties, and how soon.
    pub aging: Aging,
    /// Entries of the event stream that are kept, roughly; one entry holds all events of one script call.
    pub events_max: u32,
    /// How long events are kept, 1 minute to 366 days; less when `events_max` is reached before.
    pub events_age: Duration,
    /// How long an idempotency key stands for what was made under it; 1 minute to 30 days.
    pub idempotency: Duration,
    /// Which tasks need a person's approval before they may be claimed, and what holds for approvals in general.
    pub approvals: ApprovalPolicy,
    /// What is promised for tasks that bring no promise of their own; the first rule that means a task counts.
    pub sla: Vec<SlaRule>,
    /// Custom routes.
    pub router: Router,
    /// What webhooks may reach. Only gateways and whoever adds a webhook look at it.
    #[cfg(feature = "gateway")]
    pub webhooks: crate::WebhookPolicy,
    /// Read the time from the namespace's key `now` instead of the server's clock.
    #[cfg(feature = "test-clock")]
    pub test_clock: bool,
}

impl Config {
    /// Defaults for the server at `url`: namespace `orchestrator`, 24 hours, 30 days, 100,000 dead letters, 10 million
    /// waiting tasks a queue, 100,000 stream entries of 30 days at most.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            redis_tls: RedisTls::default(),
            namespace: "orchestrator".into(),
            retention: Duration::from_secs(24 * 3600),
            dead_retention: Duration::from_secs(30 * 24 * 3600),
            dead_max: 100_000,
            queue_max: 10_000_000,
            aging: Aging::Stored,
            events_max: 100_000,
            events_age: Duration::from_secs(30 * 24 * 3600),
            idempotency: Duration::from_secs(24 * 3600),
            approvals: ApprovalPolicy::default(),
            sla: Vec::new(),
            router: Router::default(),
            #[cfg(feature = "gateway")]
            webhooks: crate::WebhookPolicy::default(),
            #[cfg(feature = "test-clock")]
            test_clock: false,
        }
    }

    /// `REDIS_URL`, `ORCHESTRATOR_QUEUE_PREFIX` (the namespace), `ORCHESTRATOR_TASK_TTL` (retention in seconds) and the
    /// other names of [`ENVIRONMENT`]; `None` for the URL when `REDIS_URL` is not set. `ORCHESTRATOR_REDIS_CA`, `_CERT` and
    /// `_KEY` name files of PEM.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that makes no sense and for an unknown `ORCHESTRATOR_*` name.
    pub fn from_env() -> Result<(Option<String>, Self)> {
        Self::from_vars(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<(Option<String>, Self)> {
        let (mut url, mut config) = (None, Self::new(""));
        for (name, value) in vars {
            match name.as_str() {
                "REDIS_URL" if !value.is_empty() => url = Some(value),
                "ORCHESTRATOR_REDIS_CA" if !value.is_empty() => config.redis_tls.ca = Some(file(&name, &value)?),
                "ORCHESTRATOR_REDIS_CERT" if !value.is_empty() => {
                    config.redis_tls.certificate = Some(file(&name, &value)?);
                }
                "ORCHESTRATOR_REDIS_KEY" if !value.is_empty() => config.redis_tls.key = Some(file(&name, &value)?),
                "ORCHESTRATOR_QUEUE_PREFIX" => config.namespace = value,
                "ORCHESTRATOR_TASK_TTL" => config.retention = seconds(&name, &value)?,
                "ORCHESTRATOR_AGING" if !value.is_empty() => {
                    config.aging =
                        value.parse().map_err(|error| Error::invalid(format!("{name} is wrong: {error}")))?;
                }
                "ORCHESTRATOR_DEAD_LETTER_TTL" => config.dead_retention = seconds(&name, &value)?,
                "ORCHESTRATOR_MAX_DEAD_LETTERS" => {
                    config.dead_max = value
                        .parse()
                        .map_err(|_| Error::invalid(format!("{name} is `{value}`; write a number: 100000")))?;
                }
                "ORCHESTRATOR_IDEMPOTENCY_TTL" => config.idempotency = seconds(&name, &value)?,
                "ORCHESTRATOR_APPROVAL_TIMEOUT" => config.approvals.timeout = seconds(&name, &value)?,
                "ORCHESTRATOR_APPROVAL_HISTORY_TTL" => config.approvals.history_ttl = seconds(&name, &value)?,
                "ORCHESTRATOR_MAX_APPROVAL_HISTORY" => {
                    config.approvals.history_max = value
                        .parse()
                        .map_err(|_| Error::invalid(format!("{name} is `{value}`; write a number: 1000")))?;
                }
                "ORCHESTRATOR_SELF_APPROVAL" => {
                    config.approvals.self_approval = match value.as_str() {
                        "allow" => true,
                        "" | "deny" => false,
                        _ => return Err(Error::invalid(format!("{name} is `{value}`; write allow or deny"))),
                    }
                }
                "ORCHESTRATOR_APPROVAL_RULES" => match value.as_str() {
                    "" | "default" => {}
                    "none" => config.approvals.rules.clear(),
                    _ => config.approvals.rules = ApprovalPolicy::rules_from_json(&file_or_text(&name, &value)?)?,
                },
                "ORCHESTRATOR_SLA_RULES" if !value.is_empty() => {
                    config.sla = SlaRule::list_from_json(&file_or_text(&name, &value)?)?;
                }
                #[cfg(feature = "gateway")]
                "ORCHESTRATOR_WEBHOOK_ALLOW" => {
                    config.webhooks.allow = crate::Network::list(&value)
                        .map_err(|error| Error::invalid(format!("{name} is wrong: {error}")))?;
                }
                #[cfg(feature = "gateway")]
                "ORCHESTRATOR_WEBHOOK_CA" if !value.is_empty() => config.webhooks.ca = Some(file(&name, &value)?),
                name if name.starts_with("ORCHESTRATOR_")
                    && !ENVIRONMENT.contains(&name)
                    && !COMMAND_ENVIRONMENT.contains(&name)
                    && !ENVIRONMENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) =>
                {
                    let nearest = nearest(name, ENVIRONMENT).unwrap_or(ENVIRONMENT[0]);
                    return Err(Error::invalid(format!("{name} is not a known setting; did you mean {nearest}?")));
                }
                _ => {}
            }
        }
        config.check()?;
        Ok((url, config))
    }

    /// # Errors
    /// [`Error::Invalid`] naming the first setting out of its bounds.
    pub(crate) fn check(&self) -> Result {
        check_name("namespace", &self.namespace)?;
        self.redis_tls.check()?;
        self.approvals.check()?;
        self.aging.check()?;
        self.sla.iter().try_for_each(|rule| rule.sla.check())?;
        #[cfg(feature = "gateway")]
        self.webhooks.check()?;
        let day = Duration::from_secs(24 * 3600);
        if !(Duration::from_secs(60)..=30 * day).contains(&self.retention) {
            return Err(Error::invalid("finished tasks are kept between 1 minute and 30 days"));
        }
        if !(Duration::from_secs(60)..=30 * day).contains(&self.idempotency) {
            return Err(Error::invalid("an idempotency key is kept between 1 minute and 30 days"));
        }
        if self.dead_retention > 366 * day {
            return Err(Error::invalid("failed tasks are kept for 366 days at most"));
        }
        if !(Duration::from_secs(60)..=366 * day).contains(&self.events_age) {
            return Err(Error::invalid("events are kept between 1 minute and 366 days"));
        }
        if self.dead_max == 0 || self.queue_max == 0 || self.events_max == 0 {
            return Err(Error::invalid("the bounds of dead letters, queues and events are at least 1"));
        }
        Ok(())
    }
}

/// Tells nothing that may be secret, such as a password in the URL.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A number of seconds.
fn seconds(name: &str, value: &str) -> Result<Duration> {
    let seconds =
        value.parse().map_err(|_| Error::invalid(format!("{name} is `{value}`; write a number of seconds: 86400")))?;
    Ok(Duration::from_secs(seconds))
}

/// A list written in the variable itself, or the file that it names.
fn file_or_text(name: &str, value: &str) -> Result<String> {
    match value.trim_start().starts_with('[') {
        true => Ok(value.into()),
        false => file(name, value),
    }
}

/// The text of the file that a variable names.
pub(crate) fn file(name: &str, value: &str) -> Result<String> {
    std::fs::read_to_string(value)
        .map_err(|error| Error::invalid(format!("{name} names the file `{value}`, which cannot be read: {error}")))
}

/// The known word nearest to `word` by edit distance (Wagner and Fischer, 1974), if any is near enough to be meant.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in word.bytes().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.bytes().enumerate() {
                let cost = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[other.len()]
    };
    known.iter().map(|k| (distance(k), *k)).min().filter(|(d, _)| *d <= word.len() / 2).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_a_worker_may_be_a_client() {
        let told = COMMAND_ENVIRONMENT.map(|name| (name.to_owned(), "x".to_owned()));
        assert!(Config::from_vars(told.into_iter()).is_ok());
    }

    fn vars(pairs: &[(&str, &str)]) -> Result<(Option<String>, Config)> {
        Config::from_vars(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_is_read_and_a_slip_is_named() {
        let (url, config) =
            vars(&[("REDIS_URL", "redis://h"), ("ORCHESTRATOR_TASK_TTL", "3600"), ("HOME", "/root")]).expect("fair");
        assert_eq!((url.as_deref(), config.retention.as_secs()), (Some("redis://h"), 3600));
        assert!(vars(&[("ORCHESTRATOR_API_KEY_DEV", "k:agent")]).is_ok());
        let (_, config) = vars(&[
            ("ORCHESTRATOR_AGING", "10m"),
            ("ORCHESTRATOR_DEAD_LETTER_TTL", "86400"),
            ("ORCHESTRATOR_MAX_DEAD_LETTERS", "7"),
        ])
        .expect("fair");
        assert_eq!(config.aging, Aging::By(Duration::from_secs(600)));
        assert_eq!((config.dead_retention.as_secs(), config.dead_max), (86_400, 7));
        let fault = |k, v| vars(&[(k, v)]).expect_err("a fault").to_string();
        assert!(fault("ORCHESTRATOR_TASK_TL", "1").contains("did you mean ORCHESTRATOR_TASK_TTL?"));
        assert!(fault("ORCHESTRATOR_AGING", "5 minuets").contains("ORCHESTRATOR_AGING is wrong"));
        assert!(fault("ORCHESTRATOR_AGING", "31d").contains("1 second to 30 days"));
        assert!(fault("ORCHESTRATOR_MAX_DEAD_LETTERS", "0").contains("at least 1"));
        assert!(fault("ORCHESTRATOR_TASK_TTL", "a day").contains("number of seconds"));
        assert!(fault("ORCHESTRATOR_TASK_TTL", "5").contains("between 1 minute and 30 days"));
        assert!(fault("ORCHESTRATOR_QUEUE_PREFIX", "{x}").contains("namespace"));
    }

    #[test]
    fn files_for_tls_to_redis_are_read() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let (_, config) = vars(&[("ORCHESTRATOR_REDIS_CA", file), ("ORCHESTRATOR_REDIS_KEY", "")]).expect("fair");
        assert!(config.redis_tls.ca.is_some_and(|ca| ca.contains("[package]")) && config.redis_tls.key.is_none());
        let fault = |k, v| vars(&[(k, v)]).expect_err("a fault").to_string();
        assert!(fault("ORCHESTRATOR_REDIS_CA", "/no/such/file").contains("ORCHESTRATOR_REDIS_CA names the file"));
        assert!(fault("ORCHESTRATOR_REDIS_CERT", file).contains("goes with its private key"));
        assert!(fault("ORCHESTRATOR_REDIS_KEY", file).contains("goes with its private key"));
    }

    #[cfg(feature = "gateway")]
    #[test]
    fn what_webhooks_may_reach_is_read() {
        let (_, config) = vars(&[("ORCHESTRATOR_WEBHOOK_ALLOW", "10.0.0.0/8, ::1")]).expect("fair");
        assert_eq!((config.webhooks.allow.len(), config.webhooks.ca), (2, None));
        let fault = |k, v| vars(&[(k, v)]).expect_err("a fault").to_string();
        let said = fault("ORCHESTRATOR_WEBHOOK_ALLOW", "10.0.0.0/8,intranet");
        assert!(said.contains("ORCHESTRATOR_WEBHOOK_ALLOW") && said.contains("`intranet` is no network"), "{said}");
        assert!(fault("ORCHESTRATOR_WEBHOOK_CA", "/no/such/file").contains("cannot be read"));
        assert!(fault("ORCHESTRATOR_WEBHOOK_ALOW", "").contains("did you mean ORCHESTRATOR_WEBHOOK_ALLOW?"));
    }

    #[test]
    fn the_nearest_word_is_found_and_nonsense_has_none() {
        assert_eq!(nearest("bugfx", &["faq", "bugfix", "deploy"]), Some("bugfix"));
        assert_eq!(nearest("zzzzzz", &["faq", "bugfix"]), None);
    }
}
