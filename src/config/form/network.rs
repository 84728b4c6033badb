//! Addresses, networks, and URLs.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::Word;
use crate::config::IpNetwork;
use crate::config::context::Context;
use crate::config::declare::Form;
use crate::config::tree::{Data, Node};

/// An IP address and a port.
pub(in crate::config) struct Address;

impl Form<SocketAddr> for Address {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<SocketAddr> {
        const HELP: &str =
            "write an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080, [::]:8080";
        match cx.scalar(node, false)?.data {
            Data::Text(text) => match text.parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    cx.error(node.at, "bad_address", "this is not an IP address and a port", HELP)
                }
            },
            _ => cx.wrong_type(node, "an IP address and a port", HELP),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// The base of `http://` or `https://` URLs.
pub(in crate::config) struct BaseUrl;

impl Form<http::Uri> for BaseUrl {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<http::Uri> {
        const HELP: &str = "write scheme, host, and if needed port and path: http://127.0.0.1:8090";
        let text = Word::decode(node, cx)?;
        let uri = text.trim_end_matches('/').parse::<http::Uri>().ok().filter(|uri| {
            let plain = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && plain
                && uri.query().is_none()
                && !text.contains('#')
        });
        match uri {
            Some(uri) => Some(uri),
            None => {
                let message = "this is not an http:// or https:// base URL without user and query";
                cx.error(node.at, "bad_url", message, HELP)
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": r"^(https?://[^/?#@\s]+[^?#@\s]*|\$\{.+\})$" })
    }
}

/// An address in CIDR notation, or a single one.
pub(in crate::config) struct Network;

impl Form<IpNetwork> for Network {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<IpNetwork> {
        let text = Word::decode(node, cx)?;
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.as_str(), None),
        };
        let network = address.parse::<IpAddr>().ok().and_then(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                Some(prefix) => prefix.parse::<u8>().ok().filter(|p| *p <= bits)?,
                None => bits,
            };
            Some(IpNetwork { address, prefix })
        });
        match network {
            Some(network) => Some(network),
            None => cx.error(
                node.at,
                "bad_address",
                "this is not an IP network",
                "write an address with or without the length of its prefix: 10.0.0.0/8, ::1",
            ),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}
