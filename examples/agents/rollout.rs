//! Brings a commit of a repository before its readers: build, switch, look, and back again when it is not fine.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::http::{Page, get};
use crate::releases::{Note, Releases, State};
use crate::server::Server;
use crate::site::{BuildError, HEALTH, Health, build};

/// What is to be deployed, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task it is done for; it names the release.
    pub task: String,
    /// The repository.
    pub repo: PathBuf,
    /// The commit, or a name for one.
    pub rev: String,
    /// Where the site and its releases are.
    pub site: PathBuf,
    /// Who the readers are, in a word.
    pub environment: String,
    /// Where the site is served; a server for the look alone is started when it is `None`.
    pub address: Option<SocketAddr>,
}

/// A deployment that is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The release.
    pub release: String,
    /// The commit that it was built of.
    pub commit: String,
    /// The release before it.
    pub previous: Option<String>,
    /// How many tests pass.
    pub tests: u32,
    /// Where its first page was fetched from.
    pub url: String,
    /// The hash of the page that was served.
    pub sha256: String,
    /// Its size.
    pub bytes: usize,
}

/// Why nothing new is live.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// It was not fine, and the release before it is served again.
    #[error("{why}; rolled back to {}", .previous.as_deref().unwrap_or("no release, as there was none before"))]
    RolledBack {
        /// What was not fine.
        why: String,
        /// What is current now.
        previous: Option<String>,
    },
    /// An attempt was lost, and a later deployment has taken its place since.
    #[error("the later release {0} is current")]
    Superseded(String),
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The disk or the network was out of reach.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RolloutError {
    /// Whether another try would end the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::RolledBack { .. } | Self::Superseded(_) | Self::Build(BuildError::NoCommit(_)))
    }
}

/// A release that is built and not current yet, or that an earlier attempt has switched to.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    releases: Releases,
    health: Health,
    note: Option<Note>,
}

/// Builds the release, unless an earlier attempt has. Readers see nothing of it; it can be dropped at any time.
///
/// # Errors
/// When there is no such commit, or a tool or the disk is out of reach.
pub async fn prepare(plan: Plan) -> Result<Prepared, RolloutError> {
    let releases = Releases::hold(&plan.site).await?;
    let note = releases.note(&plan.task)?;
    let folder = releases.folder(&plan.task);
    let health = if folder.is_dir() {
        serde_json::from_slice(&std::fs::read(folder.join(HEALTH))?).map_err(io::Error::other)?
    } else {
        let draft = releases.draft(&plan.task)?;
        let health = build(&plan.repo, &plan.rev, &plan.environment, &draft).await?;
        releases.publish(&plan.task)?;
        health
    };
    Ok(Prepared { plan, releases, health, note })
}

impl Prepared {
    /// What is known of the build.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Makes the release current and looks at it as its readers do; switches back when it is not fine. What an earlier
    /// attempt has done is not done again.
    ///
    /// # Errors
    /// When it was not fine, or the disk or the network is out of reach.
    pub async fn go_live(self) -> Result<Live, RolloutError> {
        let release = self.plan.task.clone();
        let note = match self.note.clone() {
            Some(Note { state: State::RolledBack, why, previous, .. }) => {
                return Err(RolloutError::RolledBack { why: why.unwrap_or_default(), previous });
            }
            Some(note) => note,
            None => {
                let (commit, previous) = (self.health.commit.clone(), self.releases.current());
                let note = Note { release: release.clone(), commit, state: State::Switched, previous, why: None };
                // Before the switch: whoever comes after a crash must know what to go back to.
                self.releases.write_note(&note)?;
                note
            }
        };
        let current = self.releases.current();
        if current.as_ref() != Some(&release) {
            if note.state == State::Live || current != note.previous {
                return Err(RolloutError::Superseded(current.unwrap_or_else(|| "none".to_owned())));
            }
            self.releases.switch(Some(&release))?;
        }
        let own = if self.plan.address.is_none() { Some(Server::start(&self.plan.site).await?) } else { None };
        let Some(address) = self.plan.address.or(own.as_ref().map(Server::address)) else {
            return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into());
        };
        match self.look(address, &release).await {
            Ok(page) => self.live(note, address, &page),
            Err(why) => Err(self.back(note, why)?),
        }
    }

    /// Fetches what readers would; gives the first page, or what is wrong.
    async fn look(&self, address: SocketAddr, release: &str) -> Result<Page, String> {
        let fetch = async |path| get(address, path).await.map_err(|error| format!("{path} was not served: {error}"));
        let health = fetch("/health").await?;
        if health.status != 200 {
            let Health { tests, failures, .. } = self.health;
            return Err(format!("/health answered {}: {failures} of {tests} tests do not pass", health.status));
        }
        let page = fetch("/").await?;
        let built = std::fs::read(self.releases.folder(release).join("index.html")).map_err(|e| e.to_string())?;
        for (name, of) in [("/health", &health.release), ("/", &page.release)] {
            if of.as_deref() != Some(release) {
                return Err(format!("{name} is not of this release but of {}", of.as_deref().unwrap_or("none")));
            }
        }
        if page.status != 200 || page.body != built {
            return Err(format!("/ answered {} and is not the page that was built", page.status));
        }
        Ok(page)
    }

    fn live(self, note: Note, address: SocketAddr, page: &Page) -> Result<Live, RolloutError> {
        let note = Note { state: State::Live, ..note };
        self.releases.write_note(&note)?;
        self.releases.prune(note.previous.as_deref())?;
        Ok(Live {
            release: note.release,
            commit: note.commit,
            previous: note.previous,
            tests: self.health.tests,
            url: format!("http://{address}/"),
            sha256: sha256(&page.body),
            bytes: page.body.len(),
        })
    }

    /// Makes the release before it current again.
    fn back(&self, note: Note, why: String) -> io::Result<RolloutError> {
        let previous = note.previous.clone();
        self.releases.switch(previous.as_deref())?;
        self.releases.write_note(&Note { state: State::RolledBack, why: Some(why.clone()), ..note })?;
        Ok(RolloutError::RolledBack { why, previous })
    }
}

/// The hash of a page, in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
