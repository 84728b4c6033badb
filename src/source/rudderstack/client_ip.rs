//! The address of the client: the peer, or what a proxy that is believed says.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::IpNetwork;

/// Returns the client's address as a text.
///
/// As RudderStack's gateway: the first part of `X-Forwarded-For` without spaces, else the peer
/// without its port. The header is believed if the peer is in `trusted`, or if that is empty.
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNetwork]) -> Box<str> {
    let peer = peer.to_canonical();
    let believed = trusted.is_empty() || trusted.iter().any(|network| contains(network, peer));
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    if believed && let Some(forwarded) = forwarded {
        let first = forwarded.split(',').next().unwrap_or_default().replace(' ', "");
        if !first.is_empty() {
            return first.into();
        }
    }
    peer.to_string().into()
}

fn contains(network: &IpNetwork, address: IpAddr) -> bool {
    // Shifting by the whole width leaves nothing of an address, which is what `/0` means.
    match (network.address.to_canonical(), address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            let host_bits = 32u32.saturating_sub(network.prefix.into());
            let cut = |bits: u32| bits.checked_shr(host_bits).unwrap_or(0);
            cut(net.to_bits()) == cut(address.to_bits())
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            let host_bits = 128u32.saturating_sub(network.prefix.into());
            let cut = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
            cut(net.to_bits()) == cut(address.to_bits())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn network(address: &str, prefix: u8) -> IpNetwork {
        IpNetwork { address: address.parse().unwrap(), prefix }
    }

    fn ip(forwarded: Option<&'static str>, peer: &str, trusted: &[IpNetwork]) -> String {
        let mut headers = HeaderMap::new();
        if let Some(forwarded) = forwarded {
            headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
        }
        client_ip(&headers, peer.parse().unwrap(), trusted).into()
    }

    #[test]
    fn the_first_forwarded_part_counts_unless_there_is_none() {
        assert_eq!(ip(Some(" 203.0.113.7 , 10.0.0.1"), "127.0.0.1", &[]), "203.0.113.7");
        assert_eq!(ip(Some(""), "127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(ip(None, "::ffff:192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(ip(None, "2001:db8::1", &[]), "2001:db8::1");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = [network("10.0.0.0", 8), network("2001:db8::", 32)];
        assert_eq!(ip(Some("1.1.1.1"), "10.9.8.7", &trusted), "1.1.1.1");
        assert_eq!(ip(Some("1.1.1.1"), "::ffff:10.9.8.7", &trusted), "1.1.1.1");
        assert_eq!(ip(Some("1.1.1.1"), "2001:db8:1::1", &trusted), "1.1.1.1");
        assert_eq!(ip(Some("1.1.1.1"), "11.0.0.1", &trusted), "11.0.0.1");
        assert_eq!(ip(Some("1.1.1.1"), "2001:db9::1", &trusted), "2001:db9::1");
        assert_eq!(ip(Some("1.1.1.1"), "11.0.0.1", &[network("0.0.0.0", 0)]), "1.1.1.1");
        assert_eq!(ip(Some("1.1.1.1"), "10.0.0.2", &[network("10.0.0.1", 32)]), "10.0.0.2");
    }
}
