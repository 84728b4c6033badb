use std::time::Duration;

use super::super::{Refusal, Verdict};
use super::*;

fn policy() -> Policy {
    Policy {
        statuses: [408, 421, 423, 425, 429]
            .map(StatusPattern::Code)
            .into_iter()
            .chain([StatusPattern::Class(5)])
            .collect(),
        item_reasons: vec![],
        endpoint: "https://track.customer.io".into(),
        region: Region::Us,
    }
}

#[test]
fn every_reason_to_send_again_is_known_to_the_metrics() {
    for status in 400..=599 {
        let known = super::super::metering::RETRIES.contains(&why(status));
        assert!(known, "{status}");
        assert!(hold_code(status).is_none_or(|code| super::super::metering::HOLDS.contains(&code)));
    }
}

fn ask(status: u16, body: &str, items: usize) -> Reply {
    with(&policy(), status, &HeaderMap::new(), body, items)
}

fn with(policy: &Policy, status: u16, headers: &HeaderMap, body: &str, items: usize) -> Reply {
    let status = StatusCode::from_u16(status).unwrap();
    classify(policy, status, headers, body.as_bytes(), items, SystemTime::now())
}

fn delivered(items: usize) -> Reply {
    Reply::Items(vec![Verdict::Delivered; items])
}

fn unknown(items: usize) -> Reply {
    Reply::Items(vec![Verdict::Unknown; items])
}

fn rejected(status: u16, reason: &str, field: &str, message: &str) -> Verdict {
    Verdict::Rejected(Refusal {
        reason: Some(reason.into()),
        field: Some(field.into()),
        message: Some(message.into()),
        status: Some(status),
    })
}

fn hold(reply: Reply) -> Hold {
    match reply {
        Reply::Hold(hold) => hold,
        other => panic!("not a hold: {other:?}"),
    }
}

#[test]
fn success_delivers_everything_whatever_the_body_says() {
    for (status, body) in
        [(200, "{}\n"), (200, ""), (200, "<html>"), (201, "{}"), (202, "{}"), (204, ""), (299, "x")]
    {
        assert_eq!(ask(status, body, 3), delivered(3), "{status} {body}");
    }
}

