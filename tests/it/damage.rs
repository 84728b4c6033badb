//! What becomes of a database that is damaged, emptied, or removed, as an operator meets it.

use std::fs;
use std::path::PathBuf;

use redb::{ReadableTable, TableDefinition};
use serde_json::{Value, json};

use crate::support::line::Line;
use crate::support::lives::Lives;
use crate::support::{binary, eventually, exchange};

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");

fn send(lives: &Lives, numbers: std::ops::Range<u64>) -> u16 {
    let event = |n: u64| {
        json!({"type": "track", "userId": format!("u-{n}"), "event": "Step",
            "messageId": format!("m-{n}"), "properties": {"n": n}})
    };
    let body = json!({"batch": numbers.map(event).collect::<Vec<_>>()}).to_string();
    Line::to(lives.gateway).post("/v1/batch", body.as_bytes()).expect("an answer").status
}

fn database(lives: &Lives) -> PathBuf {
    lives.data().join("buffer/events.redb")
}

/// Leaves three rows of three events and damages the second.
fn with_a_damaged_row(more: &Value) -> Lives {
    let mut lives = Lives::new(more);
    lives.start();
    assert_eq!(lives.ask("POST", "/pause").expect("pause").status, 200);
    for first in [0, 3, 6] {
        assert_eq!(send(&lives, first..first + 3), 200);
    }
    lives.kill();
    let database = redb::Database::open(database(&lives)).expect("open the database");
    let write = database.begin_write().expect("begin");
    {
        let mut rows = write.open_table(ROWS).expect("rows");
        let mut row = rows.get(3).expect("read").expect("a row").value().to_vec();
        *row.last_mut().expect("bytes") ^= 1;
        rows.insert(3, &*row).expect("write");
    }
    write.commit().expect("commit");
    lives
}

