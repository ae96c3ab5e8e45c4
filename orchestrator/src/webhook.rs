//! A webhook: a place outside that is told of events by signed HTTP requests.

mod address;
mod network;
mod policy;
mod secret;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::network::Network;
pub use self::policy::{WEBHOOK_TIMEOUT_DEFAULT, WebhookPolicy};
pub use self::secret::WebhookSecret;
use crate::pattern::{EventPattern, PATTERNS_MAX};
use crate::task::instant;
use crate::{Error, Result, check_name, codec};

/// Webhooks of one namespace at most.
pub const WEBHOOKS_MAX: usize = 100;
/// Longest id of a webhook, in characters.
pub const WEBHOOK_ID_MAX: usize = 48;
/// Longest address of a webhook, in bytes.
pub const WEBHOOK_URL_MAX: usize = 2048;
/// Secrets that are valid at the same time: the newest and the one before.
const SECRETS_MAX: usize = 2;
/// Largest webhook, stored.
const STORED_BYTES_MAX: usize = 64 * 1024;

/// A place outside that is told of events. As JSON it has everything but its secrets.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Its name, chosen by whoever runs it: `slack`.
    pub id: String,
    /// Where the requests go.
    pub url: String,
    /// The event types that are told; all when there is none.
    pub wanted: Vec<EventPattern>,
    /// What requests are signed with, newest first.
    #[serde(skip)]
    pub(crate) secrets: Vec<WebhookSecret>,
    /// When it was added; nothing that happened before is told.
    pub created_at: DateTime<Utc>,
    /// Whether nothing is sent now. What happens meanwhile is sent later, as far back as events are kept.
    pub paused: bool,
    /// Why it was paused, when it was not by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<String>,
}

/// What is stored under its id.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "u")]
    url: String,
    #[serde(rename = "w")]
    wanted: Vec<EventPattern>,
    #[serde(rename = "s")]
    secrets: Vec<String>,
    #[serde(rename = "c")]
    created_ms: u64,
    #[serde(rename = "p", default)]
    paused: bool,
    #[serde(rename = "b", default)]
    because: Option<String>,
}

impl Webhook {
    /// A webhook with a new secret, for [`Orchestrator::add_webhook`](crate::Orchestrator::add_webhook). It is told of the
    /// events whose type one of `wanted` means; of all when there is none.
    #[must_use]
    pub fn new(id: &str, url: &str, wanted: &[EventPattern]) -> Self {
        Self {
            id: id.into(),
            url: url.into(),
            wanted: wanted.to_vec(),
            secrets: vec![WebhookSecret::generate()],
            created_at: DateTime::UNIX_EPOCH,
            paused: false,
            paused_because: None,
        }
    }

    /// Signed with a secret that the receiver knows already.
    #[must_use]
    pub fn secret(self, secret: WebhookSecret) -> Self {
        Self { secrets: vec![secret], ..self }
    }

    /// What requests are signed with, newest first: one secret, or two after a rotation.
    #[must_use]
    pub fn secrets(&self) -> &[WebhookSecret] {
        &self.secrets
    }

    /// The header `webhook-signature` of a request: one signature a secret, over `<id>.<timestamp>.<body>`, as Standard
    /// Webhooks 1.0.0 has it. `timestamp` is in Unix seconds.
    #[must_use]
    pub fn signature(&self, event_id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed: Vec<String> = self.secrets.iter().map(|secret| secret.sign(event_id, timestamp, body)).collect();
        signed.join(" ")
    }

    /// Refuses what cannot be, and gives the address the form that it is sent to: `http://0x7f.1` is `http://127.0.0.1/`.
    pub(crate) fn checked(self, policy: &WebhookPolicy) -> Result<Self> {
        check_id(&self.id)?;
        let url = target(&self.url, policy)?.into();
        match self.wanted.len() <= PATTERNS_MAX {
            true => Ok(Self { url, ..self }),
            false => Err(Error::invalid(format!(
                "a webhook takes at most {PATTERNS_MAX} patterns, not {}",
                self.wanted.len()
            ))),
        }
    }

    /// Puts a secret before the others; the oldest goes when there are too many. Whether that was a change.
    pub(crate) fn rotate(&mut self, secret: WebhookSecret) -> bool {
        if self.secrets.first() == Some(&secret) {
            return false;
        }
        self.secrets.retain(|old| *old != secret);
        self.secrets.insert(0, secret);
        self.secrets.truncate(SECRETS_MAX);
        true
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let stored = Stored {
            url: self.url.clone(),
            wanted: self.wanted.clone(),
            secrets: self.secrets.iter().map(WebhookSecret::reveal).collect(),
            created_ms: u64::try_from(self.created_at.timestamp_millis()).unwrap_or(0),
            paused: self.paused,
            because: self.paused_because.clone(),
        };
        codec::encode("webhook", &stored, STORED_BYTES_MAX)
    }

    pub(crate) fn read(id: &str, bytes: &[u8]) -> Result<Self> {
        let stored: Stored = codec::decode("a webhook", bytes)?;
        let secrets: Vec<WebhookSecret> = stored.secrets.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        if secrets.is_empty() {
            return Err(Error::corrupt(format!("webhook `{id}` has no secret")));
        }
        Ok(Self {
            id: id.into(),
            url: stored.url,
            wanted: stored.wanted,
            secrets,
            created_at: instant(stored.created_ms),
            paused: stored.paused,
            paused_because: stored.because,
        })
    }
}

/// Does not tell secrets.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("url", &self.url)
            .field("wanted", &self.wanted)
            .field("secrets", &self.secrets.len())
            .field("created_at", &self.created_at)
            .field("paused", &self.paused)
            .field("paused_because", &self.paused_because)
            .finish()
    }
}

