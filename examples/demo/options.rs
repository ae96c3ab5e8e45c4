//! The command line of the demo.

use std::path::PathBuf;

/// What is printed for `--help`.
pub(crate) const HELP: &str = "\
Runs twelve tasks, of all nine types, on a private Redis. They find, repair, extend and deploy a small repository with a
planted bug; one of them, the deployment of a broken build, has to fail and to be rolled back. The other deployment is
for production and waits for approval: you are asked on a terminal, else a second identity decides.

usage: demo [--seed N] [--dir PATH]
       demo --check PATH

  --seed N      which bug is planted; a random one unless given
  --dir PATH    where everything is made: a new or an empty directory; one for temporary files unless given
  --check PATH  runs no task, but checks what a run in PATH says it did: tests of every commit, the served page,
                the rollback, the answer; the exit code is 1 when something is not as demo.json says
  --help        this text

Needs python3, git, and a redis-server or valkey-server to start.";

/// How the demo is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Chooses the bug.
    pub(crate) seed: u64,
    /// Where everything goes.
    pub(crate) dir: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A run.
    Run(Options),
    /// The check of an earlier run.
    Check(PathBuf),
    /// The help text.
    Help,
}

/// Reads the arguments; both `--seed 7` and `--seed=7` will do.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options { seed: u64::from(rand::random::<u16>()), dir: None };
    let mut check = None;
    let mut args = args;
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut value = || inline.clone().or_else(|| args.next()).ok_or(format!("{name} needs a value"));
        match name {
            "--seed" => {
                let text = value()?;
                options.seed = text.parse().map_err(|_| format!("`{text}` is no seed: give a whole number from 0"))?;
            }
            "--dir" => options.dir = Some(PathBuf::from(value()?)),
            "--check" => check = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(Asked::Help),
            _ => return Err(format!("`{arg}` is not understood")),
        }
    }
    Ok(check.map_or(Asked::Run(options), Asked::Check))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_ways_of_giving_a_value_are_understood() {
        let wanted = Asked::Run(Options { seed: 7, dir: Some("/x".into()) });
        assert_eq!(asked("--seed 7 --dir=/x"), Ok(wanted));
        assert!(matches!(asked(""), Ok(Asked::Run(Options { dir: None, .. }))));
        assert_eq!(asked("--check=/x"), Ok(Asked::Check("/x".into())));
        assert_eq!(asked("--seed 7 -h"), Ok(Asked::Help));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(asked("--seed"), Err("--seed needs a value".into()));
        assert_eq!(asked("--seed x"), Err("`x` is no seed: give a whole number from 0".into()));
        assert_eq!(asked("--sed=1"), Err("`--sed=1` is not understood".into()));
    }
}
