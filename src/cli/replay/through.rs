//! A replay through the running process: its admin endpoint works, this command shows it.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::display::Display;
use super::failed;
use crate::config::Config;
use crate::data_dir::{DataDir, Holder};
use crate::pipeline::stop::Stop;
use crate::replay::Selection;

/// The longest line of an answer.
const MAX_LINE: u64 = 1 << 20;

/// Returns the admin endpoint of the process that holds the data directory, if one does.
pub fn holder(config: &Config) -> Result<Option<SocketAddr>, String> {
    let dir = config.data_dir.display();
    match DataDir::holder(&config.data_dir) {
        Ok(None) => Ok(None),
        Ok(Some(Holder { admin: Some(admin), .. })) => Ok(Some(admin)),
        Ok(Some(Holder { pid, admin: None })) => Err(format!(
            "the data directory {dir} is in use by process {pid}, which has no admin endpoint: \
             wait until it has started or ended"
        )),
        Err(error) => Err(format!("cannot tell who holds the data directory {dir}: {error}")),
    }
}

/// Has the process replay, and shows it. A signal closes the connection, which stops the replay.
pub async fn replay(
    config: &Config,
    admin: SocketAddr,
    selection: &Selection,
    stop: &Stop,
    color: bool,
) -> ExitCode {
    let mut display = Display::new(color);
    let result = tokio::select! {
        result = ask(config, admin, selection, &mut display) => Some(result),
        () = stop.requested(1) => None,
    };
    match result {
        Some(Ok(None)) => display.end(),
        Some(Ok(Some(refusal))) => failed(&refusal, color),
        Some(Err(error)) => {
            display.clear();
            failed(&format!("the running process at {admin} cannot be asked: {error}"), color)
        }
        None => {
            display.stopped();
            display.end()
        }
    }
}

/// Sends the request and shows what comes; gives the text of a refusal, if it is one.
async fn ask(
    config: &Config,
    admin: SocketAddr,
    selection: &Selection,
    display: &mut Display,
) -> io::Result<Option<String>> {
    let body = serde_json::to_vec(selection)?;
    let token = config.admin.token.as_ref();
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose_secret()));
    // HTTP/1.0, so that the lines come as they are and end with the connection.
    let head = format!(
        "POST /replay HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{}\r\n",
        body.len(),
        token.unwrap_or_default(),
    );
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    let mut lines = BufReader::new(stream);
    let status = line(&mut lines).await?.unwrap_or_default();
    let status = status.split(' ').nth(1).unwrap_or_default().to_owned();
    while line(&mut lines).await?.is_some_and(|header| !header.is_empty()) {}
    if status != "200" {
        let mut text = String::new();
        lines.take(MAX_LINE).read_to_string(&mut text).await?;
        let remedy = if status == "401" { " (is admin.token the one it runs with?)" } else { "" };
        return Ok(Some(format!("{}{remedy}", text.trim())));
    }
    // A process that ends breaks the connection in one way or the other.
    while let Ok(Some(line)) = line(&mut lines).await {
        if let Ok(message) = serde_json::from_str(&line) {
            display.show(message);
        }
    }
    Ok(None)
}

async fn line(input: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = input.take(MAX_LINE).read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}
