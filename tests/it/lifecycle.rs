//! Start, stop, faults in between, and reloads of the real process.

use std::fs;

use serde_json::json;

use crate::support::{Running, Stack, eventually, free_address, get, http, run_with_input};

#[test]
fn a_signal_drains_before_the_process_leaves() {
    // Every other answer is a failure, so that something waits when the signal comes.
    let mut stack = Stack::start_with_sandbox("", &["--fault", "503@50%", "--seed", "7"]);
    let events: Vec<_> = (0..200)
        .map(|i| json!({"type": "track", "userId": format!("u-{}", i % 20), "event": "Counted", "properties": {"n": i}}))
        .collect();
    assert_eq!(stack.send(&events).status, 200);
    assert_eq!(stack.run.stop().code(), Some(0), "{}", stack.run.said());
    for person in 0..20 {
        let n: Vec<_> = stack
            .activities(&format!("u-{person}"), "event")
            .iter()
            .map(|e| e["data"]["n"].as_i64().unwrap())
            .collect();
        assert_eq!(n.len(), 10, "person {person} has {n:?}");
    }
}

#[test]
fn each_item_of_a_batch_has_its_own_fate() {
    let stack = Stack::start("");
    let events: Vec<_> = (0..10)
        .map(|i| {
            // Customer.io refuses attribute values over 1,000 bytes, item by item.
            let size = if i == 4 { 1_001 } else { 10 };
            json!({"type": "identify", "userId": format!("p-{i}"), "traits": {"note": "n".repeat(size)}})
        })
        .collect();
    assert_eq!(stack.send(&events).status, 200);
    let ledger = stack.settled();
    assert_eq!((&ledger["delivered"], &ledger["rejected"]), (&json!(9), &json!(1)), "{ledger}");
    let folder = stack.dir.path().join("data/dead-letters");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let letter: serde_json::Value =
        serde_json::from_str(fs::read_to_string(&files[0]).unwrap().trim()).unwrap();
    assert_eq!((&letter["outcome"], &letter["reason"]), (&json!("rejected"), &json!("refused")));
    assert_eq!(letter["field"], "attributes.note");
    assert_eq!(letter["event"]["userId"], "p-4");
    assert_eq!(letter["operations"][0]["identifiers"]["id"], "p-4");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_lost_acknowledgement_does_not_double_an_event() {
    let stack = Stack::start("");
    let faults = json!([{ "match": { "path": "/api/v2/*" }, "when": { "times": 2 }, "do": { "reset": "after_request" } }]);
    let answer = http(stack.sandbox, "PUT", "/_sandbox/faults", &[], faults.to_string().as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
    let events: Vec<_> =
        (0..5).map(|i| json!({"type": "track", "userId": "once", "event": format!("E{i}"), "messageId": format!("m{i}")})).collect();
    assert_eq!(stack.send(&events).status, 200);
    stack.settled();
    let names: Vec<_> =
        stack.activities("once", "event").iter().map(|e| e["name"].clone()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn edited_scripts_are_loaded_and_broken_ones_refused_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new");
    assert!(run_with_input(&["init", &folder.display().to_string()], b"").status.success());
    let vrl = folder.join("vrl");
    let stack = Stack::start(&format!("mapping: {{ dir: \"{}\" }}", vrl.display()));
    let hash = || get(stack.admin, "/status").json()["scripts"]["hash"].clone();
    let before = hash();

    let track = fs::read_to_string(vrl.join("track.vrl")).unwrap();
    fs::write(vrl.join("track.vrl"), format!("{track}\n. = {{\n")).unwrap();
    eventually("the broken script is refused", || {
        !get(stack.admin, "/status").json()["scripts"]["error"].is_null()
    });
    assert_eq!(hash(), before, "the old scripts must stay");
    assert_eq!(
        stack.send(&[json!({"type": "track", "userId": "r", "event": "Old script"})]).status,
        200
    );

    // A script that compiles but breaks a test is refused as well.
    fs::write(vrl.join("track.vrl"), format!("{track}\n.name = \"Changed\"\n")).unwrap();
    let error = || get(stack.admin, "/status").json()["scripts"]["error"].to_string();
    eventually("the failing tests are told", || error().contains("test"));
    assert_eq!(hash(), before);

    fs::remove_dir_all(vrl.join("tests")).unwrap();
    eventually("the new script is loaded", || hash() != before);
    assert_eq!(
        stack.send(&[json!({"type": "track", "userId": "r", "event": "New script"})]).status,
        200
    );
    stack.settled();
    let names: Vec<_> = stack.activities("r", "event").iter().map(|e| e["name"].clone()).collect();
    assert_eq!(names, [json!("Old script"), json!("Changed")]);
}

#[test]
fn stdin_alone_ends_when_everything_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox_address = free_address();
    let listen = sandbox_address.to_string();
    let _sandbox = Running::start(&["sandbox", "--listen", &listen]);
    let config = dir.path().join("stdin.yaml");
    fs::write(
        &config,
        format!(
            "data_dir: {}\nsources: [ {{ type: stdin }} ]\nadmin: {{ listen: \"{}\" }}\ncustomerio: {{ site_id: s, api_key: k, endpoint: \"http://{sandbox_address}\" }}\n",
            dir.path().join("data").display(),
            free_address()
        ),
    )
    .unwrap();
    let good =
        json!({"type": "identify", "userId": "from-stdin", "traits": {"plan": "pro"}}).to_string();
    let output = run_with_input(
        &["run", "-c", &config.display().to_string()],
        format!("{good}\n").as_bytes(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(get(sandbox_address, "/_sandbox/people").text().contains("from-stdin"));

    // It is told although the run ends before anybody looks for the first time.
    let output =
        run_with_input(&["run", "-c", &config.display().to_string()], b"{\"type\": \"track\"\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("malformed/invalid_json 1 (") && said.contains("at byte"), "{said}");

    let mixed = format!("{good}\n{}\n", json!({"type": "track", "userId": "no-name"}));
    let output = run_with_input(&["run", "-c", &config.display().to_string()], mixed.as_bytes());
    assert_eq!(
        output.status.code(),
        Some(1),
        "an event failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn pause_keeps_accepting_and_resume_delivers() {
    let stack = Stack::start("");
    assert!(http(stack.admin, "POST", "/pause", &[], b"").status < 300);
    assert_eq!(
        stack.send(&[json!({"type": "track", "userId": "p", "event": "Paused"})]).status,
        200
    );
    assert_eq!(get(stack.admin, "/status").json()["delivery"]["state"], "paused");
    assert_eq!(stack.ledger()["buffered"], 1);
    assert!(http(stack.admin, "POST", "/resume", &[], b"").status < 300);
    stack.settled();
    assert_eq!(stack.activities("p", "event").len(), 1);
}

#[test]
fn another_workspace_is_a_mistake_of_the_configuration_and_a_refused_key_is_not() {
    let stack = Stack::start("mapping: { watch: false }");
    let file = stack.dir.path().join("config.yaml");
    let validate = || {
        let output =
            run_with_input(&["-c", &file.display().to_string(), "validate", "--online"], b"");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}  environment_id: 999\n")).unwrap();
    let (code, said) = validate();
    assert!(code == Some(78) && said.contains("belong to workspace 1,"), "{code:?} {said}");

    fs::write(&file, config).unwrap();
    let rules = json!([{ "do": { "unauthorized": {} } }]).to_string();
    let answer = http(stack.sandbox, "PUT", "/_sandbox/faults", &[], rules.as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
    let (code, said) = validate();
    assert!(code == Some(1) && said.contains("refused the credentials"), "{code:?} {said}");
}