/// Runs a command; returns its code, and what it printed and said.
fn command(lives: &Lives, args: &[&str]) -> (Option<i32>, String, String) {
    let output = binary().arg("-c").arg(lives.config()).args(args).output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn behind_a_damaged_row_nothing_is_delivered_and_everybody_is_told_why() {
    let mut lives = with_a_damaged_row(&json!({}));
    let (code, printed, _) = command(&lives, &["buffer", "inspect", "--verify"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("waiting    9 events"), "{printed}");
    assert!(printed.contains("damaged    row 3:"), "{printed}");
    let (code, printed, said) = command(&lives, &["buffer", "export"]);
    assert_eq!((code, printed.lines().count()), (Some(1), 6), "{said}");
    assert!(said.contains("row 3:") && said.contains("sequences 3 to 5"), "{said}");

    lives.spawn();
    eventually("it is held", || {
        exchange(lives.admin, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .is_ok()
            && lives.status()["delivery"]["reason"] == "buffer_damaged"
    });
    eventually("what is before it is delivered", || lives.delivered() == [0, 1, 2]);
    let status = lives.status();
    assert_eq!(status["delivery"]["state"], "held", "{status}");
    assert!(status["buffer"]["oldest_seconds"].is_u64(), "{status}");
    assert_eq!(send(&lives, 9..10), 503);
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    for wanted in ["6 events", "row 3", "set_aside", "buffer export"] {
        assert!(last.contains(wanted), "{wanted} is missing in: {said}");
    }
    assert!(!last.contains("to be delivered at the next start"), "{said}");
    assert_eq!(lives.delivered(), [0, 1, 2]);
}

#[test]
fn a_row_that_is_set_aside_is_told_truly_and_can_be_read_as_far_as_it_goes() {
    let mut lives = with_a_damaged_row(&json!({"buffer": {"on_corruption": "set_aside"}}));
    lives.start();
    let status = lives.settled();
    assert_eq!(status["ledger"]["rejected"], 3, "{status}");
    assert_eq!(lives.delivered(), [0, 1, 2, 6, 7, 8]);
    let metrics = lives.ask("GET", "/metrics").expect("metrics").text();
    let errors = |of: &str| {
        let line = metrics.lines().find(|line| line.contains(&format!("error_type=\"{of}\"")));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(errors("request_rejected").as_deref(), Some("0"), "no request was made");
    assert_eq!(errors("internal").as_deref(), Some("3"));
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(0), "{said}");
    assert!(said.contains("events=3") && said.contains("row-3.damaged-"), "{said}");
    assert!(lives.letters().is_empty());

    let row = fs::read_dir(lives.data().join("buffer"))
        .expect("list")
        .map(|entry| entry.expect("list").path())
        .find(|path| path.to_string_lossy().contains("row-3.damaged-"))
        .expect("the row that was set aside");
    let (_, printed, said) =
        command(&lives, &["buffer", "export", "--row", &row.to_string_lossy()]);
    assert!(printed.lines().count() >= 2, "{printed}{said}");
    let first: Value = serde_json::from_str(printed.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["event"]["properties"]["n"], 3, "{first}");
}

#[test]
fn a_database_that_was_emptied_or_torn_is_damage_and_no_defect_of_the_program() {
    let mut lives = Lives::new(&json!({}));
    lives.start();
    assert_eq!(send(&lives, 0..50), 200);
    lives.settled();
    lives.stop();
    let whole = fs::read(database(&lives)).expect("read");
    // Nothing, a part, and pages of noise behind a sound header.
    let mut noise = whole.clone();
    noise.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x5a);
    for bytes in [Vec::new(), whole[..whole.len() / 2].to_vec(), noise] {
        fs::write(database(&lives), &bytes).expect("write");
        for args in [&["run"][..], &["buffer", "inspect"], &["validate"]] {
            let (code, _, said) = command(&lives, args);
            assert_eq!(code, Some(1), "{args:?}: {said}");
            assert!(said.contains("damaged"), "{args:?}: {said}");
            assert!(said.contains("help:"), "{args:?}: {said}");
            assert!(!said.contains("panicked"), "{args:?}: {said}");
        }
        assert_eq!(fs::read(database(&lives)).expect("read").len(), bytes.len());
    }
}

#[test]
fn a_database_that_is_removed_under_the_process_loses_nothing() {
    let mut lives = Lives::new(&json!({"drain_timeout": "0s"}));
    lives.start();
    assert_eq!(lives.ask("POST", "/pause").expect("pause").status, 200);
    assert_eq!(send(&lives, 0..5), 200);
    fs::remove_file(database(&lives)).expect("remove");
    let mut safe: Vec<u64> = (0..5).collect();
    eventually("it takes events again", || send(&lives, 5..10) == 200);
    safe.extend(5..10);
    fs::remove_file(database(&lives)).expect("remove");
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(0), "{said}");
    assert!(said.contains("was removed; it was written again"), "{said}");
    assert!(said.contains("left in the buffer: 10 events, to be delivered at"), "{said}");

    // With nowhere to write it, nothing is promised.
    lives.start();
    lives.settled();
    assert_eq!(lives.delivered(), safe);
    assert_eq!(lives.ask("POST", "/pause").expect("pause").status, 200);
    assert_eq!(send(&lives, 10..15), 200);
    fs::remove_dir_all(lives.data().join("buffer")).expect("remove");
    assert_eq!(send(&lives, 15..20), 503);
    let ready = lives.ask("GET", "/readyz").expect("an answer");
    assert!(ready.status == 503 && ready.text().contains("removed"), "{}", ready.text());
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(1), "{said}");
    assert!(!said.contains("to be delivered at the next start"), "{said}");
    assert!(said.contains("5 events left that the next start does not deliver"), "{said}");
}

#[test]
fn a_data_directory_that_is_none_is_called_so() {
    let lives = Lives::new(&json!({}));
    fs::write(lives.data(), "").expect("write");
    for args in ["run", "validate"] {
        let (code, _, said) = command(&lives, &[args]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("is not a directory") && said.contains("help:"), "{said}");
    }
}
