//! The engine on a socket: HTTP/1.1 and HTTP/2, with or without TLS, with the faults that only
//! sockets have.

mod body;
mod connection;
mod exchange;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::engine::Engine;

/// How long open connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// The engine behind its lock, which is held for one step of one request and never while waiting.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Engine>);

impl Shared {
    pub(super) fn new(engine: Engine) -> Self {
        Self(Mutex::new(engine))
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until `stop` changes or its sender is gone. Beyond the switch
/// `max_connections` they are closed at once and counted.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let most = shared.engine().workspace().options().max_connections;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    while connections.try_join_next().is_some() {}
                    if connections.len() >= most {
                        shared.engine().refuse_connection();
                        tracing::warn!(most, "Sandbox closed a connection: too many are open.");
                        continue;
                    }
                    let (shared, tls, stop) = (Arc::clone(&shared), tls.clone(), stop.clone());
                    connections.spawn(connection::serve(stream, peer, shared, tls, stop));
                }
                Err(error) => {
                    tracing::warn!(%error, "Sandbox could not accept a connection.");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        connections.shutdown().await;
    }
}

/// Opens the listening socket.
pub(super) async fn bind(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
