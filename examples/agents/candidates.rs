//! The changes to try, the most promising first.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::mutate::mutations;
use crate::suspects::Suspects;

/// One change of one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The file, relative to the repository.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub before: String,
    /// What it would say.
    pub after: String,
    /// How promising it is.
    pub promise: f64,
}

impl Candidate {
    /// The whole file with the change in it; every other byte stays as it is.
    #[must_use]
    pub fn applied_to(&self, source: &str) -> String {
        let mut out = String::with_capacity(source.len() + 16);
        for (at, line) in source.split_inclusive('\n').enumerate() {
            match line.strip_prefix(&self.before) {
                Some(end) if at + 1 == self.line => {
                    out.push_str(&self.after);
                    out.push_str(end);
                }
                _ => out.push_str(line),
            }
        }
        out
    }
}

/// Every change of every suspected line, at most `most` of them. A change promises the more, the
/// more suspicious its line and the commoner the mistake is that it turns round.
#[must_use]
pub fn all(dir: &Path, suspects: &Suspects, most: usize) -> Vec<Candidate> {
    let mut sources: HashMap<&Path, Vec<String>> = HashMap::new();
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for suspect in &suspects.lines {
        let lines = sources.entry(&suspect.file).or_insert_with(|| {
            let text = std::fs::read_to_string(dir.join(&suspect.file)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        });
        let Some(before) = suspect.line.checked_sub(1).and_then(|at| lines.get(at)) else {
            continue;
        };
        if !seen.insert((&suspect.file, suspect.line)) {
            continue;
        }
        found.extend(mutations(before, &suspects.literals).into_iter().map(|mutation| Candidate {
            file: suspect.file.clone(),
            line: suspect.line,
            before: before.clone(),
            after: mutation.text,
            promise: suspect.suspicion * mutation.weight,
        }));
    }
    found.sort_by(|a, b| b.promise.total_cmp(&a.promise));
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspects::Suspect;
    use crate::tempdir::TempDir;

    #[test]
    fn the_most_promising_comes_first_and_there_is_an_end() {
        let dir = TempDir::new("orchestrator-candidates").expect("made");
        std::fs::write(dir.path().join("a.py"), "x = 1\nif a < b:\n").expect("written");
        let suspect = |line, suspicion| Suspect { file: "a.py".into(), line, suspicion };
        let lines = vec![suspect(2, 1.0), suspect(1, 0.3), suspect(9, 0.2)];
        let suspects = Suspects { lines, literals: vec![] };
        let candidates = all(dir.path(), &suspects, 100);
        assert_eq!(candidates[0].after, "if a <= b:");
        assert!(candidates.iter().any(|candidate| candidate.line == 1));
        assert!(candidates.windows(2).all(|pair| pair[0].promise >= pair[1].promise));
        assert_eq!(all(dir.path(), &suspects, 3), candidates[..3]);
    }

    #[test]
    fn only_its_own_line_changes() {
        let candidate =
            Candidate { file: "a.py".into(), line: 2, before: "x = 1".into(), after: "x = 2".into(), promise: 1.0 };
        assert_eq!(candidate.applied_to("x = 1\r\nx = 1\r\nx = 1"), "x = 1\r\nx = 2\r\nx = 1");
        assert_eq!(candidate.applied_to("y = 1\ny = 1\n"), "y = 1\ny = 1\n");
    }
}
