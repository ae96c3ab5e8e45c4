//! A small tree to search in, and the edges of a search.

use super::*;
use crate::tempdir::TempDir;

fn tree(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new("orchestrator-search").expect("made");
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    dir
}

#[test]
fn definitions_rank_before_uses_and_comments() {
    let dir = tree(&[
        ("use.rs", b"let x = retry();\n"),
        ("src/define.rs", b"\npub fn retry() {}\n"),
        ("note.md", b"# retry\n"),
    ]);
    let found = search(dir.path(), "Retry", Bounds::default()).expect("searched");
    let order: Vec<_> = found.hits.iter().map(|hit| hit.path.to_str().expect("utf-8")).collect();
    assert_eq!(order, ["src/define.rs", "use.rs", "note.md"]);
    let line = Line { number: 2, text: "pub fn retry() {}".into(), score: 10 };
    assert_eq!(found.hits[0].lines, [line]);
    assert_eq!((found.files_searched, found.files_matching, found.lines_matching), (3, 3, 3));
    assert!(!found.cut_short);
}

#[test]
fn other_peoples_trees_and_binaries_are_skipped() {
    let dir = tree(&[
        (".git/config", b"needle"),
        ("target/debug/x.rs", b"needle"),
        ("a/node_modules/x.js", b"needle"),
        ("image.png", b"\0needle"),
        ("kept.txt", b"needle"),
    ]);
    let found = search(dir.path(), "needle", Bounds::default()).expect("searched");
    assert_eq!(found.files_matching, 1);
    assert_eq!(found.hits[0].path, Path::new("kept.txt"));
}

#[test]
fn every_bound_holds_and_is_told() {
    let many = "needle\n".repeat(20);
    let dir = tree(&[("a", many.as_bytes()), ("b", many.as_bytes()), ("c", many.as_bytes())]);
    let bounds = Bounds { files: 2, hits: 1, lines_per_file: 3, bytes_per_file: 70 };
    let found = search(dir.path(), "needle", bounds).expect("searched");
    assert!(found.cut_short);
    assert_eq!((found.files_searched, found.lines_matching), (2, 20));
    assert_eq!((found.hits.len(), found.hits[0].lines.len()), (1, 3));
    let all = search(dir.path(), "needle", Bounds { files: 3, ..Bounds::default() }).expect("searched");
    assert!(!all.cut_short);
}

#[test]
fn a_name_with_the_term_lifts_its_file() {
    let dir = tree(&[("other.py", b"x = median(y)\nz = median(y)\n"), ("median.py", b"x = median\n")]);
    let found = search(dir.path(), "median", Bounds::default()).expect("searched");
    assert_eq!(found.hits[0].path, Path::new("median.py"));
}

#[test]
fn part_of_a_word_counts_less_than_the_whole() {
    assert_eq!(line_score("retry()", "retry"), Some(3));
    assert_eq!(line_score("retrying()", "retry"), Some(2));
    assert_eq!(line_score("fn retry_all()", "retry"), Some(6));
    assert_eq!(line_score("refn retry", "retry"), Some(3));
    assert_eq!(line_score("nothing", "retry"), None);
}

#[test]
fn a_search_for_nothing_or_nowhere_is_refused() {
    let dir = tree(&[]);
    let bounds = Bounds::default();
    assert!(matches!(search(dir.path(), "  ", bounds), Err(SearchError::EmptyTerm)));
    let error = search(Path::new("/nowhere"), "x", bounds).expect_err("no tree");
    assert!(error.to_string().starts_with("/nowhere: "), "{error}");
}
