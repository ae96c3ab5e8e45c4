//! Processes as Linux shows them in /proc: who descends from whom, and who bears a mark. Elsewhere nothing is found.

use std::collections::{HashMap, HashSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that marks what a command has started.
pub(super) const MARK: &str = orchestrator::COMMAND_ENVIRONMENT[7];

/// A process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// It has ended, and nobody has asked how.
    pub(super) is_zombie: bool,
}

/// All processes that can be seen.
pub(super) fn all() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| read(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// `pid (name) state parent group …`; a name may hold anything.
fn read(pid: i32, stat: &str) -> Option<Seen> {
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let is_zombie = matches!(words.next()?, "Z" | "X");
    Some(Seen { pid, parent: words.next()?.parse().ok()?, group: words.next()?.parse().ok()?, is_zombie })
}

/// What bears a mark that begins so; `None` when the environment cannot be read, or is none, as of one that begins just now.
pub(super) fn bears(pid: i32, mark: &str) -> Option<bool> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok().filter(|bytes| !bytes.is_empty())?;
    let wanted = format!("{MARK}={mark}");
    Some(environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(wanted.as_bytes())))
}

/// Those of `all` that descend from `root`, without `leave_out` and what descends from them.
pub(super) fn descendants(all: &[Seen], root: i32, leave_out: &HashSet<i32>) -> Vec<Seen> {
    let mut children: HashMap<i32, Vec<&Seen>> = HashMap::new();
    for seen in all {
        children.entry(seen.parent).or_default().push(seen);
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !leave_out.contains(&child.pid) {
                found.push(*child);
                next.push(child.pid);
            }
        }
    }
    found
}

/// Ends a process at once, if it is still there.
pub(super) fn end(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_followed_through_strange_names() {
        let seen = |pid, parent| read(pid, &format!("{pid} (a) b (c) S {parent} {pid} 7 0")).expect("a line of /proc");
        let all = [seen(2, 1), seen(3, 2), seen(4, 3), seen(5, 2), seen(6, 5), seen(7, 1)];
        let mut found: Vec<i32> = descendants(&all, 2, &HashSet::from([5])).iter().map(|seen| seen.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert!(read(9, "9 (gone) Z 1 9 9").is_some_and(|seen| seen.is_zombie));
    }
}
