//! A fresh folder, the real binary, and a small HTTP client.

pub mod line;
pub mod lives;
pub mod load;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for something that must happen; a limit, not a measure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a command of the binary under test, without the caller's environment of secrets.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rudder-customerio"));
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs the binary with arguments and input until it ends.
pub fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = binary()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the binary");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // The child may end before it has read everything; a broken pipe is then right.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("wait for the binary");
    writer.join().expect("write the input");
    output
}

/// Returns an address on loopback that is free, and stays so while nobody listens there: on 127.0.0.1
/// any connection of the machine may take the port, also one that tries whether somebody listens.
pub fn free_address() -> SocketAddr {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let mut address = free.expect("a free port");
    // Elsewhere 127.0.0.1 is the only one.
    if cfg!(target_os = "linux") {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let number = std::process::id().wrapping_mul(256).wrapping_add(made);
        let [_, a, b, c] = number.to_be_bytes();
        address.set_ip(Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)).into());
    }
    address
}

/// A running process of the binary, killed when dropped.
pub struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the binary and collects what it says on standard error.
    pub fn start(args: &[&str]) -> Self {
        let mut command = binary();
        command.args(args);
        Self::spawn(command)
    }

    /// As [`Running::start`], with any command.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary");
        let stderr = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().expect("stderr is piped");
        let text = Arc::clone(&stderr);
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                text.lock().expect("not poisoned").push_str(&(line + "\n"));
            }
        });
        Self { child, stderr, listener: Some(listener) }
    }

    /// Returns what the process said so far.
    pub fn said(&self) -> String {
        self.stderr.lock().expect("not poisoned").clone()
    }

    /// Returns the process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("ask for the process").is_some()
    }

    /// Sends SIGKILL, and returns once the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the process");
        self.child.wait().expect("wait for the process");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("run kill");
        assert!(status.success(), "could not signal the process");
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().expect("ask for the process");
            status.is_some()
        });
        // So that nothing is missing in what it said.
        if let Some(listener) = self.listener.take() {
            listener.join().expect("listen to the process");
        }
        status.expect("it ended")
    }

    /// Asks for a stop without waiting for deliveries, and waits for it.
    pub fn stop_at_once(&mut self) -> ExitStatus {
        // Two signals in a row may reach the process as one.
        eventually("the process ends", || {
            self.signal("-TERM");
            self.has_ended()
        });
        self.wait()
    }

    /// Asks for a clean stop and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the number in an environment variable, if it is set.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Waits until the condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    loop {
        // A last look comes after the time: the machine may have stood still.
        let over = start.elapsed() >= PATIENCE;
        if condition() {
            return;
        }
        assert!(!over, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// Sends raw bytes of a request that asks for `Connection: close`, and reads the answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // A server may answer and close before it has read everything.
    let written = stream.write_all(request);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if bytes.is_empty() {
        written?;
        read?;
    }
    let end = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok()).unwrap_or(0);
    let headers: Vec<_> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    if headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("transfer-encoding") && v == "chunked") {
        body = unchunk(&body);
    }
    Ok(Answer { status, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap_or("0").trim(), 16)
                .unwrap_or(0);
        if size == 0 || rest.len() < line + 2 + size {
            break;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[(line + 4 + size).min(rest.len())..];
    }
    body
}

/// Sends one request.
pub fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").expect("write to a string");
    }
    write!(request, "Content-Length: {}\r\n\r\n", body.len()).expect("write to a string");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    exchange(address, &bytes).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    http(address, "GET", path, &[], b"")
}

/// Write key of all tests, as Basic authentication (`WRITE_KEY_TEST:`).
pub const AUTH: (&str, &str) = ("Authorization", "Basic V1JJVEVfS0VZX1RFU1Q6");

/// The pipeline and a sandbox, as two real processes.
pub struct Stack {
    pub dir: tempfile::TempDir,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub sandbox: SocketAddr,
    pub run: Running,
    _sandbox_process: Running,
}

