//! `customerio`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::context::Context;
use super::credential::{Credential, Half};
#[cfg(feature = "pipeline")]
use super::declare::plain;
use super::declare::{Choice, Form, Sect, choice, constant, reference_schema, section};
use super::form::{BaseUrl, Count, FilePath, Flag, List, Nullable, Period, Size, Word};
use super::tree::{Data, Node};
use crate::diagnostic::Diagnostic;

section! {
    /// The workspace at Customer.io, and how it is spoken to.
    #[derive(Clone, Debug)]
    pub struct CustomerIoConfig {
        /// Site id of the Track API credentials. With `${file:PATH}` it is read again when
        /// Customer.io refuses the credentials, so that they are rotated without a restart.
        site_id: Credential as Half = required,
        /// API key of the Track API credentials. With `${file:PATH}` it is read again likewise.
        api_key: Credential as Half = required,
        /// Region of the account.
        region: Region as Choice = "us",
        /// Base URL instead of the region's, for the sandbox or a proxy: http://127.0.0.1:8090.
        endpoint: Option<http::Uri> as Nullable<BaseUrl> = "null",
        /// Form of the Track API's requests. `v1`: one request per operation, and screens as events, as
        /// RudderStack sends them by default.
        api: Api as Choice = "v2",
        /// Number of the workspace, to pin it: with a key of another one nothing is sent.
        environment_id: Option<i64> as Nullable<Count<1, 9_223_372_036_854_775_807>> = "null",
        /// Whether `run` asks for the account's region at start, which shows a wrong key at once.
        check_credentials: bool as Flag = "true",
        /// Allows an `endpoint` with `http://` to a host that is not loopback. Credentials then travel in
        /// the clear.
        allow_insecure: bool as Flag = "false",
        /// PEM files with further root certificates, relative to the working directory.
        extra_roots: Vec<PathBuf> as List<FilePath> = "[]",
        /// How operations of one person share requests.
        ordering: Ordering as Choice = "batch",
        /// How long a merge waits after the last delivery to its people, since Customer.io applies
        /// operations after it has accepted them.
        merge_settle: Duration as Period<0, 3_600_000> = "5s",
        /// Most requests in flight. A higher number helps when answers are slow.
        concurrency: usize as Count<1, 1024> = "8",
        /// How requests are filled.
        batch: BatchConfig as Sect = "{}",
        /// Limit for name look-up, TCP, and TLS together.
        connect_timeout: Duration as Period<100, 600_000> = "10s",
        /// Limit for a whole request.
        timeout: Duration as Period<100, 3_600_000> = "30s",
        /// What is tried again, and for how long.
        retry: RetryConfig as Sect = "{}",
    }
    besides {
        /// How many requests may be made.
        rate_limit: RateLimit as Sect = "{}",
    }
    derived {
        /// Sustained requests per second, of all requests of this process.
        ///
        /// Default: `100`.
        requests_per_second: u32 = rate_limit.requests_per_second,
        /// Requests that may leave at once after a pause.
        ///
        /// Default: `100`.
        burst: u32 = rate_limit.burst,
    }
    checked by destination
}

impl CustomerIoConfig {
    /// Makes the section from the two halves of the Track API credentials, with the defaults of a
    /// file for everything else: the fields are there to be set.
    ///
    /// [`Builder::build`](crate::sink::Builder::build) checks what the connection needs: endpoint,
    /// site id, and roots. A file is checked whole, so let [`Config::parse`](super::Config::parse)
    /// read what an operator writes.
    #[must_use]
    pub fn new(site_id: impl Into<Credential>, api_key: impl Into<Credential>) -> Self {
        let defaults = constant("{ site_id: s, api_key: k }");
        Self { site_id: site_id.into(), api_key: api_key.into(), ..defaults }
    }
}

choice! {
    /// Region of the account.
    pub enum Region {
        /// `track.customer.io`.
        Us = "us",
        /// `track-eu.customer.io`.
        Eu = "eu",
    }
}

choice! {
    /// Form of the Track API's requests.
    pub enum Api {
        /// One request per operation; objects alone go as batches, since v1 has no form for them.
        V1 = "v1",
        /// Batches of operations.
        V2 = "v2",
    }
}

choice! {
    /// How operations of one person share requests.
    pub enum Ordering {
        /// Several may share one, in order.
        Batch = "batch",
        /// One operation per person and request.
        Strict = "strict",
    }
}

