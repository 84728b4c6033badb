//! Clients that want the listeners dead: whatever they do is answered or cut, memory stays bounded, and
//! a good client is served meanwhile.

mod connections;
mod http1;
mod http2;
mod shares;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;

use crate::support::{AUTH, PATIENCE, Stack, free_address, http};
use crate::vector_source::client::{Client, PUSH, frame};
use crate::vector_source::proto::{request, track};

/// A pipeline with every source that listens.
struct Fort {
    stack: Stack,
    http: SocketAddr,
    vector: SocketAddr,
    /// Events of good clients so far.
    good: u64,
}

impl Fort {
    /// `keys` are further ones of the sources `http` and `vector`.
    fn start(keys: &str) -> Self {
        let (http, vector) = (free_address(), free_address());
        let source = format!(
            "  - {{ type: http, listen: \"{http}\"{keys} }}\n  - {{ type: vector, listen: \"{vector}\"{keys} }}\n"
        );
        Self { stack: Stack::start_with_source(&source, ""), http, vector, good: 0 }
    }

    fn listeners(&self) -> [SocketAddr; 3] {
        [self.stack.gateway, self.http, self.vector]
    }

    /// Sends one event to each source as a good client does.
    fn serves(&mut self) {
        let n = self.good;
        let event = json!({ "type": "identify", "userId": "good", "messageId": format!("m-{n}"),
            "traits": { "n": n } });
        let answer = self.stack.send(std::slice::from_ref(&event));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = http(self.http, "POST", "/", &[], event.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let pushed = frame(0, &request(&[track(&format!("v-{n}"), "good", &json!({ "n": n }))]));
        let seen = Client::plain(self.vector).call(PUSH, None, pushed);
        assert_eq!((seen.status, seen.code), (200, 0), "{seen:?}");
        self.good += 3;
    }

    /// Checks that good clients are served, and that nothing came from anybody else.
    fn stands(&mut self) {
        self.serves();
        let ledger = self.stack.settled();
        assert_eq!(ledger["delivered"], self.good, "{ledger}");
        assert_eq!(ledger["received"], self.good, "{ledger}");
    }

    /// Returns the most memory that the process has held, in MiB.
    #[cfg(target_os = "linux")]
    fn peak_memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.stack.run.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Does something, and checks how much memory it costs at most, in MiB.
    fn within<T>(&mut self, mib: u64, attack: impl FnOnce(&mut Self) -> T) -> T {
        // What serving costs is not the attack's.
        self.serves();
        #[cfg(target_os = "linux")]
        let before = self.peak_memory();
        let done = attack(self);
        #[cfg(target_os = "linux")]
        {
            let more = self.peak_memory() - before;
            assert!(more <= mib, "{more} MiB, before {before}");
        }
        done
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the other side ends, in peace or not.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 64 * 1024];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(error) => {
                let timed_out = matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
                assert!(!timed_out, "neither answered nor cut");
                break;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The head of a request that each of the two sources of HTTP/1 takes.
fn head(more: &str) -> String {
    format!("POST /v1/identify HTTP/1.1\r\nHost: x\r\n{}: {}\r\n{more}\r\n", AUTH.0, AUTH.1)
}
