//! What a webhook's requests are signed with.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::{Error, Result};

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a secret that is made here.
const BYTES_MADE: usize = 32;

/// Written with padding, read with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What requests are signed with: `whsec_` and 24 to 64 random bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// A new one, of 32 random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random::<[u8; BYTES_MADE]>().to_vec())
    }

    /// The secret itself, for whoever receives the requests.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.0))
    }

    /// One signature as the header has it: `v1,` and the HMAC-SHA256 in base64.
    pub(super) fn sign(&self, event_id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        signing.update(format!("{event_id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", BASE64.encode(signing.sign()))
    }
}

impl FromStr for WebhookSecret {
    type Err = Error;

    /// # Errors
    /// [`Error::Invalid`], which does not show the text.
    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| BASE64.decode(rest).ok());
        bytes.filter(|bytes| BYTES.contains(&bytes.len())).map(Self).ok_or_else(|| {
            Error::invalid(format!(
                "the secret of a webhook is {PREFIX} and {} to {} random bytes in base64; without one it is made here",
                BYTES.start(),
                BYTES.end()
            ))
        })
    }
}

/// Tells nothing.
impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_a_bad_one_is_not_shown() {
        let made = WebhookSecret::generate();
        assert_eq!(made.reveal().parse::<WebhookSecret>().expect("our own"), made);
        assert_ne!(made, WebhookSecret::generate());
        assert!(made.reveal().trim_end_matches('=').parse::<WebhookSecret>().is_ok(), "padding may be left away");
        let bytes = |n: usize| format!("whsec_{}", BASE64.encode(vec![7; n]));
        for (text, good) in [
            (bytes(23), false),
            (bytes(24), true),
            (bytes(64), true),
            (bytes(65), false),
            (bytes(32).replace("whsec_", ""), false),
            ("whsec_not base64 at all, but long enough".into(), false),
        ] {
            let read = text.parse::<WebhookSecret>();
            assert_eq!(read.is_ok(), good, "{text}");
            assert!(read.err().is_none_or(|error| !error.to_string().contains(&text)));
        }
    }
}
