//! Events of several hundred people, and what must have become of them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{SecondsFormat, Utc};
use rudder_customerio::sandbox::Identifier;
use rudder_customerio::sandbox::RunningSandbox;
use rudder_customerio::sandbox::StoredEvent;
use serde_json::{Value, json};

/// People of the file, and of each client of the HTTP input.
const PEOPLE: u64 = 200;

/// What Vector makes of 2^64 − 1.
const BIG: &str = "18446744073709551615";

/// What arrived must be this.
#[derive(Debug, Default)]
pub struct Wanted {
    pub lines: u64,
    /// Tracks by their number: whose they were, whose they are in the end, and whether they have a
    /// `messageId`.
    tracks: BTreeMap<u64, (String, String, bool)>,
    /// The number in each person's last identify.
    traits: BTreeMap<String, u64>,
    /// The number in each group's last event, and its people.
    groups: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// People that another one took over.
    gone: BTreeSet<String>,
    pub withheld: u64,
    pub filtered: u64,
}

/// How strictly arrivals are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Rigour {
    /// Requests were in flight one at a time, so that the order is kept.
    pub ordered: bool,
    /// Vector read lines twice, so that events without `messageId` are new events.
    pub read_twice: bool,
}

/// A writer of lines.
pub struct Traffic {
    random: fastrand::Rng,
    number: u64,
    without_ids: bool,
    padding: String,
    pub wanted: Wanted,
}

impl Traffic {
    /// `without_ids` lets some events have no `messageId`; each is larger by `padding` bytes.
    pub fn new(seed: u64, without_ids: bool, padding: usize) -> Self {
        let (random, padding) = (fastrand::Rng::with_seed(seed), "x".repeat(padding));
        Self { random, number: 0, without_ids, padding, wanted: Wanted::default() }
    }

    /// Writes at least `count` lines about people of an origin.
    pub fn lines(&mut self, origin: &str, count: usize) -> Vec<String> {
        let (mut lines, mut known) = (Vec::new(), BTreeSet::new());
        while lines.len() < count {
            let person = format!("{origin}-{}", self.random.u64(0..PEOPLE));
            match self.random.u8(0..100) {
                0..2 => {
                    self.wanted.withheld += 1;
                    let denied = json!({"provider": "oneTrust", "deniedConsentIds": ["C4"]});
                    let context = json!({ "consentManagement": denied });
                    let event = json!({"type": "track", "event": "No", "context": context});
                    lines.push(self.line(&person, event, true));
                }
                2..4 => {
                    self.wanted.filtered += 1;
                    let integrations = json!({"All": true, "Customer IO": false});
                    let event =
                        json!({"type": "track", "event": "No", "integrations": integrations});
                    lines.push(self.line(&person, event, true));
                }
                4..20 => {
                    lines.push(self.identify(&person));
                    known.insert(person);
                }
                20..28 => lines.push(self.group(origin, &person)),
                28..34 => {
                    if known.insert(person.clone()) {
                        lines.push(self.identify(&person));
                    }
                    let old = format!("{person}-old-{}", self.number);
                    for _ in 0..self.random.u8(1..4) {
                        lines.push(self.track(&old, &person, true));
                    }
                    let event = json!({"type": "alias", "previousId": old});
                    lines.push(self.line(&person, event, true));
                    self.wanted.gone.insert(old);
                }
                _ => {
                    let has_id = !self.without_ids || self.random.u8(0..10) > 0;
                    lines.push(self.track(&person, &person, has_id));
                }
            }
        }
        self.wanted.lines += lines.len() as u64;
        lines
    }

    fn identify(&mut self, person: &str) -> String {
        self.number += 1;
        self.wanted.traits.insert(person.to_owned(), self.number);
        let traits =
            json!({"n": self.number, "email": format!("{person}@example.com"), "score": 0.1});
        self.line(person, json!({"type": "identify", "traits": traits}), true)
    }

    fn group(&mut self, origin: &str, person: &str) -> String {
        self.number += 1;
        let name = format!("{origin}-group-{}", self.random.u8(0..20));
        let (last, people) = self.wanted.groups.entry(name.clone()).or_default();
        *last = self.number;
        people.insert(person.to_owned());
        let event = json!({"type": "group", "groupId": name, "traits": {"n": self.number}});
        self.line(person, event, true)
    }

    fn track(&mut self, person: &str, owner: &str, has_id: bool) -> String {
        self.number += 1;
        let track = (person.to_owned(), owner.to_owned(), has_id);
        self.wanted.tracks.insert(self.number, track);
        let properties = json!({
            "n": self.number, "by": person, "big": u64::MAX, "price": 9.50, "empty": {}, "none": [],
            "text": "ünï\u{0}\u{2028}",
        });
        self.line(
            person,
            json!({"type": "track", "event": "Step", "properties": properties}),
            has_id,
        )
    }

