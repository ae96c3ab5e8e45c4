//! JSON Web Tokens, HS256: made and judged by one secret.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::caller::Expiry;
use super::{Caller, Role};
use crate::{Error, Result};

/// Shortest secret, in bytes: the length of the hash.
pub const SECRET_BYTES_MIN: usize = 32;
/// Longest life of a token: 366 days. One that says it lives longer is refused.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Groups of one token at most.
pub const GROUPS_MAX: usize = 50;
/// Longest name of a group, in characters.
pub const GROUP_CHARS_MAX: usize = 64;
/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far clocks may be apart, in seconds.
pub(super) const LEEWAY: u64 = 10;

/// Makes and judges the tokens of one secret.
#[derive(Clone)]
pub struct Tokens {
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    validation: Validation,
}

/// What a token of ours says.
#[derive(Serialize)]
struct Minted<'c> {
    sub: &'c str,
    role: Role,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'c [String],
    iat: u64,
    exp: u64,
}

/// What is read from a token. A claim that is there twice is refused; others than these are left alone.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    #[serde(default)]
    groups: Vec<String>,
    /// Seconds; JSON has but one kind of number.
    exp: f64,
}

impl Tokens {
    /// Tokens signed with `secret`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a secret shorter than [`SECRET_BYTES_MIN`], telling its length.
    pub fn new(secret: &str) -> Result<Self> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Error::Invalid {
                what: format!(
                    "ORCHESTRATOR_JWT_SECRET has {} bytes and needs at least {SECRET_BYTES_MIN}; \
                     `openssl rand -hex 32` makes a good one",
                    secret.len()
                ),
            });
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let (encoding, decoding) =
            (EncodingKey::from_secret(secret.as_bytes()), DecodingKey::from_secret(secret.as_bytes()));
        Ok(Self { encoding, decoding, validation })
    }

    /// A token for the caller `sub`, good for `life`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name, and for a life of less than a second or more than [`TOKEN_LIFE_MAX`].
    pub fn mint(&self, sub: &str, role: Role, life: Duration) -> Result<String> {
        self.mint_in(sub, role, &[], life)
    }

    /// A token for the caller `sub` who belongs to `groups`, which are roles of theirs as an approver.
    ///
    /// # Errors
    /// As [`Tokens::mint`]; [`Error::Invalid`] for more than [`GROUPS_MAX`] groups and for one that is empty, longer than
    /// [`GROUP_CHARS_MAX`] characters or has control characters.
    pub fn mint_in(&self, sub: &str, role: Role, groups: &[String], life: Duration) -> Result<String> {
        let refuse = |what: &str| Error::Invalid { what: what.into() };
        check_sub(sub).map_err(refuse)?;
        check_groups(groups).map_err(refuse)?;
        let (iat, exp) = span(life)?;
        self.sign(&Minted { sub, role, groups, iat, exp })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String> {
        encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|error| Error::Invalid { what: format!("the token cannot be made: {error}") })
    }

    /// Who presents this token and when it ends, or what is wrong with it.
    pub(super) fn caller(&self, token: &str) -> Result<(Caller, Expiry), &'static str> {
        check_head(token)?;
        let claims =
            decode::<Claims>(token, &self.decoding, &self.validation).map_err(|error| fault(error.kind()))?.claims;
        check_sub(&claims.sub)?;
        check_groups(&claims.groups)?;
        if claims.exp > (jsonwebtoken::get_current_timestamp() + TOKEN_LIFE_MAX.as_secs() + LEEWAY) as f64 {
            return Err("the token lives longer than 366 days");
        }
        // Clocks may be apart here too: the first whole second at which it would be refused.
        let end = claims.exp.round() + LEEWAY as f64 + 1.0;
        Ok((Caller { name: claims.sub, role: claims.role, groups: claims.groups }, Expiry::At(end)))
    }
}

/// What must hold before anything of a token is believed: its length, and that its header names our algorithm only.
pub(super) fn check_head(token: &str) -> Result<(), &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("the token is longer than 8192 bytes");
    }
    let header = decode_header(token).map_err(|_| UNREADABLE)?;
    if header.alg != Algorithm::HS256 {
        return Err("the token is not signed with HS256");
    }
    if header.crit.is_some() {
        return Err("the token has a critical header, and none is known here");
    }
    Ok(())
}

/// Now and the end of a life that begins now, in seconds.
pub(super) fn span(life: Duration) -> Result<(u64, u64)> {
    if life.as_secs() == 0 || life > TOKEN_LIFE_MAX {
        return Err(Error::Invalid { what: "a token lives between 1 second and 366 days".into() });
    }
    let now = jsonwebtoken::get_current_timestamp();
    Ok((now, now + life.as_secs()))
}

const UNREADABLE: &str =
    "the token cannot be read: it needs a signature by HS256 and the claims sub, role and exp, each once";

fn fault(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm => "the token is not signed with HS256",
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        _ => UNREADABLE,
    }
}

/// A caller's name is stored with the tasks that he submits.
fn check_sub(sub: &str) -> Result<(), &'static str> {
    match sub.is_empty() || sub.len() > 128 || !sub.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        true => Err("the token's sub has 1 to 128 printable ASCII characters"),
        false => Ok(()),
    }
}

/// Groups are roles of an approver; what no role can be called means nothing and does no harm.
pub(super) fn check_groups(groups: &[String]) -> Result<(), &'static str> {
    let fair =
        |group: &String| (1..=GROUP_CHARS_MAX).contains(&group.chars().count()) && !group.chars().any(char::is_control);
    match groups.len() <= GROUPS_MAX && groups.iter().all(fair) {
        true => Ok(()),
        false => Err("the token's groups are at most 50 texts of 1 to 64 characters"),
    }
}

/// Tells nothing.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(HS256)")
    }
}
