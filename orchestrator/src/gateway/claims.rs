//! What a token says, and whether it is believed.

use jsonwebtoken::errors::{Error as Fault, ErrorKind};
use jsonwebtoken::{Algorithm, Header, TokenData, Validation, decode, decode_header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::standing::Standing;
use super::token::{GROUP_CHARS_MAX, GROUPS_MAX, TOKEN_LIFE_MAX};
use super::{Caller, Role, Tokens};
use crate::router::check_name;

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 10;

/// What is read from a token. A claim that is there twice is refused; others than these are left alone.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    #[serde(default)]
    groups: Vec<String>,
    /// Whoever has none sees everything: one that is no text must not pass for none.
    #[serde(default, deserialize_with = "text")]
    tenant: Option<String>,
    /// Seconds; JSON has but one kind of number.
    exp: f64,
}

fn text<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    String::deserialize(reader).map(Some)
}

impl Tokens {
    /// Who presents this token and when it ends, or what is wrong with it.
    pub(super) async fn caller(&self, token: &str) -> Result<(Caller, Standing), &'static str> {
        let header = self.check_head(token)?;
        let validation = self.validation(header.alg);
        let claims: Claims = match header.alg {
            Algorithm::HS256 => self.by_secrets(token, &validation).map_err(|fault| said(fault.kind()))?.claims,
            algorithm => {
                let kid = header.kid.as_deref().ok_or("the token's header names no key: its kid is missing")?;
                let jwks = self.jwks.as_ref().ok_or(NOT_SIGNED)?;
                let key =
                    jwks.key(kid, algorithm).await.ok_or("the token's kid names no key for its algorithm here")?;
                decode(token, &key, &validation).map_err(|fault| said(fault.kind()))?.claims
            }
        };
        check_sub(&claims.sub)?;
        check_groups(&claims.groups)?;
        if claims.tenant.as_ref().is_some_and(|tenant| check_name("tenant", tenant).is_err()) {
            return Err("the token's tenant has 1 to 64 of the characters a-z 0-9 _ . -");
        }
        if claims.exp > (jsonwebtoken::get_current_timestamp() + TOKEN_LIFE_MAX.as_secs() + LEEWAY) as f64 {
            return Err("the token lives longer than 366 days");
        }
        // Clocks may be apart here too: the first whole second at which it would be refused.
        let end = claims.exp.round() + LEEWAY as f64 + 1.0;
        let Claims { sub: name, role, groups, tenant, .. } = claims;
        Ok((Caller { name, role, groups, tenant }, Standing::Token(end)))
    }

    /// What must hold before anything of a token is believed: its length, and that its header names an algorithm for which
    /// there are keys, and brings none of its own.
    pub(super) fn check_head(&self, token: &str) -> Result<Header, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is longer than 8192 bytes");
        }
        let header = decode_header(token).map_err(|_| UNREADABLE)?;
        let judged = match header.alg {
            Algorithm::HS256 => !self.secrets.is_empty(),
            Algorithm::RS256 | Algorithm::ES256 => self.jwks.is_some(),
            _ => false,
        };
        if !judged {
            return Err(NOT_SIGNED);
        }
        if header.crit.is_some() {
            return Err("the token has a critical header, and none is known here");
        }
        if header.jku.is_some() || header.x5u.is_some() || header.jwk.is_some() || header.x5c.is_some() {
            return Err(
                "the token brings a key or its address (jku, x5u, jwk, x5c); only keys that are set here count",
            );
        }
        Ok(header)
    }

    /// Reads a token by whichever secret signed it.
    pub(super) fn by_secrets<T: DeserializeOwned>(
        &self,
        token: &str,
        validation: &Validation,
    ) -> Result<TokenData<T>, Fault> {
        let mut read = Err(ErrorKind::InvalidSignature.into());
        for secret in &self.secrets {
            read = decode(token, secret, validation);
            if !matches!(&read, Err(fault) if *fault.kind() == ErrorKind::InvalidSignature) {
                break;
            }
        }
        read
    }

    /// What a caller's token has to say. One algorithm: keys of one family must not judge by another.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = lenient(algorithm);
        let mut required = vec!["exp", "sub"];
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// What tokens of callers and of links have in common.
pub(super) fn lenient(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    validation
}

const UNREADABLE: &str = "the token cannot be read: it needs a signature by HS256 (by RS256 or ES256 where public keys are \
                          set) and the claims sub, role and exp, each once";
const NOT_SIGNED: &str = "the token is signed in a way for which no key is set here: HS256 goes with a secret, RS256 and \
                          ES256 with public keys";

fn said(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => {
            "the token names no audience; its aud has to be the one that is set here"
        }
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => {
            "the token names no issuer; its iss has to be the one that is set here"
        }
        _ => UNREADABLE,
    }
}

/// A caller's name is stored with the tasks that he submits.
pub(super) fn check_sub(sub: &str) -> Result<(), &'static str> {
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