    fn line(&mut self, person: &str, mut event: Value, has_id: bool) -> String {
        self.number += 1;
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        event["userId"] = person.into();
        event["channel"] = "web".into();
        event["context"]["library"] =
            json!({"name": "RudderLabs JavaScript SDK", "version": "3.7.5"});
        event["context"]["pad"] = self.padding.as_str().into();
        if has_id {
            event["messageId"] = format!("m-{}", self.number).into();
        }
        // Some senders leave out the times.
        if self.random.u8(0..8) > 0 {
            event["originalTimestamp"] = now.as_str().into();
            event["sentAt"] = now.into();
        }
        event.to_string()
    }
}

impl Wanted {
    /// Compares with what is stored at Customer.io.
    pub fn check(&self, sandbox: &RunningSandbox, rigour: Rigour) {
        let mut arrived: BTreeMap<u64, Vec<(String, StoredEvent)>> = BTreeMap::new();
        for person in sandbox.people() {
            let owner = person.id.clone().unwrap_or_default();
            for event in person.events {
                assert_eq!(event.name.as_deref(), Some("Step"), "not to be sent");
                let data: Value = serde_json::from_str(event.data.json()).unwrap();
                assert_eq!(data["big"], BIG, "{data}");
                arrived
                    .entry(data["n"].as_u64().unwrap())
                    .or_default()
                    .push((owner.clone(), event));
            }
        }
        let lost: Vec<_> = self.tracks.keys().filter(|n| !arrived.contains_key(n)).collect();
        assert!(lost.is_empty(), "{} events are lost: {lost:?}", lost.len());
        assert_eq!(arrived.len(), self.tracks.len(), "more than was sent");
        let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (n, (person, owner, has_id)) in &self.tracks {
            let events = &arrived[n];
            let once = events.len() == 1 || (rigour.read_twice && !has_id);
            assert!(once, "{n} of {person} arrived {} times: {events:?}", events.len());
            if !rigour.ordered {
                continue;
            }
            assert_eq!(&events[0].0, owner, "{n} of {person}");
            if *has_id || !rigour.read_twice {
                let sequence = events[0].1.sequence;
                let before = last.insert(person, (sequence, *n));
                assert!(
                    before.is_none_or(|(earlier, _)| earlier < sequence),
                    "{n} of {person} came before {before:?}"
                );
            }
        }
        self.check_people(sandbox, rigour.ordered);
    }

    fn check_people(&self, sandbox: &RunningSandbox, ordered: bool) {
        let person = |id: &str| sandbox.person(&Identifier::Id(id.to_owned()));
        for (id, n) in &self.traits {
            let stored = person(id).unwrap_or_else(|| panic!("{id} is not there"));
            if ordered {
                let stored = stored.attribute("n");
                assert_eq!(stored, Some(&json!(n)), "the last identify of {id} is not in force");
            }
        }
        for id in self.gone.iter().filter(|_| ordered) {
            assert_eq!(person(id), None, "{id} was to be merged");
        }
        let objects: BTreeMap<_, _> = sandbox
            .objects()
            .into_iter()
            .map(|object| (object.object_id.clone(), object))
            .collect();
        assert_eq!(objects.keys().collect::<Vec<_>>(), self.groups.keys().collect::<Vec<_>>());
        for (id, (n, people)) in &self.groups {
            let object = &objects[id];
            if ordered {
                assert_eq!(object.attributes["n"], json!(n), "the last group event of {id}");
            }
            assert_eq!(object.people.len(), people.len(), "people of {id}");
        }
    }

    /// The account of all lives agrees with what was sent; `copies` were sent at most.
    pub fn check_account(&self, account: &Value, copies: u64) {
        let of = |name: &str| account[name].as_u64().unwrap_or_else(|| panic!("{account}"));
        assert_eq!((of("buffered"), &account["gap"]), (0, &json!(0)), "{account}");
        for none in ["malformed", "dropped", "failed", "rejected"] {
            assert_eq!(of(none), 0, "{none}: {account}");
        }
        let delivered = self.lines - self.withheld - self.filtered;
        assert!(of("delivered") >= delivered && of("received") <= copies, "{account}");
        let ended = of("delivered") + of("withheld") + of("filtered");
        assert_eq!(of("received"), ended, "{account}");
        let range = self.lines..=copies;
        assert!(range.contains(&of("received")), "{account}, sent {range:?}");
        assert!(of("withheld") >= self.withheld && of("filtered") >= self.filtered, "{account}");
        if copies == self.lines {
            assert_eq!((of("withheld"), of("filtered")), (self.withheld, self.filtered));
        }
    }
}