/// Writes a configuration for `run` with a sandbox as endpoint. `more` is YAML appended to it.
pub fn write_config(
    dir: &Path,
    gateway: SocketAddr,
    admin: SocketAddr,
    endpoint: &str,
    more: &str,
) -> PathBuf {
    let path = dir.join("config.yaml");
    let text = format!(
        "data_dir: {}\nsources:\n  - type: rudderstack\n    listen: {gateway}\n    write_keys:\n      - {{ key: WRITE_KEY_TEST, name: test }}\n\
         admin: {{ listen: \"{admin}\" }}\n{more}\n",
        dir.join("data").display()
    );
    let customerio = format!(
        "customerio:\n  site_id: site\n  api_key: key-of-the-test\n  endpoint: {endpoint}\n  merge_settle: 10ms\n  retry: {{ initial: 5ms, max: 50ms }}\n"
    );
    let text = if more.contains("customerio:") { text } else { text + &customerio };
    fs::write(&path, text).expect("write the configuration");
    path
}

impl Stack {
    pub fn start(more: &str) -> Self {
        Self::start_with_sandbox(more, &[])
    }

    /// Starts both processes and waits until they answer.
    pub fn start_with_sandbox(more: &str, sandbox_args: &[&str]) -> Self {
        Self::start_whole("", more, sandbox_args)
    }

    fn start_whole(source: &str, more: &str, sandbox_args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (gateway, admin, sandbox) = (free_address(), free_address(), free_address());
        let config = write_config(dir.path(), gateway, admin, &format!("http://{sandbox}"), more);
        // The sources end where `admin` begins.
        let text = fs::read_to_string(&config).expect("read the configuration");
        let text = text.replacen("admin:", &format!("{source}admin:"), 1);
        fs::write(&config, text).expect("write the configuration");
        let listen = sandbox.to_string();
        let mut args = vec!["sandbox", "--listen", &listen];
        args.extend_from_slice(sandbox_args);
        let _sandbox_process = Running::start(&args);
        let run = Running::start(&["run", "-c", &config.display().to_string()]);
        let stack = Self { dir, gateway, admin, sandbox, run, _sandbox_process };
        stack.wait_ready();
        stack
    }

    /// As [`Stack::start`], with further elements of `sources` as YAML.
    pub fn start_with_source(source: &str, more: &str) -> Self {
        Self::start_whole(source, more, &[])
    }

    pub fn wait_ready(&self) {
        eventually("the sandbox answers", || TcpStream::connect(self.sandbox).is_ok());
        eventually("the pipeline is ready", || {
            TcpStream::connect(self.admin).is_ok() && get(self.admin, "/readyz").status == 200
        });
    }

    /// Sends one batch to the gateway.
    pub fn send(&self, events: &[Value]) -> Answer {
        let body = serde_json::json!({ "batch": events }).to_string();
        http(self.gateway, "POST", "/v1/batch", &[AUTH], body.as_bytes())
    }

    pub fn ledger(&self) -> Value {
        get(self.admin, "/status").json()["ledger"].clone()
    }

    /// Waits until nothing waits for delivery, and returns the ledger.
    pub fn settled(&self) -> Value {
        eventually("everything is settled", || self.ledger()["buffered"] == 0);
        let ledger = self.ledger();
        assert_eq!(ledger["gap"], 0, "the ledger has a gap: {ledger}");
        ledger
    }

    /// Asks the sandbox for one person's attributes in the shape of Customer.io's App API.
    pub fn attributes(&self, kind: &str, id: &str) -> Option<Value> {
        let path = format!("/v1/customers/{id}/attributes?id_type={kind}");
        let answer = http(self.sandbox, "GET", &path, &[("Authorization", "Bearer any")], b"");
        (answer.status == 200).then(|| answer.json()["customer"].clone())
    }

    /// Asks the sandbox for one person's activities.
    pub fn activities(&self, id: &str, kind: &str) -> Vec<Value> {
        let path = format!("/v1/customers/{id}/activities?type={kind}");
        let answer = http(self.sandbox, "GET", &path, &[("Authorization", "Bearer any")], b"");
        answer.json()["activities"].as_array().cloned().unwrap_or_default()
    }
}
