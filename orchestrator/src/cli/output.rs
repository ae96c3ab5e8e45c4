//! What is printed: JSON for programs, text and tables for people.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use orchestrator::Status;
use serde::Serialize;

use super::failure::Failure;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON object, on a line.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::refused(format!("not JSON: {error}")))?;
        self.line(&text)
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// A table with a line of titles; nothing but the titles when there are no rows.
    pub(crate) fn table(&mut self, titles: &[&str], rows: Vec<Vec<Cell>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(titles).add_rows(rows);
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        if table.is_tty() {
            // Into the width of the terminal; what goes elsewhere keeps a line a row.
            table.set_content_arrangement(ContentArrangement::Dynamic);
            // The first column names things, for copying: it is never broken.
            if let Some(names) = table.column_mut(0) {
                names.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        if std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()) {
            table.force_no_tty();
        }
        let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        self.line(&text.join("\n"))
    }
}

/// A note beside the output, for people.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether somebody watches the notes.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Somebody's text in a cell: on one line, without control characters, at most `chars` long.
pub(crate) fn cell(text: &str, chars: usize) -> Cell {
    Cell::new(plain(text, chars))
}

/// The first line of somebody's text, without control characters, at most `chars` long.
pub(crate) fn plain(text: &str, chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(chars).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if line.chars().nth(chars).is_some() || text.lines().nth(1).is_some() {
        short.push('…');
    }
    short
}

/// A status, coloured where the output shows colours.
pub(crate) fn status(status: Status) -> Cell {
    let cell = Cell::new(status.as_str());
    match status {
        Status::Completed => cell.fg(Color::Green),
        Status::Failed => cell.fg(Color::Red),
        Status::InProgress => cell.fg(Color::Cyan),
        Status::Pending | Status::Blocked => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// How far an instant lies from now, in its largest unit: `3m`.
pub(crate) fn distance(instant: DateTime<Utc>) -> String {
    let seconds = (Utc::now() - instant).num_seconds().unsigned_abs();
    match seconds {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}
