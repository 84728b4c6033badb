//! One process at a time, both signals, and answers that are given only when they are true.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::spawn;

use serde_json::{Value, json};

use crate::support::line::Line;
use crate::support::lives::Lives;
use crate::support::{eventually, free_address, run_with_input};

fn batch(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let event = |n: u64| {
        json!({"type": "track", "userId": format!("u-{}", n % 3), "event": "Step",
            "messageId": format!("m-{n}"), "originalTimestamp": "2026-01-01T00:00:00.000Z",
            "properties": {"n": n}})
    };
    json!({"batch": numbers.map(event).collect::<Vec<_>>()}).to_string().into_bytes()
}

fn send(lives: &Lives, numbers: std::ops::Range<u64>) {
    let answer = Line::to(lives.gateway).post("/v1/batch", &batch(numbers)).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Answers nothing, whatever is asked.
fn hang() -> Value {
    json!([{"match": {"path": "/api/v2/*"}, "do": {"hang": true}}])
}

#[test]
fn a_second_process_on_a_data_directory_is_told_who_has_it() {
    let mut lives = Lives::new(&json!({}));
    lives.start();
    send(&lives, 0..5);
    let text = std::fs::read_to_string(lives.config()).expect("read the configuration");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["admin"]["listen"] = json!(free_address());
    config["sources"][0]["listen"] = json!(free_address());
    let other = lives.dir.path().join("other.yaml");
    std::fs::write(&other, config.to_string()).expect("write the configuration");

    let output = run_with_input(&["run", "-c", &other.display().to_string()], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let pid = lives.run().id().to_string();
    for wanted in [&*lives.data().to_string_lossy(), "in use", &pid, "help"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    // The first one is none the worse for it.
    send(&lives, 5..10);
    lives.settled();
    assert_eq!(lives.stop().0.code(), Some(0));
    assert_eq!(lives.delivered(), (0..10).collect::<Vec<_>>());
    // What a killed process leaves behind keeps nobody out.
    lives.start();
    lives.kill();
    lives.start();
    assert_eq!(lives.stop().0.code(), Some(0));
}

#[test]
fn the_first_signal_drains_and_leaves_nothing_for_the_next_life() {
    let mut lives = Lives::new(&json!({}));
    lives.start();
    lives.set_faults(&json!([{"when": {"probability": 0.5}, "do": {"status": 503}}]));
    send(&lives, 0..200);
    let (code, said) = lives.stop();
    assert_eq!(code.code(), Some(0), "{said}");
    assert_eq!(lives.delivered(), (0..200).collect::<Vec<_>>());
    let requests = lives.sandbox.stats().requests;
    lives.start();
    let status = lives.status();
    assert_eq!(
        (&status["ledger"]["recovered"], &status["all_lives"]["delivered"]),
        (&json!(0), &json!(200))
    );
    assert_eq!(lives.stop().0.code(), Some(0));
    let batches = lives.sandbox.requests();
    let again = batches.iter().filter(|r| r.number > requests && r.path == "/api/v2/batch");
    assert_eq!(again.count(), 0, "something was sent twice");
}

#[test]
fn the_second_signal_leaves_at_once_and_the_next_life_delivers() {
    let mut lives = Lives::new(&json!({}));
    lives.start();
    lives.set_faults(&hang());
    send(&lives, 0..50);
    eventually("a request is under way", || lives.status()["delivery"]["in_flight"] != 0);
    lives.run().signal("-TERM");
    eventually("it stops taking events", || {
        lives.ask("GET", "/readyz").map_or(true, |answer| answer.status == 503)
    });
    lives.run().signal("-TERM");
    let (code, said) = lives.wait();
    assert_eq!(code.code(), Some(0), "nothing is lost, so nothing is wrong: {said}");
    assert!(lives.delivered().is_empty());

    lives.set_faults(&json!([]));
    lives.start();
    let status = lives.settled();
    assert_eq!(status["ledger"]["recovered"], 50, "{status}");
    assert_eq!(status["all_lives"]["received"], 50, "{status}");
    assert_eq!(lives.stop().0.code(), Some(0));
    assert_eq!(lives.delivered(), (0..50).collect::<Vec<_>>());
}

/// Sends a batch, and tells what came of it: a status, or 0 if the connection ended without one.
fn send_meanwhile(lives: &Lives, numbers: std::ops::Range<u64>) -> Receiver<u16> {
    let (tell, told) = channel();
    let mut line = Line::to(lives.gateway);
    spawn(move || {
        let answer = line.post("/v1/batch", &batch(numbers));
        tell.send(answer.map_or(0, |answer| answer.status)).ok();
    });
    told
}

#[test]
fn with_ack_delivered_the_answer_waits_until_customerio_has_the_events() {
    let mut lives = Lives::new(&json!({
        "sources": {"ack": "delivered"}, "customerio": {"timeout": "1s"},
    }));
    lives.start();
    lives.set_faults(&json!([{"match": {"path": "/api/v2/*"}, "do": {"status": 503}}]));
    let told = send_meanwhile(&lives, 0..10);
    eventually("it was tried", || lives.sandbox.stats().statuses.get(&503).is_some_and(|n| *n > 2));
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "answered before it was delivered");
    lives.set_faults(&json!([]));
    assert_eq!(told.recv(), Ok(200));
    assert_eq!(lives.delivered(), (0..10).collect::<Vec<_>>(), "answered before it was delivered");

    // Killed before: no answer. The events are delivered all the same, once.
    lives.set_faults(&hang());
    let told = send_meanwhile(&lives, 10..20);
    eventually("it is on its way", || lives.status()["delivery"]["in_flight"] != 0);
    lives.kill();
    assert_eq!(told.recv(), Ok(0));
    lives.set_faults(&json!([]));
    lives.start();
    send(&lives, 10..20);
    lives.settled();
    assert_eq!(lives.delivered(), (0..20).collect::<Vec<_>>());

    // Stopped before: anything but 200.
    lives.set_faults(&hang());
    let told = send_meanwhile(&lives, 20..30);
    eventually("it is on its way", || lives.status()["delivery"]["in_flight"] != 0);
    lives.leave_at_once();
    let status = told.recv().expect("the sender is told something");
    assert_ne!(status, 200, "answered although nothing was delivered");
    lives.set_faults(&json!([]));
    lives.start();
    lives.settled();
    assert_eq!(lives.stop().0.code(), Some(0));
    assert_eq!(lives.delivered(), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_request_that_was_cut_off_is_neither_stored_nor_in_the_way() {
    let mut lives = Lives::new(&json!({}));
    lives.start();
    let body = batch(0..100);
    let mut stream = TcpStream::connect(lives.gateway).expect("connect");
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: x\r\n{}: {}\r\nContent-Length: {}\r\n\r\n",
        crate::support::AUTH.0,
        crate::support::AUTH.1,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("write");
    stream.write_all(&body[..body.len() / 2]).expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("close");
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    send(&lives, 100..110);
    let status = lives.settled();
    assert_eq!(status["ledger"]["received"], 10, "{status}");
    assert_eq!(lives.stop().0.code(), Some(0));
    assert_eq!(lives.delivered(), (100..110).collect::<Vec<_>>());
}

#[test]
fn a_kill_in_the_middle_of_the_first_start_is_no_damage() {
    for round in 0..20 {
        let mut lives = Lives::new(&json!({}));
        lives.spawn();
        // As soon as anything of the buffer shows, and a little later each time.
        let folder = lives.data().join("buffer");
        eventually("the buffer is being created", || {
            std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some())
        });
        std::thread::sleep(std::time::Duration::from_micros(round * 250));
        lives.kill();
        lives.start();
        send(&lives, 0..3);
        lives.settled();
        assert_eq!(lives.stop().0.code(), Some(0));
        assert_eq!(lives.delivered(), [0, 1, 2]);
    }
}
