//! The releases of a site on disk: one folder each, one link that says which is current, and a note on every
//! deployment that outlives the attempt.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Beside the current and the previous one, this many releases are kept.
const KEPT: usize = 8;

/// How far a deployment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is about to be current, or is and was not looked at yet.
    Switched,
    /// It was looked at and is fine.
    Live,
    /// It was looked at, was not fine, and the one before is current again.
    RolledBack,
}

/// What is known of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The release.
    pub release: String,
    /// The commit that it was built of.
    pub commit: String,
    /// How far it has come.
    pub state: State,
    /// The release that was current before it, to go back to.
    pub previous: Option<String>,
    /// Why it was taken back.
    pub why: Option<String>,
}

/// The releases of one site, held by one deployment at a time.
#[derive(Debug)]
pub struct Releases {
    site: PathBuf,
    /// Locked; the system unlocks it when this process ends, however it ends.
    _lock: File,
}

impl Releases {
    /// Waits until no other deployment has the site, and makes its folders when they are not there.
    ///
    /// # Errors
    /// When a folder or the lock is out of reach.
    pub async fn hold(site: &Path) -> io::Result<Self> {
        for folder in ["releases", "deployments"] {
            std::fs::create_dir_all(site.join(folder))?;
        }
        let site = site.canonicalize()?;
        let lock = File::create(site.join("lock"))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { site, _lock: lock }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The folder of a release.
    #[must_use]
    pub fn folder(&self, release: &str) -> PathBuf {
        self.site.join("releases").join(release)
    }

    /// An empty folder to build a release in; nobody serves it before it is [published](Self::publish).
    ///
    /// # Errors
    /// When the disk is out of reach.
    pub fn draft(&self, release: &str) -> io::Result<PathBuf> {
        let draft = self.folder(&format!(".{release}"));
        match std::fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // What an attempt that was ended had begun is not gone on with.
            _ => std::fs::create_dir(&draft)?,
        }
        Ok(draft)
    }

    /// Makes the draft of a release the release: whole, or not at all.
    ///
    /// # Errors
    /// When the disk is out of reach.
    pub fn publish(&self, release: &str) -> io::Result<()> {
        std::fs::rename(self.folder(&format!(".{release}")), self.folder(release))
    }

    /// The current release.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        let target = std::fs::read_link(self.site.join("current")).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Makes a release the current one, or none. Whoever looks sees the one or the other, never nothing between.
    ///
    /// # Errors
    /// When the disk is out of reach.
    pub fn switch(&self, release: Option<&str>) -> io::Result<()> {
        let link = self.site.join("current");
        let Some(release) = release else {
            return std::fs::remove_file(link);
        };
        let new = self.site.join(".current");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(Path::new("releases").join(release), &new)?,
        }
        std::fs::rename(new, link)
    }

    /// What is known of the deployment of a release.
    ///
    /// # Errors
    /// When its note cannot be read.
    pub fn note(&self, release: &str) -> io::Result<Option<Note>> {
        read_note(&self.site, release)
    }

    /// Writes down how far a deployment has come.
    ///
    /// # Errors
    /// When the disk is out of reach.
    pub fn write_note(&self, note: &Note) -> io::Result<()> {
        let path = note_path(&self.site, &note.release);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(note)?)?;
        std::fs::rename(new, path)
    }

    /// Removes the oldest releases that nobody goes back to. Their names rise with time, as task ids do.
    ///
    /// # Errors
    /// When the disk is out of reach.
    pub fn prune(&self, previous: Option<&str>) -> io::Result<()> {
        let current = self.current();
        let mut old = Vec::new();
        for entry in std::fs::read_dir(self.site.join("releases"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if Some(&name) != current.as_ref() && Some(name.as_str()) != previous && !name.starts_with('.') {
                old.push(name);
            }
        }
        old.sort_unstable();
        let surplus = old.len().saturating_sub(KEPT);
        old.iter().take(surplus).try_for_each(|name| std::fs::remove_dir_all(self.folder(name)))
    }
}

/// What is known of the deployment of a release, for who only wants to know.
///
/// # Errors
/// When its note cannot be read.
pub fn read_note(site: &Path, release: &str) -> io::Result<Option<Note>> {
    match std::fs::read(note_path(site, release)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn note_path(site: &Path, release: &str) -> PathBuf {
    site.join("deployments").join(format!("{release}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tempdir::TempDir;

    async fn publish(releases: &Releases, name: &str) {
        let draft = releases.draft(name).expect("made");
        std::fs::write(draft.join("index.html"), name).expect("written");
        releases.publish(name).expect("published");
    }

    #[tokio::test]
    async fn the_link_always_leads_to_a_whole_release() {
        let dir = TempDir::new("orchestrator-releases").expect("made");
        let releases = Releases::hold(dir.path()).await.expect("held");
        assert_eq!(releases.current(), None);
        std::fs::write(releases.draft("a").expect("made").join("left"), "over").expect("written");
        for name in ["a", "b"] {
            publish(&releases, name).await;
            releases.switch(Some(name)).expect("switched");
            assert_eq!(releases.current().as_deref(), Some(name));
            assert_eq!(std::fs::read_to_string(dir.path().join("current/index.html")).expect("read"), name);
        }
        assert!(!releases.folder("a").join("left").exists());
        releases.switch(None).expect("removed");
        assert_eq!(releases.current(), None);
    }

    #[tokio::test]
    async fn one_deployment_at_a_time() {
        let dir = TempDir::new("orchestrator-releases").expect("made");
        let first = Releases::hold(dir.path()).await.expect("held");
        let second = tokio::time::timeout(Duration::from_millis(100), Releases::hold(dir.path())).await;
        assert!(second.is_err(), "held twice");
        drop(first);
        Releases::hold(dir.path()).await.expect("held");
    }

    #[tokio::test]
    async fn old_releases_go_but_not_the_ones_in_use() {
        let dir = TempDir::new("orchestrator-releases").expect("made");
        let releases = Releases::hold(dir.path()).await.expect("held");
        for number in 0..KEPT + 4 {
            publish(&releases, &format!("r{number:02}")).await;
        }
        releases.switch(Some("r00")).expect("switched");
        releases.prune(Some("r01")).expect("pruned");
        let kept = |name: &str| releases.folder(name).is_dir();
        assert!(kept("r00") && kept("r01") && !kept("r02") && !kept("r03") && kept("r04") && kept("r11"));
    }
}
