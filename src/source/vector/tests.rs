//! Requests as Vector sent them, and as nobody should.

mod connection;
pub mod proto;
mod service;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::proto::{bytes, float, integer, log, map, request, root, timestamp};
use super::decode;
use crate::outcome::ReasonCode;

/// What became of an event: its JSON, or why it is malformed.
type Decoded = Result<Value, (ReasonCode, String)>;

fn decoded(request: &[u8], path: Option<&str>) -> Result<Vec<Decoded>, &'static str> {
    let path: Option<Vec<String>> =
        path.map(|path| path.split('.').skip(1).map(str::to_owned).collect());
    let elements = decode(&Bytes::copy_from_slice(request), path.as_deref())?;
    let positions: Vec<_> = elements.iter().map(|element| element.position).collect();
    assert_eq!(positions, (0..elements.len() as u64).collect::<Vec<_>>());
    let decoded = elements.into_iter().map(|element| match element.json {
        Ok(json) => Ok(serde_json::from_slice(&json)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)))),
        Err(reason) => Err((reason.code, reason.detail.unwrap_or_default().into())),
    });
    Ok(decoded.collect())
}

fn one(event: Vec<u8>, path: Option<&str>) -> Decoded {
    decoded(&request(&[event]), path).unwrap().remove(0)
}

/// Every recorded request with what is known of it.
fn recorded() -> Vec<(String, Bytes, Value)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vector-grpc");
    let mut found = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let known = std::fs::read(path.with_extension("json")).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let request = std::fs::read(&path).unwrap().into();
            found.push((name, request, serde_json::from_slice(&known).unwrap()));
        }
    }
    assert!(found.len() >= 20, "{} recorded requests", found.len());
    found
}

