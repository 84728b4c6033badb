use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::DeadLettersFull;
use crate::operation::{ConflictKeys, Effect, Operation};
use crate::outcome::{Reason, ReasonCode};

fn config() -> DeadLettersConfig {
    DeadLettersConfig {
        dir: "dead-letters".into(),
        max_size: 1 << 20,
        max_age: Duration::from_secs(86_400),
        when_full: DeadLettersFull::Hold,
    }
}

pub(crate) fn letter(raw: &'static str) -> DeadLetter {
    let operation = Operation {
        keys: ConflictKeys::default(),
        effect: Effect::Ordinary,
        body: Bytes::from_static(b"{\"type\":\"person\",\"n\":1.0}"),
    };
    DeadLetter {
        outcome: Outcome::Rejected(ReasonCode::Refused.into()),
        refusal: Refusal {
            reason: Some("invalid".into()),
            field: Some("attributes.x".into()),
            message: Some("too long".into()),
            status: Some(207),
        },
        attempts: 2,
        unknown: false,
        original: Original {
            raw: Bytes::from_static(raw.as_bytes()),
            assigned: Default::default(),
        },
        id_input: IdInput { message_id: "m".into(), ..IdInput::default() },
        operations: [operation].into_iter().collect(),
        received_at: DateTime::UNIX_EPOCH,
        source: "web".into(),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(dir.join("dead-letters")).unwrap();
    let mut files: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn lines(dir: &Path) -> Vec<Value> {
    let text: String = files(dir).iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_letter_is_one_line_with_everything_for_a_replay() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    letters.write(vec![letter(r#"{"type":"track"}"#)]).await.unwrap();
    let mut line = lines(dir.path()).remove(0);
    let at = line.as_object_mut().unwrap().remove("at").unwrap();
    assert!(DateTime::parse_from_rfc3339(at.as_str().unwrap()).is_ok());
    assert_eq!(
        line,
        json!({
            "outcome": "rejected", "reason": "refused", "detail": "invalid",
            "field": "attributes.x", "message": "too long", "status": 207,
            "attempts": 2, "unknown": false,
            "event": {"type": "track"},
            "id_input": {"message_id":"m","type":"","name":"","user_id":"","anonymous_id":"","ms":0},
            "operations": [{"type":"person","n":1.0}],
            "received_at": "1970-01-01T00:00:00.000Z", "source": "web"
        })
    );
}

#[tokio::test]
async fn a_failed_event_has_its_reasons_own_detail() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    let failed = DeadLetter {
        outcome: Outcome::Failed(Reason::new(ReasonCode::ScriptError, "track.vrl:3")),
        refusal: Refusal::default(),
        operations: Default::default(),
        ..letter("{}")
    };
    letters.write(vec![failed]).await.unwrap();
    let line = lines(dir.path()).remove(0);
    assert_eq!(line["outcome"], "failed");
    assert_eq!(line["reason"], "script_error");
    assert_eq!(line["detail"], "track.vrl:3");
    assert_eq!(line["operations"], json!([]));
    assert_eq!(line["status"], Value::Null);
}

#[tokio::test]
async fn a_letter_can_be_read_back_whatever_the_event_holds() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    let mut one = letter(r#"{"cut":"\ud83d","\udfff":1,"deep":0}"#);
    one.original.assigned.push(("type", "track".into()));
    letters.write(vec![one]).await.unwrap();
    let event = lines(dir.path()).remove(0)["event"].take();
    assert_eq!(event, json!({"cut": "\u{fffd}", "\u{fffd}": 1, "deep": 0, "type": "track"}));
}

#[tokio::test]
async fn an_event_of_very_many_members_is_no_burden() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    let members: Vec<_> = (0..40_000).map(|i| format!("\"m{i}\":{i}")).collect();
    let raw = format!("{{{}}}", members.join(","));
    let one = DeadLetter {
        original: Original { raw: raw.into(), assigned: Default::default() },
        ..letter("{}")
    };
    letters.write(vec![one]).await.unwrap();
    assert_eq!(lines(dir.path())[0]["event"].as_object().unwrap().len(), 40_000);
}

#[tokio::test]
async fn the_event_keeps_its_digits_and_gets_what_was_assigned() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    let mut one = letter(
        "{\"a\":1,\"n\":12345678901234567890.10,\n\"a\":{\"b\":2},\"mess\\u0061geId\":\"old\",\"type\":\"Track\"}",
    );
    one.original.assigned.push(("messageId", "new".into()));
    letters.write(vec![one]).await.unwrap();
    let text = std::fs::read_to_string(&files(dir.path())[0]).unwrap();
    assert!(
        text.contains(
            r#""event":{"n":12345678901234567890.10,"a":{"b":2},"type":"Track","messageId":"new"}"#
        ),
        "{text}"
    );
}

#[tokio::test]
async fn line_feeds_inside_an_event_do_not_tear_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    letters.write(vec![letter("{\"a\":{\n\"b\":\n1}}")]).await.unwrap();
    let lines = lines(dir.path());
    assert_eq!(lines[0]["event"], json!({"a": {"b": 1}}));
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn only_the_owner_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("dead-letters")), 0o700);
    assert_eq!(mode(&files(dir.path())[0]), 0o600);
}

