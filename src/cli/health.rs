//! `health`: whether the running process can accept events, for supervisors without an HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Globals, exit, output};
use crate::config::AdminConfig;

/// Limit for connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Options of `health`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It asks /readyz at the address of `admin.listen`, with the token of `admin.token`.

Ends with 0 if events can be accepted, 1 if not or if nobody answers.")]
pub struct HealthArgs {}

/// Asks the running process.
pub fn run(_args: HealthArgs, globals: &Globals) -> ExitCode {
    let config = match output::required_config(globals) {
        Ok((config, _warnings)) => config,
        Err(code) => return code,
    };
    match ask(&config.admin) {
        Ok((true, text)) => {
            output::say(text.trim());
            ExitCode::from(exit::SUCCESS)
        }
        Ok((false, text)) => {
            output::say(format!("error: {}", text.trim()));
            ExitCode::from(exit::FAILURE)
        }
        Err(error) => {
            output::say(format!("error: {} does not answer: {error}", config.admin.listen));
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// Returns whether events can be accepted, and what the process says about it.
fn ask(admin: &AdminConfig) -> io::Result<(bool, String)> {
    let address = reachable(admin.listen);
    let token = admin.token.as_ref().map(ExposeSecret::expose_secret);
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request =
        format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    let said = if body.trim().is_empty() { status } else { body };
    Ok((status.split(' ').nth(1) == Some("200"), said.to_owned()))
}

/// The address at which a server that listens on all of them is met from this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.1.2.3:9", "10.1.2.3:9")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn the_status_decides_and_the_body_is_said() {
        for (answer, ready, said) in [
            ("HTTP/1.1 200 OK\r\n\r\nready\n", true, "ready\n"),
            (
                "HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nthe disk is full\n",
                false,
                "the disk is full\n",
            ),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", false, "HTTP/1.1 401 Unauthorized"),
            ("", false, ""),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let admin =
                AdminConfig { listen: listener.local_addr().unwrap(), token: Some("t0ken".into()) };
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            assert_eq!(ask(&admin).unwrap(), (ready, said.to_owned()));
            assert!(server.join().unwrap().contains("Authorization: Bearer t0ken\r\n"));
        }
    }
}
