//! What is renamed, and what is refused rather than guessed.

use super::*;
use crate::git::git;
use crate::scratch;
use crate::tempdir::TempDir;

fn wish(function: &str, parameter: Option<&str>, to: &str) -> Rename {
    Rename { function: function.to_owned(), parameter: parameter.map(str::to_owned), to: to.to_owned() }
}

/// A package of these files.
fn package(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new("orchestrator-rename").expect("made");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    dir
}

fn text(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).expect("read")
}

#[tokio::test]
async fn a_function_is_renamed_in_all_files_and_nowhere_else() {
    let home = "def total(values):\n    \"\"\"The total.\"\"\"\n    return sum(values)  # total\n\n\n\
                def mean(values):\n    é = total(values); return total(values) / len(values) if é else \"total\"\n";
    let user = "from p import sums\nfrom p.sums import mean, total as all_of\n\nprint(sums.total([1]), all_of([2]))\n";
    let dir = package(&[("p/__init__.py", ""), ("p/sums.py", home), ("use.py", user)]);
    let files = apply(dir.path(), &wish("total", None, "whole")).await.expect("renamed");
    assert_eq!(files.iter().map(|file| file.places).collect::<Vec<_>>(), [3, 2]);
    let renamed = text(&dir, "p/sums.py");
    assert!(renamed.starts_with("def whole(values):\n    \"\"\"The total.\"\"\"\n    return sum(values)  # total\n"));
    assert!(renamed.ends_with("é = whole(values); return whole(values) / len(values) if é else \"total\"\n"));
    assert!(text(&dir, "use.py").contains("mean, whole as all_of\n\nprint(sums.whole([1]), all_of([2]))"));
}

#[tokio::test]
async fn a_parameter_is_renamed_with_its_calls_and_its_documentation() {
    let home = "size = 3\n\n\ndef cut(text, size=size):\n    \"\"\"At most `size` of it.\"\"\"\n    return text[:size]\n\n\n\
                def grow(size):\n    return cut(\"x\", size=size + 1)\n";
    let dir = package(&[("cut.py", home)]);
    apply(dir.path(), &wish("cut", Some("size"), "most")).await.expect("renamed");
    let wanted = "size = 3\n\n\ndef cut(text, most=size):\n    \"\"\"At most `most` of it.\"\"\"\n    return text[:most]\n\n\n\
                  def grow(size):\n    return cut(\"x\", most=size + 1)\n";
    assert_eq!(text(&dir, "cut.py"), wanted);
}

#[tokio::test]
async fn what_cannot_be_told_apart_is_refused_and_nothing_written() {
    let home = "def total(values):\n    return sum(values)\n";
    for (user, to) in [
        ("from home import total\n\ndef f(total):\n    return total\n", "whole"),
        ("import home as h\nx = object()\nx.total = h.total\n", "whole"),
        ("from home import *\nprint(total([1]))\n", "whole"),
        ("whole = 1\n", "whole"),
        ("", "class"),
        ("", "no name"),
        ("def total(): pass\n", "whole"),
        ("this is no Python\n", "whole"),
    ] {
        let dir = package(&[("home.py", home), ("user.py", user)]);
        let error = apply(dir.path(), &wish("total", None, to)).await.expect_err(user);
        assert!(matches!(error, WorkError::Refused(_)) && error.is_final(), "{error}");
        assert_eq!((text(&dir, "home.py").as_str(), text(&dir, "user.py").as_str()), (home, user));
    }
    let dir = package(&[("home.py", home), ("user.py", "from home import total\ntotal(**{'values': []})\n")]);
    let error = apply(dir.path(), &wish("total", Some("values"), "numbers")).await.expect_err("**");
    assert!(error.to_string().contains("user.py:2"), "{error}");
    let error = apply(dir.path(), &wish("total", Some("nothing"), "numbers")).await.expect_err("unknown");
    assert!(error.to_string().contains("no parameter nothing"), "{error}");
}

#[tokio::test]
async fn the_tests_of_the_commit_pass_and_the_old_name_is_gone() {
    let dir = TempDir::new("orchestrator-rename").expect("made");
    let head = scratch::make_healthy(dir.path()).await.expect("made");
    let done = rename(dir.path(), "t1", &wish("clashes", None, "conflicts")).await.expect("renamed");
    assert_eq!((done.branch.as_str(), done.outcome.tests_before, done.outcome.tests_after), ("refactor/t1", 61, 61));
    assert_eq!(git(dir.path(), &["rev-parse", "HEAD^"]).await.expect("git"), head);
    let grep = git(dir.path(), &["grep", "--word-regexp", "--count", "clashes"]).await;
    assert!(grep.is_err(), "{grep:?}");
    assert!(suite::run(dir.path(), &[], false, suite::PATIENCE).await.expect("runs").passed);
    assert_eq!(rename(dir.path(), "t1", &wish("clashes", None, "conflicts")).await.expect("found"), done);
}
