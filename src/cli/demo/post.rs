//! Sends events to our own gateway as an SDK would: HTTP/1.1 over loopback.

use std::io;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Posts one batch and returns the status line of the answer.
///
/// # Errors
///
/// What the socket says.
pub async fn batch(gateway: SocketAddr, write_key: &str, events: &[&str]) -> io::Result<String> {
    let body = format!("{{\"batch\":[{}]}}", events.join(","));
    let credentials = STANDARD.encode(format!("{write_key}:"));
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: {gateway}\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
