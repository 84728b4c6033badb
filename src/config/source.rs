//! `sources`.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::context::Context;
use super::declare::{Choice, Form, Keys, Sect, Section, choice, section};
#[cfg(feature = "pipeline")]
use super::declare::{Compare, Differences, plain};
use super::form::{
    Address, EventPath, FilePath, Flag, List, Network, Nullable, Secret, Size, Word,
};
use super::suggest::nearest;
use super::tree::{Data, Node};
use crate::diagnostic::Diagnostic;

/// One source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourceConfig {
    /// The gateway for RudderStack SDKs.
    RudderStack(RudderStackConfig),
    /// JSON over HTTP, as Vector, Fluent Bit, or curl send it.
    Http(HttpConfig),
    /// Vector's own protocol.
    Vector(VectorConfig),
    /// NDJSON on standard input.
    Stdin(StdinConfig),
}

impl SourceConfig {
    /// Returns the address on which the source listens, if it does.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        match self {
            Self::RudderStack(source) => Some(source.listen),
            Self::Http(source) => Some(source.listen),
            Self::Vector(source) => Some(source.listen),
            Self::Stdin(_) => None,
        }
    }

    /// Returns the certificates of a source that listens with TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        match self {
            Self::RudderStack(source) => source.tls.as_ref(),
            Self::Http(source) => source.tls.as_ref(),
            Self::Vector(source) => source.tls.as_ref(),
            Self::Stdin(_) => None,
        }
    }
}

#[cfg(feature = "pipeline")]
impl Compare for SourceConfig {
    const PLAIN: bool = false;

    fn compare(&self, other: &Self, found: &mut Differences) {
        match (self, other) {
            (Self::RudderStack(one), Self::RudderStack(other)) => one.compare(other, found),
            (Self::Http(one), Self::Http(other)) => one.compare(other, found),
            (Self::Vector(one), Self::Vector(other)) => one.compare(other, found),
            (Self::Stdin(one), Self::Stdin(other)) => one.compare(other, found),
            (Self::RudderStack(_) | Self::Http(_) | Self::Vector(_) | Self::Stdin(_), _) => {
                found.below_key("type", &0, &1_u16);
            }
        }
    }
}

choice! {
    /// When a source answers.
    pub enum Ack {
        /// Once the events are in the buffer.
        Buffered = "buffered",
        /// Once the events have ended.
        Delivered = "delivered",
    }
}

section! {
    /// `type: rudderstack`: the HTTP API that RudderStack's SDKs speak.
    #[derive(Clone, Debug)]
    pub struct RudderStackConfig {
        /// Address to listen on: an IP address and a port.
        listen: SocketAddr as Address = "127.0.0.1:8080",
        /// Accepted write keys. An empty list accepts any key, which is allowed on loopback only.
        write_keys: Vec<WriteKey> as List<Sect> = "[]",
        /// When a request is answered. `delivered` makes the sender wait for Customer.io.
        ack: Ack as Choice = "buffered",
        /// Largest body of a request after unzipping, in bytes.
        max_body: u64 as Size<1_024, 1_073_741_824> = "4096000",
        /// Networks whose `X-Forwarded-For` is believed. An empty list believes everybody's, as
        /// RudderStack does.
        trusted_proxies: Vec<IpNetwork> as List<Network> = "[]",
        /// Certificates for HTTPS. Null: plain HTTP.
        tls: Option<TlsConfig> as Nullable<Sect> = "null",
    }
    refused {
        "event_path" => "it is an option of the sources http, vector, and stdin; leave it out: SDKs send events as they are",
        "token" => "it is an option of the source http; name the accepted keys in write_keys",
    }
    skipped { "type" }
    checked by gateway
}

/// An IP network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpNetwork {
    /// First address.
    pub address: std::net::IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

#[cfg(feature = "pipeline")]
plain! { IpNetwork }

section! {
    /// One write key.
    #[derive(Clone, Debug)]
    pub struct WriteKey {
        /// The key, as the SDK is set up with it. It is public by nature, but shown nowhere.
        key: SecretString as Secret = required,
        /// Label of the source in messages and dead letters.
        name: String as Word = "rudderstack",
        /// RudderStack's source type, such as `web`, `android`, `ios`, or `cloud`. `filter.mode` may
        /// differ by it.
        source_type: String as Word = "web",
        /// Whether events with this key are taken.
        enabled: bool as Flag = "true",
    }
}