/// Returns what is to be seen of a recorded value.
fn expected(typed: &Value) -> Value {
    match typed {
        Value::Object(members) => {
            let only = members.iter().next().filter(|_| members.len() == 1);
            match only.map(|(key, value)| (key.as_str(), value)) {
                Some(("$timestamp", time)) => time.clone(),
                Some(("$float", text)) => json!(text.as_str().unwrap().parse::<f64>().unwrap()),
                Some(("$bytes_base64", _)) => json!("\u{fffd}\u{fffd}\0\u{fffd}"),
                _ => members.iter().map(|(key, value)| (key.clone(), expected(value))).collect(),
            }
        }
        Value::Array(elements) => elements.iter().map(expected).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_recorded_request_decodes_to_its_recorded_events() {
    let (mut logs, mut others, mut kept_times, mut assigned) = (0, 0, 0, 0);
    for (name, request, known) in recorded() {
        let events = decoded(&request, None).unwrap();
        let known = known["events"].as_array().unwrap();
        assert_eq!(events.len(), known.len(), "{name}");
        for (n, (event, known)) in events.into_iter().zip(known).enumerate() {
            let at = format!("{name}, event {n}");
            if known["type"] != "log" {
                let (code, detail) = event.unwrap_err();
                assert_eq!(code, ReasonCode::NotAnEvent, "{at}");
                assert!(detail.contains("metric"), "{at}: {detail}");
                others += 1;
                continue;
            }
            let Some(typed) = known.get("value_typed").or(known.get("value")) else {
                event.unwrap();
                continue;
            };
            if !typed.is_object() {
                assert_eq!(event.unwrap_err().0, ReasonCode::NotAnEvent, "{at}");
                continue;
            }
            let elsewhere = typed["message"].is_string() || typed["batch"].is_array();
            if typed.get("type").is_none() && elsewhere {
                assert_eq!(event.unwrap_err().0, ReasonCode::InvalidType, "{at}");
                continue;
            }
            let mut wanted = expected(typed);
            let members = wanted.as_object_mut().unwrap();
            if typed["timestamp"].get("$timestamp").is_some() {
                members.remove("timestamp");
            } else {
                kept_times += usize::from(members.contains_key("timestamp"));
            }
            if members.get("messageId").is_none_or(|id| id.as_str().is_none_or(str::is_empty)) {
                let id = known["metadata_full"]["source_event_id"].as_str().unwrap();
                let id = uuid::Uuid::parse_str(id).unwrap().to_string();
                members.insert("messageId".to_owned(), id.into());
                assigned += 1;
            }
            assert_eq!(event.unwrap(), wanted, "{at}");
            logs += 1;
        }
    }
    assert!(logs >= 45 && others == 11, "{logs} logs, {others} others");
    assert!(kept_times >= 5 && assigned >= 3, "{kept_times} times, {assigned} ids");
}

#[test]
fn nothing_but_the_event_leaves_a_request() {
    for (name, request, _) in recorded() {
        for element in decode(&request, None).unwrap() {
            let text = element.json.map_or_else(
                |reason| format!("{reason:?}"),
                |json| String::from_utf8(json.to_vec()).unwrap(),
            );
            for word in ["s3cr3t-value", "rudder_in", "ingest_timestamp"] {
                assert!(!text.contains(word), "{word} in {name}");
            }
        }
    }
}

#[test]
fn lines_that_vector_did_not_decode_are_found_at_their_path() {
    let (_, request, _) = recorded().into_iter().find(|(name, ..)| name == "raw-lines").unwrap();
    let path = ["message".to_owned()];
    let found = decode(&request, Some(&path)).unwrap();
    let texts: Vec<_> = found.into_iter().map(|element| element.json.unwrap()).collect();
    assert_eq!(texts, ["plain text line", "second line"]);
    for (name, remedy) in
        [("raw-lines", "event_path: .message"), ("http-server-batch", "array!(.batch)")]
    {
        let (_, request, _) = recorded().into_iter().find(|(known, ..)| known == name).unwrap();
        let (code, detail) = decoded(&request, None).unwrap().remove(0).unwrap_err();
        assert_eq!(code, ReasonCode::InvalidType);
        assert!(detail.contains(remedy), "{detail}");
    }
}

#[test]
fn the_event_is_an_object_or_a_text_at_its_path() {
    let event = map(&[("type", bytes(b"track")), ("messageId", bytes(b"m-1"))]);
    let at = |value: Vec<u8>| {
        one(log(&[("a", map(&[("b.c", value)])), ("x", integer(1))], Some(1)), Some(".a.b.c"))
    };
    // The path of the test has three segments, of which none is there.
    assert_eq!(at(event.clone()).unwrap_err().0, ReasonCode::NoEventAtPath);
    let at = |value: Vec<u8>| {
        let inner = map(&[("b", integer(7)), ("b", value)]);
        one(log(&[("a", inner), ("x", float(f64::NAN))], Some(1)), Some(".a.b"))
    };
    assert_eq!(at(event).unwrap(), json!({ "type": "track", "messageId": "m-1" }));
    let id = "00000000-0000-0000-0000-000000000001";
    for (text, wanted) in [
        (r#"{"messageId":"m-2"}"#, json!({ "messageId": "m-2" })),
        (
            r#" {"a":{"messageId":"m-2"} } "#,
            json!({ "a": { "messageId": "m-2" }, "messageId": id }),
        ),
        ("{ }", json!({ "messageId": id })),
        (r#"{"messageId":null}"#, json!({ "messageId": id })),
        (r#"{"messageId":"\u0000"}"#, json!({ "messageId": id })),
        (r#"{"message\u0049d":"m-2"}"#, json!({ "messageId": "m-2" })),
        ("[1]", json!([1])),
    ] {
        assert_eq!(at(bytes(text.as_bytes())).unwrap(), wanted, "{text}");
    }
    for (value, what) in
        [(integer(1), "a number"), (proto::array(&[]), "an array"), (vec![], "null")]
    {
        let detail = format!("{what} at `.a.b`, where an object or JSON text is looked for");
        assert_eq!(at(value).unwrap_err(), (ReasonCode::NoEventAtPath, detail));
    }
    let (code, detail) = one(log(&[("a", integer(1))], None), Some(".a.b")).unwrap_err();
    assert_eq!(code, ReasonCode::NoEventAtPath);
    assert!(detail.starts_with("nothing at `.a.b`"), "{detail}");
    assert!(one(root(&bytes(b"{}")), Some(".a")).is_err());
    let path = ["a.b".to_owned()];
    let element = decode(&request(&[log(&[], None)]).into(), Some(&path)).unwrap().remove(0);
    let detail = element.json.unwrap_err().detail.unwrap();
    assert!(detail.starts_with("nothing at `.\"a.b\"`"), "{detail}");
}

#[test]
fn text_at_a_path_that_is_no_json_stays_as_it_is() {
    for text in ["{", "{\"a\":1}}", "no json", "", "{\"a\":1,}"] {
        let log = log(&[("message", bytes(text.as_bytes()))], Some(1));
        let path = ["message".to_owned()];
        let element = decode(&request(&[log]).into(), Some(&path)).unwrap().remove(0);
        assert_eq!(element.json.unwrap(), text);
    }
}

#[test]
fn a_missing_message_id_is_the_one_of_vectors_source() {
    let id = 0x1234_5678_9abc_4def_8123_4567_89ab_cdef;
    let text = "12345678-9abc-4def-8123-456789abcdef";
    let of = |members: &[(&str, Vec<u8>)], id| one(log(members, id), None).unwrap();
    assert_eq!(of(&[], Some(id)), json!({ "messageId": text }));
    assert_eq!(of(&[("messageId", bytes(b"m"))], Some(id)), json!({ "messageId": "m" }));
    for none in [bytes(b""), bytes("\u{200b} ".as_bytes()), integer(5), vec![0x48, 0]] {
        assert_eq!(of(&[("messageId", none)], Some(id)), json!({ "messageId": text }));
    }
    // Of repeated members the last counts, here as when the text is read.
    let twice = [("messageId", bytes(b"m")), ("messageId", bytes(b""))];
    assert_eq!(of(&twice, Some(id)), json!({ "messageId": text }));
    assert_eq!(of(&[], None), json!({}));
    assert_eq!(of(&[], Some(0)), json!({}), "no id of all events");
}

#[test]
fn the_time_of_reading_goes_and_every_other_time_stays() {
    let time = || timestamp(0, 0);
    let members = [
        ("timestamp", time()),
        ("originalTimestamp", time()),
        ("p", map(&[("timestamp", time())])),
    ];
    let text = "1970-01-01T00:00:00Z";
    let wanted = json!({ "originalTimestamp": text, "p": { "timestamp": text } });
    assert_eq!(one(log(&members, None), None).unwrap(), wanted);
    assert_eq!(one(log(&members, None), Some(".p")).unwrap(), json!({ "timestamp": text }));
    let own = log(&[("timestamp", bytes(b"any text"))], None);
    assert_eq!(one(own, None).unwrap(), json!({ "timestamp": "any text" }));
}

#[test]
fn damage_inside_of_an_event_ends_that_event_alone() {
    let good = || log(&[("type", bytes(b"track"))], None);
    let mut deep = integer(1);
    for _ in 0..200 {
        deep = map(&[("d", deep)]);
    }
    let events = [
        good(),
        proto::field(1, &[0x0a, 9]),
        proto::field(1, &proto::field(4, &[0x3a, 5])),
        log(&[("a", float(f64::INFINITY))], None),
        log(&[("a", timestamp(i64::MAX, 5))], None),
        log(&[("a", deep)], None),
        root(&bytes(b"{}")),
        root(&integer(42)),
        proto::field(3, b"\x0a\x00"),
        proto::field(2, b"\xff\xff"),
        vec![],
        vec![0x0a],
        good(),
    ];
    let decoded = decoded(&request(&events), None).unwrap();
    let codes: Vec<_> =
        decoded.iter().map(|event| event.as_ref().map_err(|(code, _)| *code)).collect();
    use ReasonCode::{InvalidJson, NotAnEvent, TooDeep};
    let event = json!({ "type": "track" });
    let wanted = [
        Ok(&event),
        Err(InvalidJson),
        Err(InvalidJson),
        Err(InvalidJson),
        Err(InvalidJson),
        Err(TooDeep),
        Err(NotAnEvent),
        Err(NotAnEvent),
        Err(NotAnEvent),
        Err(NotAnEvent),
        Err(NotAnEvent),
        Err(InvalidJson),
        Ok(&event),
    ];
    assert_eq!(codes, wanted, "{decoded:?}");
}

#[test]
fn a_request_whose_frame_is_broken_has_no_events() {
    let event = log(&[("type", bytes(b"track"))], None);
    let whole = request(&[event.clone(), event]);
    assert_eq!(decoded(&whole, None).unwrap().len(), 2);
    assert_eq!(
        decoded(&[&whole[..], &[0x78, 1]].concat(), None).unwrap().len(),
        2,
        "unknown field"
    );
    for broken in [&whole[..whole.len() - 1], &[&whole[..], &[0x0b]].concat(), &[0x08, 1]] {
        decoded(broken, None).unwrap_err();
    }
    assert!(decoded(b"", None).unwrap().is_empty());
}

/// How many inputs each property is tried with: `FUZZ_CASES`, or 256.
fn cases() -> ProptestConfig {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Decodes and checks what must hold for any input.
fn holds(request: &[u8]) {
    for path in [None, Some(".message"), Some(".properties.a")] {
        let path: Option<Vec<String>> =
            path.map(|path| path.split('.').skip(1).map(str::to_owned).collect());
        let mut events = super::events::Events::of(request, path.as_deref());
        let broken = loop {
            match events.next() {
                Ok(true) => {}
                Ok(false) => break false,
                Err(_) => break true,
            }
        };
        // Each byte of an event is six of its text at most (`\u0000`), and a missing value of two
        // bytes is five (`null,`).
        let most = 6 * request.len() + (128 + 64) * (request.len() / 2 + 1);
        assert!(events.bytes() <= most, "{} of {}", events.bytes(), request.len());
        for element in events.into_elements() {
            let Ok(json) = element.json else { continue };
            if path.is_none() && !broken {
                let event: Value = serde_json::from_slice(&json).unwrap();
                assert!(event.is_object());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn arbitrary_bytes_are_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        holds(&bytes);
    }

    #[test]
    fn changed_requests_are_never_a_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local! {
            static RECORDED: Vec<Bytes> = recorded().into_iter().map(|(_, request, _)| request).collect();
        }
        let mut request = RECORDED.with(|all| which.get(all).to_vec());
        for (at, byte) in changes {
            let at = at.index(request.len());
            request[at] = byte;
        }
        if let Some(cut) = cut {
            request.truncate(cut.index(request.len()));
        }
        holds(&request);
    }
}
