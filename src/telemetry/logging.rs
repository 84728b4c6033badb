//! Logs on standard error, for the binary.

use std::panic::PanicHookInfo;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::panics;
use crate::config::{LogConfig, LogFormat, LogLevel};

/// Target of our own messages; both crate and binary have it.
const OWN: &str = "rudder_customerio";

/// Sets the level of the installed subscriber while the process runs.
#[derive(Clone, Debug)]
pub struct Levels {
    filter: reload::Handle<Targets, Registry>,
}

impl Levels {
    /// Puts another level in force, for every thread and from the next message on.
    ///
    /// # Errors
    ///
    /// When the subscriber is gone, or one of its threads panicked.
    pub fn set(&self, level: LogLevel) -> Result<(), reload::Error> {
        self.filter.reload(levels(level))
    }
}

/// Installs the process' log subscriber and panic hook. Only the binary may.
///
/// `color` is for the text format. The level rules our own messages; dependencies never log below
/// `info`, since what they say there may show requests.
///
/// # Errors
///
/// When the process has a subscriber already.
pub fn init(config: &LogConfig, color: bool) -> Result<Levels, TryInitError> {
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Text => layer.with_ansi(color).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    };
    let (filter, handle) = reload::Layer::new(levels(config.level));
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    std::panic::set_hook(Box::new(report_panic));
    Ok(Levels { filter: handle })
}

fn levels(own: LogLevel) -> Targets {
    let own = match own {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let dependencies = LevelFilter::from_level(own.min(Level::INFO));
    Targets::new().with_default(dependencies).with_target(OWN, own)
}

/// A panic's own message may quote what the code worked on, so only its place is logged.
fn report_panic(info: &PanicHookInfo<'_>) {
    if panics::are_expected() {
        return;
    }
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(place, thread, "A thread panicked; this is a defect of the program.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_never_log_below_info() {
        let levels = levels(LogLevel::Trace);
        assert!(levels.would_enable("rudder_customerio::sink", &Level::TRACE));
        assert!(levels.would_enable("hyper", &Level::INFO));
        assert!(!levels.would_enable("hyper", &Level::DEBUG));
    }

    #[test]
    fn a_level_takes_effect_while_running() {
        let (filter, handle) = reload::Layer::new(levels(LogLevel::Error));
        let layer = fmt::layer().with_writer(std::io::sink).with_filter(filter);
        let levels = Levels { filter: handle };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let enabled = || tracing::enabled!(target: OWN, Level::DEBUG);
            assert!(!enabled());
            levels.set(LogLevel::Debug).unwrap();
            assert!(enabled());
            levels.set(LogLevel::Warn).unwrap();
            assert!(!enabled());
        });
    }

    #[test]
    fn a_higher_level_silences_dependencies_too() {
        let levels = levels(LogLevel::Error);
        assert!(levels.would_enable("hyper", &Level::ERROR));
        assert!(!levels.would_enable("hyper", &Level::WARN));
        assert!(!levels.would_enable("rudder_customerio", &Level::WARN));
    }
}
