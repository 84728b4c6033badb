//! The running sources.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::listen::Opened;
use crate::sink::SinkHandle;
use crate::source::stdin::{Progress, StdinError, StdinSource};
use crate::source::{Health, Intake};

/// Tasks of all sources.
#[derive(Debug)]
pub(super) struct Sources {
    tasks: JoinSet<Result<(), StdinError>>,
    stop: watch::Sender<bool>,
    addresses: Vec<SocketAddr>,
    gateways: Vec<AbortHandle>,
    stdin: Option<Arc<Progress>>,
    broken: Vec<String>,
}

impl Sources {
    pub(super) fn start(opened: Vec<Opened>, sink: &SinkHandle) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut sources = Self {
            tasks: JoinSet::new(),
            stop,
            addresses: Vec::new(),
            gateways: Vec::new(),
            stdin: None,
            broken: Vec::new(),
        };
        for source in opened {
            let (intake, stopped) = (sink.intake().clone(), stopped.clone());
            let asked = sink.clone();
            let health: Health = Arc::new(move || asked.unavailable().is_empty());
            match source {
                Opened::RudderStack(source, address) => {
                    let source = source.with_health(health);
                    sources.listener(address, async move { source.run(intake, stopped).await });
                }
                Opened::Http(source, address) => {
                    let source = source.with_health(health);
                    sources.listener(address, async move { source.run(intake, stopped).await });
                }
                Opened::Vector(source, address) => {
                    let source = source.with_health(health);
                    sources.listener(address, async move { source.run(intake, stopped).await });
                }
                Opened::Stdin(config) => {
                    let source = StdinSource::new(config);
                    sources.stdin = Some(source.progress());
                    sources.tasks.spawn(stdin(source, intake, stopped));
                }
            }
        }
        sources
    }

    /// Starts a source that listens, and that only a stop or a defect ends.
    fn listener(&mut self, address: SocketAddr, source: impl Future<Output = ()> + Send + 'static) {
        self.addresses.push(address);
        let task = self.tasks.spawn(async move {
            source.await;
            Ok(())
        });
        self.gateways.push(task);
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns what tells whether the gateways still run; only a stop or a defect ends them.
    pub(super) fn gateways(&self) -> Vec<AbortHandle> {
        self.gateways.clone()
    }

    pub(super) fn is_stdin_alone(&self) -> bool {
        self.stdin.is_some() && self.addresses.is_empty()
    }

    /// Returns how far standard input was read, if it is a source.
    pub(super) fn stdin_progress(&self) -> Option<&Arc<Progress>> {
        self.stdin.as_ref()
    }

    /// Waits until every source has ended: by itself, or after [`Sources::stop`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn ended(&mut self) {
        while let Some(end) = self.tasks.join_next().await {
            let broken = match end {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => with_cause(&error),
                Err(error) if error.is_panic() => "a source panicked".to_owned(),
                Err(_) => continue,
            };
            tracing::error!(error = broken, "A source has ended.");
            self.broken.push(broken);
        }
    }

    /// Asks every source to take nothing more, and to finish what it has begun.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends what has not ended yet; returns why sources broke.
    pub(super) fn abort(&mut self) -> Vec<String> {
        self.tasks.abort_all();
        std::mem::take(&mut self.broken)
    }
}

async fn stdin(
    source: StdinSource,
    intake: Intake,
    stopped: watch::Receiver<bool>,
) -> Result<(), StdinError> {
    source.run(tokio::io::stdin(), intake, stopped).await.map(drop)
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
