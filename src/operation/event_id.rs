//! The event id by which Customer.io recognises a repeat.
//!
//! Derived from the source event alone, so that a retry, a restart, and a replay through an edited
//! script all name the same event:
//!
//! ```text
//! lp(x) = 4-byte big-endian length of the UTF-8 of x, then those bytes
//! h     = SHA-256( "rudder-customerio event id 1\n" ‖ lp(messageId) ‖ lp(type) ‖ lp(event, else name)
//!                  ‖ lp(userId) ‖ lp(anonymousId) ‖ u32be(k) )
//! ULID  = 48 bits of ms ‖ first 80 bits of h, Crockford base 32, 26 upper-case characters
//! ```
//!
//! `k` is the position among the operations of one event that get an id from here. Name and person
//! are part of the hash since producers exist that reuse a message id, and an id that is too narrow
//! makes events vanish. This layout is frozen: changing it doubles whatever is sent again.

use sha2::{Digest, Sha256};

use crate::event::identity::IdInput;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes the id of the `k`-th operation that gets one.
#[must_use]
pub fn event_id(input: &IdInput, k: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(b"rudder-customerio event id 1\n");
    for text in
        [&input.message_id, &input.type_name, &input.name, &input.user_id, &input.anonymous_id]
    {
        // An event is far smaller than 4 GiB.
        hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(k.to_be_bytes());
    let ms = if input.ms < 1 << 48 { input.ms } else { 0 };
    let mut bits = u128::from(ms) << 80;
    for (i, byte) in hash.finalize().iter().take(10).enumerate() {
        bits |= u128::from(*byte) << (72 - 8 * i);
    }
    crockford(bits)
}

/// Tells whether a text is a ULID: 26 Crockford characters in any case, of at most 128 bits.
#[must_use]
pub fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.bytes().all(|b| ALPHABET.contains(&b.to_ascii_uppercase()))
        && text.as_bytes().first().is_some_and(|first| *first <= b'7')
}

fn crockford(bits: u128) -> String {
    (0..26)
        .rev()
        .filter_map(|i| ALPHABET.get(((bits >> (5 * i)) & 31) as usize))
        .map(|b| char::from(*b))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(message_id: &str, type_name: &str, name: &str, ids: (&str, &str), ms: u64) -> IdInput {
        IdInput {
            message_id: message_id.into(),
            type_name: type_name.into(),
            name: name.into(),
            user_id: ids.0.into(),
            anonymous_id: ids.1.into(),
            ms,
        }
    }

    #[test]
    fn the_published_vectors_hold() {
        let order = |user: &str| {
            input("msg-0001", "track", "Order Completed", (user, "anon-1"), 1_709_296_496_789)
        };
        assert_eq!(event_id(&order("u-100"), 0), "01HQX05C4NJXDYF2MRBF6GKJE6");
        assert_eq!(event_id(&order("u-100"), 1), "01HQX05C4NSS1QANJA7Q0AQTY1");
        assert_eq!(event_id(&order("u-101"), 0), "01HQX05C4NN54QWWHWF5W9PTJS");
        let uuid = "5f7c1e1e-0f3b-4f0e-9f43-6d2d3ad6c1aa";
        let page = input(uuid, "page", "Pricing", ("", "anon-é"), 0);
        assert_eq!(event_id(&page, 0), "0000000000H505SNGPT44PVH98");
        assert_eq!(
            event_id(&input("", "screen", "", ("", ""), 0), 0),
            "0000000000472Y2Y81VMVFATR0"
        );
    }

    #[test]
    fn a_time_beyond_48_bits_counts_as_none() {
        let at = |ms| event_id(&input("m", "track", "e", ("u", "a"), ms), 0);
        assert_eq!(at(1 << 48), at(0));
        assert!(at((1 << 48) - 1).starts_with("7ZZZZZZZZZ"));
    }

    #[test]
    fn ulids_are_told_from_other_texts() {
        assert!(is_ulid("01HQX05C4NJXDYF2MRBF6GKJE6"));
        assert!(is_ulid("01hqx05c4njxdyf2mrbf6gkje6"));
        for text in [
            "",
            "01HQX05C4NJXDYF2MRBF6GKJE",
            "01HQX05C4NJXDYF2MRBF6GKJE66",
            "81HQX05C4NJXDYF2MRBF6GKJE6",
            "01HQX05C4NJXDYF2MRBF6GKJEU",
            "5f7c1e1e-0f3b-4f0e-9f43-6d",
            "01HQX05C4NJXDYF2MRBF6GKJé",
        ] {
            assert!(!is_ulid(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_id_is_a_ulid_and_no_field_can_pose_as_its_neighbour(
            a in "[a-zé]{0,4}", b in "[a-zé]{1,4}", k in 0_u32..9, ms in 0_u64..1 << 49,
        ) {
            let one = event_id(&input(&format!("{a}{b}"), "track", &a, ("", ""), ms), k);
            let other = event_id(&input(&a, "track", &format!("{b}{a}"), ("", ""), ms), k);
            proptest::prop_assert!(is_ulid(&one));
            proptest::prop_assert_eq!(&one, &ulid::Ulid::from_string(&one).unwrap().to_string());
            proptest::prop_assert_ne!(one, other);
        }
    }
}
