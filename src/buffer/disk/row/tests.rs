use chrono::DateTime;
use proptest::prelude::*;
use vrl::value::Value;

use super::*;
use crate::buffer::LetterId;
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::{ConflictKeys, Effect, Operation};

fn operation() -> impl Strategy<Value = Operation> {
    let effect = prop_oneof![Just(Effect::Ordinary), Just(Effect::Merge), Just(Effect::Barrier)];
    let keys = prop::collection::vec(any::<u64>(), 0..6);
    (effect, keys, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(effect, keys, body)| {
        Operation { keys: ConflictKeys(keys.into()), effect, body: body.into() }
    })
}

fn stored() -> impl Strategy<Value = Stored> {
    let texts = prop::collection::vec(".{0,9}", 6);
    let operations = prop::collection::vec(operation(), 1..4);
    let time = (-9_000_000_000_i64..9_000_000_000, 0_u32..1_000_000_000);
    let assigned = prop::collection::vec((0_usize..8, ".{0,9}", any::<bool>()), 0..4);
    (texts, operations, time, any::<u64>(), any::<Option<u128>>(), assigned).prop_map(
        |(texts, operations, (seconds, nanoseconds), ms, letter, assigned)| {
            let boxed = |i: usize| texts[i].as_str().into();
            let names = ["type", "messageId", "rudderId", "timestamp", "sentAt", "receivedAt"];
            let member = |(name, text, number): (usize, String, bool)| {
                let value = if number { Value::from(7) } else { Value::from(text) };
                (names[name % names.len()], value)
            };
            Stored {
                operations: operations.into(),
                original: Original {
                    raw: format!("{{\"a\":\"{ms}\"}}").into(),
                    assigned: assigned.into_iter().map(member).collect(),
                },
                id_input: IdInput {
                    message_id: boxed(0),
                    type_name: boxed(1),
                    name: boxed(2),
                    user_id: boxed(3),
                    anonymous_id: boxed(4),
                    ms,
                },
                received_at: DateTime::from_timestamp(seconds, nanoseconds).unwrap(),
                source: texts[5].as_str().into(),
                letter: letter.map(LetterId),
            }
        },
    )
}

fn assert_same(read: &Stored, written: &Stored) {
    assert_eq!(read.operations, written.operations);
    assert_eq!(read.original.raw, written.original.raw);
    assert_eq!(read.original.assigned, written.original.assigned);
    assert_eq!(read.id_input, written.id_input);
    assert_eq!((read.received_at, &read.source), (written.received_at, &written.source));
    assert_eq!((read.letter, read.bytes()), (written.letter, written.bytes()));
}

/// Reads whatever can be read of a row.
fn read_all(bytes: &[u8], first: u64) {
    if let Ok(row) = Row::check(Bytes::copy_from_slice(bytes), first) {
        for i in 0..(row.count() + 1).min(1000) {
            row.event(i, &mut Sources::default()).map(|event| event.bytes()).ok();
        }
    }
}

