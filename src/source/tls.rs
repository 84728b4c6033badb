//! TLS of the listeners, out of PEM files that are read again when they change.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config::TlsConfig;
use crate::diagnostic::{Diagnostic, Place};

/// How often the files are looked at, if clients come.
const LOOK: Duration = Duration::from_secs(10);

/// Shakes hands with clients; cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

struct Shared {
    config: TlsConfig,
    /// Key path of the section, for messages.
    key: String,
    current: ArcSwap<ServerConfig>,
    every: Duration,
    seen: Mutex<Seen>,
}

/// When the files were looked at, and what they were then.
struct Seen {
    at: Instant,
    stamps: Vec<Stamp>,
}

/// Tells one state of a file from another: when it was changed, and its length.
type Stamp = Option<(SystemTime, u64)>;

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { config, key, .. } = &*self.shared;
        f.debug_struct("Acceptor").field("config", config).field("key", key).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Reads certificates and key. `key` is the path of the section, such as `sources[0].tls`.
    ///
    /// # Errors
    ///
    /// A diagnostic that names the file, the key, and what is wrong.
    pub fn load(config: &TlsConfig, key: &str) -> Result<Self, Diagnostic> {
        Self::looking_every(LOOK, config, key)
    }

    fn looking_every(every: Duration, config: &TlsConfig, key: &str) -> Result<Self, Diagnostic> {
        // Before they are read, so that a change meanwhile is seen.
        let seen = Mutex::new(Seen { at: Instant::now(), stamps: stamps(config) });
        let current = ArcSwap::from_pointee(read(config, key)?);
        let (config, key) = (config.clone(), key.to_owned());
        Ok(Self { shared: Arc::new(Shared { config, key, current, every, seen }) })
    }

    /// Shakes hands on a connection, as long as it takes. Files that have changed are read before; if
    /// anything is wrong with them, the old certificates stay.
    ///
    /// # Errors
    ///
    /// When the client gives up, does not speak TLS, or shows no certificate that is asked for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if self.shared.is_time() {
            let shared = Arc::clone(&self.shared);
            let looked = tokio::task::spawn_blocking(move || shared.look()).await;
            looked.map_err(io::Error::other)?;
        }
        let current = self.shared.current.load_full();
        TlsAcceptor::from(current).accept(stream).await
    }
}

impl Shared {
    fn is_time(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = seen.at.elapsed() >= self.every;
        if is_time {
            seen.at = Instant::now();
        }
        is_time
    }

    fn look(&self) {
        let stamps = stamps(&self.config);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.stamps == stamps {
            return;
        }
        seen.stamps = stamps;
        drop(seen);
        match read(&self.config, &self.key) {
            Ok(read) => {
                self.current.store(Arc::new(read));
                info!(key = self.key, "Certificates of a listener were read again.");
            }
            Err(fault) => {
                let key = fault.place.and_then(|place| place.key).unwrap_or_default();
                warn!(key, why = fault.message, "The old certificates of a listener stay.");
            }
        }
    }
}

fn stamps(config: &TlsConfig) -> Vec<Stamp> {
    let stamp = |file: &Path| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let files = [Some(&config.cert_file), Some(&config.key_file), config.client_ca_file.as_ref()];
    files.into_iter().flatten().map(|file| stamp(file)).collect()
}

fn read(config: &TlsConfig, key: &str) -> Result<ServerConfig, Diagnostic> {
    let cert = |why: &str| fault(&config.cert_file, key, "cert_file", why);
    let private = |why: &str| fault(&config.key_file, key, "key_file", why);
    let chain = certificates(&config.cert_file).map_err(|why| cert(&why))?;
    let secret = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|error| {
        private(&match error {
            pem::Error::NoItemsFound => "there is no private key in PEM form in it".to_owned(),
            error => pem_fault(&error),
        })
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| cert(&error.to_string()))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let authority = |why: &str| fault(file, key, "client_ca_file", why);
            let mut roots = RootCertStore::empty();
            for root in certificates(file).map_err(|why| authority(&why))? {
                roots.add(root).map_err(|error| authority(&error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|error| authority(&error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => private("the key is not that of the certificate"),
        rustls::Error::InvalidCertificate(error) => cert(&error.to_string()),
        error => private(&error.to_string()),
    })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(none) if none.is_empty() => Err("there is no certificate in PEM form in it".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_fault(&error)),
    }
}

fn pem_fault(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        // The text of other errors may show parts of the file.
        _ => "it is not in PEM form".to_owned(),
    }
}

fn fault(file: &Path, section: &str, key: &str, why: &str) -> Diagnostic {
    let place = Place {
        file: file.display().to_string(),
        key: Some(format!("{section}.{key}")),
        ..Place::default()
    };
    Diagnostic::error("tls", format!("the listener's TLS cannot be set up: {why}"))
        .at(place)
        .help(format!("check the file, or `{section}.{key}`"))
}

#[cfg(test)]
mod tests;
