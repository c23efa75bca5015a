//! What the controller tells of its own doing: the lines of its log, and traces.
//!
//! `fields` takes out what an event or a span says, `line` writes one line of the log in a form that machines read, `lines`
//! does that with each event. `span` is a span as OpenTelemetry has it (pure), `traces` makes them of what is done, and
//! `export` is the thread that sends them away.
//!
//! The spans: `revision`, from when it came into force until all of it is done, has a `reconcile` below it for each try,
//! and that one a `step` for each deed. What is put right later has no revision above it.

mod export;
mod fields;
mod line;
mod lines;
mod span;
mod traces;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::export::{Exporter, TracesError};
use self::lines::Lines;
use self::traces::Traces;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
    /// With its priority before it, as journald reads it.
    Journald,
}

/// Where lines go: each is written at once.
type Out = fn(&str);

/// As a whole, so that lines of several threads are not mixed. Nobody can be told that stderr is gone.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// From now on what is done is told: on stderr up to this level, and to an exporter.
pub fn begin(format: LogFormat, level: Level, exporter: Option<&Exporter>) {
    let shown = LevelFilter::from_level(level);
    let traces = exporter.map(|exporter| {
        let traces = Traces::new(exporter.queue());
        traces.with_filter(LevelFilter::INFO)
    });
    let told = tracing_subscriber::registry().with(traces);
    match format {
        LogFormat::Text => {
            // How long something took is for those who want to know more.
            let ends = match level > Level::INFO {
                true => FmtSpan::CLOSE,
                false => FmtSpan::NONE,
            };
            let text = tracing_subscriber::fmt::layer()
                .with_span_events(ends)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_target(level > Level::DEBUG);
            told.with(text.with_filter(shown)).init();
        }
        LogFormat::Json => {
            let lines = Lines::new(line::json, to_stderr);
            told.with(lines.with_filter(shown)).init();
        }
        LogFormat::Journald => {
            let lines = Lines::new(line::journald, to_stderr);
            told.with(lines.with_filter(shown)).init();
        }
    }
}

/// How long who leaves waits until the last traces are sent.
pub const LAST_TRACES: Duration = Duration::from_secs(3);
