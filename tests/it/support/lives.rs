//! The product over several lives on one data directory, beside a sandbox that outlives them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rudder_customerio::sandbox::{Builder, PersonView, RunningSandbox, Sandbox, StoredEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Answer, PATIENCE, Running, binary, eventually, exchange, free_address};

/// Secrets of every configuration here; searched for where nothing secret may stand.
pub const SITE_ID: &str = "site-id-of-the-tests";
pub const API_KEY: &str = "api-key-of-the-tests";
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// The data directory, the addresses, and the process that lives now, if any.
pub struct Lives {
    pub dir: tempfile::TempDir,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub sandbox: RunningSandbox,
    /// A command that runs every further life with something changed around it, and replaces itself
    /// by it.
    pub within: Vec<String>,
    run: Option<Running>,
    _runtime: Runtime,
}

/// Scripts that compile at once: what is tested here is what comes after them.
const SCRIPTS: [(&str, &str); 3] = [
    ("mapping.yaml", "identify: [identify.vrl]\ntrack: [track.vrl]\n"),
    (
        "identify.vrl",
        ". = { \"type\": \"person\", \"action\": \"identify\", \
         \"identifiers\": { \"id\": string!(.userId) }, \"attributes\": object(.traits) ?? {} }\n",
    ),
    (
        "track.vrl",
        ". = { \"type\": \"person\", \"action\": \"event\", \
         \"identifiers\": { \"id\": string!(.userId) }, \"name\": string!(.event), \
         \"attributes\": object(.properties) ?? {} }\n",
    ),
];

/// Writes those scripts into a new folder.
pub fn write_scripts(folder: &Path) {
    fs::create_dir(folder).expect("make a folder");
    for (file, text) in SCRIPTS {
        fs::write(folder.join(file), text).expect("write a script");
    }
}

impl Lives {
    /// Prepares a first life with a sandbox without faults; `more` is laid over the configuration.
    pub fn new(more: &Value) -> Self {
        Self::beside(Sandbox::builder(), more)
    }

    /// As [`Lives::new`], with a sandbox.
    pub fn beside(sandbox: Builder, more: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let sandbox = runtime.block_on(sandbox.start()).expect("start the sandbox");
        write_scripts(&dir.path().join("vrl"));
        let (gateway, admin) = (free_address(), free_address());
        let mut config = json!({
            "data_dir": dir.path().join("data"),
            "sources": [{
                "type": "rudderstack", "listen": gateway,
                "write_keys": [{"key": "WRITE_KEY_TEST", "name": "test"}],
            }],
            "consent": {"rules": [{"provider": "oneTrust", "consents": ["C4"]}]},
            "mapping": {"dir": dir.path().join("vrl"), "watch": false},
            "buffer": {"type": "disk"},
            "customerio": {
                "site_id": SITE_ID, "api_key": API_KEY, "endpoint": sandbox.base_url(),
                "rate_limit": {"requests_per_second": 5000, "burst": 5000},
                "batch": {"max_items": 50, "linger": "2ms"},
                "retry": {"initial": "2ms", "max": "20ms"},
            },
            "admin": {"listen": admin, "token": ADMIN_TOKEN},
        });
        lay_over(&mut config, more);
        let lives =
            Self { dir, gateway, admin, sandbox, within: Vec::new(), run: None, _runtime: runtime };
        // JSON is YAML.
        fs::write(lives.config(), config.to_string()).expect("write the configuration");
        lives
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Begins a life, and returns at once.
    pub fn spawn(&mut self) {
        assert!(self.run.is_none(), "one life at a time");
        let mut command = binary();
        if let Some((first, rest)) = self.within.split_first() {
            let program = command.get_program().to_owned();
            command = Command::new(first);
            command.args(rest).arg(program).env("NO_COLOR", "1").env_remove("RUST_LOG");
        }
        command.args(["run", "-c"]).arg(self.config());
        self.run = Some(Running::spawn(command));
    }

    /// Waits until events can be sent.
    pub fn wait_ready(&mut self) {
        let begin = Instant::now();
        let mut last = String::new();
        loop {
            match self.ask("GET", "/readyz") {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => last = answer.text(),
                Err(_) => {}
            }
            let run = self.run();
            assert!(
                !run.has_ended() && begin.elapsed() < PATIENCE,
                "not ready: {last}\n{}",
                run.said()
            );
            sleep(Duration::from_millis(3));
        }
    }

    /// Tells whether a process that is there takes events.
    pub fn is_ready(&self) -> bool {
        self.ask("GET", "/readyz").expect("the process answers").status == 200
    }

    /// Begins a life, and waits until events can be sent.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// The life that is now.
    pub fn run(&mut self) -> &mut Running {
        self.run.as_mut().expect("a process runs")
    }

    /// Ends the life without a warning.
    pub fn kill(&mut self) {
        self.run().kill();
        self.run = None;
    }

    /// Ends the life by a signal; returns how, and everything that it said.
    pub fn stop(&mut self) -> (ExitStatus, String) {
        self.run().signal("-TERM");
        self.wait()
    }

    /// Ends the life by two signals, without waiting for deliveries; nothing is lost by that.
    pub fn leave_at_once(&mut self) -> String {
        self.run().stop_at_once();
        let (code, said) = self.wait();
        assert_eq!(code.code(), Some(0), "{said}");
        said
    }

    /// Runs a command with the same configuration; returns what it printed.
    pub fn command(&self, args: &[&str]) -> Vec<u8> {
        let mut command = binary();
        let output = command.arg("-c").arg(self.config()).args(args).output();
        let output = output.expect("run the command");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        output.stdout
    }

    /// Waits for the end of the life; returns how it ended, and everything that it said.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut run = self.run.take().expect("a process runs");
        let status = run.wait();
        (status, run.said())
    }

