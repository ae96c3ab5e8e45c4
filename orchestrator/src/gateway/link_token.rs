//! Tokens of links: each lets one approver decide on one approval, once.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use serde::{Deserialize, Serialize};

use super::Tokens;
use super::claims::{check_groups, lenient};
use super::token::span;
use crate::approval::check_who;
use crate::{Approval, ApprovalId, Approver, Error, Result};

/// How long a link is good unless somebody says otherwise: 4 hours.
pub const LINK_LIFE_DEFAULT: Duration = Duration::from_secs(4 * 3600);
/// Keeps tokens of links and tokens of callers apart: neither passes for the other.
pub(super) const AUDIENCE_OF_LINKS: &str = "orchestrator.approval";

/// What the token of a link says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    aud: String,
    /// Who decides with it.
    pub(super) sub: String,
    /// The roles that were vouched for when it was made.
    #[serde(default)]
    pub(super) groups: Vec<String>,
    /// What it decides on.
    pub(super) apr: ApprovalId,
    /// SHA-256 of what was to be decided on when it was made.
    pub(super) hash: String,
    /// When it ends, in seconds.
    pub(super) exp: u64,
    /// Its name: it counts once.
    pub(super) jti: String,
}

/// Why a link is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// Its time is over.
    Expired,
    /// It was not made here, or was changed.
    Wrong,
}

impl Tokens {
    /// The token of a link by which `approver` may decide on `approval` as it is asked now, once, within `life`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is no approver's, roles beyond [`GROUPS_MAX`](super::GROUPS_MAX), and a life of
    /// less than a second or more than [`TOKEN_LIFE_MAX`](super::TOKEN_LIFE_MAX).
    pub fn mint_link(&self, approval: &Approval, approver: &Approver, life: Duration) -> Result<String> {
        check_who(&approver.name)?;
        check_groups(&approver.roles).map_err(|what| Error::Invalid { what: what.into() })?;
        let (_, exp) = span(life)?;
        self.sign(&Link {
            aud: AUDIENCE_OF_LINKS.into(),
            sub: approver.name.clone(),
            groups: approver.roles.clone(),
            apr: approval.approval_id,
            hash: approval.payload_hash.clone(),
            exp,
            jti: format!("{:032x}", rand::random::<u128>()),
        })
    }

    /// What the token of a link says, when it is good.
    pub(super) fn link(&self, token: &str) -> Result<Link, Spoilt> {
        let header = self.check_head(token).map_err(|_| Spoilt::Wrong)?;
        if header.alg != Algorithm::HS256 {
            // Others make tokens for their callers, never links.
            return Err(Spoilt::Wrong);
        }
        let mut validation = lenient(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        validation.set_audience(&[AUDIENCE_OF_LINKS]);
        let link = self.by_secrets::<Link>(token, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Spoilt::Expired,
            _ => Spoilt::Wrong,
        })?;
        let link = link.claims;
        let sound = check_who(&link.sub).is_ok()
            && check_groups(&link.groups).is_ok()
            && link.hash.len() == 64
            && (1..=64).contains(&link.jti.len());
        if sound { Ok(link) } else { Err(Spoilt::Wrong) }
    }
}
