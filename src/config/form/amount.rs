//! Numbers, sizes, and durations between bounds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::context::Context;
use crate::config::declare::{Form, reference_schema};
use crate::config::tree::{Data, Node};
use crate::config::units;

/// A whole number between bounds, both included.
pub(in crate::config) struct Count<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Form<T> for Count<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        let scalar = cx.scalar(node, false)?;
        let number = match scalar.data {
            Data::Integer(number) => u64::try_from(number).ok(),
            Data::Text(text) if scalar.referenced => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => return cx.wrong_type(node, "a whole number", ""),
            },
            _ => return cx.wrong_type(node, "a whole number", ""),
        };
        match number.filter(|n| (MIN..=MAX).contains(n)).and_then(|n| T::try_from(n).ok()) {
            Some(value) => Some(value),
            None => out_of_range(node, cx, &MIN.to_string(), &MAX.to_string()),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": MIN, "maximum": MAX }, reference_schema(),
        ] })
    }
}

/// A size such as `512 MiB`, or bytes, between bounds in bytes.
pub(in crate::config) struct Size<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Form<T> for Size<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<T> {
        const UNITS: &str =
            "write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB, or TiB: 512 MiB";
        let bytes = match cx.scalar(node, false)?.data {
            Data::Integer(number) => u64::try_from(number).ok(),
            Data::Text(text) => match units::size(&text) {
                Some(bytes) => Some(bytes),
                None => return cx.error(node.at, "bad_unit", "this is not a size", UNITS),
            },
            _ => return cx.wrong_type(node, "a size", UNITS),
        };
        match bytes.filter(|n| (MIN..=MAX).contains(n)).and_then(|n| T::try_from(n).ok()) {
            Some(value) => Some(value),
            None => out_of_range(node, cx, &units::show_size(MIN), &units::show_size(MAX)),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": MIN, "maximum": MAX },
            { "type": "string", "pattern": "^[0-9_]+ *(B|kB|KB|MB|GB|KiB|MiB|GiB|TiB)?$" },
            reference_schema(),
        ] })
    }
}

/// A duration such as `30s`, between bounds in milliseconds.
pub(in crate::config) struct Period<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Form<Duration> for Period<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Duration> {
        const UNITS: &str = "write a whole number with ms, s, m, h, or d: 30s";
        let read = match cx.scalar(node, false)?.data {
            Data::Integer(0) => Some(Duration::ZERO),
            Data::Text(text) => units::period(&text),
            Data::Integer(_) | Data::Float(_) => None,
            _ => return cx.wrong_type(node, "a duration", UNITS),
        };
        let Some(period) = read else {
            return cx.error(node.at, "bad_unit", "this is not a duration with its unit", UNITS);
        };
        if (u128::from(MIN)..=u128::from(MAX)).contains(&period.as_millis()) {
            return Some(period);
        }
        out_of_range(node, cx, &units::show_period(MIN), &units::show_period(MAX))
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "string", "pattern": "^([0-9_]+ *(ms|s|m|h|d)|0)$" },
            { "const": 0 },
            reference_schema(),
        ] })
    }
}

fn out_of_range<T>(node: &Node, cx: &mut Context<'_>, min: &str, max: &str) -> Option<T> {
    let message = format!("the value must be between {min} and {max}");
    cx.error(node.at, "out_of_range", message, "")
}
