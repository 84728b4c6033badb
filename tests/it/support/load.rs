//! Clients that send until they are told to stop, repeat what was not answered 200, and know what
//! must have become of every event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use rudder_customerio::sandbox::{Identifier, RunningSandbox};
use serde_json::{Value, json};

use super::lives::{Lives, numbered};
use super::{PATIENCE, line::Line};

const CLIENTS: u64 = 4;
/// People of each client. A person belongs to one client, so that the order is defined.
const PEOPLE: u64 = 5;

/// A value that Customer.io refuses, item by item.
const TOO_LONG: usize = 1_001;

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Sent>>,
}

/// What was answered 200, by what must become of it.
#[derive(Debug, Default)]
pub struct Sent {
    /// How many tracks each person did; they are numbered from 1.
    tracks: BTreeMap<String, u64>,
    /// The number in each person's last good identify.
    traits: BTreeMap<String, u64>,
    /// Message ids of identifies, good for delivery.
    identifies: u64,
    /// Message ids of events that the mapping fails.
    failed: BTreeSet<String>,
    /// Message ids of events that Customer.io refuses.
    refused: BTreeSet<String>,
    withheld: u64,
    /// Events in all requests that were begun, repeated ones each time.
    copies: u64,
    /// Requests that had to be repeated.
    repeats: u64,
    /// Answers with 503.
    pub refusals: u64,
}

struct Client {
    number: u64,
    random: fastrand::Rng,
    serial: u64,
    outcast: Option<&'static str>,
    padding: String,
    sent: Sent,
}

impl Load {
    /// Starts sending. What is sent depends on the seed alone; how far it gets, on the machine.
    /// Customer.io is expected to refuse whatever is for the `outcast`. `padding` bytes are added to
    /// every event.
    pub fn start(
        gateway: SocketAddr,
        seed: u64,
        outcast: Option<&'static str>,
        padding: usize,
    ) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |number: u64| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
            let (padding, sent) = ("x".repeat(padding), Sent::default());
            let client = Client { number, random, serial: 0, outcast, padding, sent };
            spawn(move || client.send_until(&stop, &answered, gateway))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, answered, clients }
    }

    /// Returns how many requests were answered 200 so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends once the last request of each client was answered 200.
    pub fn finish(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Sent::default();
        for client in self.clients {
            all.add(client.join().expect("a client panicked"));
        }
        all
    }
}

impl Client {
    fn send_until(mut self, stop: &AtomicBool, answered: &AtomicU64, gateway: SocketAddr) -> Sent {
        let mut line = Line::to(gateway);
        while !stop.load(Ordering::Relaxed) {
            let batch: Vec<_> = (0..self.random.u64(1..=10)).map(|_| self.next_event()).collect();
            let body = json!({ "batch": batch }).to_string();
            // As long as the test goes on, lives may be shorter than a request takes.
            let mut last_life = None;
            loop {
                self.sent.copies += batch.len() as u64;
                match line.post("/v1/batch", body.as_bytes()) {
                    Ok(answer) if answer.status == 200 => break,
                    Ok(answer) => {
                        // Nothing else has a reason here.
                        assert_eq!(answer.status, 503, "{}", answer.text());
                        self.sent.refusals += 1;
                    }
                    Err(_) => {}
                }
                self.sent.repeats += 1;
                if stop.load(Ordering::Relaxed) {
                    let begin = *last_life.get_or_insert_with(Instant::now);
                    assert!(begin.elapsed() < PATIENCE, "a request was never answered 200");
                }
                sleep(Duration::from_millis(3));
            }
            answered.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_micros(self.random.u64(0..8_000)));
        }
        self.sent
    }

    fn next_event(&mut self) -> Value {
        self.serial += 1;
        let message_id = format!("c{}-{}", self.number, self.serial);
        let who = format!("p{}-{}", self.number, self.random.u64(0..PEOPLE));
        let sent = &mut self.sent;
        let mut event = match self.random.u8(0..100) {
            0..3 => {
                sent.failed.insert(message_id.clone());
                json!({"type": "track"})
            }
            3..6 => {
                sent.refused.insert(message_id.clone());
                json!({"type": "identify", "traits": {"long": "x".repeat(TOO_LONG)}})
            }
            6..9 => {
                sent.withheld += 1;
                let denied = json!({"provider": "oneTrust", "deniedConsentIds": ["C4"]});
                json!({"type": "track", "event": "Withheld",
                    "context": {"consentManagement": denied}})
            }
            9..25 if self.outcast == Some(&who) => {
                sent.refused.insert(message_id.clone());
                json!({"type": "identify", "traits": {"n": self.serial}})
            }
            25.. if self.outcast == Some(&who) => {
                sent.refused.insert(message_id.clone());
                json!({"type": "track", "event": "Step", "properties": {"n": 0}})
            }
            9..25 => {
                sent.identifies += 1;
                sent.traits.insert(who.clone(), self.serial);
                json!({"type": "identify", "traits": {"n": self.serial}})
            }
            _ => {
                let n = sent.tracks.entry(who.clone()).or_default();
                *n += 1;
                json!({"type": "track", "event": "Step", "properties": {"n": n}})
            }
        };
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        event["context"]["pad"] = self.padding.as_str().into();
        event["userId"] = who.into();
        event["messageId"] = message_id.into();
        event["originalTimestamp"] = now.into();
        event
    }
}

