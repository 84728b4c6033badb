//! What the disk keeps: over a kill, a stop, a full buffer; and who may work with it.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Running, Stack, eventually, free_address, get, http, run_with_input};

fn events(count: usize) -> Vec<Value> {
    let event = |i| {
        json!({"type": "track", "userId": format!("u-{}", i % 3), "event": "Kept",
               "messageId": format!("m-{i}"), "properties": {"n": i}})
    };
    (0..count).map(event).collect()
}

impl Stack {
    fn config(&self) -> String {
        self.dir.path().join("config.yaml").display().to_string()
    }

    fn start_again(&mut self) {
        self.run = Running::start(&["run", "-c", &self.config()]);
        self.wait_ready();
    }

    fn pause(&self) {
        assert_eq!(http(self.admin, "POST", "/pause", &[], b"").status, 200);
    }

    fn resume(&self) {
        assert_eq!(http(self.admin, "POST", "/resume", &[], b"").status, 200);
    }

    /// Runs a command with the stack's configuration; returns its code and what it printed.
    fn command(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let config = self.config();
        let args = [&["-c", &config], args].concat();
        let output = run_with_input(&args, b"");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_can_be_looked_at() {
    let mut stack = Stack::start("");
    stack.pause();
    assert_eq!(stack.send(&events(20)).status, 200);
    stack.run.signal("-KILL");
    stack.run.wait();

    let (code, _, said) = stack.command(&["validate"]);
    assert!(said.contains("20 events waiting"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    let (code, printed, said) = stack.command(&["buffer", "inspect", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&found["events"], &found["operations"]), (&json!(20), &json!(20)), "{found}");
    assert_eq!(found["all_lives"]["received"], 20, "{found}");
    let (code, printed, said) = stack.command(&["buffer", "export"]);
    assert_eq!(code, Some(0), "{said}");
    let numbers: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["event"]["properties"]["n"].clone())
        .collect();
    assert_eq!(numbers, (0..20).map(Value::from).collect::<Vec<_>>());

    stack.start_again();
    let ledger = stack.settled();
    assert_eq!((&ledger["recovered"], &ledger["delivered"]), (&json!(20), &json!(20)), "{ledger}");
    for person in 0..3 {
        let sent = stack.activities(&format!("u-{person}"), "event");
        let sent: Vec<_> = sent.iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect();
        assert_eq!(sent.len(), (person..20).step_by(3).count(), "{sent:?}");
    }
    let all = get(stack.admin, "/status").json()["all_lives"].clone();
    assert_eq!(
        (&all["received"], &all["delivered"], &all["gap"]),
        (&json!(20), &json!(20), &json!(0))
    );
}

#[test]
fn a_stop_keeps_what_is_not_delivered_and_forgets_what_is() {
    let mut stack = Stack::start("drain_timeout: 0s");
    assert_eq!(stack.send(&events(5)).status, 200);
    stack.settled();
    stack.pause();
    let filtered = json!({"type": "heartbeat", "userId": "u-0"});
    assert_eq!(stack.send(&[events(6).remove(5), filtered]).status, 200);
    assert_eq!(stack.run.stop().code(), Some(0), "{}", stack.run.said());
    let said = stack.run.said();
    assert!(said.contains("left in the buffer: 1 event, to be delivered at the next"), "{said}");

    stack.start_again();
    let ledger = stack.settled();
    assert_eq!(ledger["recovered"], 1, "what was delivered is not sent again: {ledger}");
    eventually("it says so", || stack.run.said().contains("Events of an earlier run wait"));
    let all = get(stack.admin, "/status").json()["all_lives"].clone();
    assert_eq!((&all["received"], &all["gap"]), (&json!(7), &json!(0)), "{all}");
}

#[test]
fn a_full_buffer_refuses_until_there_is_room() {
    let stack = Stack::start("buffer: { max_size: 1 MiB, when_full: refuse }");
    stack.pause();
    let large = |i: usize| {
        json!({"type": "track", "userId": format!("u-{i}"), "event": "Large",
               "properties": {"text": "x".repeat(20_000)}})
    };
    let mut accepted = 0;
    let refusal = loop {
        let answer = stack.send(&[large(accepted)]);
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
    };
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert!(refusal.header("retry-after").is_some_and(|s| s.parse::<u64>().unwrap() > 0));
    assert!((10..60).contains(&accepted), "{accepted}");
    let ready = get(stack.admin, "/readyz");
    assert!(ready.status == 503 && ready.text().contains("full"), "{}", ready.text());
    assert_eq!(stack.ledger()["received"], accepted, "what was refused was not received");
    let metrics = get(stack.admin, "/metrics").text();
    let received = metrics.lines().find(|l| l.starts_with("component_received_events_total{"));
    assert!(received.unwrap().ends_with(&format!(" {accepted}")), "{received:?}");
    let refused = metrics.lines().find(|l| l.contains(r#"error_type="buffer_full""#)).unwrap();
    assert!(refused.contains(r#"component_id="test""#) && refused.ends_with(" 1"), "{refused}");

    stack.resume();
    stack.settled();
    assert_eq!(get(stack.admin, "/readyz").status, 200);
    assert_eq!(stack.send(&[large(accepted)]).status, 200);
    assert_eq!(stack.settled()["delivered"], accepted + 1);
}

#[test]
fn a_second_process_is_told_who_works_with_the_directory() {
    let stack = Stack::start("");
    let config = fs::read_to_string(stack.config()).unwrap();
    let other = stack.dir.path().join("other.yaml");
    let moved = config
        .replace(&stack.gateway.to_string(), &free_address().to_string())
        .replace(&stack.admin.to_string(), &free_address().to_string());
    fs::write(&other, moved).unwrap();
    let mut second = Running::start(&["run", "-c", &other.display().to_string()]);
    assert_eq!(second.wait().code(), Some(1));
    eventually("the second process says why", || second.said().contains("is in use by process"));

    let (code, _, said) = stack.command(&["run"]);
    assert_eq!(code, Some(1), "{said}");
    let cause = said.find("is in use by process").unwrap();
    let symptom = said.find("listen").unwrap_or(usize::MAX);
    assert!(cause < symptom, "the directory is the cause, not the addresses: {said}");

    let (code, _, said) = stack.command(&["buffer", "inspect"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("http://{}/status", stack.admin)), "{said}");
    assert_eq!(stack.send(&events(1)).status, 200);
}