section! {
    /// Certificates of a listener. The files are read again when they change.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TlsConfig {
        /// PEM file with the listener's certificate, followed by those between it and its root.
        cert_file: PathBuf as FilePath = required,
        /// PEM file with the private key of the certificate.
        key_file: PathBuf as FilePath = required,
        /// PEM file with the authorities of which clients must show a certificate. Null: clients need
        /// none.
        client_ca_file: Option<PathBuf> as Nullable<FilePath> = "null",
    }
}

section! {
    /// `type: http`: events as a JSON object, an array, `{"batch": [ … ]}`, or NDJSON in the body of a
    /// `POST` or `PUT` to any path; plain or as gzip, zstd, deflate, or snappy.
    #[derive(Clone, Debug)]
    pub struct HttpConfig {
        /// Address to listen on: an IP address and a port.
        listen: SocketAddr as Address = "127.0.0.1:8081",
        /// What senders must present: as a Bearer token, or as the user or the password of Basic. Null
        /// asks for nothing, which is allowed on loopback only.
        token: Option<SecretString> as Nullable<Secret> = "null",
        /// Where in each element the event is, such as `.message`, as an object or as JSON text. It names
        /// keys; elements of lists (`.a[0]`) cannot be named. Null: the element itself.
        event_path: Option<Vec<String>> as Nullable<EventPath> = "null",
        /// When a request is answered. `delivered` makes the sender wait for Customer.io.
        ack: Ack as Choice = "buffered",
        /// Largest body of a request after unpacking, in bytes.
        max_body: u64 as Size<1_024, 1_073_741_824> = "104857600",
        /// Certificates for HTTPS. Null: plain HTTP.
        tls: Option<TlsConfig> as Nullable<Sect> = "null",
    }
    refused {
        "write_keys" => "it is an option of the source rudderstack; set token: what senders must present",
        "trusted_proxies" => "it is an option of the source rudderstack; leave it out: an event's own address counts",
    }
    skipped { "type" }
    checked by strangers
}

section! {
    /// `type: vector`: the gRPC protocol of Vector's `vector` sink. It carries no token: who may send is
    /// a matter of the network, or of client certificates.
    #[derive(Clone, Debug)]
    pub struct VectorConfig {
        /// Address to listen on: an IP address and a port.
        listen: SocketAddr as Address = "127.0.0.1:6000",
        /// Where in each log event the event is, such as `.message`, as an object or as JSON text. It
        /// names keys; elements of lists (`.a[0]`) cannot be named. Null: the log event itself.
        event_path: Option<Vec<String>> as Nullable<EventPath> = "null",
        /// When a request is answered. `delivered` makes the sender wait for Customer.io.
        ack: Ack as Choice = "buffered",
        /// Largest message after unpacking, in bytes. Vector drops what is refused for its size.
        max_body: u64 as Size<1_024, 1_073_741_824> = "104857600",
        /// Certificates for TLS. Null: plain HTTP/2.
        tls: Option<TlsConfig> as Nullable<Sect> = "null",
    }
    refused {
        "token" => "it is an option of the source http; Vector's protocol carries none: ask for certificates with tls.client_ca_file",
        "write_keys" => "it is an option of the source rudderstack; Vector's protocol carries none: ask for certificates with tls.client_ca_file",
        "trusted_proxies" => "it is an option of the source rudderstack; leave it out: an event's own address counts",
    }
    skipped { "type" }
}

section! {
    /// `type: stdin`: NDJSON on standard input. The process ends when the input ends and everything is
    /// settled.
    #[derive(Clone, Debug, Default)]
    pub struct StdinConfig {
        /// Where in each line the event is, such as `.message`, as an object or as JSON text. It names
        /// keys; elements of lists (`.a[0]`) cannot be named. Null: the line itself.
        event_path: Option<Vec<String>> as Nullable<EventPath> = "null",
    }
    refused {
        "listen" => "it is an option of the sources rudderstack, http, and vector; standard input has no address",
        "write_keys" => "it is an option of the source rudderstack; leave it out: whoever can write to standard input may",
        "token" => "it is an option of the source http; leave it out: whoever can write to standard input may",
        "ack" => "it is an option of the sources rudderstack, http, and vector; nobody waits for an answer here",
        "max_body" => "it is an option of the sources rudderstack, http, and vector; a line may have 4096000 bytes",
        "trusted_proxies" => "it is an option of the source rudderstack; leave it out: an event's own address counts",
        "tls" => "it is an option of the sources rudderstack, http, and vector; nothing is listened to here",
    }
    skipped { "type" }
}

