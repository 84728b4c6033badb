//! `sandbox`: a local Customer.io to send to.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use crate::sandbox::{Credential, Options, Region, Rule, RunningSandbox, Sandbox, Tls};

/// Run a local Customer.io Track API.
///
/// It answers as Customer.io does (v1 and v2), keeps people, objects, and events in memory, and
/// logs what the real service would have accepted and then not done. Faults make it misbehave in
/// ways that repeat with the seed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct SandboxArgs {
    /// Listen on this address; port 0 takes a free one
    ///
    /// The base URL is the only line on standard output.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub listen: String,

    /// Stand for the host of this region (us or eu)
    #[arg(long, value_name = "REGION", default_value = "us")]
    pub region: Region,

    /// Accept only this credential, as SITE_ID:API_KEY or eu=SITE_ID:API_KEY (repeatable)
    ///
    /// Without it every complete pair is accepted. Give the keys of a sandbox only: command lines
    /// are visible to other users of the machine.
    #[arg(long, value_name = "PAIR", hide_env_values = true)]
    pub credentials: Vec<SecretString>,

    /// Answer the region endpoint with this workspace number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub environment_id: u64,

    /// Misbehave: KIND[:ARGUMENT,…][@CONDITION,…], or a rule in JSON (repeatable)
    ///
    /// The first rule that fires decides. Kinds:
    ///
    ///   503                              a status (200 to 599), and nothing is applied
    ///   429:retry-after=2                with Retry-After (seconds, date, date:SECONDS)
    ///   502:html                         an HTML page, as proxies send it
    ///   400:body=TEXT                    a body of your own
    ///   rate-limit:100                   429 above 100 requests per second and credential
    ///   rate-limit:per-second=9,burst=3  with a burst of its own
    ///   items@5%                         207 with errors for one item in twenty; v1: 400
    ///   items:person=u-1                 the same for whoever is named u-1
    ///   items:indexes=0+3                the same for the first and the fourth item
    ///   items-in-200@5%                  as items, with status 200
    ///   bad-errors:index-out-of-range    207 with a useless body, and all is applied
    ///   bad-errors:index-missing         an error that names no item
    ///   bad-errors:not-a-list            an object in place of the list
    ///   bad-errors:cut                   JSON that ends midway
    ///   bad-errors:empty                 no body
    ///   bad-errors:html                  an HTML page
    ///   whole-batch-400                  400 for the whole batch
    ///   whole-batch-400:bad-items        the same if one item is bad
    ///   whole-batch-400:person=u-1       the same if an item names u-1
    ///   latency:200ms                    wait before the request is applied
    ///   latency:200ms,after              wait when it was applied
    ///   latency:p50=20ms,p99=500ms       wait by chance
    ///   reset:accept                     reset the connection at once
    ///   reset:after-request              apply, then reset the connection: a lost answer
    ///   reset:mid-response               apply, and reset within the answer
    ///   hang                             never answer
    ///   slow-body                        one byte of the answer a second
    ///   slow-body:100ms                  one byte every 100 ms
    ///   close-idle:500ms                 close connections that are idle for so long
    ///   unauthorized                     401
    ///   unauthorized:from=10s,to=30s     401 for a while
    ///   unauthorized:until=SITE:KEY      401 for every other credential
    ///   redirect:URL                     307
    ///   redirect:308:URL                 301, 302, 307, or 308
    ///   no-dedupe                        store events again whose id was seen before
    ///   none                             nothing; exempts from the rules behind it
    ///
    /// Conditions, for all kinds:
    ///
    ///   503@10%                          for one request in ten
    ///   503@every=10                     for every tenth
    ///   503@first=5                      for the first five
    ///   503@10%,times=3                  three times
    ///   503@after=3s,for=30s             from the third second on, for 30 seconds
    ///
    /// Without times= or for=, reset:accept resets connections to /_sandbox too, for it comes
    /// before the request: then only a restart of the sandbox ends it.
    ///
    /// As JSON:
    ///
    ///   {"match":{"path":"/api/v2/*","person":"u-1"},"when":{"every":10},"do":{"status":503}}
    #[arg(long, value_name = "RULE", verbatim_doc_comment)]
    pub fault: Vec<String>,

    /// Decide everything that is left to chance by this number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Change a switch, as NAME=VALUE (repeatable)
    ///
    /// Switches are for what is a setting of a workspace, or not documented. With their defaults:
    ///
    ///   region_mismatch=proxy      an EU credential on the US host: proxy, redirect, fail
    ///   other_region_url=null      where redirect points to
    ///   oversize_status=413        for requests that are too large: 413, 400
    ///   accept_gzip=false          take gzip bodies
    ///   ulid=strict                an event id that is no ULID: strict (refused), ignore
    ///   numeric_ids=refuse         identifiers that are JSON numbers: refuse, accept
    ///   nested_values=free         1000 bytes for objects and arrays too: free, encoded
    ///   event_values=free          1000 bytes for event attributes too: free, limited
    ///   all_invalid=207            a batch without one valid item: 207, 400
    ///   batch_order=array          order of application: array, shuffle
    ///   auto_merge=true            merge an id-only with an e-mail-only person
    ///   events_create_people=true  events for unknown ids create bare people
    ///   object_types=any           any, or a list such as 1,2
    ///   segments=any               any, or a list such as 7,8
    ///   phone=false                phone is an identifier
    ///   dedupe=true                ignore events whose id was seen before
    ///   apply_delay=0ms            how long accepted operations wait
    ///   apply_jitter=0ms           and up to how much longer, by chance
    ///   max_connections=900        open connections; further ones are closed at once
    ///   log_requests=10000         requests that the log keeps
    ///   log_body_bytes=8192        bytes of each body that the log keeps
    #[arg(long, value_name = "NAME=VALUE", verbatim_doc_comment)]
    pub switch: Vec<String>,

    /// Read the state from this file at start, and write it on exit
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Speak TLS with a fresh certificate: self-signed, expired, or wrong-name
    ///
    /// `self-signed` is for localhost, 127.0.0.1, and ::1. HTTP/2 and HTTP/1.1 by ALPN.
    #[arg(long, value_name = "KIND")]
    pub tls: Option<Tls>,

    /// Write the certificate to this file, for `customerio.extra_roots`
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tls_cert_out: Option<PathBuf>,

    /// Let other machines use /_sandbox/ with this bearer token
    #[arg(long, value_name = "TOKEN", env = "SANDBOX_CONTROL_TOKEN", hide_env_values = true)]
    pub control_token: Option<SecretString>,
}

