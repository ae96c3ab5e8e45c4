//! TLS to Redis: whom it trusts, and who this process is to the server.

use std::fmt;

use crate::{Error, Result};

/// What goes with a `rediss://` URL. The server's certificate is always verified: it has to be for the host of the URL, and
/// by an authority that is trusted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// The authorities that are trusted, as PEM: those and no others. The public ones when this is not set.
    pub ca: Option<String>,
    /// The certificate that is shown to a server which asks for one, and the chain behind it, as PEM. It goes with `key`.
    pub certificate: Option<String>,
    /// The private key of `certificate`, as PEM.
    pub key: Option<String>,
}

impl RedisTls {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self) -> Result {
        if self.certificate.is_some() != self.key.is_some() {
            return Err(Error::invalid(
                "a certificate for Redis goes with its private key: set ORCHESTRATOR_REDIS_CERT and ORCHESTRATOR_REDIS_KEY",
            ));
        }
        Ok(())
    }
}

/// Shows what is set, and never the key.
impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(|_| "(secret)");
        f.debug_struct("RedisTls")
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("key", &key)
            .finish()
    }
}
