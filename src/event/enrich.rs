//! What RudderStack's gateway fills in: `messageId`, `rudderId`, `request_ip`, and the times.
//!
//! With R the time of reception, O `originalTimestamp` and S `sentAt` (each R if it is no date):
//! `timestamp`, unless it is a date itself, becomes R − (S − O). All four times are then written in
//! one form, RFC 3339 with three decimals. Only texts are dates. Nothing is clamped: a client with
//! a wrong clock that gives a `timestamp` is believed, as there.
//!
//! A member is assigned only if its value changes.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use vrl::value::Value;

use super::decode::{Scalar, scalar, text_of};
use super::times::{self, Moment, parse};
use super::{Event, Plan, ids};

/// Fills in and rewrites what the gateway does.
pub fn enrich(event: &mut Event, plan: &Plan, received_at: DateTime<Utc>, client_ip: Option<&str>) {
    let (raw, spans) = (event.raw.clone(), event.spans);
    let user_id = scalar(&raw, spans.user_id);
    let anonymous_id = scalar(&raw, spans.anonymous_id);
    let rudder_id = ids::rudder_id(&ids::id_text(&user_id), &ids::id_text(&anonymous_id));
    assign(event, plan, "rudderId", &uuid_text(rudder_id));

    if let Some(ip) = client_ip
        && matches!(scalar(&raw, spans.request_ip), Scalar::Missing | Scalar::Null)
    {
        assign(event, plan, "request_ip", ip);
    }

    let message_id = text_of(&raw, spans.message_id).unwrap_or_default();
    match ids::clean(&message_id) {
        cleaned if cleaned.is_empty() => {
            assign(event, plan, "messageId", &uuid_text(Uuid::new_v4()));
        }
        cleaned if cleaned == message_id => {}
        cleaned => assign(event, plan, "messageId", &cleaned),
    }

    let received = Moment::utc(received_at);
    let given = |span| text_of(&raw, span);
    rewrite(event, plan, "receivedAt", given(spans.received_at), |_| received);
    let own = |event: &mut Event, name, span| {
        rewrite(event, plan, name, given(span), |read| read.unwrap_or(received))
    };
    let original = own(event, "originalTimestamp", spans.original_timestamp);
    let sent = own(event, "sentAt", spans.sent_at);
    rewrite(event, plan, "timestamp", given(spans.timestamp), |read| {
        read.unwrap_or_else(|| received.corrected(original, sent))
    });
}

fn uuid_text(id: Uuid) -> String {
    let mut buffer = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut buffer).to_owned()
}

/// Writes the time that `choose` makes of the received one, and returns it.
fn rewrite(
    event: &mut Event,
    plan: &Plan,
    name: &'static str,
    given: Option<Cow<'_, str>>,
    choose: impl FnOnce(Option<Moment>) -> Moment,
) -> Moment {
    let read = given.as_deref().and_then(parse);
    let moment = choose(read);
    if read == Some(moment) && given.as_deref().is_some_and(times::is_usual) {
        return moment;
    }
    let written = moment.to_text();
    if given.as_deref() != Some(&*written) {
        assign(event, plan, name, &written);
    }
    moment
}

