//! HTTP/1 as it must not be spoken.

use super::*;
use crate::support::exchange;
use crate::vector_source::client::{gzip, zstd};

const EVENT: &str = r#"{"type":"identify","userId":"good"}"#;

#[test]
fn what_is_far_too_large_is_answered_and_not_kept() {
    let mut fort = Fort::start("");
    const ALL: usize = 200 << 20;
    fort.within(256, |fort| {
        let body = vec![b' '; ALL];
        for listener in [fort.stack.gateway, fort.http] {
            let whole = [
                head(&format!("Connection: close\r\nContent-Length: {ALL}\r\n")).as_bytes(),
                &body,
            ]
            .concat();
            let answer = exchange(listener, &whole);
            assert_eq!(answer.unwrap().status, 413);
            let mut chunked =
                head("Connection: close\r\nTransfer-Encoding: chunked\r\n").into_bytes();
            for chunk in body.chunks(1 << 20) {
                chunked.extend_from_slice(b"100000\r\n");
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            // The gateway answers before it has read all; then the answer may be lost.
            match exchange(listener, &chunked) {
                Ok(answer) => assert_eq!(answer.status, 413),
                Err(_) => assert_eq!(listener, fort.stack.gateway),
            }
        }
        let vector = Client::plain(fort.vector);
        let seen = vector.call(PUSH, None, frame(0, &body));
        assert_eq!(seen.code, 3, "{seen:?}");
    });
    let bomb = vec![0; ALL + (100 << 20)];
    let (zstd, gzip) = (zstd(&bomb), gzip(&bomb[..ALL]));
    drop(bomb);
    fort.within(256, |fort| {
        for (coding, packed) in [("zstd", &zstd), ("gzip", &gzip)] {
            let headers = [("Content-Encoding", coding)];
            assert_eq!(http(fort.http, "POST", "/", &headers, packed).status, 413, "{coding}");
            let seen = Client::plain(fort.vector).call(PUSH, Some(coding), frame(1, packed));
            assert_eq!(seen.code, 3, "{seen:?}");
        }
        let headers = [AUTH, ("Content-Encoding", "gzip")];
        assert_eq!(http(fort.stack.gateway, "POST", "/v1/batch", &headers, &gzip).status, 413);
    });
    fort.stands();
}

#[test]
fn heads_without_end_are_cut() {
    let mut fort = Fort::start("");
    fort.within(64, |fort| {
        for listener in fort.listeners() {
            for line in ["X: y\r\n", "GET / HTTP/1.1\r\n", "x"] {
                let mut stream = connect(listener);
                // It ends before all of this is read, and then the answer may be lost.
                let endless = format!("POST / HTTP/1.1\r\n{}", line.repeat((8 << 20) / line.len()));
                drop(stream.write_all(endless.as_bytes()));
                let answer = rest(stream);
                assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
            }
        }
    });
    // A thousand of them at once, which say no more than servers often take.
    fort.within(160, |fort| {
        let part = format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(300 << 10));
        let mut half: Vec<_> = (0..1000).map(|_| connect(fort.http)).collect();
        for stream in &mut half {
            drop(stream.write_all(part.as_bytes()));
        }
        fort.serves();
    });
    fort.stands();
}

