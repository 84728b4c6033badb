//! Clients that take all there is of something: the others get their share of it.

use super::connections::start_again;
use super::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, header, of, speak};
use super::*;
use crate::support::{eventually, get};

/// The head of a request after which each of the sources reads a body.
fn begun(path: &str) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
        ("authorization", AUTH.1),
        ("te", "trailers"),
        ("content-type", if path == PUSH { "application/grpc" } else { "application/json" }),
    ]
    .iter()
    .flat_map(|(name, value)| header(name, value))
    .collect()
}

impl Fort {
    /// Returns how many requests the sources of this type refused for this reason.
    fn refused(&self, source: &str, reason: &str) -> u64 {
        let metrics = get(self.stack.admin, "/metrics").text();
        let labels = [
            format!("component_type=\"{source}\""),
            format!("error_type=\"{reason}\""),
            "_errors_total".to_owned(),
        ];
        let lines = metrics.lines().filter(|l| labels.iter().all(|label| l.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn admin(&self, path: &str) {
        assert_eq!(http(self.stack.admin, "POST", path, &[], b"").status, 200);
    }
}

#[test]
fn requests_without_end_on_few_connections_leave_some_to_other_connections() {
    let mut fort = Fort::start("");
    let sources = [
        (fort.stack.gateway, "/v1/track", "rudderstack"),
        (fort.http, "/", "http"),
        (fort.vector, PUSH, "vector"),
    ];
    for (listener, path, source) in sources {
        // As many streams on each as there may be; together they are more than a source takes.
        let streams: Vec<u8> =
            (0..200).flat_map(|n| of(HEADERS, END_HEADERS, 2 * n + 1, &begun(path))).collect();
        let unfinished: Vec<_> = (0..60)
            .map(|_| {
                let mut stream = speak(listener);
                stream.write_all(&streams).unwrap();
                stream
            })
            .collect();
        eventually("some are refused", || fort.refused(source, "overload") > 0);
        for _ in 0..20 {
            fort.serves();
        }
        drop(unfinished);
    }
    fort.stands();
}

/// Begins a request of one event that waits for delivery.
#[cfg(target_os = "linux")]
fn ask(listener: SocketAddr, vector: bool, n: usize) -> TcpStream {
    if vector {
        let message = frame(0, &request(&[track(&format!("w-{n}"), "w", &json!({ "n": n }))]));
        let mut stream = speak(listener);
        let call = [of(HEADERS, END_HEADERS, 1, &begun(PUSH)), of(DATA, END_STREAM, 1, &message)];
        stream.write_all(&call.concat()).unwrap();
        return stream;
    }
    let body = event(n).to_string();
    let headers = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
    let mut stream = connect(listener);
    stream.write_all(format!("{}{body}", head(&headers)).as_bytes()).unwrap();
    stream
}

#[cfg(target_os = "linux")]
fn event(n: usize) -> serde_json::Value {
    json!({ "type": "identify", "userId": "w", "traits": { "n": n } })
}

#[test]
#[cfg(target_os = "linux")]
fn requests_that_wait_for_delivery_make_place_for_others() {
    for waiting in ["rudderstack", "http", "vector"] {
        let mut fort = Fort::start(", ack: delivered");
        let config = fort.stack.dir.path().join("config.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("type: rudderstack", "type: rudderstack\n    ack: delivered");
        std::fs::write(&config, text).unwrap();
        start_again(&mut fort.stack, "ulimit -n 256");
        fort.admin("/pause");
        let listener = match waiting {
            "rudderstack" => fort.stack.gateway,
            "http" => fort.http,
            _ => fort.vector,
        };

        // More than there are places. What is not read yet may be cut, so each part is there before
        // the next.
        let mut asked = Vec::new();
        for part in 1..=11 {
            asked.extend((asked.len()..20 * part).map(|n| ask(listener, waiting == "vector", n)));
            eventually("all are stored", || fort.stack.ledger()["buffered"] == 20 * part);
        }
        for listener in [fort.stack.gateway, fort.http] {
            assert_eq!(get(listener, "/").status, 200);
        }
        assert!(fort.refused(waiting, "not_delivered") > 0);

        // Who was sent away comes back for the end, and nothing is stored twice.
        fort.admin("/resume");
        fort.stack.settled();
        for (n, mut stream) in asked.into_iter().enumerate() {
            if waiting == "vector" {
                continue;
            }
            let mut answer = vec![0; "HTTP/1.1 200".len()];
            stream.read_exact(&mut answer).unwrap();
            let refused = answer.ends_with(b"503");
            assert!(refused || answer.ends_with(b"200"), "{}", String::from_utf8_lossy(&answer));
            if refused && waiting == "http" {
                assert!(rest(stream).contains("not delivered yet"));
                let repeat = http(fort.http, "POST", "/", &[], event(n).to_string().as_bytes());
                assert_eq!(repeat.status, 200, "{}", repeat.text());
            }
        }
        fort.good = 220;
        fort.stands();
        assert!(fort.stack.run.stop().success());
    }
}
