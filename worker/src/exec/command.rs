//! What `--exec TYPE=COMMAND` says.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orchestrator::{Error, Result, check_name};

use super::words;

/// A command for the tasks of one type.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) task_type: String,
    /// As it was written.
    pub(super) line: String,
    pub(super) program: String,
    pub(super) args: Vec<String>,
}

impl Command {
    /// Reads `TYPE=COMMAND`; the program must be there.
    ///
    /// # Errors
    /// [`Error::Invalid`]
    pub(super) fn read(text: &str) -> Result<Self> {
        let invalid = |what: String| Error::Invalid { what: format!("--exec '{text}': {what}") };
        let (task_type, line) = text
            .split_once('=')
            .ok_or_else(|| invalid("write TYPE=COMMAND, such as --exec greet='python3 greet.py'".into()))?;
        check_name("task type", task_type).map_err(|error| invalid(error.to_string()))?;
        let mut words = words::split(line).map_err(invalid)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| invalid("there is no command behind the `=`".into()))?;
        find(&program, std::env::var_os("PATH").as_deref()).map_err(invalid)?;
        Ok(Self { task_type: task_type.into(), line: line.trim().into(), program, args: words.collect() })
    }
}

/// Whether there is such a program, at its path or on the search path.
fn find(program: &str, path: Option<&OsStr>) -> std::result::Result<(), String> {
    let can_run = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let place = Path::new(program);
    if !program.contains('/') {
        let found = path.is_some_and(|path| std::env::split_paths(path).any(|folder| can_run(&folder.join(place))));
        return found.then_some(()).ok_or_else(|| format!("there is no program `{program}` on the search path (PATH)"));
    }
    match (can_run(place), place.is_file()) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("`{program}` is not executable: chmod +x, or name its interpreter before it")),
        (false, false) => Err(format!("there is no program `{program}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_checked_before_the_first_task() {
        let command = Command::read("greet=sh -c 'cat; true'").expect("a good one");
        assert_eq!((command.task_type.as_str(), command.program.as_str()), ("greet", "sh"));
        assert_eq!(command.args, ["-c", "cat; true"]);
        for (text, told) in [
            ("greet", "write TYPE=COMMAND"),
            ("Greet!=sh", "task type"),
            ("greet=", "there is no command"),
            ("greet='sh", "is not closed"),
            ("greet=no-such-program-here -v", "no program `no-such-program-here` on the search path"),
            ("greet=/no/such/program", "no program `/no/such/program`"),
            ("greet=/etc/passwd", "is not executable"),
        ] {
            let error = Command::read(text).expect_err(text).to_string();
            assert!(error.contains(told) && error.contains(text), "{error}");
        }
    }
}
