//! Bad input, bad configuration, and hostile scripts are answered well, and the rest goes on.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    AUTH, Running, Stack, eventually, free_address, get, http, run_with_input, write_config,
};

fn map(args: &[&str], input: &[u8]) -> (Option<i32>, Vec<Value>, String) {
    let mut all = vec!["map"];
    all.extend_from_slice(args);
    let output = run_with_input(&all, input);
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_kind_of_bad_line_is_named_and_the_good_ones_are_mapped() {
    let deep = format!(
        "{{\"type\":\"track\",\"userId\":\"u\",\"event\":\"e\",\"x\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let input = [
        "\u{feff}{\"type\":\"identify\",\"userId\":\"u1\",\"traits\":{\"plan\":\"pro\"}}",
        "not json",
        "",
        "[1,2]",
        "{\"userId\":\"u1\"}",
        "{\"type\":7}",
        &deep,
        "{\"type\":\"track\",\"userId\":\"u\u{0}\"}",
        "{\"type\":\"dance\",\"userId\":\"u1\"}",
        "{\"type\":\"track\",\"userId\":\"u1\"}",
        "{\"type\":\"track\",\"userId\":\"a\\u0000b\",\"event\":\"lone \\ud800 surrogate\"}",
        "{\"type\":\"track\",\"event\":\"e\",\"userId\":{\"a\":1},\"anonymousId\":true}",
    ]
    .join("\n");
    let (code, lines, _) = map(&["-"], input.as_bytes());
    let short: Vec<_> = lines
        .iter()
        .map(|l| {
            (
                l["line"].as_u64().unwrap(),
                l["outcome"].as_str().unwrap(),
                l["reason"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            (1, "mapped", ""),
            (2, "malformed", "invalid_json"),
            (4, "malformed", "not_an_event"),
            (5, "malformed", "invalid_type"),
            (6, "malformed", "invalid_type"),
            (7, "malformed", "too_deep"),
            (8, "malformed", "invalid_json"),
            (9, "filtered", "message_type"),
            (10, "failed", "script_error"),
            (11, "mapped", ""),
            (12, "failed", "script_error"),
        ]
    );
    assert_eq!(lines[9]["operations"][0]["name"], "lone \u{fffd} surrogate");
    assert_eq!(lines[9]["operations"][0]["identifiers"]["id"], "a\u{0}b");
    assert_eq!(code, Some(1), "some events were malformed or failed");
}

#[test]
fn ids_of_every_json_type_become_text_or_are_skipped() {
    let cases = [
        (json!("u"), Some("u")),
        (json!(7), Some("7")),
        (json!(0), Some("0")),
        (json!(12.5), Some("12.5")),
        (json!(3.0), Some("3")),
        (json!(false), None),
        (json!({"a": 1}), None),
        (json!(["x"]), None),
        (json!(null), None),
        (json!(""), None),
    ];
    let input: String = cases
        .iter()
        .map(|(id, _)| {
            json!({"type": "track", "event": "e", "userId": id, "anonymousId": "anon"}).to_string()
                + "\n"
        })
        .collect();
    let (code, lines, _) = map(&["-"], input.as_bytes());
    for ((id, expected), line) in cases.iter().zip(&lines) {
        let wanted = expected.map_or(json!({"anonymous_id": "anon"}), |id| json!({"id": id}));
        assert_eq!(line["operations"][0]["identifiers"], wanted, "userId {id}");
    }
    assert_eq!(code, Some(0));
}

#[test]
fn the_gateway_refuses_a_body_over_the_limit_and_goes_on() {
    let stack = Stack::start("");
    let big = json!({"userId": "u", "event": "e", "properties": {"blob": "x".repeat(5_000_000)}})
        .to_string();
    let answer = http(stack.gateway, "POST", "/v1/track", &[AUTH], big.as_bytes());
    assert_eq!((answer.status, answer.text().as_str()), (413, "request size exceeds max limit\n"));
    let nested = format!(
        "{{\"userId\":\"u\",\"event\":\"e\",\"x\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(http(stack.gateway, "POST", "/v1/track", &[AUTH], nested.as_bytes()).status, 200);
    assert_eq!(
        stack.send(&[json!({"type": "track", "userId": "u-ok", "event": "Fine"})]).status,
        200
    );
    let ledger = stack.settled();
    assert_eq!(
        (&ledger["received"], &ledger["malformed"], &ledger["delivered"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(stack.activities("u-ok", "event").len(), 1);
}

#[test]
fn a_client_that_closes_its_side_is_answered_and_its_event_counts() {
    use std::io::{Read, Write};
    let stack = Stack::start("");
    for n in 0..5 {
        let body =
            json!({"userId": "half", "event": "Left", "messageId": format!("h{n}")}).to_string();
        let request = format!(
            "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n{body}",
            AUTH.1,
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(stack.gateway).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
    assert_eq!(stack.settled()["received"], 5);
    assert_eq!(stack.activities("half", "event").len(), 5);
}

#[test]
fn what_fails_is_told_in_the_log_without_its_content() {
    let stack = Stack::start("");
    stack.send(&[json!({"type": "page", "userId": "secret-person"})]);
    eventually("the failure is told", || stack.run.said().contains("failed/script_error 1"));
    assert!(!stack.run.said().contains("secret-person"), "{}", stack.run.said());
}

#[test]
fn a_refused_key_holds_everything_and_readiness_stays_true() {
    let mut stack = Stack::start_with_sandbox("", &["--credentials", "other:credentials"]);
    assert_eq!(
        stack.send(&[json!({"type": "track", "userId": "u", "event": "Waits"})]).status,
        200
    );
    eventually("delivery is held", || {
        get(stack.admin, "/status").json()["delivery"]["state"] == "held"
    });
    let status = get(stack.admin, "/status").json();
    assert_eq!((&status["ledger"]["buffered"], &status["ledger"]["gap"]), (&json!(1), &json!(0)));
    assert_eq!(get(stack.admin, "/readyz").status, 200);
    assert!(!get(stack.admin, "/status").text().contains("key-of-the-test"));
    stack.run.stop_at_once();
    assert!(!stack.run.said().contains("key-of-the-test"), "the key stands in the log");
}

#[test]
fn an_unreachable_endpoint_delays_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, admin, endpoint) = (free_address(), free_address(), free_address());
    let config = write_config(dir.path(), gateway, admin, &format!("http://{endpoint}"), "");
    let _run = Running::start(&["run", "-c", &config.display().to_string()]);
    eventually("ready without Customer.io", || {
        std::net::TcpStream::connect(admin).is_ok() && get(admin, "/readyz").status == 200
    });
    let body =
        json!({"batch": [{"type": "identify", "userId": "late", "traits": {"plan": "pro"}}]})
            .to_string();
    assert_eq!(http(gateway, "POST", "/v1/batch", &[AUTH], body.as_bytes()).status, 200);
    let listen = endpoint.to_string();
    let _sandbox = Running::start(&["sandbox", "--listen", &listen]);
    eventually("delivered once Customer.io is there", || {
        get(admin, "/status").json()["ledger"]["delivered"] == 1
    });
}

#[test]
fn a_port_in_use_is_named_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap();
    let config = write_config(dir.path(), address, free_address(), "http://127.0.0.1:1", "");
    let output = run_with_input(&["run", "-c", &config.display().to_string()], b"");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&address.to_string()) && text.contains("in use"), "{text}");
    assert!(matches!(output.status.code(), Some(1 | 78)), "{:?}", output.status);
}

#[test]
fn several_mistakes_of_a_configuration_are_told_at_once_without_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    fs::write(
        &path,
        "sources:\n  - type: rudderstack\n    listn: 127.0.0.1:8080\ncustomerio:\n  site_id: a\n  api_keyy: very-secret\n  region: mars\n  timeout: 30 parsecs\n",
    )
    .unwrap();
    let output = run_with_input(&["validate", "-c", &path.display().to_string()], b"");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    for wanted in [":3:", "listen", ":6:", "api_key", ":7:", ":8:"] {
        assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
    }
    assert!(
        !text.contains("very-secret") && !text.contains("parsecs"),
        "a value is shown:\n{text}"
    );
}

fn scripts_with(file: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = run_with_input(&["init", &dir.path().join("new").display().to_string()], b"");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(dir.path().join("new/vrl").join(file), text).unwrap();
    fs::write(
        dir.path().join("config.yaml"),
        format!("mapping: {{ dir: \"{}\" }}\n", dir.path().join("new/vrl").display()),
    )
    .unwrap();
    dir
}

#[test]
fn mistakes_in_scripts_name_file_line_and_code() {
    for (text, code) in [
        (". = {\n  \"type\": \"person\"\n", "E2"),
        ("x = downcase(.event)\n. = { \"type\": \"person\" }\n", "E103"),
        (".x = now()\n", "now"),
        (&format!(". = {}1{}\n", "(".repeat(5_000), ")".repeat(5_000)), "nest"),
        (&format!("x = {}1\n. = {{ \"type\": x }}\n", "1 + ".repeat(4_000)), "operator"),
    ] {
        let dir = scripts_with("track.vrl", text);
        let config = dir.path().join("config.yaml");
        let output = run_with_input(&["map", "-c", &config.display().to_string(), "-"], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("track.vrl") && said.contains(code), "{code} is missing in:\n{said}");
    }
}

#[test]
fn a_script_with_endless_work_fails_that_event_alone() {
    let script = "total = 0\nlist = split(\"x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x\", \",\")\n\
        for_each(list) -> |_a, _b| { for_each(list) -> |_c, _d| { for_each(list) -> |_e, _f| { for_each(list) -> |_g, _h| { total = total + 1 } } } }\n\
        . = { \"type\": \"person\", \"action\": \"event\", \"identifiers\": { \"id\": \"u\" }, \"name\": to_string(total) }\n";
    let dir = scripts_with("track.vrl", script);
    let config = dir.path().join("config.yaml");
    let (code, lines, said) = map(
        &["-c", &config.display().to_string(), "-"],
        b"{\"type\":\"track\",\"userId\":\"u\",\"event\":\"e\"}\n{\"type\":\"identify\",\"userId\":\"u\"}\n",
    );
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["reason"]),
        (&json!("failed"), &json!("script_budget"))
    );
    assert_eq!(lines[1]["outcome"], "mapped");
    assert_eq!(code, Some(1));
}

#[test]
fn an_unreadable_script_folder_is_a_clear_diagnostic() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    fs::write(
        &config,
        format!("mapping: {{ dir: \"{}\" }}\n", dir.path().join("nowhere").display()),
    )
    .unwrap();
    let output = run_with_input(&["map", "-c", &config.display().to_string(), "-"], b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("nowhere"), "{said}");
}