    /// Asks the admin endpoints; an error if nobody is there.
    pub fn ask(&self, method: &str, path: &str) -> std::io::Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n",
            self.admin
        );
        exchange(self.admin, request.as_bytes())
    }

    /// Asks for the state of a process that is there.
    pub fn status(&self) -> Value {
        self.ask("GET", "/status").expect("the process answers").json()
    }

    /// Waits until nothing waits for delivery, and returns the state.
    pub fn settled(&self) -> Value {
        eventually("everything is settled", || self.status()["ledger"]["buffered"] == 0);
        self.status()
    }

    /// Replaces the sandbox's fault rules.
    pub fn set_faults(&self, rules: &Value) {
        let rules = serde_json::from_value(rules.clone()).expect("fault rules");
        self.sandbox.set_faults(rules);
    }

    /// Returns the numbers in all events that Customer.io has, sorted.
    pub fn delivered(&self) -> Vec<u64> {
        let people = self.sandbox.people();
        let mut numbers: Vec<_> =
            people.iter().flat_map(numbered).filter_map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Reads all dead letters.
    pub fn letters(&self) -> Vec<Value> {
        let Ok(files) = fs::read_dir(self.data().join("dead-letters")) else { return Vec::new() };
        let mut letters = Vec::new();
        for file in files.map(|f| f.expect("list the dead letters").path()) {
            if file.extension().is_some_and(|e| e == "ndjson") {
                let text = fs::read_to_string(&file).expect("read dead letters");
                // A kill may cut the last line off; its event was not settled.
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                letters.extend(
                    whole.lines().map(|l| serde_json::from_str::<Value>(l).expect("a letter")),
                );
            }
        }
        letters
    }

    /// Returns the message ids of the dead letters with an outcome.
    pub fn letters_of(&self, outcome: &str) -> BTreeSet<String> {
        let letters = self.letters().into_iter().filter(|l| l["outcome"] == outcome);
        letters.map(|l| l["event"]["messageId"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Returns a person's events in the order in which they were applied, each with the number in its
/// data.
pub fn numbered(person: &PersonView) -> Vec<(Option<u64>, &StoredEvent)> {
    let number = |event: &StoredEvent| {
        let data: Value = serde_json::from_str(event.data.json()).expect("data is JSON");
        data["n"].as_u64()
    };
    let mut events: Vec<_> = person.events.iter().map(|e| (number(e), e)).collect();
    events.sort_by_key(|(_, event)| event.sequence);
    events
}

/// Puts the members of `over` into `base`, objects member by member; an object over a list is laid
/// over each of its elements.
fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Array(base), Value::Object(_)) => {
            base.iter_mut().for_each(|element| lay_over(element, over));
        }
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                lay_over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
