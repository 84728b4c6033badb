//! What makes an event the same event when it comes again: the input of the deterministic id.

use super::decode::{Scalar, number_text, scalar, text_of};
use super::{Event, Span, times};

/// The six values from which event ids are made (Customer.io Track API: event deduplication).
///
/// Taken from the event as received, before any time is filled in or corrected.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdInput {
    /// `messageId`, or the one that the source assigned.
    pub message_id: Box<str>,
    /// The type in lower case.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// `event`, else `name`: the first that is a text.
    pub name: Box<str>,
    /// `userId`; a number as its shortest decimal text.
    pub user_id: Box<str>,
    /// `anonymousId`.
    pub anonymous_id: Box<str>,
    /// First of `originalTimestamp` and `timestamp` that is a date, in Unix milliseconds, else 0.
    pub ms: u64,
}

/// The largest time that a ULID can hold, in milliseconds.
const MAX_MS: i64 = (1 << 48) - 1;

impl IdInput {
    /// Takes the values from an event, enriched or not.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let spans = &event.spans;
        let text = |span: Option<Span>| text_of(&event.raw, span);
        let boxed = |span| text(span).map_or_else(Box::default, Box::from);
        let message_id = match event.assigned("messageId").and_then(|id| id.as_string()) {
            Some(id) => Box::from(&**id),
            None => boxed(spans.message_id),
        };
        let user_id = match scalar(&event.raw, spans.user_id) {
            Scalar::Text(text) => Box::from(text),
            Scalar::Number(number) => Box::from(number_text(number)),
            _ => Box::default(),
        };
        let date = |span| text(span).and_then(|text| times::iso::unix_ms(&text));
        let ms = date(spans.original_timestamp)
            .or_else(|| date(spans.timestamp))
            .filter(|ms| (0..=MAX_MS).contains(ms))
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(0);
        Self {
            message_id,
            type_name: Box::from(&*event.type_name),
            name: text(spans.event)
                .or_else(|| text(spans.name))
                .map_or_else(Box::default, Box::from),
            user_id,
            anonymous_id: boxed(spans.anonymous_id),
            ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Plan;
    use crate::event::decode::decode;

    fn input(json: &'static str) -> IdInput {
        let plan = Plan::new(vec![("track".into(), crate::event::Need::Some(vec![]))]);
        IdInput::of(&decode(&Bytes::from(json), &plan).unwrap())
    }

    #[test]
    fn the_values_are_those_of_the_event_as_received() {
        let input = input(
            r#"{"type":"Track","messageId":"msg-0001","event":"Order \u00c9","name":"x","userId":"u-100","anonymousId":"anon-1","originalTimestamp":"2024-03-01T12:34:56.789Z","timestamp":"2020-01-01"}"#,
        );
        let expected = IdInput {
            message_id: "msg-0001".into(),
            type_name: "track".into(),
            name: "Order É".into(),
            user_id: "u-100".into(),
            anonymous_id: "anon-1".into(),
            ms: 1_709_296_496_789,
        };
        assert_eq!(input, expected);
    }

    #[test]
    fn what_is_no_text_counts_as_absent_except_a_number_as_user_id() {
        let odd = input(
            r#"{"type":"screen","messageId":1,"event":2,"name":"n","userId":1.50,"anonymousId":7,"originalTimestamp":1709296496789,"timestamp":"2024"}"#,
        );
        assert_eq!((&*odd.message_id, &*odd.name, &*odd.user_id), ("", "n", "1.5"));
        assert_eq!((&*odd.anonymous_id, odd.ms), ("", 1_704_067_200_000));
        let empty = input(r#"{"type":"screen","userId":true,"name":null}"#);
        assert_eq!(empty, IdInput { type_name: "screen".into(), ..IdInput::default() });
    }

    #[test]
    fn a_time_that_a_ulid_cannot_hold_is_zero_even_if_another_could() {
        let ms = |json| input(json).ms;
        assert_eq!(ms(r#"{"type":"a","originalTimestamp":"1969-12-31","timestamp":"2024"}"#), 0);
        assert_eq!(ms(r#"{"type":"a","originalTimestamp":"+020000-01-01"}"#), 0);
        assert_eq!(ms(r#"{"type":"a","originalTimestamp":"soon","timestamp":"1970"}"#), 0);
    }
}
