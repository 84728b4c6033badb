//! From checked configuration to a running sink.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scripts::warn_about;
use super::threads::{cores, no_thread, on_mapping_stack};
use super::{CustomerIoSink, Parts, Rules};
use crate::buffer::Buffer;
use crate::buffer::disk::{DiskBuffer, DiskOptions};
use crate::buffer::memory::MemoryBuffer;
use crate::config::{
    BufferConfig, BufferKind, Config, ConsentConfig, CustomerIoConfig, DeadLettersConfig,
    FilterConfig,
};
use crate::data_dir::DataDir;
use crate::delivery::client::Client;
use crate::delivery::{DeadLetters, Destination, Pace};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::filter::Filter;
use crate::mapping::{Mapping, Mappings, Settings};
use crate::source::intake::DEFAULT_BUDGET;

/// Folder of the buffer in the data directory.
pub const BUFFER_DIR: &str = "buffer";

/// Settings of a sink that is not started yet; each has the configuration's default.
///
/// A file that an operator writes is read and checked by [`Config::load`], and handed over by
/// [`Builder::from_config`].
///
/// ```no_run
/// use rudder_customerio::config::{BufferConfig, Config, ConsentConfig, CustomerIoConfig, Mode};
/// use rudder_customerio::sink::CustomerIoSink;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let consent =
///     ConsentConfig { onetrust_categories: vec!["C0004".into()], ..ConsentConfig::default() };
/// // SDKs in browsers send to Customer.io themselves.
/// let mut filter = Config::default().filter;
/// filter.mode.by_source_type = vec![("web".into(), Mode::Device)];
///
/// let sink = CustomerIoSink::builder(CustomerIoConfig::new("site id", "API key"))
///     .consent(consent)
///     .filter(filter)
///     // A host that keeps its events until they are delivered needs no disk for them.
///     .buffer(BufferConfig::memory())
///     .data_dir("/var/lib/router/customerio")
///     .build()
///     .await?;
/// # drop(sink);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    customerio: Option<CustomerIoConfig>,
    filter: FilterConfig,
    consent: ConsentConfig,
    scripts: Option<Mappings>,
    settings: Settings,
    threads: Option<usize>,
    buffer: BufferConfig,
    dead_letters: DeadLettersConfig,
    data_dir: PathBuf,
    destination: Option<Arc<dyn Destination>>,
    store: Option<Arc<dyn Buffer>>,
    intake_bytes: usize,
}

impl Builder {
    pub(super) fn new(customerio: Option<CustomerIoConfig>) -> Self {
        Self::from_config(&Config::default(), customerio)
    }

    /// Takes every section that concerns the sink; scripts are the built-in ones until
    /// [`Builder::mappings`] says otherwise.
    pub fn from_config(config: &Config, customerio: impl Into<Option<CustomerIoConfig>>) -> Self {
        Self {
            customerio: customerio.into(),
            filter: config.filter.clone(),
            consent: config.consent.clone(),
            scripts: None,
            settings: config.mapping.settings.clone(),
            threads: config.mapping.threads,
            buffer: config.buffer.clone(),
            dead_letters: config.dead_letters.clone(),
            data_dir: config.data_dir.clone(),
            destination: None,
            store: None,
            intake_bytes: DEFAULT_BUDGET,
        }
    }

    /// Sets the scripts; the built-in ones unless set.
    pub fn mappings(mut self, scripts: Mappings) -> Self {
        self.scripts = Some(scripts);
        self
    }

    /// Sets what scripts see as `%customerio.<name>`; no token event, and rows that are people,
    /// unless set.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets connection mode, event list, and names in `integrations`; everything passes that does
    /// not exclude `Customer IO` unless set.
    pub fn filter(mut self, filter: FilterConfig) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the consent rules. Without any, what people refused is not looked at.
    pub fn consent(mut self, consent: ConsentConfig) -> Self {
        self.consent = consent;
        self
    }

    /// Sets the number of mapping threads instead of one per core. Each compiles the scripts, and
    /// reserves a stack of 16 MiB.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets where events wait, how many, and what happens at the bound; 8 GiB on disk unless set.
    /// [`BufferConfig::memory`] is for programs that keep their events themselves until these are
    /// delivered.
    pub fn buffer(mut self, buffer: BufferConfig) -> Self {
        self.buffer = buffer;
        self
    }

    /// Sets folder and bounds of the dead letters; `dead-letters` in the data directory and 1 GiB
    /// unless set.
    pub fn dead_letters(mut self, dead_letters: DeadLettersConfig) -> Self {
        self.dead_letters = dead_letters;
        self
    }