/// Names of the source types that this version has, and of those that later ones will have.
const TYPES: [&str; 4] = ["rudderstack", "http", "vector", "stdin"];
const LATER: [&str; 1] = ["kafka"];

/// One element of `sources`.
pub(super) struct Source;

impl Form<SourceConfig> for Source {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<SourceConfig> {
        if !matches!(node.data, Data::Map(_)) {
            return cx.wrong_type(node, "a mapping of keys", "write - type: rudderstack");
        }
        let Some(written) = node.get("type") else {
            let message = "the key `type` is required here";
            return cx.error(
                node.at,
                "missing_key",
                message,
                "write type: rudderstack, or http, vector, stdin",
            );
        };
        let name = cx.below_key("type", |cx| <Word as Form<String>>::decode(written, cx))?;
        let keys = &mut Keys::new(node);
        match name.as_str() {
            "rudderstack" => RudderStackConfig::from_keys(keys, cx).map(SourceConfig::RudderStack),
            "http" => HttpConfig::from_keys(keys, cx).map(SourceConfig::Http),
            "vector" => VectorConfig::from_keys(keys, cx).map(SourceConfig::Vector),
            "stdin" => StdinConfig::from_keys(keys, cx).map(SourceConfig::Stdin),
            other => cx.below_key("type", |cx| match LATER.iter().find(|later| **later == other) {
                Some(later) => cx.not_yet(
                    written.at,
                    &format!("the source type `{later}`"),
                    "use rudderstack, http, vector, or stdin",
                ),
                None => {
                    let help = match nearest(other, TYPES) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => String::new(),
                    };
                    let message = "expected one of `rudderstack`, `http`, `vector`, `stdin`";
                    cx.error(written.at, "unknown_value", message, &help)
                }
            }),
        }
    }

    fn schema() -> Value {
        let of = |name: &str, mut schema: Value| {
            schema["type"] = "object".into();
            schema["properties"]["type"] = json!({ "const": name });
            schema["required"] = json!(["type"]);
            schema
        };
        let [rudderstack, http, vector, stdin] = TYPES;
        json!({ "oneOf": [
            of(rudderstack, RudderStackConfig::describe()),
            of(http, HttpConfig::describe()),
            of(vector, VectorConfig::describe()),
            of(stdin, StdinConfig::describe()),
        ] })
    }
}

/// Checks the write keys of a gateway.
fn gateway(source: &RudderStackConfig, node: &Node, cx: &mut Context<'_>) {
    if source.write_keys.is_empty() && !source.listen.ip().is_loopback() {
        let message = "write keys are required, since `listen` is not a loopback address";
        let fault = Diagnostic::error("write_keys_required", message)
            .help("name the write keys that are accepted, or listen on 127.0.0.1");
        cx.fault(node, "write_keys", fault);
    }
    if !cx.with_secrets() {
        return;
    }
    for (index, write_key) in source.write_keys.iter().enumerate() {
        let same = |other: &WriteKey| other.key.expose_secret() == write_key.key.expose_secret();
        if source.write_keys.iter().take(index).any(same) {
            let fault = Diagnostic::error("duplicate_write_key", "this write key is there twice")
                .help("keep one of the two entries");
            cx.fault(node, &format!("write_keys[{index}].key"), fault);
        }
    }
}

/// Checks that strangers need a token.
fn strangers(source: &HttpConfig, node: &Node, cx: &mut Context<'_>) {
    if source.token.is_none() && !source.listen.ip().is_loopback() {
        let message = "a token is required, since `listen` is not a loopback address";
        let fault = Diagnostic::error("token_required", message)
            .help("set `token`, or listen on 127.0.0.1");
        cx.fault(node, "token", fault);
    }
}
