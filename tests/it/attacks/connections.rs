//! Connections that are opened and say nothing, or never enough.

use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::ClientConnection;

use super::*;
use crate::support::{Running, binary, eventually, get};
use crate::vector_source::tls;

/// Beginnings after which nothing or little comes.
const BEGINNINGS: [&[u8]; 6] = [
    b"",
    b"PO",
    b"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-A",
    b"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic V1JJVEVfS0VZX1RFU1Q6\r\nContent-Length: 9\r\n\r\n{",
    b"PRI * HTTP/2.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

fn open(address: SocketAddr, many: usize) -> Vec<TcpStream> {
    let open = |n: usize| {
        let mut stream = connect(address);
        stream.write_all(BEGINNINGS[n % BEGINNINGS.len()]).unwrap();
        stream
    };
    (0..many).map(open).collect()
}

/// Starts the process of a stack again, with what the shell is told before.
pub(super) fn start_again(stack: &mut Stack, shell: &str) {
    stack.run.kill();
    let config = stack.dir.path().join("config.yaml");
    let binary = binary().get_program().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell}; exec \"$0\" run -c \"$1\"")]).arg(binary).arg(config);
    stack.run = Running::spawn(command);
    stack.wait_ready();
}

#[test]
fn a_thousand_that_say_too_little_on_each_listener_leave_room_for_others() {
    let mut fort = Fort::start("");
    for listener in fort.listeners() {
        let mut slow = fort.within(64, |fort| {
            let slow = open(listener, 1000);
            fort.serves();
            slow
        });
        // A byte now and then, of heads and of bodies.
        for _ in 0..3 {
            for stream in &mut slow {
                // Some are cut by now: what follows is no beginning of HTTP.
                drop(stream.write_all(b"x"));
            }
            fort.serves();
        }
    }
    fort.stands();
    assert!(fort.stack.run.stop().success());
}

#[test]
#[cfg(target_os = "linux")]
fn few_file_descriptors_are_left_to_those_who_use_them() {
    let mut fort = Fort::start("");
    start_again(&mut fort.stack, "ulimit -n 256");
    let mut idle = Vec::new();
    for _ in 0..3 {
        for listener in fort.listeners() {
            idle.extend(open(listener, 100));
        }
        fort.serves();
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", fort.stack.run.id())).unwrap().count();
    assert!(files < 256 - 32, "{files} are open");
    // Who came last is still there, who came first had to go.
    let mut last = connect(fort.vector);
    fort.serves();
    last.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n").unwrap();
    assert!(rest(last).starts_with("HTTP/1.1 405"));
    assert_eq!(rest(idle.remove(0)), "");
    fort.stands();
    let said = fort.stack.run.said();
    assert!(!said.contains("not accepted"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn without_file_descriptors_nothing_ends_and_it_goes_on_when_there_are_some() {
    let mut fort = Fort::start("");
    start_again(&mut fort.stack, "ulimit -n 128");
    // The connections of the administrator are not those of the sources.
    let taken: Vec<_> = (0..200).map(|_| connect(fort.stack.admin)).collect();
    let waiting: Vec<_> = fort.listeners().iter().flat_map(|at| open(*at, 30)).collect();
    eventually("no descriptor is left", || fort.stack.run.said().contains("not accepted"));
    let told = || fort.stack.run.said().matches("Connections were not accepted").count();
    assert!(told() <= 3, "each listener tells once a minute");
    drop((taken, waiting));
    eventually("there are descriptors again", || {
        TcpStream::connect(fort.stack.admin).is_ok()
            && get(fort.stack.admin, "/readyz").status == 200
    });
    fort.stands();
    assert!(fort.stack.run.stop().success());
}

#[test]
fn handshakes_that_never_end_keep_no_other_from_shaking_hands() {
    let dir = tempfile::tempdir().unwrap();
    let made = tls::make(dir.path());
    let keys = format!(
        ", tls: {{ cert_file: {}, key_file: {} }}",
        made.cert.display(),
        made.key.display()
    );
    let fort = Fort::start(&keys);
    let mut hello = Vec::new();
    let name = std::net::IpAddr::from([127, 0, 0, 1]).into();
    let client = ClientConnection::new(Arc::new(made.client(false, &[])), name);
    client.unwrap().write_tls(&mut hello).unwrap();
    for (listener, many) in [(fort.http, 300), (fort.vector, 300)] {
        let begun = |n: usize| {
            let mut stream = connect(listener);
            // All of the first message, half of it, or nothing.
            stream.write_all(&hello[..hello.len() * (n % 3) / 2]).unwrap();
            stream
        };
        let silent: Vec<_> = (0..many).map(begun).collect();
        // What is no TLS is cut.
        for plain in BEGINNINGS.iter().filter(|bytes| bytes.len() > 5) {
            let mut stream = connect(listener);
            stream.write_all(plain).unwrap();
            assert!(!rest(stream).contains("HTTP/1.1"));
        }
        let event = frame(0, &request(&[track("m", "good", &json!({ "n": 1 }))]));
        let client = Client::tls(listener, made.client(false, &[])).unwrap();
        let seen = client.call(PUSH, None, event);
        assert_eq!(seen.status, if listener == fort.vector { 200 } else { 415 }, "{seen:?}");
        drop(silent);
    }
    assert_eq!(fort.stack.settled()["delivered"], 1);
}

#[test]
fn a_stop_does_not_wait_for_the_silent() {
    let mut fort = Fort::start("");
    let silent: Vec<_> = fort.listeners().iter().flat_map(|at| open(*at, 60)).collect();
    fort.stands();
    let stopped = thread::spawn(move || fort.stack.run.stop());
    assert!(stopped.join().unwrap().success());
    drop(silent);
}
