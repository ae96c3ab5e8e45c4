//! JSON Web Tokens: made with one secret; judged by that, by those before it, and by the public keys of others.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde::Serialize;

use super::Role;
use super::claims::{check_groups, check_sub};
use super::jwks::Jwks;
use super::link_token::AUDIENCE_OF_LINKS;
use crate::router::check_name;
use crate::{Error, Result};

/// Shortest secret, in bytes: the length of the hash.
pub const SECRET_BYTES_MIN: usize = 32;
/// Longest life of a token: 366 days. One that says it lives longer is refused.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Groups of one token at most.
pub const GROUPS_MAX: usize = 50;
/// Longest name of a group, in characters.
pub const GROUP_CHARS_MAX: usize = 64;
/// Secrets that are accepted beside the one that signs.
const PREVIOUS_MAX: usize = 8;
/// Longest name of an audience or an issuer, in bytes.
const PARTY_BYTES_MAX: usize = 256;

/// Makes and judges tokens.
#[derive(Clone)]
pub struct Tokens {
    /// What signs; `None` where others make all tokens.
    signing: Option<EncodingKey>,
    /// What tokens by HS256 are judged by: the secret that signs first, then those before it.
    pub(super) secrets: Vec<DecodingKey>,
    /// What tokens by RS256 and ES256 are judged by.
    pub(super) jwks: Option<Arc<Jwks>>,
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
}

/// What a token of ours says.
#[derive(Serialize)]
struct Minted<'c> {
    sub: &'c str,
    role: Role,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'c [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'c str>,
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Tokens signed with `secret`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a secret shorter than [`SECRET_BYTES_MIN`], telling its length.
    pub fn new(secret: &str) -> Result<Self> {
        check_secret("ORCHESTRATOR_JWT_SECRET", secret)?;
        let secrets = vec![DecodingKey::from_secret(secret.as_bytes())];
        let signing = Some(EncodingKey::from_secret(secret.as_bytes()));
        Ok(Self { signing, secrets, jwks: None, audience: None, issuer: None })
    }

    /// Tokens that others sign, judged by the public keys of a file. See [`Tokens::jwks`].
    ///
    /// # Errors
    /// As [`Tokens::jwks`].
    pub fn by_jwks(path: &Path) -> Result<Self> {
        Self { signing: None, secrets: Vec::new(), jwks: None, audience: None, issuer: None }.jwks(path)
    }

    /// Accepts, but never signs with, a secret that was in force before, so that its tokens stay good until they end.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a secret shorter than [`SECRET_BYTES_MIN`], and for more than 8.
    pub fn previous(mut self, secret: &str) -> Result<Self> {
        check_secret("a secret of ORCHESTRATOR_JWT_SECRET_PREVIOUS", secret)?;
        if self.secrets.len() > PREVIOUS_MAX {
            return Err(Error::invalid(format!(
                "ORCHESTRATOR_JWT_SECRET_PREVIOUS has more than {PREVIOUS_MAX} secrets; leave out those whose tokens have ended"
            )));
        }
        self.secrets.push(DecodingKey::from_secret(secret.as_bytes()));
        Ok(self)
    }

    /// Accepts tokens by RS256 and ES256 too, whose `kid` names one of the public keys in the JWKS file at `path`. The file is
    /// looked at again when a minute has passed; while what it says cannot be used, the keys that it held before count.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file that cannot be read, is larger than 256 KiB, has more than 100 keys, a secret or private
    /// one, an RSA key of less than 2,048 bits, or none for RS256 and ES256.
    pub fn jwks(mut self, path: &Path) -> Result<Self> {
        self.jwks = Some(Arc::new(Jwks::open(path)?));
        Ok(self)
    }

    /// Takes only tokens for this audience, and makes tokens for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not 1 to 256 printable ASCII characters, and for that of the links.
    pub fn audience(mut self, audience: &str) -> Result<Self> {
        check_party("ORCHESTRATOR_JWT_AUDIENCE", audience)?;
        if audience == AUDIENCE_OF_LINKS {
            return Err(Error::invalid(format!(
                "ORCHESTRATOR_JWT_AUDIENCE is `{AUDIENCE_OF_LINKS}`, which means links to approvals; choose another name"
            )));
        }
        self.audience = Some(audience.into());
        Ok(self)
    }

    /// Takes only tokens of this issuer, and makes tokens in its name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not 1 to 256 printable ASCII characters.
    pub fn issuer(mut self, issuer: &str) -> Result<Self> {
        check_party("ORCHESTRATOR_JWT_ISSUER", issuer)?;
        self.issuer = Some(issuer.into());
        Ok(self)
    }

    /// A token for the caller `sub`, good for `life`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name, for a life of less than a second or more than [`TOKEN_LIFE_MAX`], and where there is
    /// no secret to sign with.
    pub fn mint(&self, sub: &str, role: Role, life: Duration) -> Result<String> {
        self.mint_in(sub, role, &[], life)
    }

    /// A token for the caller `sub` who belongs to `groups`, which are roles of theirs as an approver.
    ///
    /// # Errors
    /// As [`Tokens::mint`]; [`Error::Invalid`] for more than [`GROUPS_MAX`] groups and for one that is empty, longer than
    /// [`GROUP_CHARS_MAX`] characters or has control characters.
    pub fn mint_in(&self, sub: &str, role: Role, groups: &[String], life: Duration) -> Result<String> {
        self.mint_for(sub, role, groups, None, life)
    }

    /// As [`Tokens::mint_in`], for a caller who sees and changes only what belongs to `tenant`.
    ///
    /// # Errors
    /// As [`Tokens::mint_in`]; [`Error::Invalid`] for a tenant that is no name.
    pub fn mint_for(
        &self,
        sub: &str,
        role: Role,
        groups: &[String],
        tenant: Option<&str>,
        life: Duration,
    ) -> Result<String> {
        check_sub(sub).map_err(Error::invalid)?;
        check_groups(groups).map_err(Error::invalid)?;
        tenant.map_or(Ok(()), |tenant| check_name("tenant", tenant))?;
        let (iat, exp) = span(life)?;
        let (aud, iss) = (self.audience.as_deref(), self.issuer.as_deref());
        self.sign(&Minted { sub, role, groups, tenant, aud, iss, iat, exp })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let signing = self.signing.as_ref().ok_or_else(|| {
            Error::invalid("there is no secret to sign with: set ORCHESTRATOR_JWT_SECRET; public keys only judge")
        })?;
        encode(&Header::new(Algorithm::HS256), claims, signing)
            .map_err(|error| Error::invalid(format!("the token cannot be made: {error}")))
    }
}

