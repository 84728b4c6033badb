//! TLS of the listeners, out of PEM files.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsConfig;
use crate::diagnostic::{Diagnostic, Place};

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
}

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
        let current = ArcSwap::from_pointee(read(config, key)?);
        let shared = Shared { config: config.clone(), key: key.to_owned(), current };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Shakes hands on a connection, as long as it takes.
    ///
    /// # Errors
    ///
    /// When the client gives up, does not speak TLS, or shows no certificate that is asked for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let current = self.shared.current.load_full();
        TlsAcceptor::from(current).accept(stream).await
    }
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