section! {
    /// How many requests may be made.
    struct RateLimit {
        /// Sustained requests per second, of all requests of this process.
        requests_per_second: u32 as Count<1, 100_000> = "100",
        /// Requests that may leave at once after a pause.
        burst: u32 as Count<1, 100_000> = "100",
    }
}

section! {
    /// How requests are filled.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BatchConfig {
        /// Largest body in bytes, wrapper and commas included. Customer.io takes 500000, and one operation
        /// may have 32 KiB.
        max_bytes: usize as Size<32_800, 500_000> = "500000",
        /// Most operations in one body.
        max_items: usize as Count<1, 100_000> = "1000",
        /// How long a batch may wait to fill while another request is in flight; with none in flight it
        /// leaves at once.
        linger: Duration as Period<0, 60_000> = "20ms",
    }
}

section! {
    /// What is tried again, and for how long.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RetryConfig {
        /// First back-off; each further one is twice as long.
        initial: Duration as Period<1, 3_600_000> = "1s",
        /// Longest back-off.
        max: Duration as Period<1, 86_400_000> = "5m",
        /// How long one operation may keep failing while others succeed, before it is a dead letter. The
        /// time is counted in memory and begins anew at each start.
        give_up_after: Duration as Period<1_000, 31_536_000_000> = "24h",
        /// HTTP statuses that are tried again: codes, `4xx`, or `5xx`.
        statuses: Vec<StatusPattern> as List<Status> = "[ 408, 421, 423, 425, 429, 5xx ]",
        /// Reasons of single operations' errors that are tried again. Later operations of the same person
        /// in that request have passed by then; with `ordering: strict` there are none.
        item_reasons: Vec<String> as List<Word> = "[]",
    }
    checked by back_off
}

/// A status code or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusPattern {
    /// One code.
    Code(u16),
    /// A class: 5 stands for `5xx`.
    Class(u16),
}

#[cfg(feature = "pipeline")]
plain! { StatusPattern }

/// `408` or `5xx`.
struct Status;

impl Form<StatusPattern> for Status {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<StatusPattern> {
        let code =
            |number: u16| (400..=599).contains(&number).then_some(StatusPattern::Code(number));
        let pattern = match cx.scalar(node, false)?.data {
            Data::Integer(number) => u16::try_from(number).ok().and_then(code),
            Data::Text(text) => match text.as_str() {
                "4xx" => Some(StatusPattern::Class(4)),
                "5xx" => Some(StatusPattern::Class(5)),
                _ => text.parse().ok().and_then(code),
            },
            _ => None,
        };
        match pattern {
            Some(pattern) => Some(pattern),
            None => cx.error(
                node.at,
                "bad_status",
                "expected an error status",
                "write a code from 400 to 599, 4xx, or 5xx",
            ),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 400, "maximum": 599 },
            { "enum": [ "4xx", "5xx" ] },
            reference_schema(),
        ] })
    }
}

/// Checks that credentials can travel, and travel safely.
fn destination(config: &CustomerIoConfig, node: &Node, cx: &mut Context<'_>) {
    if config.site_id.expose_secret().contains(':') {
        let message = "a site id has no colon; Basic authentication would be split at it";
        let fault = Diagnostic::error("colon_in_site_id", message)
            .help("write the site id alone here, and the API key in customerio.api_key");
        cx.fault(node, "site_id", fault);
    }
    let plain = config.endpoint.as_ref().filter(|url| url.scheme_str() == Some("http"));
    if plain.is_some_and(|url| !url.host().is_some_and(is_loopback)) {
        let message = "http:// sends the credentials in the clear to a host that is not loopback";
        let fault = if config.allow_insecure {
            Diagnostic::warning("insecure_endpoint", message).help("use https://")
        } else {
            Diagnostic::error("insecure_endpoint", message)
                .help("use https://, or set customerio.allow_insecure: true")
        };
        cx.fault(node, "endpoint", fault);
    }
    if config.connect_timeout > config.timeout {
        let message = "`connect_timeout` is longer than `timeout`, which ends the request first";
        let fault = Diagnostic::warning("no_effect", message).help("make it the shorter one");
        // The key that the operator wrote is the one to change.
        let written = node.get("connect_timeout").is_some();
        cx.fault(node, if written { "connect_timeout" } else { "timeout" }, fault);
    }
}

/// Checks that back-offs can grow.
fn back_off(retry: &RetryConfig, node: &Node, cx: &mut Context<'_>) {
    if retry.initial > retry.max {
        let fault = Diagnostic::error("out_of_range", "`initial` is longer than `max`")
            .help("make it the shorter one");
        cx.fault(node, "initial", fault);
    }
}

/// Whether a URL's host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = bare.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}
