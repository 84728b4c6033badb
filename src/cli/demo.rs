//! `demo`: the whole way without set-up, with the sandbox in Customer.io's place.

mod follow;
mod people;
mod post;
mod story;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use self::story::Story;
use super::output::{self, Tone};
use super::run::signals;
use super::{Globals, exit};
use crate::config::{Config, LoadMode, LogConfig, LogFormat, LogLevel};
use crate::mapping::{Mapping, STACK_BYTES};
use crate::outcome::{LedgerSnapshot, OutcomeKind};
use crate::pipeline::{Pipeline, Render, Surroundings, stop};
use crate::sandbox::{Options, RunningSandbox, Sandbox};
use crate::telemetry::{logging, recorder};

/// Events that the demo sends.
const SAMPLES: &str = include_str!("../../config/sample-events.ndjson");
/// Key of the demo's source. Write keys are public by nature.
const WRITE_KEY: &str = "demo";
/// How many samples travel in one request, as an SDK would send them.
const BATCH: usize = 10;
/// How long the samples may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing leaves this machine, and nothing stays on it: data is kept in a temporary folder.

Examples:
  rudder-customerio demo
  rudder-customerio demo --once

Ends with 0 if every sample event ended as it should.")]
pub struct DemoArgs {
    /// End when the sample events are settled, instead of waiting for yours
    #[arg(long)]
    once: bool,
}

/// Runs the command.
pub fn run(args: DemoArgs, globals: &Globals) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(globals, &format!("cannot start threads: {error}")),
    };
    // What an operator has to know at the start is no news to someone who tries things out.
    let log = LogConfig { level: LogLevel::Error, format: LogFormat::Text };
    if let Err(error) = logging::init(&log, globals.color) {
        return failed(globals, &format!("cannot set up messages: {error}"));
    }
    match runtime.block_on(show(&args, globals)) {
        Ok(code) => code,
        Err(why) => failed(globals, &why),
    }
}

fn failed(globals: &Globals, why: &str) -> ExitCode {
    output::say(format!("{} {why}", output::paint(Tone::Bad, "error:", globals.color)));
    ExitCode::from(exit::FAILURE)
}

/// Writes to standard output; a reader that has gone is no reason to stop.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(written);
}

async fn show(args: &DemoArgs, globals: &Globals) -> Result<ExitCode, String> {
    let (stopper, stop) = stop::channel();
    signals::listen(stopper.clone()).map_err(|e| format!("cannot listen to signals: {e}"))?;
    let folder = tempfile::tempdir().map_err(|e| format!("cannot make a temporary folder: {e}"))?;
    // Own events are told from the log, so it keeps their bodies whole.
    let options = Options { log_requests: 200, log_body_bytes: 500_000, ..Options::default() };
    let sandbox = start_sandbox(options).await;
    let sandbox = sandbox.map_err(|e| format!("cannot start the sandbox: {e}"))?;
    let render = recorder::install().map_err(|e| format!("cannot set up metrics: {e}"))?;
    let render: Render = Arc::new(move || render.render());
    let (config, pipeline) = start_pipeline(folder.path(), &sandbox, &render, globals).await?;
    let gateway = *pipeline.addresses().first().ok_or("the gateway does not listen")?;
    tell(&format!(
        "A gateway for RudderStack SDKs listens on http://{gateway}, and a local Customer.io on {}.\n\
         Consent rule: whoever refused OneTrust's category C0004 is sent nowhere.\n\n",
        sandbox.base_url()
    ));

    let samples: Vec<&str> = SAMPLES.lines().filter(|line| !line.trim().is_empty()).collect();
    let story = rehearse(&samples, &config, &pipeline.handle().rules().mapping).await?;
    tell(&format!("{} sample events, and what becomes of each:\n{}\n", samples.len(), story.lines));
    for batch in samples.chunks(BATCH) {
        let status = post::batch(gateway, WRITE_KEY, batch).await;
        let status = status.map_err(|e| format!("cannot send to the gateway: {e}"))?;
        if !status.contains(" 200 ") {
            return Err(format!("the gateway answered {status}"));
        }
    }
    let ledger = settled(&pipeline, samples.len()).await;
    tell(&account(&ledger));
    tell(&people::describe(&sandbox));
    let as_expected = matches(&story, &ledger);
    if !as_expected {
        output::say("the samples did not end as they should");
    }
    tell(&invitation(gateway, &pipeline, &sandbox, args.once));
    if !args.once {
        let sink = pipeline.handle();
        let done = tokio::spawn(pipeline.run_until(stop.clone()));
        tokio::select! {
            () = follow::tell_arrivals(&sandbox, &sink, ledger) => {}
            () = stop.requested(1) => {}
        }
        drop(done.await);
    } else {
        // Whole, so that nothing works with the folder any more when it is removed.
        stopper.request();
        drop(pipeline.run_until(stop).await);
    }
    sandbox.shutdown().await;
    Ok(ExitCode::from(if as_expected { exit::SUCCESS } else { exit::FAILURE }))
}

