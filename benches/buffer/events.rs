//! Mapped events as the buffer gets them.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rudder_customerio::internal::buffer::Stored;
use rudder_customerio::internal::event::{IdInput, Original};
use rudder_customerio::internal::stage::{ConflictKeys, Effect, Operation, Operations};

/// Makes `count` events, numbered from `first`, each of a person of its own or all of one.
pub fn group(first: usize, count: usize, one_person: bool) -> Vec<Stored> {
    let at = Utc::now();
    (first..first + count).map(|n| event(n, one_person, at)).collect()
}

fn event(n: usize, one_person: bool, received_at: DateTime<Utc>) -> Stored {
    let person = if one_person { 0 } else { n as u64 };
    let key = |kind: u64| (person << 1 | kind).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let body = format!(
        r#"{{"type":"person","action":"event","identifiers":{{"id":"user-{person}"}},"id":"01HQX05C4NJXDYF2MR{n:08}","name":"Order Completed","timestamp":1709296496,"attributes":{{"order":{n},"total":27.5,"currency":"USD"}}}}"#
    );
    let raw = format!(
        r#"{{"type":"track","userId":"user-{person}","messageId":"message-{n}","event":"Order Completed","properties":{{"order":{n},"total":27.5,"currency":"USD"}},"originalTimestamp":"2024-03-01T12:34:56.789Z"}}"#
    );
    let operation = Operation {
        keys: ConflictKeys([key(0), key(1)].into_iter().collect()),
        effect: Effect::Ordinary,
        body: Bytes::from(body),
    };
    Stored {
        operations: Operations::from_iter([operation]),
        original: Original { raw: Bytes::from(raw), assigned: Default::default() },
        id_input: IdInput {
            message_id: format!("message-{n}").into(),
            type_name: "track".into(),
            name: "Order Completed".into(),
            user_id: format!("user-{person}").into(),
            anonymous_id: "".into(),
            ms: 1_709_296_496_789,
        },
        received_at,
        source: "web".into(),
        letter: None,
    }
}

/// Returns the bytes of a folder's files.
pub fn size_of_folder(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}
