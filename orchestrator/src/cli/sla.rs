//! `sla report` and `sla risk`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use orchestrator::{Orchestrator, Percentiles, SlaRow, Span};

use super::failure::Failure;
use super::new_task::span;
use super::output::{Output, cell, distance, note};

#[derive(Debug, Subcommand)]
pub(crate) enum Sla {
    /// How promises were kept, by type and priority, and where the time went
    Report(Report),
    /// Which promises are likely to be broken, and what would help
    Risk,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// How far back: 1h to 31d, in whole hours
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = span)]
    window: Span,
}

pub(super) async fn run(orch: &Orchestrator, command: Sla, out: &mut Output) -> Result<(), Failure> {
    match command {
        Sla::Report(command) => report(orch, command, out).await,
        Sla::Risk => risk(orch, out).await,
    }
}

async fn report(orch: &Orchestrator, command: Report, out: &mut Output) -> Result<(), Failure> {
    let report = orch.sla_report(command.window).await?;
    if out.is_json() {
        return out.object(&report);
    }
    let titles =
        ["TYPE", "PRIORITY", "ENDED", "LATE", "KEPT", "QUEUE P50/P90/P99", "MACHINE P50/P90/P99", "HUMAN P50/P90/P99"];
    let mut rows: Vec<Vec<Cell>> = report.rows.iter().map(row).collect();
    if rows.len() > 1 {
        rows.push(row(&report.total));
    }
    if rows.is_empty() {
        note(&format!("no task with a promise has ended in the last {} hours", report.hours));
    }
    out.table(&titles, rows)
}

fn row(row: &SlaRow) -> Vec<Cell> {
    let kept = format!("{:.1} % {}", row.attainment * 100.0, bar(row.attainment));
    vec![
        cell(&row.task_type, 64),
        cell(&row.priority, 4),
        Cell::new(row.ended),
        Cell::new(row.violated),
        Cell::new(kept),
        Cell::new(percentiles(row.queue)),
        Cell::new(percentiles(row.machine)),
        Cell::new(percentiles(row.human)),
    ]
}

/// A share as a bar of ten places.
fn bar(share: f64) -> String {
    let full = (share * 10.0).floor().clamp(0.0, 10.0) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(10 - full))
}

fn percentiles(of: Percentiles) -> String {
    [of.p50_ms, of.p90_ms, of.p99_ms].map(short).join(" / ")
}

/// Milliseconds in their largest units: `1h 52m`, `4.2s`, `31ms`.
fn short(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms}ms"),
        1_000..=59_999 => format!("{:.1}s", ms as f64 / 1000.0),
        60_000..=3_599_999 => format!("{}m {}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h {}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

async fn risk(orch: &Orchestrator, out: &mut Output) -> Result<(), Failure> {
    let risks = orch.forecast().await?;
    if out.is_json() {
        return risks.iter().try_for_each(|risk| out.object(risk));
    }
    let rows = risks.iter().map(|risk| {
        let finish = risk.predicted_finish.map_or_else(|| "unknown".into(), |at| format!("in {}", distance(at)));
        vec![
            Cell::new(risk.task_id),
            cell(&risk.queue, 64),
            Cell::new(format!("in {}", distance(risk.due))),
            Cell::new(finish),
            Cell::new(risk.ahead),
            Cell::new(format!("{:.1}", risk.done_per_minute)),
            cell(&risk.would_help, 90),
        ]
    });
    if risks.is_empty() {
        note("no promise is likely to be broken");
    }
    out.table(&["TASK", "QUEUE", "BREAKS", "DONE", "AHEAD", "DONE/MIN", "WOULD HELP"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_shares_are_bars() {
        assert_eq!([31, 4200, 250_000, 6_720_000].map(short), ["31ms", "4.2s", "4m 10s", "1h 52m"]);
        assert_eq!((bar(1.0), bar(0.55)), ("█".repeat(10), format!("{}{}", "█".repeat(5), "░".repeat(5))));
    }
}
