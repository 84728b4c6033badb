use proptest::prelude::*;
use vrl::value::ObjectMap;

use super::*;
use crate::event::{Span, TypeIndex};

fn read(json: &str) -> Result<Event, Reason> {
    decode(&Bytes::copy_from_slice(json.as_bytes()), &Plan::everything(&["track", "identify"]))
}

fn whole(json: &[u8]) -> Result<Value, Reason> {
    value(&Bytes::copy_from_slice(json))
}

fn code<T: std::fmt::Debug>(result: Result<T, Reason>) -> ReasonCode {
    result.unwrap_err().code
}

fn at(event: &Event, span: Option<Span>) -> String {
    String::from_utf8(span.unwrap().of(&event.raw).to_vec()).unwrap()
}

fn need(members: &[(&str, Need)]) -> Need {
    Need::Some(members.iter().map(|(k, n)| (Box::from(*k), n.clone())).collect())
}

/// Keeps of a whole value what the decoder would build for `need`.
pub(super) fn prune(value: Value, need: &Need) -> Value {
    match (value, need) {
        (Value::Object(object), Need::Some(_)) => Value::Object(
            object
                .into_iter()
                .filter_map(|(k, v)| {
                    let need = need.member(&k)?;
                    Some((k, prune(v, need)))
                })
                .collect(),
        ),
        (value, _) => value,
    }
}

