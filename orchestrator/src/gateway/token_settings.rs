//! What the environment says of tokens.

use std::path::Path;

use super::Tokens;
use crate::{Error, Result};

/// The settings as they are met, in any order.
#[derive(Default)]
pub(super) struct TokenSettings {
    secret: Option<String>,
    previous: String,
    audience: String,
    issuer: String,
    jwks: String,
}

impl TokenSettings {
    /// Takes a setting; `false` when it is about something else.
    pub(super) fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "ORCHESTRATOR_JWT_SECRET" => self.secret = Some(value.into()),
            "ORCHESTRATOR_JWT_SECRET_PREVIOUS" => self.previous = value.into(),
            "ORCHESTRATOR_JWT_AUDIENCE" => self.audience = value.into(),
            "ORCHESTRATOR_JWT_ISSUER" => self.issuer = value.into(),
            "ORCHESTRATOR_JWT_JWKS" => self.jwks = value.into(),
            _ => return false,
        }
        true
    }

    /// What tokens are judged by; `None` when neither a secret nor public keys are set.
    pub(super) fn judge(self) -> Result<Option<Tokens>> {
        let tokens = self.sign()?;
        if self.jwks.is_empty() {
            return Ok(tokens);
        }
        let path = Path::new(&self.jwks);
        match tokens {
            Some(tokens) => tokens.jwks(path).map(Some),
            None => self.parties(Tokens::by_jwks(path)?).map(Some),
        }
    }

    /// What signs; `None` when no secret is set.
    fn sign(&self) -> Result<Option<Tokens>> {
        let Some(secret) = &self.secret else {
            return match self.previous.trim().is_empty() {
                true => Ok(None),
                false => Err(Error::invalid(
                    "ORCHESTRATOR_JWT_SECRET_PREVIOUS is set, and ORCHESTRATOR_JWT_SECRET is not: the one that signs is needed",
                )),
            };
        };
        let tokens = self.parties(Tokens::new(secret)?)?;
        self.previous.split_whitespace().try_fold(tokens, Tokens::previous).map(Some)
    }

    fn parties(&self, mut tokens: Tokens) -> Result<Tokens> {
        if !self.audience.is_empty() {
            tokens = tokens.audience(&self.audience)?;
        }
        if !self.issuer.is_empty() {
            tokens = tokens.issuer(&self.issuer)?;
        }
        Ok(tokens)
    }
}

impl Tokens {
    /// What signs, as the gateway judges: `ORCHESTRATOR_JWT_SECRET`, `ORCHESTRATOR_JWT_AUDIENCE` and
    /// `ORCHESTRATOR_JWT_ISSUER`. `None` when no secret is set.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that makes no sense, naming the variable; secrets are never shown.
    pub fn from_env() -> Result<Option<Self>> {
        let mut settings = TokenSettings::default();
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                settings.take(name, value);
            }
        }
        settings.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn judge(pairs: &[(&str, &str)]) -> Result<Option<Tokens>> {
        let mut settings = TokenSettings::default();
        for (name, value) in pairs {
            assert!(settings.take(name, value), "{name}");
        }
        settings.judge()
    }

    #[test]
    fn secrets_and_parties_are_read_and_secrets_are_never_shown() {
        assert!(!TokenSettings::default().take("ORCHESTRATOR_PORT", "1"));
        assert!(judge(&[("ORCHESTRATOR_JWT_AUDIENCE", "a"), ("ORCHESTRATOR_JWT_JWKS", "")]).is_ok_and(|t| t.is_none()));
        let all = judge(&[
            ("ORCHESTRATOR_JWT_SECRET_PREVIOUS", &format!(" {SECRET}\n{}  ", SECRET.to_uppercase())),
            ("ORCHESTRATOR_JWT_ISSUER", "me"),
            ("ORCHESTRATOR_JWT_SECRET", SECRET),
        ]);
        let all = all.expect("fair settings").expect("tokens");
        assert_eq!((all.secrets.len(), all.issuer.as_deref(), all.audience), (3, Some("me"), None));
        let fault = |name, value| {
            judge(&[("ORCHESTRATOR_JWT_SECRET", SECRET), (name, value)]).expect_err("a fault").to_string()
        };
        assert!(fault("ORCHESTRATOR_JWT_SECRET_PREVIOUS", "hidden").contains("has 6 bytes"));
        assert!(!fault("ORCHESTRATOR_JWT_SECRET_PREVIOUS", "hidden").contains("hidden"));
        assert!(fault("ORCHESTRATOR_JWT_AUDIENCE", "two words").starts_with("ORCHESTRATOR_JWT_AUDIENCE"));
        assert!(fault("ORCHESTRATOR_JWT_JWKS", "/no/such/file").contains("cannot be read"));
        let lonely = judge(&[("ORCHESTRATOR_JWT_SECRET_PREVIOUS", SECRET)]).expect_err("a fault").to_string();
        assert!(lonely.contains("ORCHESTRATOR_JWT_SECRET is not") && !lonely.contains(SECRET), "{lonely}");
    }
}