/// Makes the checksum fit, so that what lies behind it is reached.
fn seal(row: &mut [u8]) {
    let sum = checksum(row);
    if let Some(place) = row.get_mut(16..HEADER) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

mod fuzz {
    use super::*;

    proptest! {
        #![proptest_config(crate::fuzz::config())]

        #[test]
        fn what_was_written_is_read(events in prop::collection::vec(stored(), 1..5), first: u32) {
            let first = u64::from(first);
            let row = Row::check(encode(first, events.iter()).unwrap().into(), first).unwrap();
            let mut sources = Sources::default();
            prop_assert_eq!(row.count(), events.len());
            for (i, event) in events.iter().enumerate().rev() {
                assert_same(&row.event(i, &mut sources).unwrap(), event);
                prop_assert_eq!(row.weight(i).unwrap(), Weight::of(event));
            }
        }

        #[test]
        fn a_sparse_row_gives_what_it_keeps_under_the_same_sequences(
            events in prop::collection::vec(stored(), 1..8),
            kept in 1_u8..,
        ) {
            let row = Row::check(encode(5, events.iter()).unwrap().into(), 5).unwrap();
            let offsets: Vec<u32> =
                (0..8).filter(|i| kept >> i & 1 == 1 && (*i as usize) < events.len()).collect();
            prop_assume!(!offsets.is_empty());
            let mut sparse = Row::check(row.keep(&offsets).unwrap().into(), 5).unwrap();
            prop_assert_eq!((sparse.count(), sparse.first()), (events.len(), 5));
            let mut sources = Sources::default();
            // A sparse row can be made of a sparse row, too.
            for _ in 0..2 {
                let weights = sparse.weights().unwrap();
                prop_assert_eq!(weights.len(), events.len());
                for (i, event) in events.iter().enumerate() {
                    if offsets.contains(&(i as u32)) {
                        assert_same(&sparse.event(i, &mut sources).unwrap(), event);
                        prop_assert_eq!(weights[i], Weight::of(event));
                    } else {
                        prop_assert!(sparse.event(i, &mut sources).is_err());
                        prop_assert_eq!(weights[i].bytes, 0);
                    }
                }
                sparse = Row::check(sparse.keep(&offsets).unwrap().into(), 5).unwrap();
            }
            prop_assert!(sparse.keep(&[9]).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_no_row_and_no_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            first: u64,
            sealed: bool,
        ) {
            if sealed && bytes.len() >= HEADER {
                bytes[..4].copy_from_slice(&MAGIC);
                let count = u32::from(bytes[4]) % 4;
                bytes[4..8].copy_from_slice(&count.to_le_bytes());
                bytes[8..16].copy_from_slice(&first.to_le_bytes());
                seal(&mut bytes);
            }
            read_all(&bytes, first);
        }

        #[test]
        fn any_changed_byte_is_noticed(
            events in prop::collection::vec(stored(), 1..3),
            place: prop::sample::Index,
            change in 1_u8..,
        ) {
            let mut row = encode(7, events.iter()).unwrap();
            let place = place.index(row.len());
            row[place] ^= change;
            prop_assert!(Row::check(row.into(), 7).is_err());
        }

        #[test]
        fn changes_under_a_fitting_checksum_are_no_panic(
            events in prop::collection::vec(stored(), 1..3),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut: prop::sample::Index,
            shorten: bool,
            sparse: bool,
        ) {
            let mut row = encode(7, events.iter()).unwrap();
            if sparse {
                row = Row::check(row.into(), 7).unwrap().keep(&[0]).unwrap();
            }
            for (place, byte) in changes {
                let place = place.index(row.len());
                row[place] = byte;
            }
            if shorten {
                row.truncate(cut.index(row.len()));
            }
            seal(&mut row);
            read_all(&row, 7);
        }
    }
}

#[test]
fn a_row_under_another_sequence_is_damaged() {
    let events = [sample()];
    let row = encode(7, events.iter()).unwrap();
    assert_eq!(Row::check(row.into(), 8).unwrap_err(), Damage::Checksum);
}

fn sample() -> Stored {
    let body = Bytes::from_static(b"{}");
    let operation = Operation { keys: ConflictKeys::default(), effect: Effect::Ordinary, body };
    Stored {
        operations: [operation].into_iter().collect(),
        original: Original {
            raw: Bytes::from_static(b"{\"a\":1}"),
            assigned: [].into_iter().collect(),
        },
        id_input: IdInput::default(),
        received_at: DateTime::from_timestamp(1, 0).unwrap(),
        source: Arc::from("web"),
        letter: None,
    }
}

#[test]
fn a_member_whose_name_has_no_code_is_merged_into_the_original() {
    let mut event = sample();
    event.original.assigned.push(("a", Value::from(2)));
    event.original.assigned.push(("neverHeardOf", Value::from("x")));
    let row = Row::check(encode(0, [&event].into_iter()).unwrap().into(), 0).unwrap();
    let read = row.event(0, &mut Sources::default()).unwrap();
    assert_eq!(read.original.raw, r#"{"a":2,"neverHeardOf":"x"}"#);
    assert_eq!(read.original.to_json(), event.original.to_json());
}

#[test]
fn an_event_does_not_keep_the_row_in_memory() {
    let events: Vec<_> = (0..100).map(|_| sample()).collect();
    let bytes = Bytes::from(encode(0, events.iter()).unwrap());
    let row = Row::check(bytes.clone(), 0).unwrap();
    let event = row.event(50, &mut Sources::default()).unwrap();
    drop(row);
    assert!(bytes.is_unique(), "the event shares bytes of the row");
    drop(event);
}
