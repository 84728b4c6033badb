//! Addresses: taken before anything else, so that one in use shows at once and with a remedy.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::{Config, SourceConfig, StdinConfig};
use crate::diagnostic::{Diagnostic, Place};
use crate::source::http::HttpSource;
use crate::source::rudderstack::{GatewayConfig, RudderStackSource, SourceConfigView};
use crate::source::tls::Acceptor;
use crate::source::vector::VectorSource;

/// Sources and endpoints that listen, but do not answer yet.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) sources: Vec<Opened>,
    /// What the gateways show of the configuration.
    pub(super) public: SourceConfigView,
    pub(super) admin: TcpListener,
    pub(super) admin_address: SocketAddr,
}

/// One source that is ready to run.
#[derive(Debug)]
pub(super) enum Opened {
    RudderStack(Box<RudderStackSource>, SocketAddr),
    Http(Box<HttpSource>, SocketAddr),
    Vector(Box<VectorSource>, SocketAddr),
    Stdin(StdinConfig),
}

impl Listeners {
    /// Takes every address of the configuration.
    pub(super) fn bind(config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        if config.sources.is_empty() {
            let nothing = Diagnostic::error("no_source", "no source is configured");
            faults.push(nothing.help("add one to `sources`, such as `- type: rudderstack`"));
        }
        let public = SourceConfigView::new(&config.filter, &config.consent);
        let mut sources = Vec::new();
        for (n, source) in config.sources.iter().enumerate() {
            match open(source, n, &public) {
                Ok(opened) => sources.push(opened),
                Err(fault) => faults.push(*fault),
            }
        }
        let listen = config.admin.listen;
        let admin = bind(listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let admin = admin.map_err(|error| {
            faults.push(cannot_listen("admin.listen", listen, &error));
        });
        match admin {
            Ok((admin_address, admin)) if faults.is_empty() => {
                Ok(Self { sources, public, admin, admin_address })
            }
            _ => Err(faults),
        }
    }
}

fn open(
    source: &SourceConfig,
    n: usize,
    public: &SourceConfigView,
) -> Result<Opened, Box<Diagnostic>> {
    let key = format!("sources[{n}].tls");
    let tls = source.tls().map(|tls| Acceptor::load(tls, &key)).transpose()?;
    let opened = match source {
        SourceConfig::RudderStack(config) => {
            let gateway = GatewayConfig { source: config.clone(), view: public.clone() };
            RudderStackSource::bind(gateway, tls).and_then(|source| {
                let address = source.local_addr()?;
                Ok(Opened::RudderStack(Box::new(source), address))
            })
        }
        SourceConfig::Http(config) => HttpSource::bind(config.clone(), tls).and_then(|source| {
            let address = source.local_addr()?;
            Ok(Opened::Http(Box::new(source), address))
        }),
        SourceConfig::Vector(config) => {
            VectorSource::bind(config.clone(), tls).and_then(|source| {
                let address = source.local_addr()?;
                Ok(Opened::Vector(Box::new(source), address))
            })
        }
        SourceConfig::Stdin(stdin) => return Ok(Opened::Stdin(stdin.clone())),
    };
    opened.map_err(|error| {
        let address = source.listen().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        Box::new(cannot_listen(&format!("sources[{n}].listen"), address, &error))
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn cannot_listen(key: &str, address: SocketAddr, error: &io::Error) -> Diagnostic {
    let (why, help) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "the port is in use".to_owned(),
            format!("stop the process that uses it, or set `{key}` to another port"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine has no such address".to_owned(),
            format!("set `{key}` to an address of this machine, or to 0.0.0.0 for all"),
        ),
        io::ErrorKind::PermissionDenied => (
            "not permitted".to_owned(),
            format!("ports below 1024 need a privilege: set `{key}` to a higher one"),
        ),
        _ => (error.to_string(), format!("check `{key}`")),
    };
    let place = Place { file: address.to_string(), ..Place::default() };
    Diagnostic::error("listen", format!("cannot listen on {address}: {why}"))
        .at(Place { key: Some(key.to_owned()), ..place })
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::config;

    #[tokio::test]
    async fn every_address_in_use_is_named_with_its_key() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(
            "sources: [ {{ type: stdin }}, {{ type: rudderstack, listen: '{address}' }} ]\n\
             admin: {{ listen: '{}' }}",
            other.local_addr().unwrap()
        );
        let faults = Listeners::bind(&config(&text)).unwrap_err();
        let keys = faults.iter().map(|fault| fault.place.as_ref().unwrap().key.clone().unwrap());
        assert_eq!(keys.collect::<Vec<_>>(), ["sources[1].listen", "admin.listen"]);
        assert!(faults[0].message.contains("in use"), "{}", faults[0]);
        assert!(faults[0].help.as_ref().unwrap().contains("sources[1].listen"));
    }
}
