//! Each kind of fault as a client on a socket meets it.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::tests::{BATCH, SOON, connect, read_all, sandbox, send};
use crate::sandbox::RunningSandbox;
use crate::sandbox::log::Applied;

/// `site:key` and `site:other`.
const KEY: &str = "c2l0ZTprZXk=";
const OTHER_KEY: &str = "c2l0ZTpvdGhlcg==";

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

async fn ask(sandbox: &RunningSandbox, method: &str, path: &str, key: &str, body: &str) -> Reply {
    let mut stream = connect(sandbox).await;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Basic {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (answer, error) = read_all(&mut stream).await;
    assert_eq!(error, None, "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

async fn post(sandbox: &RunningSandbox, body: &str) -> Reply {
    ask(sandbox, "POST", "/api/v2/batch", KEY, body).await
}

fn people(count: usize) -> String {
    let one = |n| json!({"type": "person", "action": "identify", "identifiers": {"id": format!("u-{n}")}});
    json!({"batch": (0..count).map(one).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn fixed_answers_have_the_bodies_and_headers_of_their_status() {
    for (effect, status, head, body) in [
        (json!({"status": 429}), 429, "", "{\"meta\":{\"error\":\"too many requests\"}}\n"),
        (json!({"status": 500}), 500, "", "{\"meta\":{\"error\":\"internal error\"}}\n"),
        (
            json!({"status": 502, "html": true}),
            502,
            "content-type: text/html\r\n",
            "<html><body><h1>502 Bad Gateway</h1></body></html>",
        ),
        (
            json!({"status": 418, "body": "tea", "headers": {"x-pot": "blue"}}),
            418,
            "x-pot: blue\r\n",
            "tea",
        ),
        (json!({"status": 503, "body": ""}), 503, "", ""),
        (
            json!({"retry_after": 7}),
            429,
            "retry-after: 7\r\n",
            "{\"meta\":{\"error\":\"too many requests\"}}\n",
        ),
        (
            json!({"status": 503, "retry_after": "date:60"}),
            503,
            " GMT\r\n",
            "{\"meta\":{\"error\":\"internal error\"}}\n",
        ),
    ] {
        let sandbox = sandbox(json!([{"do": effect}])).await;
        let reply = post(&sandbox, BATCH).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{effect}");
        assert!(format!("{}\r\n", reply.head).contains(head), "{effect}: {}", reply.head);
        assert!(sandbox.people().is_empty(), "{effect}");
        assert_eq!(sandbox.requests()[0].fault.as_ref().unwrap().applied, Applied::No);
        assert_eq!(sandbox.stats().faults_applied[&Applied::No], 1);
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn redirects_name_the_place() {
    for status in [301, 302, 307, 308] {
        let rule =
            json!([{"do": {"redirect": {"status": status, "location": "https://eu.invalid/x"}}}]);
        let sandbox = sandbox(rule).await;
        let reply = post(&sandbox, BATCH).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""));
        assert!(reply.head.contains("location: https://eu.invalid/x\r\n"), "{}", reply.head);
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn rules_look_at_path_method_person_and_body() {
    for (matches, first, second) in [
        (json!({"path": "/api/v1/*"}), 200, 503),
        (json!({"method": "put"}), 200, 503),
        (json!({"person": "u-1"}), 503, 200),
        (json!({"person": "u-2"}), 200, 503),
        (json!({"body_contains": "\"batch\""}), 503, 200),
        (json!({"path": "/api/v2/*", "person": "u-2"}), 200, 200),
        (json!({}), 503, 503),
    ] {
        let sandbox = sandbox(json!([{"match": matches, "do": {"status": 503}}])).await;
        let batch = post(&sandbox, BATCH).await.status;
        let v1 = ask(&sandbox, "PUT", "/api/v1/customers/u-2", KEY, "{}").await.status;
        assert_eq!((batch, v1), (first, second), "{matches}");
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn an_empty_rule_exempts_from_those_behind_it() {
    let rules = json!([{"match": {"method": "PUT"}, "do": {}}, {"do": {"status": 503}}]);
    let sandbox = sandbox(rules).await;
    assert_eq!(ask(&sandbox, "PUT", "/api/v1/customers/u", KEY, "{}").await.status, 200);
    assert_eq!(post(&sandbox, BATCH).await.status, 503);
    assert_eq!(json!(sandbox.stats().faults), json!({"status_503": 1}));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn each_credential_has_its_own_rate() {
    let sandbox =
        sandbox(json!([{"do": {"rate_limit": {"per_second": 0.0001, "burst": 2}}}])).await;
    let mut statuses = Vec::new();
    for key in [KEY, KEY, KEY, OTHER_KEY, KEY] {
        statuses.push(ask(&sandbox, "POST", "/api/v2/batch", key, BATCH).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 429]);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn chosen_items_are_refused_and_the_others_applied() {
    let error = json!({"reason": "invalid", "field": "x", "message": "no"});
    for (chosen, status, refused) in [
        (json!({"items": {"indexes": [1, 3]}}), 207, vec![1, 3]),
        (json!({"items": {"person": "u-2"}}), 207, vec![2]),
        (json!({"items": {"probability": 1}}), 207, vec![0, 1, 2, 3]),
        (json!({"items_in_200": {"indexes": [0]}}), 200, vec![0]),
    ] {
        let mut effect = chosen.clone();
        effect["error"] = error.clone();
        let sandbox = sandbox(json!([{"do": effect}])).await;
        let reply = post(&sandbox, &people(4)).await;
        assert_eq!(reply.status, status, "{chosen}");
        let errors = reply.json()["errors"].clone();
        let expected: Vec<_> = refused
            .iter()
            .map(|n| json!({"batch_index": n, "reason": "invalid", "field": "x", "message": "no"}))
            .collect();
        assert_eq!(errors, json!(expected), "{chosen}");
        let stored = sandbox.people().len();
        assert_eq!(stored, 4 - refused.len(), "{chosen}");
        let applied = if stored == 0 { Applied::No } else { Applied::Items };
        assert_eq!(sandbox.requests()[0].fault.as_ref().unwrap().applied, applied);
        assert_eq!(sandbox.stats().accepted, u64::try_from(stored).unwrap());
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn single_requests_are_batches_of_one() {
    let entity =
        json!({"type": "person", "action": "identify", "identifiers": {"id": "u-1"}}).to_string();
    let requests =
        [("POST", "/api/v2/entity", entity.as_str()), ("PUT", "/api/v1/customers/u-1", "{}")];
    for (effect, status) in [
        (json!({"items": {"person": "u-1"}, "error": {"field": "f"}}), 400),
        (json!({"items_in_200": {"probability": 1.0}, "error": {"field": "f"}}), 200),
    ] {
        let sandbox = sandbox(json!([{"do": effect}])).await;
        let mut bodies = Vec::new();
        for (method, path, body) in requests {
            let reply = ask(&sandbox, method, path, KEY, body).await;
            assert_eq!(reply.status, status, "{effect} {path}");
            bodies.push(reply.json());
        }
        assert_eq!(bodies[0]["errors"][0]["field"], "f");
        assert_eq!(bodies[1], json!({"meta": {"errors": ["f: injected"]}}));
        assert!(sandbox.people().is_empty());
        assert_eq!(sandbox.stats().faults_applied[&Applied::No], 2);
        let other = ask(&sandbox, "PUT", "/api/v1/customers/u-2", KEY, "{}").await.status;
        assert_eq!(other, if status == 400 { 200 } else { status });
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn useless_bodies_are_useless_in_each_of_their_ways() {
    for (kind, body) in [
        ("index_out_of_range", "{\"errors\":[{\"batch_index\":5,"),
        ("index_missing", "{\"errors\":[{\"reason\":\"invalid\"}]}"),
        ("not_a_list", "{\"errors\":{"),
        ("cut", "{\"errors\":[{\"batch_index\":0,\"reas"),
        ("empty", ""),
        ("html", "<html>"),
    ] {
        let sandbox = sandbox(json!([{"do": {"bad_errors": kind}}])).await;
        let reply = post(&sandbox, BATCH).await;
        assert_eq!(reply.status, 207, "{kind}");
        assert!(reply.body.starts_with(body), "{kind}: {}", reply.body);
        assert_eq!(body.is_empty(), reply.body.is_empty(), "{kind}");
        assert_eq!(sandbox.people().len(), 1, "{kind}");
        assert_eq!(sandbox.requests()[0].fault.as_ref().unwrap().applied, Applied::Yes);
        // v1 has no such bodies: no fault.
        assert_eq!(ask(&sandbox, "PUT", "/api/v1/customers/u", KEY, "{}").await.status, 200);
        assert!(sandbox.requests()[1].fault.is_none());
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_whole_batch_is_refused_and_nothing_of_it_applied() {
    let bad = people(2).replace("[", "[7,");
    for (effect, body, status) in [
        (json!({"whole_batch_400": true}), people(2), 400),
        (json!({"whole_batch_400": "bad_items"}), bad.clone(), 400),
        (json!({"whole_batch_400": "bad_items"}), people(2), 200),
        (json!({"whole_batch_400": true, "items": {"person": "u-1"}}), people(2), 400),
        (json!({"whole_batch_400": true, "items": {"person": "u-9"}}), people(2), 200),
    ] {
        let sandbox = sandbox(json!([{"do": effect}])).await;
        let reply = post(&sandbox, &body).await;
        assert_eq!(reply.status, status, "{effect}");
        assert_eq!(sandbox.people().len(), if status == 200 { 2 } else { 0 }, "{effect}");
        let fault = sandbox.requests()[0].fault.as_ref().map(|fault| fault.applied);
        assert_eq!(fault, (status == 400).then_some(Applied::No), "{effect}");
        if status == 400 {
            assert!(reply.json()["errors"][0].get("batch_index").is_none());
        }
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_rotated_key_is_refused_until_the_new_one_is_used() {
    let sandbox = sandbox(json!([{"do": {"unauthorized": {"until": "site:other"}}}])).await;
    let old = ask(&sandbox, "POST", "/api/v2/batch", KEY, BATCH).await;
    assert_eq!(old.json(), json!({"meta": {"error": "Unauthorized request"}}));
    let new = ask(&sandbox, "POST", "/api/v2/batch", OTHER_KEY, BATCH).await;
    assert_eq!((old.status, new.status), (401, 200));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn without_deduplication_what_was_doubled_is_counted() {
    let event = json!({"batch": [{"type": "person", "action": "event", "name": "x",
        "identifiers": {"id": "u"}, "id": "01HQX05C4NJXDYF2MRBF6GKJE6"}]});
    let rule = json!([{"when": {"every": 3}, "do": {"duplicate_id_ignored": false}}]);
    let sandbox = sandbox(rule).await;
    for _ in 0..3 {
        assert_eq!(post(&sandbox, &event.to_string()).await.status, 200);
    }
    let counts = sandbox.stats().workspace;
    assert_eq!((counts.events, counts.duplicates_ignored, counts.duplicates_stored), (2, 1, 1));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn faults_on_a_socket_repeat_with_the_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rules = json!([
            {"when": {"probability": 0.2}, "do": {"status": 503}},
            {"when": {"probability": 0.3}, "do": {"reset": "after_request"}},
            {"do": {"items": {"probability": 0.4}}},
        ]);
        let sandbox = sandbox(rules).await;
        for _ in 0..30 {
            let mut stream = connect(&sandbox).await;
            send(&mut stream).await;
            stream.shutdown().await.unwrap();
            drop(read_all(&mut stream).await);
        }
        let faults =
            |record: crate::sandbox::log::RequestRecord| json!([record.status, record.fault]);
        runs.push(sandbox.requests().into_iter().map(faults).collect::<Vec<_>>());
        sandbox.shutdown().await;
    }
    assert_eq!(runs[0], runs[1]);
    let distinct: std::collections::BTreeSet<_> = runs[0].iter().map(Value::to_string).collect();
    assert_eq!(distinct.len(), 4, "{distinct:?}");
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_on_record_with_what_was_applied() {
    for (after, people) in [(false, 0), (true, 1)] {
        let rule = json!([{"do": {"latency": {"p50": "10m", "after": after}}}]);
        let sandbox = sandbox(rule).await;
        let mut stream = connect(&sandbox).await;
        send(&mut stream).await;
        if after {
            until(|| sandbox.people().len() == 1).await;
        } else {
            let fired = || sandbox.with_engine(|engine| json!(engine.faults.in_force()));
            until(|| fired()[0]["counts"]["fired"] == 1).await;
        }
        drop(stream);
        let left = |status: Option<&u64>| status == Some(&1);
        until(|| left(sandbox.stats().statuses.get(&0))).await;
        let (stats, requests) = (sandbox.stats(), sandbox.requests());
        assert_eq!(json!(stats.statuses), json!({"0": 1}));
        assert_eq!(stats.unacknowledged, people, "after: {after}");
        assert_eq!(requests[0].status, 0);
        let applied = if after { Applied::Yes } else { Applied::No };
        assert_eq!(requests[0].fault.as_ref().unwrap().applied, applied);
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn what_was_applied_and_never_acknowledged_is_counted() {
    let rules = json!([
        {"when": {"first": 1}, "do": {"reset": "after_request"}},
        {"when": {"first": 1}, "do": {"reset": "mid_response"}},
    ]);
    let sandbox = sandbox(rules).await;
    for _ in 0..3 {
        let mut stream = connect(&sandbox).await;
        send(&mut stream).await;
        stream.shutdown().await.unwrap();
        drop(read_all(&mut stream).await);
    }
    let stats = sandbox.stats();
    assert_eq!((stats.accepted, stats.unacknowledged), (3, 2));
    assert_eq!(json!(stats.statuses), json!({"0": 1, "200": 2}));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn a_reset_at_accept_is_in_the_request_log() {
    let sandbox = sandbox(json!([{"when": {"times": 1}, "do": {"reset": "accept"}}])).await;
    drop(read_all(&mut connect(&sandbox).await).await);
    assert_eq!(post(&sandbox, BATCH).await.status, 200);
    let requests = sandbox.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].status), ("", 0));
    assert_eq!(requests[0].fault.as_ref().unwrap().name, "reset_accept");
    assert_eq!((requests[1].number, sandbox.stats().requests), (2, 1));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn rules_are_replaced_while_requests_are_served() {
    let sandbox = sandbox(json!([])).await;
    let rules = [json!([]), json!([{"do": {"status": 503}}]), json!([{"do": {"latency": "1ms"}}])];
    let putting = async {
        for n in 0..30 {
            let body = rules[n % 3].to_string();
            let reply = ask(&sandbox, "PUT", "/_sandbox/faults", KEY, &body).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.json().as_array().unwrap().len(), usize::from(n % 3 > 0));
        }
    };
    let sending = async {
        for _ in 0..60 {
            assert!([200, 503].contains(&post(&sandbox, BATCH).await.status));
        }
    };
    let also = async {
        for _ in 0..60 {
            assert!([200, 503].contains(&post(&sandbox, BATCH).await.status));
        }
    };
    tokio::join!(putting, sending, also);
    assert_eq!(sandbox.stats().requests, 120);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn rules_in_force_are_shown_with_their_counts_and_can_be_put_back() {
    let sandbox = sandbox(json!([])).await;
    let rules = json!([
        {"match": {"person": "u-9"}, "do": {"status": 500}},
        {"when": {"every": 2}, "do": {"status": 503}},
        {"do": {"items": {"person": "u-9"}}},
    ]);
    let put = async |body: String| ask(&sandbox, "PUT", "/_sandbox/faults", KEY, &body).await;
    assert_eq!(put(rules.to_string()).await.json()[1]["do"], rules[1]["do"]);
    for _ in 0..3 {
        post(&sandbox, BATCH).await;
    }
    let shown = ask(&sandbox, "GET", "/_sandbox/faults", KEY, "").await;
    let counts: Vec<_> =
        shown.json().as_array().unwrap().iter().map(|rule| rule["counts"].clone()).collect();
    let expected = [(0, 0), (3, 1), (2, 0)];
    let expected = expected.map(|(matched, fired)| json!({"matched": matched, "fired": fired}));
    assert_eq!(counts, expected);
    let again = put(shown.body).await;
    assert_eq!(again.json()[1]["counts"], json!({"matched": 0, "fired": 0}));
    for (wrong, named) in [
        ("{}", "expected a JSON list"),
        (r#"[{}, {"when": {"evry": 2}}]"#, "rule 1: unknown field `evry`"),
        (r#"[{"do": {"status": 99}}]"#, "rule 0: `status` must be between"),
    ] {
        let refused = put(wrong.to_owned()).await;
        let text = refused.json()["meta"]["error"].as_str().unwrap().to_owned();
        assert_eq!(refused.status, 400);
        assert!(text.contains(named), "{text}");
    }
    let kept = ask(&sandbox, "GET", "/_sandbox/faults", KEY, "").await.json();
    assert_eq!(kept.as_array().unwrap().len(), 3);
    sandbox.shutdown().await;
}
