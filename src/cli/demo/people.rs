//! Who is in the sandbox, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::sandbox::RunningSandbox;
use crate::sandbox::workspace::view::PersonView;
use crate::sandbox::workspace::{Attribute, StoredEvent};

/// Attributes that are shown of a person; the sandbox's own pages have all.
const SHOWN: usize = 5;

/// Lists people, objects, and visitors.
pub fn describe(sandbox: &RunningSandbox) -> String {
    let mut text = String::from("Now in \"Customer.io\":\n");
    for person in sandbox.people() {
        let _infallible = write!(text, "  {}", one(&person));
    }
    for object in sandbox.objects() {
        let name = object.attributes.get("name").map(plain).unwrap_or_default();
        let people = object.people.len();
        let _infallible = writeln!(text, "  object {} {name}: {people} people", object.object_id);
    }
    let visitors = sandbox.anonymous();
    if !visitors.is_empty() {
        let events: usize = visitors.values().map(Vec::len).sum();
        let _infallible =
            writeln!(text, "  {} unknown visitors with {events} events", visitors.len());
    }
    text + "\n"
}

fn one(person: &PersonView) -> String {
    let ids = [person.id.as_deref(), person.email.as_deref()];
    let ids: Vec<&str> = ids.into_iter().flatten().collect();
    let attribute =
        |(name, known): (&String, &Attribute)| format!("{name}={}", plain(&known.value));
    let mut attributes: Vec<_> = person.attributes.iter().take(SHOWN).map(attribute).collect();
    if person.attributes.len() > SHOWN {
        attributes.push("…".to_owned());
    }
    let mut text = format!("{} {}\n", ids.join(" "), attributes.join(" "));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in &person.events {
        *counts.entry(name(event)).or_default() += 1;
    }
    if !counts.is_empty() {
        let each = |(name, n): (&String, &usize)| {
            if *n > 1 { format!("{name} ×{n}") } else { name.clone() }
        };
        let _infallible =
            writeln!(text, "    did: {}", counts.iter().map(each).collect::<Vec<_>>().join(", "));
    }
    for device in person.devices.values() {
        let _infallible = writeln!(text, "    has a device: {}", device.platform);
    }
    text
}

fn name(event: &StoredEvent) -> String {
    // Customer.io keeps no name of a page.
    event.name.clone().unwrap_or_else(|| "viewed a page".to_owned())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