#[tokio::test]
async fn each_life_begins_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let letters = DeadLetters::open(dir.path(), &config()).unwrap();
        letters.write(vec![letter("{}")]).await.unwrap();
        letters.write(vec![letter("{}")]).await.unwrap();
    }
    let names: Vec<_> =
        files(dir.path()).iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    let today = Utc::now().format("%Y-%m-%d");
    assert_eq!(names, [format!("{today}-1.ndjson").as_str(), &format!("{today}-2.ndjson")]);
    assert_eq!(lines(dir.path()).len(), 4);
}

#[tokio::test]
async fn a_higher_bound_makes_room_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLettersConfig { max_size: 3_000, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    while letters.write(vec![letter("{}")]).await.is_ok() {}
    letters.retune(&DeadLettersConfig { max_size: 1 << 20, ..config });
    letters.write(vec![letter("{}")]).await.unwrap();
}

#[tokio::test]
async fn at_the_bound_hold_writes_nothing_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLettersConfig { max_size: 3_000, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    let mut written = 0;
    let error = loop {
        match letters.write(vec![letter("{}")]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.error.to_string().contains("dead_letters.max_size"), "{error:?}");
    assert_eq!(lines(dir.path()).len(), written);
    std::fs::remove_file(&files(dir.path())[0]).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
}

#[tokio::test]
async fn at_the_bound_drop_oldest_keeps_the_newest_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        DeadLettersConfig { max_size: 4_000, when_full: DeadLettersFull::DropOldest, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    for attempts in 0..50 {
        letters.write(vec![DeadLetter { attempts, ..letter("{}") }]).await.unwrap();
    }
    let size: u64 = files(dir.path()).iter().map(|f| std::fs::metadata(f).unwrap().len()).sum();
    assert!(size <= 4_000, "{size}");
    let mut kept: Vec<_> =
        lines(dir.path()).iter().map(|l| l["attempts"].as_u64().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept.last(), Some(&49));
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kept:?}");
}

#[tokio::test]
async fn files_past_their_age_are_removed_and_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("dead-letters");
    std::fs::create_dir(&folder).unwrap();
    for name in ["2020-01-01-1.ndjson", "notes.txt", "2020-01-01.ndjson"] {
        std::fs::write(folder.join(name), "{}\n").unwrap();
    }
    let config = DeadLettersConfig { max_age: Duration::ZERO, ..config() };
    std::thread::sleep(Duration::from_millis(20));
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    assert!(!folder.join("2020-01-01-1.ndjson").exists());
    assert!(folder.join("notes.txt").exists() && folder.join("2020-01-01.ndjson").exists());
    assert_eq!(files(dir.path()).len(), 3);
}

#[tokio::test]
async fn a_folder_that_went_away_is_an_error_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    std::fs::remove_dir_all(dir.path().join("dead-letters")).unwrap();
    let error = letters.write(vec![letter("{}")]).await.unwrap_err();
    assert!(error.error.to_string().contains("dead-letters"), "{error:?}");
}

#[tokio::test]
async fn letters_never_go_into_a_file_that_was_taken_away_or_edited() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(dir.path(), &config()).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    std::fs::remove_file(&files(dir.path())[0]).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    assert_eq!(lines(dir.path()).len(), 1);
    let text = std::fs::read_to_string(&files(dir.path())[0]).unwrap();
    std::fs::write(&files(dir.path())[0], text.trim_end()).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    assert_eq!(files(dir.path()).len(), 2, "not behind half a line");
    let elsewhere = dir.path().join("moved");
    std::fs::rename(&files(dir.path())[1], &elsewhere).unwrap();
    letters.write(vec![letter("{}")]).await.unwrap();
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap().lines().count(), 1);
    assert_eq!(files(dir.path()).len(), 2, "a new file takes the place of the moved one");
}

#[test]
fn a_clock_that_is_set_back_keeps_the_order_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    let mut written = files::Files::open(dir.path().into(), &config()).unwrap();
    written.append(b"1\n", at("2026-03-02T00:00:00Z")).unwrap();
    written.append(b"2\n", at("2026-03-01T00:00:00Z")).unwrap();
    let mut again = files::Files::open(dir.path().into(), &config()).unwrap();
    again.append(b"3\n", at("2026-03-01T00:00:00Z")).unwrap();
    again.append(b"4\n", at("2026-03-03T00:00:00Z")).unwrap();
    let names: Vec<_> = read::list(dir.path())
        .unwrap()
        .iter()
        .map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["2026-03-02-1.ndjson", "2026-03-02-2.ndjson", "2026-03-03-1.ndjson"]);
}

