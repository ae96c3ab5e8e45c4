//! A directory for the time being, removed with everything in it when it is dropped.

use std::io;
use std::path::{Path, PathBuf};

/// A directory that goes away with its owner.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes a new directory under the system's place for temporary files.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let base = std::env::temp_dir();
        loop {
            let path = base.join(format!("{name}-{:012x}", rand::random::<u64>() >> 16));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the directory where it is, for somebody else to remove.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What cannot be removed is left to whoever cleans the system's temporary files.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_away_with_its_owner_unless_kept() {
        let dir = TempDir::new("orchestrator-temp").expect("made");
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), "x").expect("written");
        drop(dir);
        assert!(!path.exists());
        let kept = TempDir::new("orchestrator-temp").expect("made").keep();
        assert!(kept.is_dir());
        std::fs::remove_dir(kept).expect("removed");
    }
}
