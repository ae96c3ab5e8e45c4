//! A scratch repository: a small Python package with one planted bug, and tests that notice it.

use std::io;
use std::path::{Path, PathBuf};

use crate::git::{GitError, git};
use crate::plants::Plant;

/// The package and its tests, all correct.
const FILES: [(&str, &str); 10] = [
    ("README.md", include_str!("scratch/README.md")),
    (".gitignore", "__pycache__/\n"),
    ("shop/__init__.py", include_str!("scratch/shop/__init__.py")),
    ("shop/bookings.py", include_str!("scratch/shop/bookings.py")),
    ("shop/stock.py", include_str!("scratch/shop/stock.py")),
    ("shop/words.py", include_str!("scratch/shop/words.py")),
    ("tests/__init__.py", include_str!("scratch/tests/__init__.py")),
    ("tests/test_bookings.py", include_str!("scratch/tests/test_bookings.py")),
    ("tests/test_stock.py", include_str!("scratch/tests/test_stock.py")),
    ("tests/test_words.py", include_str!("scratch/tests/test_words.py")),
];

/// A repository whose tests fail because of one planted bug.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Where it is.
    pub path: PathBuf,
    /// What was planted.
    pub plant: Plant,
    /// Its only commit.
    pub commit: String,
}

/// Why a scratch repository could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The directory is in use.
    #[error("{0} is not an empty directory")]
    NotEmpty(PathBuf),
    /// A file could not be written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The bug does not fit the package.
    #[error("{0:?} does not occur exactly once in {1}")]
    Misfit(&'static str, &'static str),
    /// Git refused.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Makes a repository in `dir` with the bug that belongs to the seed.
///
/// # Errors
/// When `dir` holds something already, a file cannot be written, or git cannot be run.
pub async fn make(dir: &Path, seed: u64) -> Result<Scratch, ScratchError> {
    make_with(dir, Plant::drawn(seed)).await
}

/// Makes a repository in `dir` with this bug. The first and only commit has the bug already.
///
/// # Errors
/// When `dir` holds something already, a file cannot be written, or git cannot be run.
pub async fn make_with(dir: &Path, plant: Plant) -> Result<Scratch, ScratchError> {
    write_files(dir, Some(plant))?;
    let commit = commit_all(dir).await?;
    Ok(Scratch { path: dir.to_owned(), plant, commit })
}

/// Makes a repository in `dir` without a bug, for work that needs tests that pass; gives its only commit.
///
/// # Errors
/// When `dir` holds something already, a file cannot be written, or git cannot be run.
pub async fn make_healthy(dir: &Path) -> Result<String, ScratchError> {
    write_files(dir, None)?;
    Ok(commit_all(dir).await?)
}

async fn commit_all(dir: &Path) -> Result<String, GitError> {
    git(dir, &["init", "--quiet", "--template="]).await?;
    git(dir, &["add", "--all"]).await?;
    git(dir, &["commit", "--quiet", "-m", "The shop: bookings, words and stock"]).await?;
    git(dir, &["rev-parse", "HEAD"]).await
}

fn write_files(dir: &Path, plant: Option<Plant>) -> Result<(), ScratchError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ScratchError::File(path, error)
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    if std::fs::read_dir(dir).map_err(failed(dir))?.next().is_some() {
        return Err(ScratchError::NotEmpty(dir.to_owned()));
    }
    for (name, source) in FILES {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let written = match plant.filter(|plant| plant.file == name) {
            Some(plant) => {
                let misfit = ScratchError::Misfit(plant.before, plant.file);
                std::fs::write(&path, plant.in_source(source).ok_or(misfit)?)
            }
            None => std::fs::write(&path, source),
        };
        written.map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plants::CATALOGUE;
    use crate::tempdir::TempDir;

    #[tokio::test]
    async fn the_only_commit_has_the_bug() {
        let dir = TempDir::new("orchestrator-scratch").expect("made");
        let scratch = make(dir.path(), 3).await.expect("made");
        let log = git(dir.path(), &["log", "--all", "--format=%H"]).await.expect("log");
        assert_eq!(log, scratch.commit);
        assert_eq!(git(dir.path(), &["status", "--porcelain"]).await.expect("status"), "");
        let source = std::fs::read_to_string(dir.path().join(scratch.plant.file)).expect("read");
        assert!(source.contains(scratch.plant.after));
    }

    #[tokio::test]
    async fn a_directory_in_use_is_left_alone() {
        let dir = TempDir::new("orchestrator-scratch").expect("made");
        std::fs::write(dir.path().join("mine"), "x").expect("written");
        let error = make(dir.path(), 1).await.expect_err("in use");
        assert!(matches!(error, ScratchError::NotEmpty(_)), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn every_bug_of_the_catalogue_fits_its_module() {
        for plant in CATALOGUE {
            let (_, source) = FILES.iter().find(|(name, _)| *name == plant.file).expect("a module");
            assert!(plant.in_source(source).is_some(), "{plant:?}");
        }
    }
}