/// Now and the end of a life that begins now, in seconds.
pub(super) fn span(life: Duration) -> Result<(u64, u64)> {
    if life.as_secs() == 0 || life > TOKEN_LIFE_MAX {
        return Err(Error::invalid("a token lives between 1 second and 366 days"));
    }
    let now = jsonwebtoken::get_current_timestamp();
    Ok((now, now + life.as_secs()))
}

fn check_secret(name: &str, secret: &str) -> Result {
    match secret.len() {
        length if length < SECRET_BYTES_MIN => Err(Error::invalid(format!(
            "{name} has {length} bytes and needs at least {SECRET_BYTES_MIN}; `openssl rand -hex 32` makes a good one"
        ))),
        _ => Ok(()),
    }
}

fn check_party(name: &str, party: &str) -> Result {
    let fair = (1..=PARTY_BYTES_MAX).contains(&party.len()) && party.bytes().all(|b| b.is_ascii_graphic());
    match fair {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "{name} has 1 to {PARTY_BYTES_MAX} printable ASCII characters and no blank, like https://issuer.example"
        ))),
    }
}

/// Tells what signs, and nothing of it.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.secrets.is_empty(), &self.jwks) {
            (_, None) => "Tokens(HS256)",
            (false, Some(_)) => "Tokens(HS256, RS256, ES256)",
            (true, Some(_)) => "Tokens(RS256, ES256)",
        })
    }
}
