//! SIGKILL at any moment, again and again: nothing answered 200 is lost, doubled, or reordered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rudder_customerio::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::support::lives::{ADMIN_TOKEN, Lives};
use crate::support::load::{Load, Sent};
use crate::support::{eventually, exchange, number_from};

/// Asks `/status` again and again, in every life; the law holds whenever somebody answers.
struct Watch {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(lives: &Lives) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (admin, is_over, seen) = (lives.admin, Arc::clone(&stop), Arc::clone(&answers));
        let thread = std::thread::spawn(move || {
            let request = format!(
                "GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
                 Connection: close\r\n\r\n"
            );
            while !is_over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(10));
                let Ok(answer) = exchange(admin, request.as_bytes()) else { continue };
                // A kill may cut it.
                let Ok(status) = serde_json::from_slice::<Value>(&answer.body) else { continue };
                assert_eq!(status["ledger"]["gap"], 0, "{status}");
                if !status["all_lives"].is_null() {
                    assert_eq!(status["all_lives"]["gap"], 0, "{status}");
                }
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answers, thread }
    }

    /// Returns how often somebody answered, once that is more than never.
    fn finish(self) -> u64 {
        eventually("somebody looks at the law", || {
            self.thread.is_finished() || self.answers.load(Ordering::Relaxed) > 0
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the law did not hold");
        self.answers.load(Ordering::Relaxed)
    }
}

/// A schedule of kills, and what is wrong at Customer.io meanwhile.
pub struct Schedule {
    pub kills: u64,
    pub faults: Value,
    /// A person whose every operation is refused by a fault.
    pub outcast: Option<&'static str>,
    /// Laid over the configuration.
    pub config: Value,
    /// See [`Lives::within`].
    pub within: Vec<String>,
    /// Bytes by which every event is larger than it has to be.
    pub padding: usize,
    /// Whether lives go on until there is no more room.
    pub until_full: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        // Answers take a while, so that every life leaves something behind.
        let faults = json!([{"do": {"latency": {"p50": "4ms", "p99": "60ms"}}}]);
        let (config, within) = (json!({}), Vec::new());
        Self { kills: 50, faults, outcast: None, config, within, padding: 0, until_full: false }
    }
}

/// Kills under load, and checks everything at the end.
pub fn kill_under_load(schedule: &Schedule) -> Sent {
    let seed = number_from("KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("again with KILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lives = Lives::beside(Sandbox::builder().seed(seed), &schedule.config);
    lives.within.clone_from(&schedule.within);
    lives.set_faults(&schedule.faults);
    let load = Load::start(lives.gateway, seed, schedule.outcast, schedule.padding);
    let watch = Watch::start(&lives);
    let begin = Instant::now();
    for life in 0..schedule.kills {
        lives.spawn();
        // One in five dies while it starts, or while it repairs what the last one left.
        let longest = if random.u8(0..5) == 0 {
            80
        } else {
            lives.wait_ready();
            if schedule.until_full {
                eventually("the disk is full", || !lives.is_ready());
            } else {
                // Where a request takes longer than most lives, one is answered now and then.
                eventually("there is load", || load.answered() >= life);
            }
            150
        };
        sleep(Duration::from_millis(random.u64(0..=longest)));
        lives.kill();
        // One life in ten more ends as when an operator is in a hurry.
        if random.u8(0..10) == 0 {
            lives.start();
            sleep(Duration::from_millis(random.u64(0..=50)));
            lives.leave_at_once();
        }
    }
    let killing = begin.elapsed();
    lives.start();
    let sent = load.finish();
    let status = lives.settled();
    let asked = watch.finish();
    let account = &status["all_lives"];
    println!("{} kills in {killing:?}, /status asked {asked} times", schedule.kills);
    println!("{}\n{account}\n{:?}", sent.summary(), lives.sandbox.stats());
    sent.check(&lives);
    sent.check_account(account);
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(0), "{said}");
    let inspected: Value = serde_json::from_slice(&lives.command(&["buffer", "inspect", "--json"]))
        .expect("inspect prints JSON");
    assert_eq!(&inspected["all_lives"], account, "the account on disk");
    assert!(sent.deliverable() > schedule.kills, "there was no load: {}", sent.summary());
    sent
}

#[test]
fn nothing_answered_200_is_lost_doubled_or_reordered_over_many_kills() {
    let kills = number_from("KILLS").unwrap_or(50);
    kill_under_load(&Schedule { kills, ..Schedule::default() });
}

#[test]
fn kills_with_ack_delivered_and_one_operation_per_person_and_request() {
    let config = json!({"sources": {"ack": "delivered"}, "customerio": {"ordering": "strict"}});
    kill_under_load(&Schedule { kills: 5, config, ..Schedule::default() });
}

/// The long run, for a change of the buffer, of delivery, or of redb:
///
/// ```text
/// cargo test --test it -- --ignored --nocapture a_thousand_kills
/// ```
#[test]
#[ignore = "takes minutes; see the command above"]
fn nothing_is_lost_doubled_or_reordered_over_a_thousand_kills() {
    let kills = number_from("KILLS").unwrap_or(1_000);
    kill_under_load(&Schedule { kills, ..Schedule::default() });
}