#[test]
fn success_with_an_empty_list_of_errors_delivers_everything() {
    for status in [200, 207] {
        assert_eq!(ask(status, r#"{"errors":[]}"#, 2), delivered(2));
    }
    assert_eq!(ask(200, r#"{"errors":null}"#, 2), delivered(2));
}

#[test]
fn a_listed_item_is_rejected_and_the_others_are_delivered() {
    for status in [207, 200] {
        let body = r#"{"errors":[{"batch_index":1,"reason":"invalid","field":"attributes.x","message":"too long"}]}"#;
        assert_eq!(
            ask(status, body, 3),
            Reply::Items(vec![
                Verdict::Delivered,
                rejected(status, "invalid", "attributes.x", "too long"),
                Verdict::Delivered
            ])
        );
    }
}

#[test]
fn an_error_without_texts_is_still_a_rejection() {
    let refusal = Refusal { status: Some(207), ..Refusal::default() };
    assert_eq!(
        ask(207, r#"{"errors":[{"batch_index":0}]}"#, 1),
        Reply::Items(vec![Verdict::Rejected(refusal)])
    );
}

#[test]
fn several_errors_of_one_item_are_joined() {
    let body = r#"{"errors":[{"batch_index":0,"reason":"a","field":"f","message":"m"},{"batch_index":0,"reason":"b","field":"g","message":"n"}]}"#;
    assert_eq!(ask(207, body, 1), Reply::Items(vec![rejected(207, "a; b", "f; g", "m; n")]));
}

#[test]
fn an_error_that_cannot_be_placed_leaves_the_others_unknown() {
    for bad in [
        r#"{"batch_index":3}"#,
        r#"{"reason":"x"}"#,
        r#"{"batch_index":"1"}"#,
        r#"{"batch_index":-1}"#,
        "7",
    ] {
        let body = format!(
            r#"{{"errors":[{bad},{{"batch_index":0,"reason":"a","field":"f","message":"m"}}]}}"#
        );
        assert_eq!(
            ask(207, &body, 3),
            Reply::Items(vec![rejected(207, "a", "f", "m"), Verdict::Unknown, Verdict::Unknown]),
            "{bad}"
        );
    }
}

#[test]
fn a_207_without_readable_errors_leaves_everything_unknown() {
    for body in ["", "{}", r#"{"errors":{}}"#, r#"{"errors":"x"}"#, r#"{"errors":[{"ba"#, "<html>"]
    {
        assert_eq!(ask(207, body, 2), unknown(2), "{body}");
    }
    assert_eq!(ask(200, r#"{"errors":{"a":1}}"#, 2), unknown(2));
}

#[test]
fn a_400_that_names_items_sends_the_others_again_at_once() {
    let body = r#"{"errors":[{"batch_index":1,"reason":"a","field":"f","message":"m"}]}"#;
    assert_eq!(
        ask(400, body, 3),
        Reply::Items(vec![Verdict::Again, rejected(400, "a", "f", "m"), Verdict::Again])
    );
}

#[test]
fn a_refused_batch_is_split_and_keeps_the_words_of_the_answer() {
    for (body, message) in [
        (r#"{"errors":[{"message":"m"},{"message":"n"}]}"#, "m; n"),
        (r#"{"meta":{"error":"m"}}"#, "m"),
        (r#"{"meta":{"errors":["m","n"]}}"#, "m; n"),
        ("no json", "no json"),
    ] {
        for status in [400, 406, 409, 410, 413, 414, 418, 422, 431, 451, 499] {
            let expected = Refusal {
                status: Some(status),
                message: Some(message.into()),
                ..Refusal::default()
            };
            assert_eq!(ask(status, body, 2), Reply::Split(expected), "{status} {body}");
        }
    }
}

#[test]
fn a_long_refusal_is_cut() {
    let Reply::Split(refusal) = ask(400, &"é".repeat(20_000), 1) else { panic!() };
    assert!(refusal.message.unwrap().len() <= KEPT_BODY + 3);
}

#[test]
fn what_passes_is_tried_again() {
    for status in [408, 421, 423, 425, 429, 500, 502, 503, 504, 520, 522, 524, 599] {
        let Reply::Retry { after: None, why, unknown } = ask(status, "<html>", 2) else {
            panic!("{status}")
        };
        assert_eq!(unknown, status >= 500 && status != 503, "{status}");
        assert!(why.starts_with("http_"), "{why}");
    }
}

#[test]
fn retry_after_counts_for_429_and_503_alone() {
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
    for (status, expected) in [(429, Some(7)), (503, Some(7)), (500, None)] {
        let Reply::Retry { after, .. } = with(&policy(), status, &headers, "", 1) else { panic!() };
        assert_eq!(after, expected.map(Duration::from_secs), "{status}");
    }
}

#[test]
fn what_an_operator_must_mend_is_held() {
    for (status, code) in [
        (101, "protocol"),
        (300, "redirected"),
        (301, "redirected"),
        (302, "redirected"),
        (304, "redirected"),
        (307, "redirected"),
        (308, "redirected"),
        (401, "unauthorized"),
        (402, "forbidden"),
        (403, "forbidden"),
        (404, "protocol"),
        (405, "protocol"),
        (407, "proxy"),
        (411, "protocol"),
        (415, "protocol"),
        (426, "protocol"),
        (501, "protocol"),
        (505, "protocol"),
        (600, "protocol"),
        (999, "protocol"),
    ] {
        let hold = hold(ask(status, "", 2));
        assert_eq!(hold.code, code, "{status}");
        assert!(hold.message.contains("https://track.customer.io"), "{}", hold.message);
    }
}

#[test]
fn a_redirect_to_the_other_region_names_the_remedy() {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::LOCATION,
        "https://user:secret@track-eu.customer.io/api/v2/batch?k=secret".parse().unwrap(),
    );
    let message = hold(with(&policy(), 301, &headers, "", 1)).message;
    assert!(message.contains("`customerio.region: eu`"), "{message}");
    assert!(message.contains("https://track-eu.customer.io/api/v2/batch"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn the_configured_statuses_decide_what_is_tried_again() {
    let policy = Policy { statuses: vec![StatusPattern::Code(403)], ..policy() };
    assert!(matches!(with(&policy, 403, &HeaderMap::new(), "", 1), Reply::Retry { .. }));
    assert!(matches!(with(&policy, 500, &HeaderMap::new(), "", 1), Reply::Split(_)));
}

#[test]
fn a_named_item_reason_is_tried_again_later() {
    let policy = Policy { item_reasons: vec!["busy".into()], ..policy() };
    let body = r#"{"errors":[{"batch_index":0,"reason":"busy"},{"batch_index":1,"reason":"bad"}]}"#;
    let Reply::Items(verdicts) = with(&policy, 207, &HeaderMap::new(), body, 3) else { panic!() };
    assert!(matches!(verdicts[0], Verdict::Later(_)));
    assert!(matches!(verdicts[1], Verdict::Rejected(_)));
    assert_eq!(verdicts[2], Verdict::Delivered);
}

#[test]
fn only_what_was_handed_over_may_have_been_applied() {
    for (failure, expected) in [
        (Failure::Connect, ("network", false)),
        (Failure::ConnectTimeout, ("connect_timeout", false)),
        (Failure::Broken { sent: false }, ("network", false)),
        (Failure::Broken { sent: true }, ("network", true)),
        (Failure::Timeout { sent: false }, ("timeout", false)),
        (Failure::Timeout { sent: true }, ("timeout", true)),
        (Failure::Unreadable, ("unreadable", true)),
    ] {
        let Reply::Retry { after: None, why, unknown } = failure.reply(&policy()) else { panic!() };
        assert_eq!((why, unknown), expected, "{failure:?}");
    }
    let hold = hold(Failure::Tls("unknown issuer".into()).reply(&policy()));
    assert_eq!(hold.code, "tls");
    assert!(hold.message.contains("unknown issuer"), "{}", hold.message);
}