const EXAMPLES: &str = "\
What is stored, and control (JSON, from this machine only):
  GET  /_sandbox/people?q=TEXT&after=CIO_ID&limit=N     /_sandbox/people/CIO_ID
       /_sandbox/events?since=N&limit=N                 in the order of application
       /_sandbox/requests?status=N&since=N&limit=N      /_sandbox/requests/N
       /_sandbox/anonymous      /_sandbox/anonymous/ID   /_sandbox/objects
       /_sandbox/activity
       /_sandbox/stats          /_sandbox/options        /_sandbox/suppressed
       /_sandbox/segments       /_sandbox/invites        /_sandbox/deliveries
  GET and PUT  /_sandbox/faults  /_sandbox/state
  POST /_sandbox/reset           /_sandbox/clock  {\"advance\":\"5m\"}, {\"set\":SECONDS}
  GET  /v1/customers/ID/attributes|activities|relationships, as the App API";

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

/// Runs the sandbox until it is told to stop.
pub fn run(args: SandboxArgs) -> ExitCode {
    let builder = match configure(&args) {
        Ok(builder) => builder,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let sandbox = match builder.start().await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                eprintln!("error: could not start the sandbox on {}: {error}", args.listen);
                return ExitCode::FAILURE;
            }
        };
        if let (Some(path), Some(certificate)) = (&args.tls_cert_out, sandbox.certificate())
            && let Err(error) = std::fs::write(path, certificate)
        {
            eprintln!("error: could not write the certificate to {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        announce(&sandbox, &args);
        stop_signal().await;
        let counts = sandbox.stats();
        match sandbox.stop_and_save().await {
            Ok(()) => {
                eprintln!(
                    "{} requests, {} people, {} events",
                    counts.requests, counts.workspace.people, counts.workspace.events
                );
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: could not write the state file: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn configure(args: &SandboxArgs) -> Result<crate::sandbox::Builder, String> {
    if args.listen.parse::<u16>().is_ok() {
        let port = &args.listen;
        return Err(format!("--listen: `{port}` is a port; write an address: 127.0.0.1:{port}"));
    }
    let mut options = Options::default();
    for assignment in &args.switch {
        options.set(assignment).map_err(|why| format!("--switch: {why}"))?;
    }
    let credential = |pair: &SecretString| {
        let text = pair.expose_secret();
        text.parse::<Credential>()
            .map(|credential| match text.split_once('=') {
                Some(("us" | "eu", _)) => credential,
                _ => Credential { region: args.region, ..credential },
            })
            .map_err(|why| format!("--credentials: {why}"))
    };
    let credentials = args.credentials.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
    let rule = |text: &String| text.parse::<Rule>().map_err(|why| format!("--{why}"));
    let faults = args.fault.iter().map(rule).collect::<Result<Vec<Rule>, _>>()?;
    Ok(Sandbox::builder()
        .region(args.region)
        .environment_id(args.environment_id)
        .credentials(credentials)
        .options(options)
        .faults(faults)
        .seed(args.seed)
        .bind(args.listen.clone())
        .control_token(args.control_token.clone())
        .tls(args.tls)
        .state_file(args.state.clone()))
}

fn announce(sandbox: &RunningSandbox, args: &SandboxArgs) {
    let url = sandbox.base_url();
    println!("{url}");
    eprintln!("Customer.io sandbox ({} region) on {url}", args.region.name());
    eprintln!("  people    {url}/_sandbox/people");
    eprintln!("  requests  {url}/_sandbox/requests");
    eprintln!("  activity  {url}/_sandbox/activity   what was accepted and not done");
    eprintln!(
        "  send to it with `customerio.endpoint: {url}`, {}",
        if args.credentials.is_empty() { "any keys" } else { "the given keys" }
    );
    match (args.tls, &args.tls_cert_out) {
        (Some(_), Some(path)) => {
            eprintln!("  trust it with `customerio.extra_roots: [ {} ]`", path.display());
        }
        (Some(_), None) => {
            eprintln!("  --tls-cert-out FILE writes its certificate for `customerio.extra_roots`");
        }
        (None, _) => {}
    }
    if !sandbox.addr().ip().is_loopback() {
        eprintln!("warning: other machines can reach this sandbox; send no personal data to it");
    }
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            },
            Err(error) => {
                eprintln!("warning: SIGTERM will not stop the sandbox cleanly: {error}");
                drop(interrupt.await);
            }
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn configured(line: &[&str]) -> Result<(), String> {
        let line = ["sandbox"].iter().chain(line);
        configure(&Line::try_parse_from(line).unwrap().args).map(drop)
    }

    #[test]
    fn every_line_of_the_help_is_accepted() {
        let help = <Line as clap::CommandFactory>::command().render_long_help().to_string();
        for (flag, section, least) in [
            ("--fault", "Kinds:", 30),
            ("--fault", "Conditions, for all kinds:", 5),
            ("--switch", "With their defaults:", 15),
        ] {
            let lines = help.split_once(section).unwrap().1.lines().skip(2);
            let values: Vec<&str> = lines
                .take_while(|line| !line.trim().is_empty())
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            assert!(values.len() >= least, "{help}");
            for value in values {
                configured(&[flag, value]).unwrap();
            }
        }
    }

    #[test]
    fn mistakes_name_the_flag_and_no_secret() {
        let error = configured(&["--fault", "teapot"]).unwrap_err();
        assert!(error.starts_with("--fault `teapot`"), "{error}");
        let error = configured(&["--switch", "x=1"]).unwrap_err();
        assert!(error.starts_with("--switch: unknown switch `x`"), "{error}");
        let error = configured(&["--listen", "8090"]).unwrap_err();
        assert!(error.ends_with("127.0.0.1:8090"), "{error}");
        let error = configured(&["--credentials", "verysecret"]).unwrap_err();
        assert!(!error.contains("verysecret"), "{error}");
    }
}
