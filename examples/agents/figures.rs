//! The real figures of this machine, and what in them deserves a look.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Runnable processes on average over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Processor cores this process may use.
    pub cores: usize,
    /// Memory of the machine, in KiB.
    pub memory_total_kib: u64,
    /// Memory that could be given to programs now, in KiB.
    pub memory_available_kib: u64,
    /// The path whose file system was measured.
    pub disk_path: PathBuf,
    /// Size of that file system, in KiB.
    pub disk_total_kib: u64,
    /// Free on that file system, in KiB.
    pub disk_free_kib: u64,
    /// Seconds since the machine started.
    pub uptime_seconds: u64,
    /// Processes there are.
    pub processes: usize,
}

/// From where on a figure is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thresholds {
    /// The most load over five minutes for each core.
    pub load_per_core: f64,
    /// The least memory available, in per cent.
    pub memory_available_percent: f64,
    /// The least disk free, in per cent.
    pub disk_free_percent: f64,
    /// The most processes.
    pub processes: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { load_per_core: 1.5, memory_available_percent: 10.0, disk_free_percent: 10.0, processes: 2000 }
    }
}

/// A figure beyond its threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about: `load`, `memory`, `disk` or `processes`.
    pub subject: String,
    /// What was measured.
    pub measured: f64,
    /// What it was held against.
    pub threshold: f64,
    /// The same in words.
    pub message: String,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum FiguresError {
    /// The system is none whose figures are known.
    #[error("this machine has no {0}: figures are read on Linux only")]
    NotLinux(PathBuf),
    /// A source could not be read.
    #[error("{0}: {1}")]
    Read(String, #[source] io::Error),
    /// A source did not say what it should.
    #[error("{0} does not say {1}")]
    Unclear(String, &'static str),
}

/// Reads the figures of this machine, and of the file system that `disk` is on. Takes a few
/// milliseconds and blocks meanwhile.
///
/// # Errors
/// On anything but Linux, and when `disk` does not exist.
pub fn read(disk: &Path) -> Result<Figures, FiguresError> {
    read_from(Path::new("/proc"), disk)
}

fn read_from(proc: &Path, disk: &Path) -> Result<Figures, FiguresError> {
    if !proc.join("loadavg").is_file() {
        return Err(FiguresError::NotLinux(proc.join("loadavg")));
    }
    let memory = text(proc, "meminfo")?;
    let (disk_total_kib, disk_free_kib) = parse_df(&df(disk)?)
        .ok_or(FiguresError::Unclear(format!("df {}", disk.display()), "how large and how free"))?;
    Ok(Figures {
        load: parse_load(&text(proc, "loadavg")?).ok_or(FiguresError::Unclear("loadavg".into(), "three averages"))?,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_total_kib: parse_memory(&memory, "MemTotal")
            .ok_or(FiguresError::Unclear("meminfo".into(), "MemTotal"))?,
        memory_available_kib: parse_memory(&memory, "MemAvailable")
            .ok_or(FiguresError::Unclear("meminfo".into(), "MemAvailable"))?,
        disk_path: disk.to_owned(),
        disk_total_kib,
        disk_free_kib,
        uptime_seconds: parse_uptime(&text(proc, "uptime")?)
            .ok_or(FiguresError::Unclear("uptime".into(), "how long"))?,
        processes: count_processes(proc)?,
    })
}

fn text(proc: &Path, name: &str) -> Result<String, FiguresError> {
    let path = proc.join(name);
    std::fs::read_to_string(&path).map_err(|error| FiguresError::Read(path.display().to_string(), error))
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some([words.next()??, words.next()??, words.next()??])
}

fn parse_memory(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn parse_uptime(text: &str) -> Option<u64> {
    text.split(['.', ' ']).next()?.parse().ok()
}

fn count_processes(proc: &Path) -> Result<usize, FiguresError> {
    let entries = std::fs::read_dir(proc).map_err(|error| FiguresError::Read(proc.display().to_string(), error))?;
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    Ok(entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_number)).count())
}

/// Asks `df`: the standard library cannot tell how full a file system is.
fn df(path: &Path) -> Result<String, FiguresError> {
    let what = || format!("df {}", path.display());
    let done = Command::new("df").arg("-Pk").arg("--").arg(path).env("LC_ALL", "C").output();
    let done = done.map_err(|error| FiguresError::Read(what(), error))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(FiguresError::Read(what(), io::Error::other(said)))
}

/// Size and free space from the second line; a device name may contain blanks.
fn parse_df(text: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%'))?;
    let number = |back: usize| words.get(percent.checked_sub(back)?)?.parse().ok();
    Some((number(3)?, number(1)?))
}

impl Figures {
    /// What is beyond its threshold, the most pressing kind of figure first.
    #[must_use]
    pub fn findings(&self, limits: &Thresholds) -> Vec<Finding> {
        let per_core = self.load[1] / self.cores.max(1) as f64;
        let memory = percent(self.memory_available_kib, self.memory_total_kib);
        let disk = percent(self.disk_free_kib, self.disk_total_kib);
        let processes = self.processes as f64;
        let below = |subject, measured: f64, threshold, words: &str| {
            finding(measured < threshold, subject, measured, threshold, words)
        };
        let above = |subject, measured: f64, threshold, words: &str| {
            finding(measured > threshold, subject, measured, threshold, words)
        };
        let path = self.disk_path.display();
        [
            below("disk", disk, limits.disk_free_percent, &format!("per cent free at {path}")),
            below("memory", memory, limits.memory_available_percent, "per cent of memory available"),
            above("load", per_core, limits.load_per_core, "load per core over five minutes"),
            above("processes", processes, limits.processes as f64, "processes"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn finding(is: bool, subject: &str, measured: f64, threshold: f64, words: &str) -> Option<Finding> {
    is.then(|| Finding {
        subject: subject.to_owned(),
        measured,
        threshold,
        message: format!("{measured:.1} {words}, the threshold is {threshold}"),
    })
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