/// Checks the id of a webhook.
pub(crate) fn check_id(id: &str) -> Result {
    check_name("webhook", id)?;
    match id.len() <= WEBHOOK_ID_MAX {
        true => Ok(()),
        false => Err(Error::invalid(format!("the id of a webhook has at most {WEBHOOK_ID_MAX} characters: slack"))),
    }
}

/// Reads the address of a webhook and refuses what must not be sent to. An address of numbers is judged here, a name when
/// it is resolved.
pub(crate) fn target(url: &str, policy: &WebhookPolicy) -> Result<Url> {
    let refuse = |what: &str| {
        let shown = crate::error::excerpt(url.split(['?', '#']).next().unwrap_or_default());
        Error::invalid(format!("`{shown}` is no address for a webhook: {what}"))
    };
    if url.len() > WEBHOOK_URL_MAX {
        return Err(Error::invalid(format!("the address of a webhook has at most {WEBHOOK_URL_MAX} bytes")));
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refuse("it has blanks in it"));
    }
    let parsed = Url::parse(url).map_err(|_| refuse("write it like https://example.com/hook"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(Error::invalid(
            "the address of a webhook has a user or password in it; the signature says who sends",
        ));
    }
    if parsed.fragment().is_some() {
        return Err(refuse("what follows # is never sent; leave it away"));
    }
    let plain = match parsed.scheme() {
        "https" => false,
        "http" if policy.allow.is_empty() => {
            return Err(refuse("write https; http goes only to the networks of ORCHESTRATOR_WEBHOOK_ALLOW"));
        }
        "http" => true,
        _ => return Err(refuse("write https://")),
    };
    if parsed.port() == Some(0) {
        return Err(refuse("port 0 is none"));
    }
    match parsed.host() {
        None => Err(refuse("it names no host")),
        Some(url::Host::Ipv4(address)) => policy.admit(address.into(), plain).map_err(|what| refuse(&what)),
        Some(url::Host::Ipv6(address)) => policy.admit(address.into(), plain).map_err(|what| refuse(&what)),
        Some(url::Host::Domain(_)) => Ok(()),
    }?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn webhook() -> Webhook {
        Webhook::new("slack", "https://example.com/hook", &["deploy.*".parse().expect("a pattern")])
            .secret(TOLD.parse().expect("a secret"))
    }

    #[test]
    fn each_secret_signs() {
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let old = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let mut webhook = webhook();
        assert_eq!(webhook.signature(id, 1_614_265_330, body), old);
        assert!(webhook.rotate(WebhookSecret::generate()));
        let both = webhook.signature(id, 1_614_265_330, body);
        assert!(both.ends_with(&format!(" {old}")) && both.len() == 2 * old.len() + 1, "{both}");
        assert!(webhook.rotate(WebhookSecret::generate()));
        assert!(!webhook.signature(id, 1_614_265_330, body).contains(old), "two are valid at the same time, not more");
        let newest = webhook.secrets[0].clone();
        assert!(!webhook.rotate(newest), "the secret in force is not rotated away");
    }

    #[test]
    fn secrets_are_stored_and_nowhere_shown() {
        let webhook = Webhook { created_at: instant(1_790_000_000_000), ..webhook() };
        let again = Webhook::read("slack", &webhook.write().expect("bytes")).expect("a webhook");
        assert_eq!(again, webhook);
        let secret = TOLD.trim_start_matches("whsec_");
        for shown in [format!("{webhook:?}"), serde_json::to_string(&webhook).expect("JSON")] {
            assert!(shown.contains("https://example.com/hook") && !shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn addresses_are_checked() {
        let none = WebhookPolicy::default();
        for good in [
            "https://example.com/hook?x=1",
            "https://example.com:8443",
            "https://93.184.215.14/",
            "https://[2606:4700::1]/",
        ] {
            assert!(target(good, &none).is_ok(), "{good}");
        }
        let long = format!("https://example.com/{}", "a".repeat(WEBHOOK_URL_MAX));
        for (bad, right) in [
            ("http://example.com/", "write https"),
            ("ftp://example.com/", "write https://"),
            ("example.com/hook", "write it like"),
            ("https://", "write it like"),
            ("https://ada:pw@example.com/", "user or password"),
            ("https://example.com/#top", "#"),
            ("https://example.com/a b", "blanks"),
            ("https://example.com/\n", "blanks"),
            ("https://example.com:0/", "port 0"),
            (&long, "at most 2048"),
            ("https://127.0.0.1/", "loopback"),
            ("https://2130706433/", "127.0.0.1 is a loopback"),
            ("https://0x7f.1/", "127.0.0.1 is a loopback"),
            ("https://0177.0.0.1/", "127.0.0.1 is a loopback"),
            ("https://127.1./", "loopback"),
            ("https://[::ffff:127.0.0.1]/", "IPv4"),
            ("https://[::1]/", "loopback"),
        ] {
            let said = target(bad, &none).expect_err(bad).to_string();
            assert!(said.contains(right) && !said.contains("pw"), "{bad}: {said}");
        }
        let here = WebhookPolicy { allow: Network::list("127.0.0.0/8").expect("a network"), ..none };
        assert!(target("http://0x7f.1:8080/", &here).is_ok_and(|url| url.as_str() == "http://127.0.0.1:8080/"));
        assert!(target("http://93.184.215.14/", &here).is_err(), "http goes to allowed networks only");
        assert!(target("https://10.0.0.1/", &here).is_err());
        assert!(check_id(&"a".repeat(48)).is_ok() && check_id(&"a".repeat(49)).is_err() && check_id("Slack").is_err());
    }
}