fn assign(event: &mut Event, plan: &Plan, name: &'static str, text: &str) {
    let value = Value::from(text);
    if plan.need_of(event.index).member(name).is_some()
        && let Some(body) = event.body.as_object_mut()
    {
        body.insert(name.into(), value.clone());
    }
    event.assigned.push((name, value));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::decode::{decode, decode_as};
    use crate::event::{Need, identity::IdInput};

    const AT: &str = "2026-11-20T12:30:07.000Z";

    fn enriched(json: &str, at: &str, ip: Option<&str>) -> (Event, serde_json::Value) {
        let plan = Plan::everything(&["track"]);
        let raw = Bytes::copy_from_slice(json.as_bytes());
        let mut event = decode_as(&raw, &plan, Some("track")).unwrap();
        enrich(&mut event, &plan, at.parse().unwrap(), ip);
        let kept = event.original();
        assert_eq!(kept.to_value().unwrap(), event.body, "what is kept is what a script sees");
        let body = serde_json::from_slice(&kept.to_json()).unwrap();
        (event, body)
    }

    #[test]
    fn times_are_those_of_the_gateway() {
        let mut cases = 0;
        for line in include_str!("../../tests/data/gateway/times.ndjson").lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let at = case["received_at"].as_str().unwrap();
            let (_, body) = enriched(&case["event"].to_string(), at, None);
            for (name, time) in case["expect"].as_object().unwrap() {
                assert_eq!(&body[name], time, "{name} of {}", case["name"]);
            }
            cases += 1;
        }
        assert_eq!(cases, 12);
    }

    #[test]
    fn missing_members_are_filled_in() {
        let (_, body) =
            enriched(r#"{"userId":"u-1001","anonymousId":"anon-55"}"#, AT, Some("192.0.2.1"));
        assert_eq!(body["rudderId"], "4b88c106-f5d7-47a8-8870-7a9bb35fc671");
        assert_eq!(body["request_ip"], "192.0.2.1");
        assert_eq!(body["receivedAt"], AT);
        let id = Uuid::parse_str(body["messageId"].as_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 4);
    }

    #[test]
    fn received_members_stay_except_rudder_id_and_received_at() {
        let (event, body) = enriched(
            r#"{"userId":"u-1001","rudderId":"x","messageId":"m1","request_ip":"198.51.100.7","receivedAt":"2020-01-01T00:00:00.000Z","originalTimestamp":"2026-11-20T12:30:07.000Z","sentAt":"2026-11-20T12:30:07.000Z","timestamp":"2026-11-20T12:30:07.000Z"}"#,
            AT,
            Some("192.0.2.1"),
        );
        assert_eq!(body["rudderId"], "e2763d1a-6980-4662-929c-744d26478884");
        assert_eq!(body["request_ip"], "198.51.100.7");
        assert_eq!(body["messageId"], "m1");
        assert_eq!(body["receivedAt"], AT);
        let names: Vec<_> = event.assigned.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["type", "rudderId", "receivedAt"], "the rest is as it was");
    }

    #[test]
    fn message_ids_are_cleaned_or_made() {
        let id = |json| enriched(json, AT, None).1["messageId"].as_str().unwrap().to_owned();
        assert_eq!(id(r#"{"messageId":" m\u200b1 "}"#), "m1");
        for json in [r#"{"messageId":5}"#, r#"{"messageId":" "}"#, r#"{"messageId":null}"#] {
            assert_eq!(id(json).len(), 36, "{json}");
        }
    }

    #[test]
    fn without_a_client_address_none_is_made_up() {
        let (_, body) = enriched("{}", AT, None);
        assert_eq!(body.get("request_ip"), None);
    }

    #[test]
    fn a_script_sees_only_what_it_reads() {
        let need = Need::Some(vec![("timestamp".into(), Need::All)]);
        let plan = Plan::new(vec![("track".into(), need)]);
        let mut event = decode(&Bytes::from_static(br#"{"type":"track"}"#), &plan).unwrap();
        enrich(&mut event, &plan, AT.parse().unwrap(), None);
        let body = event.body.as_object().unwrap();
        assert_eq!(body.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["timestamp"]);
    }

    #[test]
    fn ids_are_made_of_the_times_as_received() {
        let (event, body) = enriched(r#"{"timestamp":"2024-03-01 12:34:56"}"#, AT, None);
        let input = IdInput::of(&event);
        assert_eq!(input.ms, 1_709_296_496_000);
        assert_eq!(&*input.message_id, body["messageId"].as_str().unwrap());
        let (event, _) = enriched(r#"{"timestamp":"soon"}"#, AT, None);
        assert_eq!(IdInput::of(&event).ms, 0);
    }
}
