//! What becomes of the events that people send to the demo themselves.
//!
//! The running pipeline keeps no record of single events, so what was delivered is told from the
//! sandbox's request log, and what ended in another way from the growth of the account.

use std::time::Duration;

use serde_json::Value;

use super::{story, tell};
use crate::outcome::{LedgerSnapshot, OutcomeKind};
use crate::sandbox::RunningSandbox;
use crate::sandbox::log::RequestRecord;
use crate::sink::SinkHandle;

/// How often it is looked for news.
const PAUSE: Duration = Duration::from_millis(200);

/// Tells what becomes of every event after those in `told`, for ever.
pub async fn tell_arrivals(sandbox: &RunningSandbox, sink: &SinkHandle, mut told: LedgerSnapshot) {
    let mut seen = sandbox.requests().last().map_or(0, |request| request.number);
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = sink.ledger().snapshot();
        tell(&kept_back(&told, &now));
        told = now;
        let requests = sandbox.requests();
        let news = |request: &&RequestRecord| request.number > seen && request.items > 0;
        for request in requests.iter().filter(news) {
            tell(&arrived(request));
        }
        seen = requests.last().map_or(seen, |request| request.number.max(seen));
    }
}

/// One line per reason for which events were kept back between two accounts.
fn kept_back(before: &LedgerSnapshot, now: &LedgerSnapshot) -> String {
    let mut text = String::new();
    for ((kind, reason), n) in &now.ended {
        let more = n.saturating_sub(before.ended.get(&(*kind, *reason)).copied().unwrap_or(0));
        if more == 0 || *kind == OutcomeKind::Delivered {
            continue;
        }
        let events = if more == 1 { "your event".to_owned() } else { format!("{more} events") };
        let ending = match reason {
            Some(reason) => format!("✗ {kind}: {reason}"),
            None => format!("✗ {kind}"),
        };
        text.push_str(&story::line(&events, &ending));
    }
    text
}

/// One line per operation that a request brought.
fn arrived(request: &RequestRecord) -> String {
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let Some(operations) = body["batch"].as_array() else {
        // The log keeps the beginning of a long body only.
        return format!(
            "  Customer.io took {} of {} operations, answered {}\n",
            request.accepted, request.items, request.status
        );
    };
    let mut text = String::new();
    for (index, operation) in operations.iter().enumerate() {
        let refusal = request.errors.iter().find(|error| error.batch_index == index);
        let ending = match refusal {
            Some(error) => format!("✗ Customer.io refuses {}: {}", error.field, error.message),
            None if request.accepted == 0 => format!("✗ Customer.io answers {}", request.status),
            None => format!("→ {}", story::effect(operation)),
        };
        text.push_str(&story::line(&title(operation), &ending));
    }
    text
}

/// Names an operation as the event that it comes from: kind, person, name.
fn title(operation: &Value) -> String {
    let kind = match (operation["type"].as_str(), operation["action"].as_str()) {
        (Some("object"), _) => "group",
        (_, Some("event" | "add_device" | "delete_device")) => "track",
        (_, Some("merge")) => "alias",
        (_, action) => action.unwrap_or("?"),
    };
    let person = |ids: &Value| {
        let text = |key: &str| ids[key].as_str().map(str::to_owned);
        text("id").or_else(|| text("email")).or_else(|| text("anonymous_id"))
    };
    let related = &operation["cio_relationships"][0]["identifiers"];
    let who = [&operation["identifiers"], &operation["primary"], related];
    let who = who.into_iter().find_map(person).unwrap_or_else(|| "nobody".to_owned());
    let what = operation["name"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| operation["identifiers"]["object_id"].as_str().map(str::to_owned))
        .or_else(|| person(&operation["secondary"]));
    story::columns(kind, &who, what.as_deref())
}

#[cfg(test)]
mod tests {
    use crate::outcome::{Ledger, Outcome, ReasonCode, Tally};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_kept_back_shows_with_its_reason_and_what_was_delivered_does_not() {
        let ledger = Ledger::default();
        let enter = |outcomes: &[Outcome]| {
            let mut tally = Tally::default();
            outcomes.iter().for_each(|outcome| tally.end(outcome));
            ledger.enter(&tally);
            ledger.snapshot()
        };
        let withheld = || Outcome::Withheld(ReasonCode::GenericDenied.into());
        let before = enter(&[withheld()]);
        let now = enter(&[withheld(), Outcome::Delivered]);
        let text = kept_back(&before, &now);
        assert!(text.contains("your event") && text.contains("✗ withheld: generic_denied"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(kept_back(&now, &now), "");
    }

    #[test]
    fn operations_are_named_like_the_samples() {
        let event = json!({ "type": "person", "action": "event", "name": "Said Hello",
            "identifiers": { "id": "you" } });
        assert_eq!(title(&event), "track     you            Said Hello");
        let group = json!({ "type": "object", "action": "identify",
            "identifiers": { "object_id": "acme", "object_type_id": "1" },
            "cio_relationships": [ { "identifiers": { "email": "a@example.org" } } ] });
        assert_eq!(title(&group), "group     a@example.org  acme");
        let alias = json!({ "type": "person", "action": "merge",
            "primary": { "id": "new" }, "secondary": { "id": "old" } });
        assert_eq!(title(&alias), "alias     new            old");
    }
}