#[test]
fn an_event_is_read_with_its_spans() {
    let event = read(
        r#" {"type":"Track","event" : "A\n\u00e9","userId":42,"context":{"x":[1],"consentManagement": {"provider":"p"} },"integrations":{"All":true} , "messageId":"m"} "#,
    )
    .unwrap();
    assert_eq!(&*event.type_name, "track");
    assert_eq!(event.index, Some(TypeIndex(0)));
    assert_eq!(at(&event, event.spans.type_), r#""Track""#);
    assert_eq!(at(&event, event.spans.event), r#""A\n\u00e9""#);
    assert_eq!(at(&event, event.spans.user_id), "42");
    assert_eq!(at(&event, event.spans.consent), r#"{"provider":"p"}"#);
    assert_eq!(at(&event, event.spans.integrations), r#"{"All":true}"#);
    assert_eq!(at(&event, event.spans.message_id), r#""m""#);
    assert_eq!(event.spans.timestamp, None);
    assert_eq!(event.body, whole(&event.raw).unwrap());
    assert!(event.assigned.is_empty());
    assert_eq!(text_of(&event.raw, event.spans.event).as_deref(), Some("A\né"));
    assert_eq!(scalar(&event.raw, event.spans.user_id), Scalar::Number("42"));
    assert_eq!(scalar(&event.raw, None), Scalar::Missing);
}

#[test]
fn strings_without_escapes_are_slices_of_the_input() {
    let event = read(r#"{"type":"track","a":"needle"}"#).unwrap();
    let body = event.body.as_object().unwrap();
    let text = body.get("a").unwrap().as_string().unwrap();
    assert!(event.raw.as_ptr_range().contains(&text.as_ptr()));
}

#[test]
fn the_last_of_duplicate_members_counts() {
    let event = read(
        r#"{"userId":"a","context":{"consentManagement":{"a":1}},"type":"track","userId":"b","context":{"x":1}}"#,
    )
    .unwrap();
    assert_eq!(at(&event, event.spans.user_id), r#""b""#);
    assert_eq!(event.spans.consent, None, "the last `context` carries no consent");
    assert_eq!(event.body, whole(&event.raw).unwrap());

    let event = read(r#"{"type":"track","context":{"consentManagement":1,"consentManagement":2}}"#);
    let event = event.unwrap();
    assert_eq!(at(&event, event.spans.consent), "2");
    let event = read(r#"{"type":"track","context":{"consentManagement":1},"context":null}"#);
    assert_eq!(event.unwrap().spans.consent, None);
}

#[test]
fn consent_is_found_at_its_exact_place_only() {
    for json in [
        r#"{"type":"track","consentManagement":{}}"#,
        r#"{"type":"track","Context":{"consentManagement":{}}}"#,
        r#"{"type":"track","context":{"ConsentManagement":{}}}"#,
        r#"{"type":"track","context":[{"consentManagement":{}}]}"#,
        r#"{"type":"track","context":{"a":{"consentManagement":{}}}}"#,
    ] {
        assert_eq!(read(json).unwrap().spans.consent, None, "{json}");
    }
    let event = read(r#"{"type":"track","cont\u0065xt":{"consentManag\u0065ment":7}}"#).unwrap();
    assert_eq!(at(&event, event.spans.consent), "7");
}

#[test]
fn only_what_the_type_needs_is_built() {
    let plan = Plan::new(vec![
        ("track".into(), need(&[("event", Need::All), ("context", need(&[("ip", Need::All)]))])),
        ("identify".into(), need(&[("traits", Need::All)])),
    ]);
    let json = Bytes::from_static(
        br#"{"type":"track","traits":{"a":1},"event":"E","context":{"ip":"1","x":2,"consentManagement":{}},"z":[1]}"#,
    );
    let event = decode(&json, &plan).unwrap();
    assert_eq!(event.body, whole(br#"{"event":"E","context":{"ip":"1"}}"#).unwrap());
    assert!(event.spans.consent.is_some());

    let json = Bytes::from_static(br#"{"traits":{"a":1},"z":1,"type":"TRACK","traits":2}"#);
    let event = decode(&json, &plan).unwrap();
    assert_eq!(event.body.as_object().unwrap().get("z"), None);

    let json = Bytes::from_static(br#"{"type":"Screen","event":"E"}"#);
    let event = decode(&json, &plan).unwrap();
    assert_eq!((event.index, &*event.type_name), (None, "screen"));
    assert_eq!(event.body, Value::Object(ObjectMap::new()));
}

#[test]
fn a_later_duplicate_of_type_does_not_lose_members() {
    let plan = Plan::new(vec![
        ("track".into(), need(&[("event", Need::All)])),
        ("identify".into(), need(&[("traits", Need::All), ("type", Need::All)])),
    ]);
    let json = Bytes::from_static(br#"{"type":"track","traits":{"a":1},"type":"identify"}"#);
    let event = decode(&json, &plan).unwrap();
    assert_eq!(&*event.type_name, "identify");
    assert_eq!(event.body, whole(br#"{"traits":{"a":1},"type":"identify"}"#).unwrap());
    let json = Bytes::from_static(br#"{"type":"track","type":5}"#);
    assert_eq!(code(decode(&json, &plan)), ReasonCode::InvalidType);
}

#[test]
fn a_given_type_replaces_the_one_in_the_text() {
    let plan = Plan::everything(&["track", "identify"]);
    for json in [r#"{"type":"wrong","a":1}"#, r#"{"type":{"x":1},"a":1}"#, r#"{"a":1}"#] {
        let event = decode_as(&Bytes::from(json), &plan, Some("identify")).unwrap();
        assert_eq!(event.index, Some(TypeIndex(1)), "{json}");
        assert_eq!(event.body, whole(br#"{"type":"identify","a":1}"#).unwrap());
        assert_eq!(event.assigned.as_slice(), [("type", Value::from("identify"))]);
    }
    let event = decode_as(&Bytes::from_static(b"{}"), &plan, Some("merge")).unwrap();
    assert_eq!((event.index, &*event.type_name), (None, "merge"));
}

#[test]
fn malformed_events_are_named() {
    for (json, expected) in [
        ("", ReasonCode::InvalidJson),
        ("\u{feff}{}", ReasonCode::InvalidJson),
        ("{\"type\":\"track\"", ReasonCode::InvalidJson),
        ("{\"type\":\"track\"} x", ReasonCode::InvalidJson),
        ("{\"type\":\"track\",}", ReasonCode::InvalidJson),
        ("{\"type\":\"track\",\"a\":\"\0\"}", ReasonCode::InvalidJson),
        ("{\"type\":\"track\",\"a\":1e999}", ReasonCode::InvalidJson),
        ("1e999", ReasonCode::InvalidJson),
        ("[]", ReasonCode::NotAnEvent),
        ("\"x\"", ReasonCode::NotAnEvent),
        ("null", ReasonCode::NotAnEvent),
        ("{}", ReasonCode::InvalidType),
        ("{\"type\":null}", ReasonCode::InvalidType),
        ("{\"type\":[\"track\"]}", ReasonCode::InvalidType),
    ] {
        assert_eq!(code(read(json)), expected, "{json}");
    }
    let error = decode(&Bytes::from_static(b"{\"a\":\"\xff\"}"), &Plan::everything(&[]));
    assert_eq!(error.unwrap_err().detail.as_deref(), Some("not UTF-8 at byte 6"));
    let error = read("{\"secret\":tru}").unwrap_err();
    assert_eq!(error.detail.as_deref(), Some("expected a value at byte 10"));
}

#[test]
fn a_type_is_matched_without_case_but_not_trimmed() {
    assert_eq!(read(r#"{"type":"tr\u0041CK"}"#).unwrap().index, Some(TypeIndex(0)));
    let event = read(r#"{"type":" track"}"#).unwrap();
    assert_eq!((event.index, &*event.type_name), (None, " track"));
}

#[test]
fn depth_is_bounded_whatever_is_built() {
    let nested =
        |n: usize| format!("{{\"type\":\"track\",\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    for plan in [Plan::everything(&["track"]), Plan::new(vec![("track".into(), need(&[]))])] {
        let read = |json: &str| decode(&Bytes::from(json.to_owned()), &plan);
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(code(read(&nested(MAX_DEPTH))), ReasonCode::TooDeep);
        assert_eq!(code(read(&nested(10_000))), ReasonCode::TooDeep);
        assert_eq!(code(read(&"[".repeat(1_000_000))), ReasonCode::InvalidJson);
        let broken = nested(10_000).replace("]}", "],}");
        assert_eq!(code(read(&broken)), ReasonCode::InvalidJson, "broken wins over too deep");
        let no_type = nested(200).replace("type", "kind");
        assert_eq!(code(read(&no_type)), ReasonCode::TooDeep, "too deep wins over the type");
        let deep_context = nested(200).replace("\"a\"", "\"context\"");
        assert_eq!(code(read(&deep_context)), ReasonCode::TooDeep);
        let objects = format!(
            "{{\"type\":\"track\",\"context\":{}1{}}}",
            "{\"a\":".repeat(MAX_DEPTH - 1),
            "}".repeat(MAX_DEPTH - 1)
        );
        assert!(read(&objects).is_ok());
    }
    assert_eq!(code(whole("[".repeat(200).as_bytes())), ReasonCode::InvalidJson);
    assert!(whole(format!("{}{}", "[".repeat(128), "]".repeat(128)).as_bytes()).is_ok());
    assert_eq!(
        code(whole(format!("{}{}", "[".repeat(129), "]".repeat(129)).as_bytes())),
        ReasonCode::TooDeep
    );
}

#[test]
fn unpaired_surrogates_become_replacement_characters() {
    for (json, text) in [
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\uD83D""#, "\u{fffd}"),
        (r#""\udE00x""#, "\u{fffd}x"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""a\u0000b""#, "a\0b"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
    ] {
        assert_eq!(whole(json.as_bytes()).unwrap(), Value::from(text), "{json}");
    }
    for json in [r#""\ud83d\u00""#, r#""\u12g4""#, r#""\x""#, r#""\"#, "\"a\tb\"", "\"a"] {
        assert_eq!(code(whole(json.as_bytes())), ReasonCode::InvalidJson, "{json}");
    }
}

#[test]
fn numbers_keep_what_a_value_can_hold() {
    for (json, number) in [
        ("0", Value::Integer(0)),
        ("-9223372036854775808", Value::Integer(i64::MIN)),
        ("9223372036854775807", Value::Integer(i64::MAX)),
        ("9223372036854775808", Value::from_f64_or_zero(9_223_372_036_854_775_808.0)),
        ("18446744073709551615", Value::from_f64_or_zero(18_446_744_073_709_551_615.0)),
        ("1.0", Value::from_f64_or_zero(1.0)),
        ("1E2", Value::from_f64_or_zero(100.0)),
        ("-0", Value::from_f64_or_zero(-0.0)),
        ("-0.0", Value::from_f64_or_zero(-0.0)),
        ("1e-999", Value::from_f64_or_zero(0.0)),
        ("0.1", Value::from_f64_or_zero(0.1)),
        ("2.2250738585072014e-308", Value::from_f64_or_zero(f64::MIN_POSITIVE)),
    ] {
        assert_eq!(whole(json.as_bytes()).unwrap(), number, "{json}");
    }
    let negative_zero = whole(b"-0").unwrap().as_float().unwrap();
    assert!(negative_zero.is_sign_negative());
    for json in ["01", "1.", ".5", "+1", "-", "1e", "1e+", "0x1", "NaN", "1e309", "--1"] {
        assert_eq!(code(whole(json.as_bytes())), ReasonCode::InvalidJson, "{json}");
    }
    let huge = format!("[1,{}]", "9".repeat(400));
    assert_eq!(code(whole(huge.as_bytes())), ReasonCode::InvalidJson);
}

#[test]
fn number_texts_are_the_shortest() {
    for (json, text) in [
        ("42", "42"),
        ("-7", "-7"),
        ("3.0", "3"),
        ("12.50", "12.5"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("9223372036854775807", "9223372036854775807"),
    ] {
        assert_eq!(number_text(json), text);
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = "[a-c]{1,2}|context|type|consentManagement|[\\x00-\\x7fé😀]{0,12}";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[\\x00-\\x7fé😀\"\\\\]{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_need() -> impl Strategy<Value = Need> {
    Just(Need::All).prop_recursive(3, 12, 4, |inner| {
        prop::collection::btree_map("[a-c]{1,2}|context|type", inner, 0..4)
            .prop_map(|m| Need::Some(m.into_iter().map(|(k, n)| (k.into(), n)).collect()))
    })
}

proptest! {
    #[test]
    fn values_equal_those_of_serde(value in json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_vec_pretty(&value).unwrap()
        } else {
            serde_json::to_vec(&value).unwrap()
        };
        let expected: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(whole(&text).unwrap(), expected);
    }

    #[test]
    fn broken_texts_are_refused_as_by_serde(
        value in json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (index, byte, how) in edits {
            if text.is_empty() { break }
            let at = index.index(text.len());
            const BYTES: &[u8] = b"{}[],:\"\\0123e.-+tfn u\t\x80";
            let byte = BYTES[usize::from(byte) % BYTES.len()];
            match how {
                0 => { text.remove(at); }
                1 => text.insert(at, byte),
                2 => text[at] = byte,
                _ => text.truncate(at),
            }
        }
        let theirs: Result<Value, _> = serde_json::from_slice(&text);
        let ours = whole(&text);
        let surrogate = theirs.as_ref().is_err_and(|e| {
            let e = e.to_string();
            e.contains("surrogate") || e.contains("hex escape")
        });
        if !surrogate {
            prop_assert_eq!(ours.as_ref().ok(), theirs.as_ref().ok());
        }
        // Skipping accepts what building accepts.
        let nothing = Plan::new(vec![("track".into(), need(&[]))]);
        let everything = Plan::everything(&["track"]);
        let text = Bytes::from(text);
        let (skipped, built) = (decode(&text, &nothing), decode(&text, &everything));
        prop_assert_eq!(skipped.as_ref().map(|e| e.spans), built.as_ref().map(|e| e.spans));
    }

    #[test]
    fn pruned_equals_whole_then_pruned(value in json(), need in any_need()) {
        let mut object = serde_json::Map::new();
        object.insert("a".into(), value.clone());
        object.insert("context".into(), value.clone());
        if let serde_json::Value::Object(members) = value {
            object.extend(members);
        }
        object.insert("type".into(), "track".into());
        let text = Bytes::from(serde_json::to_vec(&object).unwrap());
        let plan = Plan::new(vec![("track".into(), need.clone())]);
        let event = decode(&text, &plan).unwrap();
        prop_assert_eq!(event.body, prune(whole(&text).unwrap(), &need));
    }
}
