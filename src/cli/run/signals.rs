//! Signals as requests to stop and to reload.

use std::io;

use crate::pipeline::Reloads;
use crate::pipeline::stop::Stopper;

/// Every SIGHUP from its making on; there is none on other systems than Unix.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Begins to catch the signal, which would end the process otherwise.
    pub fn catch() -> io::Result<Self> {
        #[cfg(unix)]
        let hangups = {
            use tokio::signal::unix::{SignalKind, signal};
            Self { signal: signal(SignalKind::hangup())? }
        };
        #[cfg(not(unix))]
        let hangups = Self {};
        Ok(hangups)
    }

    /// Turns every signal into a reload; those that come during one make one more together.
    #[cfg(unix)]
    pub fn reload(mut self, reloads: Reloads) {
        tokio::spawn(async move {
            while self.signal.recv().await.is_some() {
                // How it went is in the log.
                drop(reloads.reload().await);
            }
        });
    }

    /// Does nothing where there is no such signal.
    #[cfg(not(unix))]
    pub fn reload(self, reloads: Reloads) {
        drop(reloads);
    }
}

/// Turns every SIGTERM and SIGINT from now on into a request.
#[cfg(unix)]
pub fn listen(stopper: Stopper) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let received = tokio::select! {
                received = terminate.recv() => received,
                received = interrupt.recv() => received,
            };
            if received.is_none() {
                return;
            }
            stopper.request();
        }
    });
    Ok(())
}

/// Turns every Ctrl-C from now on into a request.
#[cfg(not(unix))]
pub fn listen(stopper: Stopper) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stopper.request();
        }
    });
    Ok(())
}
