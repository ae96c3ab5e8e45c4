//! Web origins, as the setting `CORS_ORIGINS` names them.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// One origin (`https://app.example.com`, `http://localhost:3000`) or a pattern whose first label is free
/// (`https://*.example.com`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// Host and port; behind the free label, if there is one.
    rest: String,
    any_label: bool,
}

impl Origin {
    /// Reads a comma-separated list.
    pub(super) fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::read).collect()
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no origin; write https://app.example.com, with a port if it has one, or https://*.example.com"
            )
        };
        let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
        let (any_label, rest) = match host.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host),
        };
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        let fits = ["http", "https"].contains(&scheme)
            && name.split('.').all(is_label)
            && (!any_label || name.contains('.'))
            && port.is_none_or(|port| port.parse::<u16>().is_ok());
        if fits { Ok(Self { scheme: scheme.into(), rest: rest.into(), any_label }) } else { Err(wrong()) }
    }

    /// Whether a browser's header `Origin` is meant. The free label stands for one label, never for none or two.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        let Some((scheme, host)) = origin.split_once("://") else { return false };
        let rest = match self.any_label {
            false => Some(host),
            true => host.split_once('.').filter(|(label, _)| is_label(label)).map(|(_, rest)| rest),
        };
        scheme == self.scheme && rest == Some(&self.rest)
    }
}

fn is_label(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl FromStr for Origin {
    type Err = Error;

    /// # Errors
    /// [`Error::Invalid`] for what is no origin.
    fn from_str(text: &str) -> Result<Self> {
        Self::read(text).map_err(Error::invalid)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, if self.any_label { "*." } else { "" }, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_label_stands_for_exactly_one() {
        let origins = Origin::list("https://*.example.com,http://localhost:3000,").expect("fair origins");
        let allowed = |origin: &str| origins.iter().any(|pattern| pattern.matches(origin));
        assert!(allowed("https://a.example.com") && allowed("http://localhost:3000"));
        for other in [
            "https://example.com",
            "https://a.b.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://evilexample.com",
            "https://.example.com",
            "https://evil.com/x.example.com",
            "https://evil/.example.com",
            "https://me@x.example.com",
            "https://evil?.example.com",
            "http://localhost",
            "null",
        ] {
            assert!(!allowed(other), "{other}");
        }
        assert_eq!(origins[0].to_string(), "https://*.example.com");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "*",
            "example.com",
            "https://",
            "https://*.com",
            "https://a/b",
            "https://*",
            "ftp://a.b",
            "https://a:b",
            "https://x.*.com",
        ] {
            assert!(Origin::list(text).is_err(), "{text}");
        }
    }
}