impl Sent {
    fn add(&mut self, mut other: Self) {
        self.tracks.append(&mut other.tracks);
        self.traits.append(&mut other.traits);
        self.failed.append(&mut other.failed);
        self.refused.append(&mut other.refused);
        self.identifies += other.identifies;
        self.withheld += other.withheld;
        self.copies += other.copies;
        self.repeats += other.repeats;
        self.refusals += other.refusals;
    }

    /// Returns how many different events must have been delivered.
    pub fn deliverable(&self) -> u64 {
        self.tracks.values().sum::<u64>() + self.identifies
    }

    /// Compares with what is stored at Customer.io and in the dead letters, once all is settled.
    pub fn check(&self, lives: &Lives) {
        self.check_events(&lives.sandbox);
        for (person, n) in &self.traits {
            let who = Identifier::Id(person.clone());
            let stored = lives.sandbox.person(&who).and_then(|p| p.attribute("n").cloned());
            assert_eq!(stored, Some(json!(n)), "the last identify of {person} is not in force");
        }
        assert_eq!(lives.letters_of("failed"), self.failed, "dead letters of failed events");
        assert_eq!(lives.letters_of("rejected"), self.refused, "dead letters of rejected events");
    }

    /// Every track is there once, in the order in which it was sent.
    fn check_events(&self, sandbox: &RunningSandbox) {
        let people = sandbox.people();
        let mut stored = BTreeMap::new();
        for person in people.iter().filter(|person| !person.events.is_empty()) {
            let events = numbered(person);
            let other = events.iter().find(|(_, event)| event.name.as_deref() != Some("Step"));
            assert_eq!(other, None, "not to be sent");
            stored.insert(person.id.clone().unwrap_or_default(), events);
        }
        let sent: BTreeSet<_> = self.tracks.keys().collect();
        assert_eq!(stored.keys().collect::<BTreeSet<_>>(), sent);
        for (person, count) in &self.tracks {
            let events = stored.get(person).map(Vec::as_slice).unwrap_or_default();
            let numbers: Vec<_> = events.iter().filter_map(|(number, _)| *number).collect();
            let wanted: Vec<_> = (1..=*count).collect();
            if numbers != wanted {
                let at = numbers.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
                let from = at.saturating_sub(3);
                let near = events.iter().skip(from).take(12);
                let near: Vec<_> = near.map(|(n, event)| (n, event.request, &event.id)).collect();
                let missing: Vec<_> = wanted.iter().filter(|n| !numbers.contains(n)).collect();
                panic!(
                    "{person} has {} of {count} events, missing {missing:?}; from place {at} they \
                     are not as sent (number, request, id): {near:?}",
                    numbers.len()
                );
            }
        }
    }

    /// The account of all lives, as `/status` has it, agrees with what was sent.
    pub fn check_account(&self, account: &Value) {
        let of = |name: &str| account[name].as_u64().unwrap_or_else(|| panic!("{account}"));
        assert_eq!((of("buffered"), &account["gap"]), (0, &json!(0)), "{account}");
        let ended =
            ["malformed", "filtered", "withheld", "dropped", "failed", "delivered", "rejected"];
        assert_eq!(of("received"), ended.into_iter().map(of).sum::<u64>(), "{account}");
        // A request whose answer was lost is sent, stored, and counted again.
        let range = self.deliverable()..=self.copies;
        assert!(range.contains(&of("delivered")), "{account}, sent {range:?}");
        let refused = self.refused.len() as u64;
        assert!((refused..=refused + self.copies).contains(&of("rejected")), "{account}");
    }

    /// One line for the log of a test.
    pub fn summary(&self) -> String {
        format!(
            "{} events to deliver, {} failed, {} refused, {} withheld; {} sent, {} requests repeated, \
             {} of them answered 503",
            self.deliverable(),
            self.failed.len(),
            self.refused.len(),
            self.withheld,
            self.copies,
            self.repeats,
            self.refusals
        )
    }
}