    /// Sets the folder for everything that is stored; `./data` unless set. It is created, for this
    /// user alone, if it is missing. With a buffer in memory it holds the dead letters.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = dir.into();
        self
    }

    /// Sends batches elsewhere than to Customer.io, for tests.
    #[cfg(feature = "pipeline")]
    pub(crate) fn destination(mut self, destination: Arc<dyn Destination>) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Keeps events elsewhere than [`Builder::buffer`] says, for tests.
    #[cfg(feature = "pipeline")]
    pub(crate) fn store(mut self, store: Arc<dyn Buffer>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets how many bytes batches may hold together before they are in the buffer; 64 MiB unless
    /// set. A higher bound takes bursts without making senders wait.
    pub fn intake_bytes(mut self, bytes: usize) -> Self {
        self.intake_bytes = bytes;
        self
    }

    /// Compiles the scripts, opens the buffer and the dead letters, and starts every stage.
    ///
    /// Whatever the buffer holds from an earlier life is delivered first. The data directory is
    /// this sink's own until the sink, its handles, and its tasks are gone.
    ///
    /// # Errors
    ///
    /// Diagnostics of the scripts, of the data directory, of consent rules that could take no
    /// effect, and of the connection's settings; one when there is no `customerio` section, or no tokio runtime to build in. As an error they
    /// show in full what is wrong and what to do.
    ///
    /// # Cancel safety
    ///
    /// Nothing is started when the future is dropped. The data directory is free a moment later.
    pub async fn build(self) -> Result<CustomerIoSink, Diagnostics> {
        let parts = self.parts_with_workers().await?;
        warn_about(&parts.rules.mapping);
        Ok(parts.start()?)
    }

    /// Does everything that can fail on account of the configuration, and starts nothing.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    #[cfg(feature = "cli")]
    pub(crate) async fn parts(self) -> Result<Parts, Diagnostics> {
        Ok(self.make(0).await?)
    }

    /// As [`Builder::parts`], with the scripts compiled for every mapping thread, so that no event
    /// waits for it.
    pub(crate) async fn parts_with_workers(self) -> Result<Parts, Vec<Diagnostic>> {
        let threads = self.threads.unwrap_or_else(cores).max(1);
        self.make(threads).await
    }

    async fn make(self, workers: usize) -> Result<Parts, Vec<Diagnostic>> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(vec![no_runtime()]);
        }
        let customerio = self.customerio.ok_or_else(|| vec![no_destination()])?;
        self.consent.check()?;
        let scripts = self.scripts.unwrap_or_else(Mappings::built_in);
        let settings = self.settings;
        let mapping = on_mapping_stack(move || Mapping::load(&scripts, &settings)).await;
        let mapping = Arc::new(mapping.map_err(|error| vec![no_thread(&error)])??);
        let for_workers = Arc::clone(&mapping);
        // Beside what follows, which waits for the disk.
        let prepared = tokio::spawn(on_mapping_stack(move || for_workers.prepare(workers)));
        let filter = Arc::new(Filter::new(&self.filter, &self.consent));
        let destination = match self.destination {
            Some(destination) => destination,
            None => Arc::new(Client::new(&customerio)?),
        };
        let (path, config) = (self.data_dir.clone(), self.buffer.clone());
        let store = self.store;
        let store = tokio::task::spawn_blocking(move || open_store(&path, &config, store));
        let (data_dir, buffer) = store.await.map_err(|_| vec![no_store(&self.data_dir)])??;
        let dead_letters = DeadLetters::open(&self.data_dir, &self.dead_letters)
            .map_err(|error| vec![no_dead_letters(&self.data_dir, &error)])?;
        let no_worker = |error: std::io::Error| vec![no_thread(&error)];
        let prepared = prepared.await.map_err(std::io::Error::other);
        prepared.and_then(|done| done).map_err(no_worker)?;
        Ok(Parts {
            rules: Rules { filter, mapping },
            data_dir: Some(Arc::new(data_dir)),
            buffer,
            destination,
            customerio,
            pace: Pace { read_ahead: self.buffer.read_ahead, ..Pace::default() },
            dead_letters: Arc::new(dead_letters),
            threads: self.threads,
            intake_bytes: self.intake_bytes,
        })
    }
}

impl Parts {
    /// As [`CustomerIoSink::start`], with a diagnostic for the error.
    pub(crate) fn start(self) -> Result<CustomerIoSink, Vec<Diagnostic>> {
        CustomerIoSink::start(self).map_err(|error| vec![no_thread(&error)])
    }
}

/// Takes the data directory, and opens the buffer in it.
fn open_store(
    path: &Path,
    config: &BufferConfig,
    instead: Option<Arc<dyn Buffer>>,
) -> Result<(DataDir, Arc<dyn Buffer>), Vec<Diagnostic>> {
    let data_dir = DataDir::lock(path).map_err(|fault| vec![fault])?;
    if let Some(buffer) = instead {
        return Ok((data_dir, buffer));
    }
    let buffer: Arc<dyn Buffer> = match config.kind {
        BufferKind::Memory => Arc::new(MemoryBuffer::new(config.max_size, config.when_full)),
        BufferKind::Disk => Arc::new(DiskBuffer::open(DiskOptions {
            dir: path.join(BUFFER_DIR),
            max_size: config.max_size,
            when_full: config.when_full,
            on_corruption: config.on_corruption,
        })?),
    };
    Ok((data_dir, buffer))
}

fn no_runtime() -> Diagnostic {
    Diagnostic::error("no_runtime", "a sink is built inside of a tokio runtime only").help(
        "await build() in a task, or in Runtime::block_on; enable time and I/O of the runtime",
    )
}

fn no_destination() -> Diagnostic {
    Diagnostic::error("missing_key", "the section `customerio` is required")
        .help("add it with site_id and api_key")
}

fn no_store(dir: &Path) -> Diagnostic {
    Diagnostic::error("data_dir", "opening the buffer panicked; this is a defect of the program")
        .at(Place { file: dir.display().to_string(), ..Place::default() })
}

fn no_dead_letters(dir: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("data_dir", format!("cannot open the dead letters: {error}"))
        .at(Place { file: dir.display().to_string(), ..Place::default() })
        .help("create the directory for this user, or set data_dir")
}
