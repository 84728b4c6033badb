//! One client's connection, kept open from request to request and opened again when it breaks.

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{AUTH, Answer, PATIENCE};

/// A connection that is opened when it is needed.
pub struct Line {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Line {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Posts a body with the write key of all tests; an error leaves open what became of it.
    pub fn post(&mut self, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let answer = self.try_post(path, body);
        if answer.as_ref().map_or(true, |a| a.header("connection") == Some("close")) {
            self.stream = None;
        }
        answer
    }

    fn try_post(&mut self, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            closed => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                closed.insert(BufReader::new(stream))
            }
        };
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{}: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            AUTH.0,
            AUTH.1,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        read_answer(stream)
    }
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<Answer> {
    let broken = || Error::other("no HTTP answer");
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<TcpStream>| -> std::io::Result<String> {
        line.clear();
        stream.read_line(&mut line)?;
        // The last bytes before a kill may be half a line.
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(broken)
    };
    let head = next(stream)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    let mut headers = Vec::new();
    loop {
        let line = next(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(broken)?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    answer.body = vec![0; length];
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}
