//! No room: on the disk, for the process, or within the buffer's bound. New events are refused with a
//! reason, what is stored is delivered, and then it goes on by itself.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;

use serde_json::{Value, json};

use crate::kills::{Schedule, kill_under_load};
use crate::support::line::Line;
use crate::support::lives::Lives;
use crate::support::{Answer, eventually};

/// Sends numbered events of some kilobytes each.
struct Sender {
    line: Line,
    next: u64,
    safe: BTreeSet<u64>,
}

impl Sender {
    fn to(lives: &Lives) -> Self {
        Self { line: Line::to(lives.gateway), next: 0, safe: BTreeSet::new() }
    }

    /// Sends ten new events, 100 kB together.
    fn send(&mut self) -> Answer {
        let numbers = self.next..self.next + 10;
        let event = |n: u64| {
            json!({"type": "track", "userId": format!("u-{}", n % 7), "event": "Big",
                "messageId": format!("m-{n}"), "originalTimestamp": "2026-01-01T00:00:00.000Z",
                "properties": {"n": n, "pad": "x".repeat(10_000)}})
        };
        let body = json!({"batch": numbers.clone().map(event).collect::<Vec<_>>()}).to_string();
        let answer = self.line.post("/v1/batch", body.as_bytes()).expect("the process answers");
        if answer.status == 200 {
            self.safe.extend(numbers);
            self.next += 10;
        }
        answer
    }

    /// Sends until a batch is refused, and returns the refusal.
    fn send_until_refused(&mut self) -> Answer {
        for _ in 0..1_000 {
            let answer = self.send();
            if answer.status != 200 {
                return answer;
            }
        }
        panic!("100 MB were taken");
    }

    /// Every event that was answered 200 is at Customer.io once, and nothing else.
    fn check(&self, lives: &Lives) {
        let safe: Vec<_> = self.safe.iter().copied().collect();
        assert_eq!(lives.delivered(), safe);
    }
}

fn assert_refused_for_now(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let after = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    assert!(after.is_some_and(|seconds| seconds > 0), "{answer:?}");
}

fn pause(lives: &Lives) {
    assert_eq!(lives.ask("POST", "/pause").expect("pause").status, 200);
}

fn resume(lives: &Lives) {
    assert_eq!(lives.ask("POST", "/resume").expect("resume").status, 200);
}

/// Lets no file grow beyond so many bytes.
fn file_limit(bytes: u64) -> Vec<String> {
    // Without the signal, a write beyond the limit fails like one to a full disk.
    let silent = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", "prlimit"].map(str::to_owned);
    silent.into_iter().chain([format!("--fsize={bytes}:unlimited")]).collect()
}

/// Puts a file system of so many bytes in the place of a folder, for the process alone.
fn small_disk(bytes: u64, folder: &Path) -> Vec<String> {
    let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec \"$@\"");
    let folder = folder.display().to_string();
    ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, &folder].map(str::to_owned).into()
}

/// Tells whether a command of [`small_disk`] works here.
fn can_mount(within: &[String]) -> bool {
    let [program, args @ ..] = within else { panic!("no command") };
    let can = Command::new(program).args(args).arg("true").status().is_ok_and(|s| s.success());
    if !can {
        // Not by a macro, whose output nobody sees if the test passes.
        let text =
            "SKIPPED: no file system can be mounted here; run as root, or allow user namespaces\n";
        std::io::stderr().write_all(text.as_bytes()).expect("write to standard error");
    }
    can
}

/// Lets files of the running process grow without a bound.
fn lift_limit(pid: u32) {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), "--fsize=unlimited"])
        .status()
        .expect("prlimit, of util-linux, is needed for this test");
    assert!(status.success(), "the limit could not be lifted");
}

