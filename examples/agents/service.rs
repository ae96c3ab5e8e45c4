//! What the agents look after: a service, and where it goes from its source.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A service, and where its source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// Its repository: Python, with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
    /// Where it is deployed when something of it was merged. Without one, nothing is.
    #[serde(default)]
    pub target: Option<Target>,
}

/// Where a service is deployed. It travels in the payloads of tasks and events, so that a worker needs no settings of its
/// own for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The folder of the site; it is made when there is none.
    pub site: PathBuf,
    /// Where the site is served, on this machine.
    #[serde(default, with = "written")]
    pub address: Option<SocketAddr>,
    /// Who the readers are; production when nothing is said.
    #[serde(default = "crate::deploy::production")]
    pub environment: String,
    /// The folder of the knowledge base that is told what is live. Without one, none is.
    #[serde(default)]
    pub kb: Option<PathBuf>,
}

/// An address as people write it, in payloads of every format: whoever is asked for approval reads it.
pub(crate) mod written {
    use std::net::SocketAddr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        address.map(|address| address.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
