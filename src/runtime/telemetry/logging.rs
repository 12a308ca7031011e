//! Structured logs on stderr, as text for people or JSON for machines. Four targets tell what a line
//! is about, so that each can be filtered by itself: `sync=debug,performance=off`.

use crate::runtime::error::{Code, Error, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Target of lines about data that moves.
pub const SYNC: &str = "sync";
/// Target of lines about conflicts and how they were settled.
pub const CONFLICT: &str = "conflict";
/// Target of lines about errors, each logged once, where it is handled.
pub const ERROR: &str = "error";
/// Target of lines about speed and size.
pub const PERFORMANCE: &str = "performance";

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// Starts logging to a writer, which writes to stderr. `filter` is a level, or levels by target.
///
/// # Errors
/// If the filter cannot be understood, or logging was started before.
pub fn start<W>(format: Format, filter: &str, writer: W) -> Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing::subscriber::set_global_default(subscriber(format, filter, writer)?)
        .map_err(|error| Error::new(Code::Unexpected, "logging was started already").caused_by(error))
}

fn subscriber<W>(format: Format, filter: &str, writer: W) -> Result<Box<dyn tracing::Subscriber + Send + Sync>>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        let text = "the log filter cannot be understood: expected a level such as `info`, or `sync=debug,error=info`";
        Error::new(Code::ConfigInvalid, text).at("filter", filter).caused_by(error)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    Ok(match format {
        Format::Text => Box::new(builder.finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: CONFLICT, dataset = "products", "settled");
            tracing::info!(target: PERFORMANCE, events = 5, "batch");
        });
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_target_and_fields() {
        let text = logged(Format::Json, "info");
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["target"], &first["dataset"]), (&"conflict".into(), &"products".into()), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_target_can_be_silenced_by_itself() {
        let text = logged(Format::Text, "info,performance=off");
        assert!(text.contains("settled") && !text.contains("batch"), "{text}");
    }

    #[test]
    fn a_filter_nobody_understands_is_refused() {
        let error = subscriber(Format::Text, "sync=loud", io::sink).err().unwrap();
        assert_eq!(error.code, Code::ConfigInvalid);
    }
}