#[test]
fn a_full_disk_refuses_with_a_reason_delivers_what_is_stored_and_goes_on_by_itself() {
    let mut lives = Lives::new(&json!({}));
    lives.within = file_limit(6_000_000);
    lives.start();
    let mut sender = Sender::to(&lives);

    pause(&lives);
    assert_refused_for_now(&sender.send_until_refused());
    assert!(!sender.safe.is_empty(), "nothing was taken before the disk was full");
    eventually("it says that it cannot take events", || !lives.is_ready());
    let reason = lives.ask("GET", "/readyz").expect("the process answers").text();
    assert!(reason.contains("buffer") || reason.contains("disk"), "{reason}");
    let status = lives.status();
    assert_eq!(status["ledger"]["gap"], 0, "{status}");
    assert_eq!(status["ledger"]["received"], sender.safe.len(), "refused is not received");

    // Still no room for the file to grow, but delivery makes some within.
    resume(&lives);
    lives.settled();
    sender.check(&lives);
    eventually("it takes events again once there is room", || sender.send().status == 200);
    eventually("it says so", || lives.is_ready());

    // Room from outside, while nothing is delivered.
    pause(&lives);
    assert_refused_for_now(&sender.send_until_refused());
    let waiting = lives.status()["ledger"]["buffered"].clone();
    assert_ne!(waiting, 0);
    lift_limit(lives.run().id());
    eventually("it takes events again once the disk has room", || sender.send().status == 200);
    eventually("it says so", || lives.is_ready());

    // Nothing of all that needs the same life.
    lives.kill();
    lives.start();
    let status = lives.settled();
    assert_eq!(status["all_lives"]["gap"], 0, "{status}");
    assert_eq!(lives.stop().0.code(), Some(0));
    sender.check(&lives);
}

#[test]
fn a_full_file_system_is_emptied_from_within_and_takes_events_again() {
    let mut lives = Lives::new(&json!({}));
    fs::create_dir(lives.data()).expect("make the data directory");
    lives.within = small_disk(12_000_000, &lives.data());
    if !can_mount(&lives.within) {
        return;
    }
    lives.start();
    let mut sender = Sender::to(&lives);
    for _ in 0..3 {
        pause(&lives);
        assert_refused_for_now(&sender.send_until_refused());
        eventually("it says that it cannot take events", || !lives.is_ready());
        assert_ne!(lives.status()["ledger"]["buffered"], 0);
        // Nobody makes room but delivery, which cannot write without some.
        resume(&lives);
        lives.settled();
        sender.check(&lives);
        eventually("it takes events again", || sender.send().status == 200);
        eventually("it says so", || lives.is_ready());
    }
    let status = lives.settled();
    assert_eq!(status["all_lives"]["gap"], 0, "{status}");
    assert_eq!(status["all_lives"]["delivered"], sender.safe.len(), "{status}");
    assert_eq!(lives.stop().0.code(), Some(0));
    sender.check(&lives);
}

#[test]
fn a_person_who_cannot_be_delivered_does_not_keep_a_full_file_system_full() {
    let mut lives = Lives::new(&json!({}));
    fs::create_dir(lives.data()).expect("make the data directory");
    lives.within = small_disk(16_000_000, &lives.data());
    if !can_mount(&lives.within) {
        return;
    }
    lives.start();
    lives.set_faults(&json!([{"match": {"person": "u-3"}, "do": {"status": 503}}]));
    let mut sender = Sender::to(&lives);
    for round in 1..=3 {
        pause(&lives);
        assert_refused_for_now(&sender.send_until_refused());
        resume(&lives);
        // A seventh of every row is theirs.
        let others = sender.safe.iter().filter(|n| *n % 7 != 3).count();
        eventually("everybody else is delivered", || lives.delivered().len() == others);
        eventually("it takes events again", || sender.send().status == 200);
        eventually(&format!("it says so (round {round})"), || lives.is_ready());
    }
    assert_eq!(lives.status()["ledger"]["gap"], 0);
    lives.set_faults(&json!([]));
    let status = lives.settled();
    assert_eq!(status["all_lives"]["gap"], 0, "{status}");
    assert_eq!(lives.stop().0.code(), Some(0));
    sender.check(&lives);
}

/// A shell that is the parent of two lives on one small disk, which is full when the second begins,
/// also for the note in the lock file.
const TWO_LIVES: &str = r#""$@" & child=$!
trap 'kill -TERM $child' TERM
while ! wait $child && kill -0 $child 2>/dev/null; do :; done
: > "$0/lock"
cat /dev/zero > "$0/filler" 2>/dev/null
trap - TERM
exec "$@""#;