#[test]
fn shapes_that_two_readers_read_differently_are_no_way_to_smuggle() {
    let mut fort = Fort::start("");
    let length = EVENT.len();
    let inner = format!("{}{EVENT}", head(&format!("Content-Length: {length}\r\n")));
    let chunked = format!("{length:x}\r\n{EVENT}\r\n0\r\n\r\n");
    for listener in [fort.stack.gateway, fort.http] {
        for (headers, body) in [
            // The end is where the chunks end, and the connection with it.
            (
                format!(
                    "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
                    chunked.len() + inner.len()
                ),
                &*chunked,
            ),
            (
                format!(
                    "Transfer-Encoding: chunked\r\nContent-Length: {}\r\n",
                    chunked.len() + inner.len()
                ),
                &chunked,
            ),
        ] {
            let mut stream = connect(listener);
            stream.write_all(format!("{}{body}{inner}", head(&headers)).as_bytes()).unwrap();
            let answers = rest(stream);
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{headers}: {answers}");
            fort.good += u64::from(answers.contains("HTTP/1.1 200"));
        }
        for headers in [
            "Content-Length: 1\r\nContent-Length: 40\r\n",
            "Content-Length: +40\r\n",
            "Content-Length: 40, 41\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: y\r\n folded: line\r\nContent-Length: 0\r\n\u{1}: z\r\n",
        ] {
            let mut stream = connect(listener);
            stream.write_all(format!("{}{chunked}{inner}", head(headers)).as_bytes()).unwrap();
            let answers = rest(stream);
            assert!(!answers.contains("HTTP/1.1 200"), "{headers}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{headers}: {answers}");
        }
        for body in [
            "z\r\n",
            "-1\r\n",
            "ffffffffffffffffff\r\n",
            "1 \r\nab",
            "1\r\nabc\r\n0\r\n\r\n",
            "\r\n\r\n",
        ] {
            let mut stream = connect(listener);
            let request = format!("{}{body}", head("Transfer-Encoding: chunked\r\n"));
            stream.write_all(request.as_bytes()).unwrap();
            // It may be over by now.
            drop(stream.shutdown(std::net::Shutdown::Write));
            let answers = rest(stream);
            assert!(!answers.contains("HTTP/1.1 200"), "{body}: {answers}");
        }
    }
    fort.stands();
}

#[test]
fn chunks_without_an_end_are_not_kept_and_cut() {
    let mut fort = Fort::start(", max_body: 1 MiB");
    fort.within(64, |fort| {
        let sources =
            [(fort.http, 1, 4), (fort.http, 1 << 16, 64), (fort.stack.gateway, 1 << 16, 500)];
        for (listener, chunk, most) in sources {
            let mut stream = connect(listener);
            stream.write_all(head("Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
            let chunks =
                format!("{chunk:x}\r\n{}\r\n", "x".repeat(chunk)).repeat((1 << 20) / chunk);
            let sent =
                (0..most).take_while(|_| stream.write_all(chunks.as_bytes()).is_ok()).count();
            // What is sent to the source `http` is read away for longer, since its senders repeat what
            // they get no answer to.
            assert!(listener == fort.http || sent < most, "{sent} MiB");
        }
        fort.serves();
    });
    fort.stands();
}

#[test]
fn thousands_of_requests_in_a_row_are_answered_in_a_row() {
    let mut fort = Fort::start("");
    let one = format!("{}{EVENT}", head(&format!("Content-Length: {}\r\n", EVENT.len())));
    const MANY: usize = 1000;
    fort.within(96, |fort| {
        for listener in [fort.stack.gateway, fort.http] {
            let mut stream = connect(listener);
            let mut reader = stream.try_clone().unwrap();
            let all = one.repeat(MANY) + &head("Connection: close\r\nContent-Length: 0\r\n");
            let writer = std::thread::spawn(move || stream.write_all(all.as_bytes()).unwrap());
            let mut answers = String::new();
            reader.read_to_string(&mut answers).unwrap();
            writer.join().unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200").count(), MANY);
            assert_eq!(answers.matches("HTTP/1.1 400").count(), 1);
            fort.good += MANY as u64;
        }
    });
    fort.stands();
}

#[test]
fn who_never_reads_is_not_read_for_ever() {
    let mut fort = Fort::start("");
    let many = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let mut deaf = Vec::new();
    fort.within(96, |fort| {
        for listener in fort.listeners() {
            for _ in 0..20 {
                let mut stream = connect(listener);
                stream.set_nonblocking(true).unwrap();
                // Until the buffers of both sides are full.
                for _ in 0..500 {
                    if stream.write_all(many.as_bytes()).is_err() {
                        break;
                    }
                }
                deaf.push(stream);
            }
            fort.serves();
        }
    });
    fort.stands();
}
