//! Logs: one line per event to standard output, which is what kubelet collects.
//!
//! JSON lines are flat, so that `"event":"drain_report"` is a top-level key. Text lines are for people; what
//! clients sent can't forge a second line or move the cursor in either. Not here: what is logged.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
};

use serde_json::Value;

use tracing::{Subscriber, field::Field, info};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        FormatFields, MakeWriter,
        format::{Writer, debug_fn},
        time::{FormatTime as _, SystemTime},
    },
};

use crate::config::{Config, Effective, Log, LogFormat};

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none, although the configuration accepted it.
    #[error("the log filter is not understood: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else did before.
    #[error("logging was started twice: {0}")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A file, a pipe, a container's log.
    Plain,
    /// Somebody watches.
    Terminal,
}

/// Writes characters that could forge lines or command a terminal as escapes.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

/// Starts logging for the whole process, to standard output.
///
/// # Errors
///
/// If the filter is not understood or logging was started before.
pub fn init(log: &Log, output: Output) -> Result<(), TelemetryError> {
    let subscriber = subscriber(log, output, io::stdout)?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

/// Logs the effective configuration, once, in one line.
pub fn log_config(config: &Config) {
    let listed = |is_default| {
        let chosen = config.effective().iter().filter(|var| var.is_default == is_default);
        let text = chosen.map(|Effective { name, value, .. }| format!("{name}={value}"));
        text.collect::<Vec<_>>().join("; ")
    };
    info!(event = "config", set = listed(false), defaults = listed(true), "configuration");
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Somebody should look at it.
    Warn,
}

// === impl Severity ===

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
        }
    }
}

/// Logs `event` with the fields of `object` as they are, nested ones too, which events of `tracing` can't have.
pub fn log_object(
    log: &Log,
    level: Severity,
    event: &'static str,
    message: &'static str,
    object: Value,
) {
    let is_wanted = match level {
        Severity::Info => tracing::enabled!(tracing::Level::INFO),
        Severity::Warn => tracing::enabled!(tracing::Level::WARN),
    };
    if !is_wanted {
        return;
    }
    if format(log, Output::of_stdout()) == LogFormat::Text {
        match level {
            Severity::Info => info!(event, "{message}: {object}"),
            Severity::Warn => tracing::warn!(event, "{message}: {object}"),
        }
        return;
    }
    let mut timestamp = String::new();
    // Writing into a string can't fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let mut line = serde_json::json!({
        "timestamp": timestamp, "level": level.name(), "message": message, "event": event,
    });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), object) {
        line.extend(fields);
    }
    // One call writes one line, because standard output is locked for it. Where nobody reads, nobody is told.
    let _closed = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

fn format(log: &Log, output: Output) -> LogFormat {
    log.format.unwrap_or(match output {
        Output::Plain => LogFormat::Json,
        Output::Terminal => LogFormat::Text,
    })
}

fn subscriber<W>(
    log: &Log,
    output: Output,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format(log, output) {
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_span_list(false).finish())
        }
        LogFormat::Text => {
            let ansi = output == Output::Terminal;
            Box::new(lines.with_ansi(ansi).fmt_fields(text_fields()).finish())
        }
    })
}

/// `message key=value key=value`, escaped.
fn text_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let write_field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(Escaped(writer), "{value:?}")
    };
    debug_fn(write_field).delimited(" ")
}

// === impl Output ===

impl Output {
    /// What standard output is.
    #[must_use]
    pub fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Terminal } else { Self::Plain }
    }
}

// === impl Escaped ===

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let control = part.chars().next_back().filter(|c| c.is_control());
            let plain = &part[..part.len() - control.map_or(0, char::len_utf8)];
            self.0.write_str(plain)?;
            if let Some(control) = control {
                write!(self.0, "{}", control.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::config::AccessLog;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
            lines.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_events_are_flat_and_one_per_line() {
        let lines = logged(None, Output::Plain, || {
            info!(event = "drain_report", path = "/a\r\n{\"event\":\"forged\"}", "drained");
        });
        let [line] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines:?}") };
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["event"], "drain_report");
        assert_eq!(object["message"], "drained");
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["path"], "/a\r\n{\"event\":\"forged\"}");
    }

    #[test]
    fn text_lines_can_not_be_forged() {
        let attack = "/a\r\n2026 INFO forged\u{1b}[2J\u{9b}2J\u{7f}";
        let lines = logged(Some(LogFormat::Text), Output::Plain, || {
            info!(quoted = attack, shown = %attack, debug = ?attack, "request {attack}");
        });
        assert_eq!(lines.lines().count(), 1, "{lines:?}");
        assert!(!lines.trim_end_matches('\n').contains(char::is_control), "{lines:?}");
        assert!(lines.contains("shown=/a\\r\\n2026"), "{lines:?}");
    }

    #[test]
    fn span_fields_are_escaped_too() {
        let lines = logged(Some(LogFormat::Text), Output::Plain, || {
            tracing::info_span!("connection", peer = %"a\nb").in_scope(|| info!("hello"));
        });
        assert_eq!(lines.lines().count(), 1, "{lines:?}");
        assert!(lines.contains("connection{peer=a\\nb}"), "{lines:?}");
    }

    #[test]
    fn a_terminal_gets_coloured_text_and_a_file_json() {
        let on_terminal = logged(None, Output::Terminal, || info!("hello"));
        assert!(on_terminal.contains("\u{1b}["), "{on_terminal:?}");
        assert!(!on_terminal.starts_with('{'), "{on_terminal:?}");
        let in_file = logged(None, Output::Plain, || info!("hello"));
        assert!(in_file.starts_with('{'), "{in_file:?}");
        let json_on_terminal = logged(Some(LogFormat::Json), Output::Terminal, || info!("hello"));
        assert!(!json_on_terminal.contains('\u{1b}'), "{json_on_terminal:?}");
    }

    #[test]
    fn the_filter_is_obeyed() {
        let lines = logged(None, Output::Plain, || {
            tracing::debug!("too much");
            info!("enough");
        });
        assert!(!lines.contains("too much") && lines.contains("enough"), "{lines:?}");
    }

    fn logged(format: Option<LogFormat>, output: Output, events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let log = Log { filter: "info".to_owned(), format, access: AccessLog::Off };
        let writer = sink.clone();
        let subscriber = subscriber(&log, output, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }
}