#[test]
fn a_start_on_a_full_file_system_after_a_clean_stop_delivers_what_is_stored() {
    let mut lives = Lives::new(&json!({"drain_timeout": "0s"}));
    fs::create_dir(lives.data()).expect("make the data directory");
    let mut within = small_disk(16_000_000, &lives.data());
    if !can_mount(&within) {
        return;
    }
    within.extend(["sh", "-c", TWO_LIVES].map(str::to_owned));
    within.push(lives.data().display().to_string());
    lives.within = within;
    lives.start();
    let mut sender = Sender::to(&lives);
    pause(&lives);
    for _ in 0..10 {
        assert_eq!(sender.send().status, 200);
    }
    // The shell is told, and tells its child.
    lives.run().signal("-TERM");
    eventually("the first life ends and the second delivers", || {
        lives.delivered().len() == sender.safe.len()
    });
    eventually("the first life says what it left", || {
        lives.run().said().contains("left in the buffer: 100 events")
    });
    sender.check(&lives);
    assert_eq!(lives.settled()["all_lives"]["gap"], 0);
    assert_eq!(lives.stop().0.code(), Some(0));
}

#[test]
fn kills_on_a_disk_that_is_full_again_and_again_lose_nothing() {
    let schedule = Schedule {
        kills: 6,
        within: file_limit(4_500_000),
        padding: 20_000,
        until_full: true,
        // Much slower than the clients.
        config: json!({"customerio": {"rate_limit": {"requests_per_second": 10, "burst": 1}}}),
        ..Schedule::default()
    };
    let refusals = kill_under_load(&schedule).refusals;
    assert!(refusals > 0, "the disk was never full");
}

#[test]
fn a_buffer_at_its_bound_refuses_at_once_or_lets_the_sender_wait() {
    let at_bound = |when_full: &str| {
        let buffer = json!({"buffer": {"max_size": "1 MiB", "when_full": when_full}});
        let mut lives = Lives::new(&buffer);
        lives.start();
        pause(&lives);
        lives
    };
    let mut lives = at_bound("refuse");
    let mut sender = Sender::to(&lives);
    assert_refused_for_now(&sender.send_until_refused());
    assert!((10..=100).contains(&sender.safe.len()), "{} of 10 kB", sender.safe.len());
    assert!(!lives.is_ready(), "a full buffer is no place to send to");
    let status = lives.status();
    assert_eq!(status["ledger"]["received"], sender.safe.len(), "{status}");
    resume(&lives);
    lives.settled();
    eventually("it takes events again", || sender.send().status == 200);
    assert!(lives.is_ready());
    lives.settled();
    assert_eq!(lives.stop().0.code(), Some(0));
    sender.check(&lives);

    let mut lives = at_bound("wait");
    let mut sender = Sender::to(&lives);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let waiting = spawn(move || {
        let mut statuses = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            statuses.push(sender.send().status);
        }
        (sender, statuses)
    });
    eventually("there is no more room", || !lives.is_ready());
    resume(&lives);
    eventually("everybody who waited was answered", || lives.is_ready());
    stop.store(true, Ordering::Relaxed);
    let (sender, statuses) = waiting.join().expect("the sender panicked");
    // Whoever had to wait was never refused.
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    lives.settled();
    assert_eq!(lives.stop().0.code(), Some(0));
    sender.check(&lives);
}

/// Returns a command that runs as a user whom permissions bind, which they do not for root.
fn as_nobody(program: &Path) -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

#[test]
fn a_data_directory_that_cannot_be_written_is_told_at_the_start() {
    let lives = Lives::new(&json!({}));
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change a mode");
    };
    // Where the build put it, nobody else may look.
    let program = lives.dir.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_rudder-customerio"), &program).expect("copy the program");
    open(lives.dir.path(), 0o755);
    open(&program, 0o755);
    fs::create_dir(lives.data()).expect("make the data directory");
    open(&lives.data(), 0o555);
    let mut command = as_nobody(&program);
    command.env("NO_COLOR", "1").args(["run", "-c"]).arg(lives.config());
    let output = command.output().expect("start the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for wanted in [&*lives.data().to_string_lossy(), "denied", "help"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let left: Vec<Value> = fs::read_dir(lives.data())
        .expect("list")
        .map(|f| f.expect("list").file_name().to_string_lossy().into_owned().into())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
