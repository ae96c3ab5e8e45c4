//! Builds the site of a Python repository at a commit: what its modules offer, and whether its tests pass.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::git::{GitError, git};
use crate::suite::{self, Outcome};
use crate::suspects::is_test;
use crate::tempdir::TempDir;

/// The file that says whether a release is fit to be served.
pub const HEALTH: &str = "health.json";

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `passing` or `failing`.
    pub status: String,
    /// The commit that it was built of.
    pub commit: String,
    /// How many tests ran.
    pub tests: u32,
    /// How many of them did not pass.
    pub failures: usize,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no such commit.
    #[error("{0} is no commit of the repository")]
    NoCommit(String),
    /// Git refused.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file or a program was out of reach.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Builds the site of `rev` into `to`, an empty folder: from a clone, so that nothing that is not committed is in it.
/// A build whose tests fail is a build; it says so in its health file. The same commit gives the same files.
///
/// # Errors
/// When there is no such commit, or git, Python or the disk is out of reach.
pub async fn build(repo: &Path, rev: &str, environment: &str, to: &Path) -> Result<Health, BuildError> {
    let wanted = format!("{rev}^{{commit}}");
    let commit = git(repo, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).await;
    let commit = commit.map_err(|_| BuildError::NoCommit(rev.to_owned()))?;
    let folder = TempDir::new("orchestrator-build")?;
    let (from, copy) = (repo.canonicalize()?, folder.path().join("copy"));
    let (from, place) = (from.to_string_lossy(), copy.to_string_lossy());
    git(folder.path(), &["clone", "--quiet", "--no-checkout", "--template=", "--", &from, &place]).await?;
    git(&copy, &["checkout", "--quiet", "--detach", &commit]).await?;
    let ran = suite::run(&copy, &[], false, suite::PATIENCE).await?;
    let status = if ran.passed { "passing" } else { "failing" };
    let health = Health { status: status.to_owned(), commit, tests: ran.ran, failures: ran.failures.len() };
    let files = git(&copy, &["ls-files", "--", "*.py"]).await?;
    let modules = files.lines().filter(|file| !is_test(Path::new(file)));
    let index = page(&health, &ran, environment, &copy, modules)?;
    std::fs::write(to.join("index.html"), index)?;
    std::fs::write(to.join(HEALTH), serde_json::to_vec(&health).map_err(io::Error::other)?)?;
    Ok(health)
}

fn page<'a>(
    health: &Health,
    ran: &Outcome,
    environment: &str,
    copy: &Path,
    modules: impl Iterator<Item = &'a str>,
) -> io::Result<String> {
    let Health { status, commit, tests, failures } = health;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{short}</title>\n\
         <h1>What is in {short}</h1>\n<p>Commit <code>{commit}</code>, {environment}. \
         Tests: <strong>{status}</strong>, {tests} ran, {failures} did not pass.</p>\n",
        short = commit.get(..10).unwrap_or(commit),
        environment = escaped(environment),
    );
    for failure in &ran.failures {
        page += &format!("<p><code>{}</code>: {}</p>\n", escaped(&failure.test), escaped(&failure.message));
    }
    for module in modules {
        let source = std::fs::read_to_string(copy.join(module))?;
        let offers = offers(&source);
        if offers.is_empty() {
            continue;
        }
        page += &format!("<h2><code>{}</code></h2>\n<dl>\n", escaped(module));
        for (signature, doc) in offers {
            // Writing to a string does not fail.
            let _ = writeln!(page, "<dt><code>{}</code></dt><dd>{}</dd>", escaped(signature), escaped(doc));
        }
        page += "</dl>\n";
    }
    page += "</html>\n";
    Ok(page)
}

/// The functions and classes of a module, each with the first line of its documentation.
fn offers(source: &str) -> Vec<(&str, &str)> {
    let lines: Vec<&str> = source.lines().collect();
    let offer = |at: usize| {
        let line = lines[at];
        let signature = line.strip_prefix("def ").or_else(|| line.strip_prefix("class "))?;
        let doc = lines.get(at + 1).map_or("", |next| next.trim());
        let doc = doc.strip_prefix("\"\"\"").map_or("", |doc| doc.trim_end_matches("\"\"\""));
        Some((signature.trim_end().trim_end_matches(':'), doc))
    };
    (0..lines.len()).filter_map(offer).filter(|(signature, _)| !signature.starts_with('_')).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plants::CATALOGUE;
    use crate::scratch;

    #[tokio::test]
    async fn the_same_commit_gives_the_same_site() {
        let dir = TempDir::new("orchestrator-site").expect("made");
        let commit = scratch::make_healthy(&dir.path().join("repo")).await.expect("made");
        let repo = dir.path().join("repo");
        std::fs::write(repo.join("shop/draft.py"), "def draft():\n    pass\n").expect("written");
        let mut pages = Vec::new();
        for name in ["a", "b"] {
            let to = dir.path().join(name);
            std::fs::create_dir(&to).expect("made");
            let health = build(&repo, "main", "staging", &to).await.expect("built");
            assert_eq!(health, Health { status: "passing".into(), commit: commit.clone(), tests: 61, failures: 0 });
            pages.push(std::fs::read_to_string(to.join("index.html")).expect("read"));
        }
        assert_eq!(pages[0], pages[1]);
        assert!(
            pages[0].contains("<dt><code>clock(minute)</code></dt><dd>A minute of the day as it is"),
            "{}",
            pages[0]
        );
        assert!(!pages[0].contains("draft") && pages[0].contains(&commit) && !pages[0].contains("tests/"));
        let error = build(&repo, "--help", "staging", dir.path()).await.expect_err("no commit");
        assert!(matches!(error, BuildError::NoCommit(_)), "{error}");
    }

    #[tokio::test]
    async fn a_build_says_that_its_tests_fail() {
        let dir = TempDir::new("orchestrator-site").expect("made");
        let repo = dir.path().join("repo");
        scratch::make_with(&repo, CATALOGUE[0]).await.expect("made");
        let health = build(&repo, "HEAD", "<b>", dir.path()).await.expect("built");
        assert!(health.status == "failing" && health.failures > 0, "{health:?}");
        let page = std::fs::read_to_string(dir.path().join("index.html")).expect("read");
        assert!(page.contains("&lt;b&gt;") && page.contains("<code>tests.test_bookings."), "{page}");
    }
}
