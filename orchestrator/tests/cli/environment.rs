//! `.env.example` names every variable that the project reads, and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use orchestrator::ENVIRONMENT;

/// Read by this project and not called after it.
const OTHERS: &[&str] = &["CORS_ORIGINS", "LOG_FORMAT", "LOG_LEVEL", "NO_COLOR", "REDIS_URL", "USER"];
/// Read by deploy/compose.yml.
const COMPOSE: &[&str] = &["GATEWAY_PORT", "PROMETHEUS_PORT", "REDIS_PASSWORD"];
/// What follows is free.
const PREFIXES: &[&str] = &["ORCHESTRATOR_API_KEY_", "ORCHESTRATOR_ROLE_"];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Each name, whether it is set, and its value.
fn example() -> Vec<(String, bool, String)> {
    let text = std::fs::read_to_string(project().join(".env.example")).unwrap();
    let mut names = Vec::new();
    let mut before = "";
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if let Some((name, value)) = bare.split_once('=').filter(|(name, _)| is_name(name)) {
            assert!(before.starts_with("# ") && before.ends_with('.') | before.contains(": "), "{name} has no comment");
            names.push((name.to_owned(), !line.starts_with('#'), value.to_owned()));
        }
        before = line;
    }
    names
}

#[test]
fn the_example_has_every_name_once_with_a_comment_and_no_other() {
    let told: Vec<String> = example().into_iter().map(|(name, ..)| name).collect();
    let names: BTreeSet<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(names.len(), told.len(), "a name is there twice: {told:?}");
    let known: BTreeSet<&str> = ENVIRONMENT.iter().chain(OTHERS).chain(COMPOSE).copied().collect();
    let free = |name: &&&str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let missing: Vec<_> = known.difference(&names).collect();
    assert!(missing.is_empty(), ".env.example lacks {missing:?}");
    let unknown: Vec<_> = names.difference(&known).filter(|name| !free(name)).collect();
    assert!(unknown.is_empty(), "nobody reads {unknown:?}");
    for prefix in PREFIXES {
        assert!(names.iter().any(|name| name.starts_with(prefix)), "{prefix}… is not shown");
    }
}

#[test]
fn every_name_that_the_sources_read_is_known() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    for folder in ["orchestrator/src", "worker/src", "examples/agents"] {
        sources(&project().join(folder), &mut files);
    }
    files.push(project().join("examples/worker.rs"));
    let mut read = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in ["env::var(\"", "env::var_os(\"", "try_from_env(\""] {
            for rest in text.split(call).skip(1) {
                let name = rest.split('"').next().unwrap();
                let known = ENVIRONMENT.contains(&name) || OTHERS.contains(&name) || name == "PATH";
                assert!(known, "{} reads {name}, which .env.example does not name", file.display());
                read += 1;
            }
        }
    }
    assert!(read > 5, "the search finds what is read: {read}");
}

#[test]
fn what_the_example_shows_holds() {
    // Read by a process of its own, as somebody would: without the file's empty secrets, and without files that are not here.
    let redis = "redis://127.0.0.1:1";
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    command.env_clear().args(["--redis", redis, "stats"]);
    for (name, _, value) in example() {
        if !value.is_empty() && !value.starts_with("/etc/") && name != "REDIS_URL" {
            command.env(name, value);
        }
    }
    let done = command.output().unwrap();
    // It fails for want of Redis (69), not for what it was set to.
    assert_eq!(done.status.code(), Some(69), "{done:?}");
}
