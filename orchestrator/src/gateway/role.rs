//! What a caller may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How much a caller may do; each role may do what the ones below it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads tasks.
    User,
    /// Creates tasks.
    Agent,
    /// Everything.
    Admin,
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "user" => Ok(Self::User),
            "agent" => Ok(Self::Agent),
            "admin" => Ok(Self::Admin),
            // The text is not shown: a secret may have been written where the role belongs.
            _ => Err(Error::Invalid { what: "the roles are user, agent and admin".into() }),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Admin => "admin",
        })
    }
}
