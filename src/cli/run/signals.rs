//! Signals as requests to stop.

use std::io;

use rudder_customerio::pipeline::stop::Stopper;

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