fn loopback(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

/// Starts the sandbox on its usual port, or on a free one if that is in use.
async fn start_sandbox(options: Options) -> std::io::Result<RunningSandbox> {
    let on = |port| Sandbox::builder().options(options.clone()).bind(loopback(port)).start();
    match on(8090).await {
        Ok(sandbox) => Ok(sandbox),
        Err(_) => on(0).await,
    }
}

/// Starts the pipeline on the usual ports, or on free ones if one of them is in use.
async fn start_pipeline(
    folder: &Path,
    sandbox: &RunningSandbox,
    render: &Render,
    globals: &Globals,
) -> Result<(Config, Pipeline), String> {
    let mut found = Vec::new();
    for (gateway, admin) in [(8080, 9797), (0, 0)] {
        let config = config(folder, sandbox, gateway, admin)?;
        let render = Some(Arc::clone(render));
        let surroundings = Surroundings { render, ..Surroundings::default() };
        match Pipeline::start(config.clone(), surroundings).await {
            Ok(pipeline) => return Ok((config, pipeline)),
            Err(faults) => found = Vec::from(faults),
        }
        if found.iter().any(|fault| fault.code != "listen") {
            break;
        }
    }
    output::report(&found, globals.color);
    Err("the demo cannot start".to_owned())
}

fn config(
    folder: &Path,
    sandbox: &RunningSandbox,
    gateway: u16,
    admin: u16,
) -> Result<Config, String> {
    let text = json!({
        "data_dir": folder,
        "sources": [{
            "type": "rudderstack",
            "listen": loopback(gateway),
            "write_keys": [{ "key": WRITE_KEY, "name": "demo", "source_type": "web" }],
        }],
        "consent": { "rules": [{ "provider": "oneTrust", "consents": ["C0004"] }] },
        "customerio": {
            "site_id": "demo-site",
            "api_key": "demo-key",
            "endpoint": sandbox.base_url(),
            // The sandbox applies at once, so that nobody has to wait for Customer.io's processing.
            "merge_settle": "0s",
        },
        "admin": { "listen": loopback(admin) },
    });
    let parsed = Config::parse(&text.to_string(), "demo", LoadMode::Full, &|_| None);
    parsed.map(|(config, _)| config).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        format!("the demo's configuration is refused: {}", faults.join("\n"))
    })
}

/// Walks the samples without sending them, to tell what each becomes.
async fn rehearse(
    samples: &[&'static str],
    config: &Config,
    mapping: &Arc<Mapping>,
) -> Result<Story, String> {
    let (samples, config, mapping) = (samples.to_vec(), config.clone(), Arc::clone(mapping));
    let work = move || story::tell(&samples, &config, &mapping);
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    let thread = thread.map_err(|e| format!("cannot start a thread: {e}"))?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    match joined {
        Ok(Ok(story)) => Ok(story),
        _ => Err("mapping the samples failed".to_owned()),
    }
}

/// Waits until every sample has ended, or for as long as is sensible.
async fn settled(pipeline: &Pipeline, samples: usize) -> LedgerSnapshot {
    let start = Instant::now();
    loop {
        let ledger = pipeline.handle().ledger().snapshot();
        let all = ledger.received >= samples as u64 && ledger.buffered == 0;
        if all || start.elapsed() > PATIENCE {
            return ledger;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn matches(story: &Story, ledger: &LedgerSnapshot) -> bool {
    let as_told = |kind: OutcomeKind| {
        let told = story.endings.iter().find(|(k, _)| *k == kind).map_or(0, |(_, n)| *n);
        let told = if kind == OutcomeKind::Delivered { story.deliveries } else { told };
        ledger.total(kind) == told
    };
    OutcomeKind::ALL.into_iter().all(as_told) && ledger.gap() == 0 && ledger.buffered == 0
}

/// Writes the account with the reasons of what was not delivered.
fn account(ledger: &LedgerSnapshot) -> String {
    let mut text = format!("The account: {} received", ledger.received);
    for ((kind, reason), n) in &ledger.ended {
        match reason {
            Some(reason) => text.push_str(&format!(", {n} {kind} ({reason})")),
            None => text.push_str(&format!(", {n} {kind}")),
        }
    }
    text + ".\n\n"
}

fn invitation(
    gateway: SocketAddr,
    pipeline: &Pipeline,
    sandbox: &RunningSandbox,
    once: bool,
) -> String {
    let event = r#"{"userId":"you","event":"Said Hello","properties":{"from":"curl"}}"#;
    let curl = format!("  curl -u {WRITE_KEY}: http://{gateway}/v1/track -d '{event}'\n");
    if once {
        return format!("Without --once the demo waits for events of your own:\n\n{curl}");
    }
    format!(
        "Send one yourself, and it shows here (the user name is the write key):\n\n{curl}\n\
         What is stored: {base}/_sandbox/people   What was silently dropped: {base}/_sandbox/activity\n\
         Metrics and the account: http://{admin}/metrics  http://{admin}/status\n\
         Ctrl-C ends the demo.\n",
        base = sandbox.base_url(),
        admin = pipeline.admin_address(),
    )
}
