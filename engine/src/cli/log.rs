//! What the engine says while it works: lines for people on a terminal, JSON elsewhere, on standard error.
//!
//! `VELIB_LOG` chooses what is said (`debug`, `velib_engine::sink=trace,warn`). A panic is one line; its trace, where
//! `RUST_BACKTRACE` is set, and panics of threads that read and write connections of a generation that is over are
//! only for those who asked for `debug`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::print::Stream;

/// Says what is logged.
pub const FILTER: &str = "VELIB_LOG";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// An object a line.
    Json,
}

/// Begins to log what `filter` lets through, unless `VELIB_LOG` says otherwise.
pub fn start(format: LogFormat, filter: &str) {
    let given = std::env::var(FILTER).ok().filter(|given| !given.trim().is_empty());
    let parsed = given.as_deref().map(EnvFilter::try_new);
    let wrong = parsed.as_ref().and_then(|parsed| parsed.as_ref().err().map(ToString::to_string));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(filter));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error says that somebody logs already, which only a test that calls us twice can bring about.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Auto if !Stream::Err.is_terminal() => lines.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Human => {
            lines.compact().with_target(false).with_ansi(Stream::Err.is_coloured()).try_init()
        }
    };
    if let Some(error) = wrong {
        tracing::warn!("{FILTER} is not a filter ({error}); it looks like info or velib_engine::sink=debug,warn");
    }
    std::panic::set_hook(Box::new(panicked));
}

fn panicked(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = info.payload_as_str().unwrap_or("no reason given");
    let message = message.lines().next().unwrap_or_default();
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_string();
    let place = info.location().map(|place| format!("{}:{}", file(place.file()), place.line())).unwrap_or_default();
    // They are let down by a connection that nobody depends on any more, which was reported.
    let harmless = ["timely:recv-", "timely:send-", "generation"].iter().any(|name| thread.starts_with(name));
    match harmless {
        false => tracing::error!(thread, place, "panicked: {message}"),
        true => tracing::debug!(thread, place, "panicked: {message}"),
    }
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::debug!(thread, "{trace}");
    }
}