#[tokio::test]
async fn at_the_bound_files_that_were_replayed_whole_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLettersConfig { max_size: 3_000, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    let mut attempts = 0;
    while letters.write(vec![DeadLetter { attempts, ..letter("{}") }]).await.is_ok() {
        attempts += 1;
    }
    let folder = dir.path().join("dead-letters");
    let listed = read::list(&folder).unwrap();
    let replayed = |n: usize| {
        let mut reader = read::Reader::open(&listed[n]).unwrap();
        let mut marks = marks::Marks::open(&folder).unwrap();
        while let Some(item) = reader.next().unwrap() {
            let read::Item::Letter(letter) = item else { panic!("{item:?}") };
            marks.add(&listed[n].path, &[letter.id]).unwrap();
        }
    };
    replayed(1);
    letters.write(vec![letter("{}")]).await.unwrap();
    assert!(listed[0].path.exists() && !listed[1].path.exists());
}

/// Letters that are told apart by their attempts.
fn numbered(numbers: std::ops::Range<u32>) -> Vec<DeadLetter> {
    numbers.map(|attempts| DeadLetter { attempts, ..letter("{}") }).collect()
}

fn size(dir: &Path) -> u64 {
    files(dir).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
}

fn remove_all(dir: &Path) {
    files(dir).iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[tokio::test]
async fn a_write_larger_than_the_bound_goes_as_far_as_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLettersConfig { max_size: 3_000, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    let (mut done, mut rounds) = (0, 0);
    while let Err(Unwritten { written, error }) = letters.write(numbered(done..50)).await {
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let kept: Vec<_> = lines(dir.path()).iter().map(|l| l["attempts"].as_u64()).collect();
        let next = done + u32::try_from(written).unwrap();
        assert_eq!(kept, (done..next).map(|n| Some(u64::from(n))).collect::<Vec<_>>());
        assert!(written > 1 && size(dir.path()) <= 3_000);
        (done, rounds) = (next, rounds + 1);
        remove_all(dir.path());
    }
    assert!(rounds > 3, "{rounds}");
}

#[tokio::test]
async fn a_letter_larger_than_the_bound_is_written_if_it_is_the_only_one() {
    for when_full in [DeadLettersFull::Hold, DeadLettersFull::DropOldest] {
        let dir = tempfile::tempdir().unwrap();
        let config = DeadLettersConfig { max_size: 3_000, when_full, ..config() };
        let letters = DeadLetters::open(dir.path(), &config).unwrap();
        let raw = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000)).into();
        let original = Original { raw, assigned: Default::default() };
        let large = DeadLetter { original, ..letter("{}") };
        letters.write(vec![large.clone()]).await.unwrap();
        assert_eq!(lines(dir.path()).len(), 1);
        let second = letters.write(vec![large]).await;
        assert_eq!(second.is_ok(), when_full == DeadLettersFull::DropOldest);
        assert_eq!(lines(dir.path()).len(), 1);
    }
}

#[tokio::test]
async fn one_large_write_keeps_the_bound_too_when_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        DeadLettersConfig { max_size: 4_000, when_full: DeadLettersFull::DropOldest, ..config() };
    let letters = DeadLetters::open(dir.path(), &config).unwrap();
    letters.write(numbered(0..50)).await.unwrap();
    assert!(size(dir.path()) <= 4_000 && lines(dir.path()).len() > 5);
}

#[test]
fn letters_past_their_age_go_although_none_is_written_and_are_counted_if_they_were_not_replayed() {
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let dir = tempfile::tempdir().unwrap();
    let config = DeadLettersConfig { max_age: Duration::from_secs(3_600), ..config() };
    let mut written = files::Files::open(dir.path().into(), &config).unwrap();
    let now = Utc::now();
    written.append(b"1\n2\n", now).unwrap();
    written.prune(now + Duration::from_secs(3_000));
    assert_eq!(read::list(dir.path()).unwrap().len(), 1);
    written.prune(now + Duration::from_secs(4_000));
    assert!(read::list(dir.path()).unwrap().is_empty(), "the open file has its age too");
    let dropped = |line: &str| line.contains("dead_letters_dropped") && line.ends_with(" 2");
    assert!(shown.render().lines().any(dropped), "{}", shown.render());
    written.append(b"3\n", now).unwrap();
    assert_eq!(read::list(dir.path()).unwrap().len(), 1);
}
