//! The parsers, a damaged source, the thresholds, and the machine this runs on.

use super::*;
use crate::tempdir::TempDir;

#[cfg(target_os = "linux")]
#[test]
fn this_machine_has_figures() {
    let figures = read(Path::new("/")).expect("figures");
    assert!(figures.cores >= 1 && figures.processes >= 1 && figures.uptime_seconds > 0);
    assert!(figures.memory_available_kib <= figures.memory_total_kib);
    assert!(figures.disk_free_kib <= figures.disk_total_kib && figures.disk_total_kib > 0);
}

#[test]
fn without_proc_the_error_says_so() {
    let error = read_from(Path::new("/nowhere"), Path::new("/")).expect_err("no figures");
    assert_eq!(error.to_string(), "this machine has no /nowhere/loadavg: figures are read on Linux only");
}

#[test]
fn sources_are_parsed() {
    assert_eq!(parse_load("0.11 0.20 1.50 2/83 5197\n"), Some([0.11, 0.20, 1.5]));
    assert_eq!(parse_load("0.11 x"), None);
    let memory = "MemTotal:  16 kB\nMemFree: 3 kB\nMemAvailable:   8 kB\n";
    assert_eq!((parse_memory(memory, "MemAvailable"), parse_memory(memory, "Mem")), (Some(8), None));
    assert_eq!(parse_uptime("5025.62 9.1\n"), Some(5025));
    let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a b 100 60 40 60% /\n";
    assert_eq!(parse_df(df), Some((100, 40)));
    assert_eq!(parse_df("Filesystem\n"), None);
}

#[test]
fn a_damaged_source_is_named() {
    let dir = TempDir::new("orchestrator-figures").expect("made");
    std::fs::write(dir.path().join("loadavg"), "0 0 0").expect("written");
    std::fs::write(dir.path().join("meminfo"), "nothing").expect("written");
    let error = read_from(dir.path(), dir.path()).expect_err("no memory");
    assert_eq!(error.to_string(), "meminfo does not say MemTotal");
    let error = read_from(dir.path(), Path::new("/nowhere")).expect_err("no such path");
    assert!(error.to_string().starts_with("df /nowhere: "), "{error}");
}

#[test]
fn only_what_is_beyond_its_threshold_is_found() {
    let mut figures = Figures {
        load: [9.0, 2.0, 0.0],
        cores: 2,
        memory_total_kib: 1000,
        memory_available_kib: 500,
        disk_path: "/data".into(),
        disk_total_kib: 1000,
        disk_free_kib: 100,
        uptime_seconds: 1,
        processes: 10,
    };
    let limits = Thresholds::default();
    assert_eq!(figures.findings(&limits), []);
    figures.disk_free_kib = 52;
    figures.load[1] = 4.0;
    let found = figures.findings(&limits);
    assert_eq!(found.iter().map(|f| f.subject.as_str()).collect::<Vec<_>>(), ["disk", "load"]);
    assert_eq!(found[0].message, "5.2 per cent free at /data, the threshold is 10");
    assert_eq!((found[1].measured, found[1].threshold), (2.0, 1.5));
}
