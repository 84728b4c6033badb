//! HTTP/2 as it must not be spoken, frame by frame.

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header in HPACK, without compression or memory.
pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        match u8::try_from(text.len()) {
            Ok(short @ ..=126) => out.push(short),
            _ => {
                out.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    out.push(rest as u8 | 128);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], text(name), text(value)].concat()
}

/// The head of a push that nothing is wrong with.
fn push() -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", PUSH),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    .iter()
    .flat_map(|(name, value)| header(name, value))
    .collect()
}

/// Begins to speak HTTP/2.
pub(super) fn speak(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(&[PREFACE, &of(SETTINGS, 0, 0, b"")].concat()).unwrap();
    stream
}

/// More than any two sockets hold between them: who has written so much has been read from.
const READ_FROM: usize = 64 << 20;

/// Begins to speak HTTP/2; what comes back is read to no end, or never.
fn speak_to(listener: SocketAddr, reads: bool) -> TcpStream {
    let stream = speak(listener);
    if reads {
        let mut reader = stream.try_clone().unwrap();
        std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
    }
    stream
}

/// Writes frames of two clients to each listener, one that reads what comes and one that does not, as
/// many times as is said or until there is no writing more.
fn flood(fort: &Fort, times: u32, mut frames: impl FnMut(u32) -> Vec<u8>) {
    for listener in fort.listeners() {
        for reads in [true, false] {
            let mut stream = speak_to(listener, reads);
            if !reads {
                // The listener may well stop to read before it is read from.
                stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            }
            for n in 0..times {
                if stream.write_all(&frames(n)).is_err() {
                    break;
                }
            }
        }
    }
}

/// As [`flood`], and checks that each client is cut.
fn flood_is_cut(fort: &Fort, mut frames: impl FnMut(u32) -> Vec<u8>) {
    for listener in fort.listeners() {
        for reads in [true, false] {
            let mut stream = speak_to(listener, reads);
            let mut written = 0;
            let cut = (0..).find_map(|n| {
                let frames = frames(n);
                written += frames.len();
                assert!(written < READ_FROM, "{listener} reads on");
                stream.write_all(&frames).err()
            });
            let waits = cut.is_none_or(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!waits, "{listener} neither reads nor cuts");
        }
    }
}

#[test]
fn streams_that_are_opened_and_reset_are_cut() {
    let mut fort = Fort::start("");
    fort.within(64, |fort| {
        flood_is_cut(fort, |n| {
            let streams = (n * 100..n * 100 + 100).flat_map(|n| {
                let stream = 2 * n + 1;
                [
                    of(HEADERS, END_HEADERS, stream, &push()),
                    of(RESET, 0, stream, &8_u32.to_be_bytes()),
                ]
            });
            streams.flatten().collect()
        });
    });
    fort.stands();
}

#[test]
fn lists_of_headers_without_measure_are_refused_or_cut() {
    let mut fort = Fort::start("");
    fort.within(64, |fort| {
        // Without an end.
        let part: Vec<u8> =
            (0..100).flat_map(|n| header(&format!("x-{n}"), &"y".repeat(100))).collect();
        flood_is_cut(fort, |n| match n {
            0 => of(HEADERS, 0, 1, &push()),
            _ => of(CONTINUATION, 0, 1, &part),
        });
        // Without content.
        flood_is_cut(fort, |n| match n {
            0 => of(HEADERS, 0, 1, &push()),
            _ => of(CONTINUATION, 0, 1, b"").repeat(100),
        });
        // Each stream with a list that is too large, or just not.
        for length in [15_000, 64_000] {
            flood(fort, 1000, |n| {
                let mut list = [push(), header("x", &"y".repeat(length))].concat();
                let rest = list.split_off(16_000.min(list.len()));
                let stream = 2 * n + 1;
                let mut frames = of(HEADERS, 0, stream, &list);
                for part in rest.chunks(16_000) {
                    frames.extend(of(CONTINUATION, 0, stream, part));
                }
                frames.extend(of(CONTINUATION, END_HEADERS, stream, b""));
                frames
            });
        }
    });
    fort.stands();
}

#[test]
fn frames_that_ask_for_answers_without_end_cost_no_memory() {
    let mut fort = Fort::start("");
    fort.within(64, |fort| {
        flood(fort, 300, |_| of(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(1000));
        flood(fort, 300, |_| of(PING, 0, 0, b"12345678").repeat(1000));
        flood(fort, 300, |_| of(0xbe, 0, 0, b"unknown").repeat(1000));
        flood(fort, 300, |_| of(WINDOW, 0, 0, &1_u32.to_be_bytes()).repeat(1000));
        flood(fort, 300, |n| match n {
            0 => of(HEADERS, END_HEADERS, 1, &push()),
            _ => of(DATA, 0, 1, b"").repeat(1000),
        });
    });
    fort.stands();
}

#[test]
fn who_never_reads_answers_gets_few() {
    let mut fort = Fort::start("");
    fort.within(64, |fort| {
        // The windows of the answers are closed from the beginning.
        flood(fort, 1000, |n| {
            let streams = (n * 20..n * 20 + 20).flat_map(|n| {
                let closed =
                    if n == 0 { of(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]) } else { Vec::new() };
                [closed, of(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &push())]
            });
            streams.flatten().collect()
        });
    });
    fort.stands();
}

#[test]
fn broken_frames_and_messages_end_alone() {
    let mut fort = Fort::start("");
    for listener in fort.listeners() {
        for broken in [
            of(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
            of(HEADERS, END_HEADERS, 2, &push()),
            of(DATA, 0, 1, b"x"),
            of(DATA, 0, 0, b"x"),
            of(SETTINGS, 0, 0, b"x"),
            of(PING, 0, 0, b"short"),
            of(WINDOW, 0, 0, &0_u32.to_be_bytes()),
            of(WINDOW, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            of(CONTINUATION, 0, 1, b""),
            vec![0xff; 9],
        ] {
            let mut stream = speak(listener);
            stream.write_all(&broken).unwrap();
            // It says goodbye, or just goes.
            rest(stream);
        }
    }
    // Messages that stop in the middle, many at once on one connection.
    let mut stream = speak(fort.vector);
    for n in 0..200 {
        let stream_id = 2 * n + 1;
        let message = &frame(0, &[7; 100])[..50];
        let begun = [of(HEADERS, END_HEADERS, stream_id, &push()), of(DATA, 0, stream_id, message)];
        stream.write_all(&begun.concat()).unwrap();
    }
    fort.serves();
    drop(stream);
    fort.stands();
}
