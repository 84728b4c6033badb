//! TLS for tests of clients: a fresh certificate of its own at every start.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Whom the certificate is for, and whether a client should take it.
///
/// Each is signed by itself, so that a client trusts it only with the certificate among its roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// For `localhost`, `127.0.0.1`, and `::1`.
    SelfSigned,
    /// The same, but no longer valid.
    Expired,
    /// For another name.
    WrongName,
}

const KINDS: [(Tls, &str); 3] =
    [(Tls::SelfSigned, "self-signed"), (Tls::Expired, "expired"), (Tls::WrongName, "wrong-name")];

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Tls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = KINDS.iter().find(|(_, name)| *name == text);
        known.map(|(kind, _)| *kind).ok_or_else(|| {
            format!("`{text}` is no certificate, expected self-signed, expired, or wrong-name")
        })
    }
}

/// What a listener with TLS needs, and what its clients do.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// The certificate in PEM form.
    pub(super) certificate: String,
}

impl Tls {
    /// Makes a key and a certificate.
    pub(super) fn identity(self) -> io::Result<Identity> {
        let names = match self {
            Self::SelfSigned | Self::Expired => ["localhost", "127.0.0.1", "::1"].as_slice(),
            Self::WrongName => ["wrong-name.invalid"].as_slice(),
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "rudder-customerio sandbox");
        if self == Self::Expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let chain = vec![certificate.der().clone()];
                builder.with_no_client_auth().with_single_cert(chain, key)
            })
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Identity { acceptor, certificate: certificate.pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names() {
        for (kind, name) in KINDS {
            assert_eq!(name.parse::<Tls>().unwrap(), kind);
            assert_eq!(kind.to_string(), name);
        }
        assert!("plain".parse::<Tls>().unwrap_err().contains("wrong-name"));
    }
}
