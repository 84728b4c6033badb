//! Whatever comes back: never a panic, one verdict per operation, and none is taken for delivered
//! that the answer lists with an error.
//!
//! Strategies are boxed since whole ones would not fit on a test's stack.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::super::Verdict;
use super::retry_after::MAX_RETRY_AFTER;
use super::*;

/// An answer of whatever kind.
#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    status: u16,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    items: usize,
}

fn policy() -> BoxedStrategy<Policy> {
    let pattern = prop_oneof![
        (400..600_u16).prop_map(StatusPattern::Code),
        (4..6_u16).prop_map(StatusPattern::Class),
    ];
    let reason = prop_oneof![Just("invalid".to_owned()), Just("busy".to_owned())];
    let region = prop_oneof![Just(Region::Us), Just(Region::Eu)];
    let lists = (prop::collection::vec(pattern, 0..6), prop::collection::vec(reason, 0..2));
    (lists, region)
        .prop_map(|((statuses, item_reasons), region)| Policy {
            statuses,
            item_reasons,
            endpoint: "https://track.customer.io".into(),
            region,
        })
        .boxed()
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => Just(207_u16),
        2 => Just(200_u16),
        2 => Just(400_u16),
        3 => 100..600_u16,
        1 => 600..1000_u16,
    ]
}

fn header() -> BoxedStrategy<(&'static str, Vec<u8>)> {
    let name = prop_oneof![Just("retry-after"), Just("location"), Just("content-type")];
    let text = prop_oneof![
        "[0-9.eE+-]{0,12}",
        "[A-Za-z]{3}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT",
        "https?://[a-z.@:0-9-]{0,30}/[a-z?#=%]{0,10}",
        "\\PC{0,20}",
    ];
    let value =
        prop_oneof![text.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..20),];
    (name, value).boxed()
}

fn scalar() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just("invalid"), Just("busy"), Just("1"), Just("é—😀")].prop_map(Value::from),
        "\\PC{0,30}".prop_map(Value::from),
        (0..12_000_usize).prop_map(|n| "x".repeat(n).into()),
    ]
    .boxed()
}

fn error() -> BoxedStrategy<Value> {
    let index = prop_oneof![
        8 => (0..14_u64).prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => scalar(),
    ];
    let whole = (prop::option::weighted(0.9, index), scalar(), scalar(), scalar()).prop_map(
        |(index, reason, field, message)| {
            let mut error = json!({"reason": reason, "field": field, "message": message});
            if let Some(index) = index {
                error["batch_index"] = index;
            }
            error
        },
    );
    prop_oneof![9 => whole, 1 => scalar()].boxed()
}

/// Bodies as Customer.io sends them, and JSON of any other kind.
fn answer() -> BoxedStrategy<Value> {
    let errors = || prop::collection::vec(error(), 0..6).prop_map(Value::from);
    prop_oneof![
        8 => errors().prop_map(|errors| json!({ "errors": errors })),
        1 => scalar().prop_map(|errors| json!({ "errors": errors })),
        1 => error().prop_map(|errors| json!({ "errors": errors })),
        1 => errors().prop_map(|errors| json!({ "meta": { "errors": errors } })),
        1 => scalar().prop_map(|error| json!({ "meta": { "error": error } })),
        1 => scalar().prop_map(|meta| json!({ "meta": meta })),
        1 => errors(),
        1 => scalar(),
        1 => Just(json!({})),
    ]
    .boxed()
}

/// Bytes, some of them an answer in which a few have changed or that ends early.
fn body() -> BoxedStrategy<Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let mutated = (answer(), prop::collection::vec(change, 1..5), any::<prop::sample::Index>());
    let mutated = mutated.prop_map(|(answer, changes, end)| {
        let mut bytes = answer.to_string().into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if end.index(3) == 0 {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    });
    prop_oneof![
        6 => answer().prop_map(|answer| answer.to_string().into_bytes()),
        3 => mutated,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => "[\\[\\{\":,0-9a-z\\]\\}]{0,300}".prop_map(String::into_bytes),
        1 => (0..3_000_usize).prop_map(|depth| {
            [b"{\"errors\":".repeat(depth), b"[".repeat(depth)].concat()
        }),
    ]
    .boxed()
}

fn case() -> impl Strategy<Value = Case> {
    (policy(), status(), prop::collection::vec(header(), 0..3), body(), 0..12_usize).prop_map(
        |(policy, status, headers, body, items)| Case { policy, status, headers, body, items },
    )
}

/// Which operations the body lists with an error, and whether it has one that names none.
fn listed(body: &[u8], items: usize) -> (Vec<usize>, bool) {
    let parsed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let Some(errors) = parsed.get("errors").and_then(Value::as_array) else {
        return (vec![], false);
    };
    let place = |error: &Value| {
        let index = usize::try_from(error.get("batch_index")?.as_u64()?).ok()?;
        (index < items).then_some(index)
    };
    (errors.iter().filter_map(place).collect(), errors.iter().any(|error| place(error).is_none()))
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            headers.insert(*name, value);
        }
    }
    let status = StatusCode::from_u16(case.status).unwrap();
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let reply = classify(&case.policy, status, &headers, &case.body, case.items, now);
    match reply {
        Reply::Items(verdicts) => {
            prop_assert_eq!(verdicts.len(), case.items);
            let (places, misplaced) = listed(&case.body, case.items);
            for (place, verdict) in verdicts.iter().enumerate() {
                let refused = matches!(verdict, Verdict::Rejected(_) | Verdict::Later(_));
                prop_assert_eq!(refused, places.contains(&place), "{}: {:?}", place, verdict);
                if *verdict == Verdict::Delivered {
                    prop_assert!(status.is_success() && !misplaced);
                }
                if *verdict == Verdict::Again {
                    prop_assert!(status.is_client_error());
                }
            }
        }
        Reply::Retry { after, why, .. } => {
            prop_assert!(after.is_none_or(|after| after <= MAX_RETRY_AFTER));
            prop_assert!(after.is_none() || matches!(case.status, 429 | 503));
            prop_assert!(why.starts_with("http_"));
        }
        Reply::Hold(hold) => {
            prop_assert!(hold.message.contains("https://track.customer.io"));
            prop_assert!(!hold.message.contains('\n'));
        }
        Reply::Split(refusal) => {
            prop_assert!(!status.is_success() && !status.is_redirection());
            let length = refusal.message.map_or(0, |text| text.len());
            prop_assert!(length <= 3 * KEPT_BODY, "{} bytes", length);
        }
        Reply::Doubtful(_) => prop_assert!(false, "only a client can be in doubt"),
    }
    Ok(())
}

#[test]
fn no_answer_panics_or_passes_an_error_for_a_delivery() {
    TestRunner::new(crate::fuzz::config()).run(&case(), |case| check(&case)).unwrap();
}
