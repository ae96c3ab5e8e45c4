//! What outbound webhooks may reach, and whom they trust.

use std::net::IpAddr;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::Network;
use super::address::forbidden;
use crate::{Error, Result};

/// Longest time that one request may take in all, unless the policy says otherwise.
pub const WEBHOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Longest that a policy may say.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What outbound webhooks may reach, and whom they trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPolicy {
    /// Networks that are reached though they are not public, and that plain `http` may go to; none unless set.
    pub allow: Vec<Network>,
    /// Certificates, as PEM, of authorities that are trusted beside the public ones.
    pub ca: Option<String>,
    /// Longest time that one request may take in all, at most a minute.
    pub timeout: Duration,
}

impl Default for WebhookPolicy {
    /// Public addresses over `https`, by the public authorities, 15 s a request.
    fn default() -> Self {
        Self { allow: Vec::new(), ca: None, timeout: WEBHOOK_TIMEOUT_DEFAULT }
    }
}

impl WebhookPolicy {
    /// Whether a request may go to this address, `plain` for one without TLS; says why not.
    pub(crate) fn admit(&self, address: IpAddr, plain: bool) -> std::result::Result<(), String> {
        if self.allow.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        match forbidden(address) {
            Some(kind) => Err(format!("{address} is {kind}; ORCHESTRATOR_WEBHOOK_ALLOW has to name its network")),
            None if plain => Err(format!(
                "http goes only to the networks of ORCHESTRATOR_WEBHOOK_ALLOW, and {address} is in none of them; write https"
            )),
            None => Ok(()),
        }
    }

    /// Whether a request may go to the host that has these addresses. One that must not be reached spoils all: a name that
    /// tells both kinds is a trap.
    pub(crate) fn admit_all(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
        plain: bool,
    ) -> std::result::Result<(), String> {
        addresses.into_iter().try_for_each(|address| self.admit(address, plain))
    }

    /// Who is trusted to say who somebody is.
    pub(crate) fn roots(&self) -> Result<RootCertStore> {
        let refuse = |what: &str| Error::invalid(format!("the authority of ORCHESTRATOR_WEBHOOK_CA {what}"));
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let public = roots.len();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_deref().unwrap_or_default().as_bytes()) {
            let certificate = certificate.map_err(|_| refuse("is not sound PEM"))?;
            roots.add(certificate).map_err(|error| refuse(&format!("cannot be trusted: {error}")))?;
        }
        match self.ca.is_some() && roots.len() == public {
            true => Err(refuse("has no certificate in it; it needs PEM: -----BEGIN CERTIFICATE-----")),
            false => Ok(roots),
        }
    }

    pub(crate) fn check(&self) -> Result {
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err(Error::invalid("a webhook's request may take up to a minute, and more than nothing"));
        }
        match self.ca {
            Some(_) => self.roots().map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_networks_are_reached_and_no_others() {
        let policy = WebhookPolicy { allow: Network::list("10.1.0.0/16").expect("one"), ..WebhookPolicy::default() };
        let admits = |address: &str, plain| policy.admit(address.parse().expect("an address"), plain).is_ok();
        assert!(admits("10.1.2.3", false) && admits("10.1.2.3", true));
        assert!(!admits("10.2.0.1", false) && !admits("::ffff:10.1.2.3", false));
        assert!(admits("1.1.1.1", false) && !admits("1.1.1.1", true));
        let all = |addresses: &[&str], plain| {
            policy.admit_all(addresses.iter().map(|one| one.parse().expect("an address")), plain).is_ok()
        };
        assert!(all(&["1.1.1.1", "2606:4700::1", "10.1.0.1"], false) && all(&["10.1.0.1", "10.1.0.2"], true));
        assert!(!all(&["1.1.1.1", "127.0.0.1"], false) && !all(&["::1", "1.1.1.1"], false));
        assert!(!all(&["10.1.0.1", "1.1.1.1"], true), "http goes nowhere else, not even by a second address");
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        let with = |ca: &str| WebhookPolicy { ca: Some(ca.into()), ..WebhookPolicy::default() }.check();
        assert!(with("hello").expect_err("no PEM").to_string().contains("no certificate"));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(with(cut).expect_err("no certificate").to_string().contains("cannot be trusted"));
        assert!(WebhookPolicy::default().check().is_ok());
        assert!(WebhookPolicy { timeout: Duration::ZERO, ..WebhookPolicy::default() }.check().is_err());
    }
}
