//! Starting, looking into, and stopping a sandbox.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::credentials::Credential;
use super::engine::{Engine, Identity, Stats};
use super::fault::Rule;
use super::log::RequestRecord;
use super::operation::Identifier;
use super::options::{Options, Region};
use super::server::{self, Shared};
use super::tls::{Identity as TlsIdentity, Tls};
use super::workspace::view::PersonView;
use super::workspace::{Activity, Object, StoredEvent, Workspace};

/// Everything that a sandbox can be told before it starts.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    identity: Identity,
    options: Options,
    faults: Vec<Rule>,
    seed: u64,
    clock: Clock,
    address: String,
    state_file: Option<PathBuf>,
    tls: Option<Tls>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            options: Options::default(),
            faults: Vec::new(),
            seed: 1,
            clock: Clock::system(),
            address: "127.0.0.1:0".to_owned(),
            state_file: None,
            tls: None,
        }
    }
}

impl Builder {
    /// The region whose host the sandbox stands for.
    pub fn region(mut self, region: Region) -> Self {
        self.identity.region = region;
        self
    }

    /// The workspace's number, which the region endpoint tells.
    pub fn environment_id(mut self, environment_id: u64) -> Self {
        self.identity.environment_id = environment_id;
        self
    }

    /// The accepted credentials; with none, every complete pair is accepted.
    pub fn credentials(mut self, credentials: impl IntoIterator<Item = Credential>) -> Self {
        self.identity.credentials = credentials.into_iter().collect();
        self
    }

    /// The bearer token that `/_sandbox/` takes from other machines.
    pub fn control_token(mut self, token: Option<SecretString>) -> Self {
        self.identity.control_token = token;
        self
    }

    /// The switches.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The fault rules; the first that fires decides.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Rule>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// Decides everything that is left to chance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The address to listen on; port 0 takes a free one.
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// A file from which the workspace is read if it exists, and to which it is written by
    /// [`RunningSandbox::shutdown`].
    pub fn state_file(mut self, path: Option<PathBuf>) -> Self {
        self.state_file = path;
        self
    }

    /// Speaks TLS with a fresh certificate; see [`RunningSandbox::certificate`].
    pub fn tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Makes the engine alone, without a socket.
    #[must_use]
    pub(crate) fn build(self) -> Engine {
        let mut engine = Engine::new(self.identity, self.options, self.seed, self.clock);
        engine.set_faults(self.faults);
        engine
    }

    /// Listens.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or the state file is no snapshot.
    pub async fn start(self) -> io::Result<RunningSandbox> {
        let state_file = self.state_file.clone();
        let address = self.address.clone();
        let tls = self.tls.map(Tls::identity).transpose()?;
        let mut engine = self.build();
        if let Some(path) = &state_file {
            restore(&mut engine, path)?;
        }
        let (listener, address) = server::bind(&address).await?;
        let shared = Arc::new(Shared::new(engine));
        let (stop, stopped) = watch::channel(false);
        let (acceptor, certificate) = match tls {
            Some(TlsIdentity { acceptor, certificate }) => (Some(acceptor), Some(certificate)),
            None => (None, None),
        };
        let serving = server::serve(listener, Arc::clone(&shared), acceptor, stopped);
        let task = tokio::spawn(serving);
        Ok(RunningSandbox { shared, address, stop, task, state_file, certificate })
    }
}

fn restore(engine: &mut Engine, path: &std::path::Path) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    engine.restore(&bytes).map_err(|why| {
        let text = format!("{}: {why}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// A sandbox that answers. Dropping it stops it without writing the state file.
#[derive(Debug)]
pub struct RunningSandbox {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    state_file: Option<PathBuf>,
    certificate: Option<String>,
}

impl RunningSandbox {
    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the certificate in PEM form, for the roots of a client; none without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Works with the engine while no request is served. Do not wait inside.
    pub(crate) fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.shared.engine())
    }

    /// Works with the workspace, as [`RunningSandbox::with_engine`].
    pub(crate) fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        work(self.shared.engine().workspace())
    }

    /// Returns everybody, in order of creation.
    #[must_use]
    pub fn people(&self) -> Vec<PersonView> {
        self.with_workspace(|workspace| workspace.people())
    }

    /// Returns one person.
    #[must_use]
    pub fn person(&self, who: &Identifier) -> Option<PersonView> {
        self.with_workspace(|workspace| workspace.person(who))
    }

    /// Returns all objects, in order of creation.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        self.with_workspace(|workspace| workspace.objects())
    }

    /// Returns the anonymous events that belong to nobody, by `anonymous_id`.
    #[must_use]
    pub fn anonymous(&self) -> BTreeMap<String, Vec<StoredEvent>> {
        let now = self.with_engine(|engine| engine.clock().now());
        self.with_workspace(|workspace| workspace.unattached(now))
    }

    /// Returns what was answered with 200 and not, or not wholly, done.
    #[must_use]
    pub fn activity(&self) -> Vec<Activity> {
        self.with_workspace(|workspace| workspace.activity())
    }

    /// Returns the logged requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.with_engine(|engine| engine.requests())
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.with_engine(Engine::stats)
    }

    /// Replaces the fault rules; their spans and counts start now.
    pub fn set_faults(&self, rules: Vec<Rule>) {
        self.with_engine(|engine| engine.set_faults(rules));
    }

    /// Forgets everything but switches, credentials, and fault rules.
    pub fn reset(&self) {
        self.with_engine(Engine::reset);
    }

    /// Stops accepting, ends the open connections, and writes the state file.
    pub async fn shutdown(self) {
        if let Err(error) = self.stop_and_save().await {
            tracing::error!(%error, "Sandbox could not write its state file.");
        }
    }

    /// As [`RunningSandbox::shutdown`], and tells when the state file could not be written.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub async fn stop_and_save(self) -> io::Result<()> {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "Sandbox server ended abnormally.");
        }
        let Some(path) = self.state_file else { return Ok(()) };
        let snapshot = self.shared.engine().snapshot()?;
        // Renamed into place, so that a full disk does not destroy the previous snapshot.
        let beside = path.with_added_extension("new");
        std::fs::write(&beside, snapshot)?;
        std::fs::rename(&beside, &path)
    }
}
