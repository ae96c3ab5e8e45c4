//! Searches a tree of source code for a term: which files are about it, and which lines say it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Directories that hold no source of the tree's own.
const SKIPPED: [&str; 6] = [".git", "target", "node_modules", "__pycache__", ".venv", ".hg"];

/// How far a search goes and how much it brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Look into at most this many files.
    pub files: usize,
    /// Read at most this much of each.
    pub bytes_per_file: u64,
    /// Report at most this many files.
    pub hits: usize,
    /// Report at most this many lines of each.
    pub lines_per_file: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { files: 5000, bytes_per_file: 512 * 1024, hits: 10, lines_per_file: 5 }
    }
}

/// A line that has the term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it says, without the blanks around it, and cut when very long.
    pub text: String,
    /// How much it is about the term: a definition counts most, a comment least.
    pub score: u32,
}

/// A file that has the term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The file, relative to where the search began.
    pub path: PathBuf,
    /// The scores of all its lines together, and more when its name has the term.
    pub score: u32,
    /// Its best lines, in the order they stand in.
    pub lines: Vec<Line>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The best files, best first.
    pub hits: Vec<Hit>,
    /// Files looked into.
    pub files_searched: usize,
    /// Files with the term, reported or not.
    pub files_matching: usize,
    /// Lines with the term, reported or not.
    pub lines_matching: usize,
    /// Whether the search stopped at a bound before it had seen everything.
    pub cut_short: bool,
}

/// Why a search was not made.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Every line would match.
    #[error("there is nothing to search for")]
    EmptyTerm,
    /// The tree is not there.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
}

/// Searches the tree under `root`; upper and lower case are the same. Blocks while it reads.
/// Files and directories that cannot be read are passed over, and links are not followed.
///
/// # Errors
/// When the term is empty or `root` cannot be listed.
pub fn search(root: &Path, term: &str, bounds: Bounds) -> Result<Found, SearchError> {
    let term = term.trim().to_lowercase();
    if term.is_empty() {
        return Err(SearchError::EmptyTerm);
    }
    std::fs::read_dir(root).map_err(|error| SearchError::Unreadable(root.to_owned(), error))?;
    let mut found = Found::default();
    // The smallest path is taken first, so that the same tree always gives the same answer.
    let mut waiting = BinaryHeap::from([Reverse(root.to_owned())]);
    while let Some(Reverse(path)) = waiting.pop() {
        let Ok(about) = path.symlink_metadata() else {
            continue;
        };
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let own = entries.filter(|e| e.file_name().to_str().is_none_or(|n| !SKIPPED.contains(&n)));
            waiting.extend(own.map(|entry| Reverse(entry.path())));
        } else if about.is_file() {
            if found.files_searched == bounds.files {
                found.cut_short = true;
                break;
            }
            found.files_searched += 1;
            found.cut_short |= about.len() > bounds.bytes_per_file;
            look_into(&path, root, &term, bounds, &mut found);
        }
    }
    found.hits.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.path.cmp(&b.path)));
    found.hits.truncate(bounds.hits);
    Ok(found)
}

fn look_into(path: &Path, root: &Path, term: &str, bounds: Bounds, found: &mut Found) {
    let Some(text) = readable(path, bounds.bytes_per_file) else {
        return;
    };
    let mut lines: Vec<Line> = text
        .lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let score = line_score(line, term)?;
            Some(Line { number: at + 1, text: line.trim().chars().take(160).collect(), score })
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    found.files_matching += 1;
    found.lines_matching += lines.len();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let by_name = if name.contains(term) { 20 } else { 0 };
    let score = by_name + lines.iter().map(|line| line.score).sum::<u32>();
    lines.sort_by_key(|line| (Reverse(line.score), line.number));
    lines.truncate(bounds.lines_per_file);
    lines.sort_by_key(|line| line.number);
    let path = path.strip_prefix(root).unwrap_or(path).to_owned();
    found.hits.push(Hit { path, score, lines });
    // Only now and then, so that the list neither grows without end nor is sorted at every file.
    if found.hits.len() > bounds.hits * 4 + 64 {
        found.hits.sort_by_key(|hit| Reverse(hit.score));
        found.hits.truncate(bounds.hits);
    }
}

/// The text of a file, or `None` for what is no text.
fn readable(path: &Path, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    let binary = bytes.iter().take(8000).any(|byte| *byte == 0);
    (!binary).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// How much a line is about the term; `None` when it does not have it.
fn line_score(line: &str, term: &str) -> Option<u32> {
    let lower = line.to_lowercase();
    let at = lower.find(term)?;
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let whole = edge(lower[..at].chars().next_back()) && edge(lower[at + term.len()..].chars().next());
    let start = lower.trim_start();
    let comment = ["//", "#", "*", "/*", "--", "\"\"\""].iter().any(|mark| start.starts_with(mark));
    if comment {
        return Some(1);
    }
    let before = lower[..at].trim_end();
    let defines = ["fn", "def", "class", "struct", "enum", "trait", "type", "mod", "const", "let"];
    let definition =
        defines.iter().any(|word| before.strip_suffix(word).is_some_and(|rest| edge(rest.chars().next_back())));
    Some(match (definition, whole) {
        (true, true) => 10,
        (true, false) => 6,
        (false, true) => 3,
        (false, false) => 2,
    })
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
