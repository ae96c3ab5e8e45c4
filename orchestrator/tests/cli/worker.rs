//! `orchestrator worker` hands over to another program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program in a folder of its own, where nothing is beside it.
fn alone(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::hard_link(env!("CARGO_BIN_EXE_orchestrator"), folder.join("orchestrator")).unwrap();
    folder
}

#[test]
fn it_becomes_the_program_beside_it_or_on_the_path() {
    let folder = alone("worker");
    let tell = |at: &Path| {
        std::fs::write(at, "#!/bin/sh\necho \"$0\" \"$@\"\nexit 7\n").unwrap();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = folder.join("path");
    std::fs::create_dir_all(&path).unwrap();
    let run = |args: &[&str]| {
        let paths = std::env::join_paths([path.clone(), "/bin".into()]).unwrap();
        let done = Command::new(folder.join("orchestrator")).args(args).env("PATH", paths).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).trim_end().to_owned();
        (done.status.code(), said, String::from_utf8_lossy(&done.stderr).into_owned())
    };

    let (code, _, error) = run(&["worker", "--exec", "a=sh"]);
    assert!(
        code == Some(1) && error.contains("cargo build --release -p orchestrator-worker --features exec"),
        "{error}"
    );

    tell(&path.join("orchestrator-worker"));
    let (code, said, _) = run(&["worker", "--exec", "a=sh -c 'x y'", "--text", "--help"]);
    let found = path.join("orchestrator-worker").display().to_string();
    assert_eq!((code, said), (Some(7), format!("{found} --exec a=sh -c 'x y' --text --help")));

    tell(&folder.join("orchestrator-worker"));
    let (_, said, _) = run(&["--redis", "redis://there", "worker", "--namespace", "mine", "--exec", "a=sh"]);
    let found = folder.join("orchestrator-worker").display().to_string();
    assert_eq!(said, format!("{found} --redis redis://there --namespace mine --exec a=sh"));
    std::fs::remove_dir_all(&folder).unwrap();
}
