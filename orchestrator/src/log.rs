//! The log of a process, on standard error: lines for people, or one JSON object a line for machines.
//!
//! One event is one line, whatever is in it: control characters are escaped, so that no text from outside looks like a line
//! of ours.

use std::fmt;
use std::io::{self, IsTerminal};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{JsonFields, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins the log, unless somebody has set up one of his own. `LOG_LEVEL` chooses what is told (`level` unless set; `debug`,
/// or a filter such as `warn,my_agents=debug`), `LOG_FORMAT` how: `text`, or `json`.
pub fn begin(level: &str) {
    let filter = || EnvFilter::try_from_env("LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new(level));
    let format = std::env::var("LOG_FORMAT").unwrap_or_default();
    // Whoever listens already goes on doing so.
    let _ = match format.as_str() {
        "json" => json(filter(), io::stderr).try_init(),
        _ => text(filter(), io::stderr, io::stderr().is_terminal()).try_init(),
    };
    if !["", "text", "json"].contains(&format.as_str()) {
        tracing::warn!(format, "LOG_FORMAT is not known; write text or json");
    }
}

/// Has `log` listen to what this thread tells until the guard is dropped, for tests.
pub fn listen(log: impl Subscriber + Send + Sync) -> impl Drop {
    log.set_default()
}

/// Lines for people.
pub fn text<W>(filter: EnvFilter, writer: W, colours: bool) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let fields = debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = safe(&format!("{value:?}"));
        if field.name() == "message" { writer.write_str(&value) } else { write!(writer, "{field}={value}") }
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    log.with_target(false).with_ansi(colours).fmt_fields(fields.delimited(" ")).finish()
}

/// One JSON object a line: `timestamp`, `level`, `target`, `message`, and the fields of the event and of what it happened in.
pub fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    log.fmt_fields(JsonFields::new()).event_format(Json).finish()
}

struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            if let Some(Ok(fields)) = fields.map(|fields| serde_json::from_str::<Map<_, _>>(&fields.fields)) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        let meta = event.metadata();
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        line.extend([
            ("timestamp".to_owned(), Value::from(now)),
            ("level".to_owned(), meta.level().as_str().into()),
            ("target".to_owned(), meta.target().into()),
        ]);
        // What is escaped here stands in texts only.
        writeln!(writer, "{}", safe(&Value::Object(line).to_string()))
    }
}

/// Notes the fields of an event.
struct Fields<'m>(&'m mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

/// Text that breaks no line: control characters, and those that end a line or turn its direction for some readers, as JSON
/// escapes them.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    const EVIL: &str = "a\nWARN forged\r\x1b[31mred\u{85}\u{2028}\u{202e}\0end";

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(log: impl FnOnce(Sink) -> tracing::Dispatch) -> String {
        let sink = Sink::default();
        tracing::dispatcher::with_default(&log(sink.clone()), || {
            let span = tracing::error_span!("attempt", task_id = %EVIL, attempt = 2);
            span.in_scope(|| tracing::warn!(error = %EVIL, quoted = EVIL, kept = true, ms = 3, "said {}", EVIL));
        });
        let bytes = sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        for colours in [false, true] {
            let text = told(|sink| text(EnvFilter::new("info"), move || sink.clone(), colours).into());
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.trim_end().contains(|c: char| c.is_control() && !(colours && c == '\x1b')), "{text:?}");
            assert!(!text.contains("\x1b[31mred"), "colours of ours only: {text:?}");
            assert!(text.contains("attempt"), "{text}");
        }
    }

    #[test]
    fn json_is_an_object_a_line_with_all_fields_in_it() {
        let line = told(|sink| json(EnvFilter::new("info"), move || sink.clone()).into());
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&told["task_id"], &told["error"], &told["quoted"]), (&EVIL.into(), &EVIL.into(), &EVIL.into()));
        assert_eq!((&told["attempt"], &told["ms"], &told["kept"]), (&2.into(), &3.into(), &true.into()));
        assert_eq!((&told["level"], &told["message"]), (&"WARN".into(), &format!("said {EVIL}").into()));
        assert!(told["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
    }
}
