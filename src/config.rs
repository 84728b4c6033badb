//! The checked configuration. Every value here is valid; the wire form is read in `config/`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::mapping::Settings;

/// Everything that a configuration file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for everything that is stored.
    pub data_dir: PathBuf,
    /// Where events come from.
    pub sources: Vec<SourceConfig>,
    /// Which events may pass.
    pub filter: FilterConfig,
    /// Consent rules.
    pub consent: ConsentConfig,
    /// The scripts.
    pub mapping: MappingConfig,
    /// Where mapped events wait.
    pub buffer: BufferConfig,
    /// The destination; `None` when the section is absent (`map`, `test`).
    pub customerio: Option<CustomerIoConfig>,
    /// Where failed and rejected events go.
    pub dead_letters: DeadLettersConfig,
    /// The admin endpoints.
    pub admin: AdminConfig,
    /// Our own messages.
    pub log: LogConfig,
    /// How long a stop may wait for deliveries.
    pub drain_timeout: Duration,
}

/// One source.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// The gateway for RudderStack SDKs.
    RudderStack(RudderStackConfig),
    /// NDJSON on standard input.
    Stdin(StdinConfig),
}

/// When a source answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Once the events are in the buffer.
    Buffered,
    /// Once the events have ended.
    Delivered,
}

/// `type: rudderstack`.
#[derive(Clone, Debug)]
pub struct RudderStackConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Accepted write keys; empty accepts any (loopback only).
    pub write_keys: Vec<WriteKey>,
    /// When to answer.
    pub ack: Ack,
    /// Largest body after unzipping, in bytes.
    pub max_body: u64,
    /// Networks whose `X-Forwarded-For` is believed; empty: everybody's.
    pub trusted_proxies: Vec<IpNetwork>,
}

/// An IP network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    /// First address.
    pub address: std::net::IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// One write key.
#[derive(Clone, Debug)]
pub struct WriteKey {
    /// The key. Public by nature, but shown nowhere.
    pub key: SecretString,
    /// Label of the source.
    pub name: String,
    /// RudderStack's source type.
    pub source_type: String,
    /// Whether events are taken.
    pub enabled: bool,
}

/// `type: stdin`.
#[derive(Clone, Debug, Default)]
pub struct StdinConfig {
    /// Where in each line the event is, as path segments; `None`: the line itself.
    pub event_path: Option<Vec<String>>,
}

/// `filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterConfig {
    /// Connection mode per source type, and the default.
    pub mode: ModeConfig,
    /// Names of this destination in an event's `integrations`.
    pub integration_names: Vec<String>,
    /// Track events by name.
    pub events: EventListConfig,
}

/// Connection modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeConfig {
    /// For source types that are not listed.
    pub default: Mode,
    /// By source type.
    pub by_source_type: Vec<(String, Mode)>,
}

/// Who sends a source's events to Customer.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We do.
    Cloud,
    /// The SDK on the device does; we must not.
    Device,
}

/// `filter.events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventListConfig {
    /// What the list means.
    pub mode: EventListMode,
    /// Names, compared exactly after trimming.
    pub names: Vec<String>,
}

/// What `filter.events.names` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventListMode {
    /// Nothing.
    Off,
    /// Only these pass.
    Allow,
    /// These do not pass.
    Deny,
}

/// `consent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentConfig {
    /// Generic rules (`consentManagement`).
    pub rules: Vec<ConsentRule>,
    /// RudderStack's older `oneTrustCookieCategories`.
    pub onetrust_categories: Vec<String>,
    /// RudderStack's older `ketchConsentPurposes`.
    pub ketch_purposes: Vec<String>,
    /// What to do without a usable answer.
    pub unknown: Unknown,
    /// Which list of the event decides.
    pub decide_by: DecideBy,
}

/// One generic consent rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRule {
    /// Provider, exactly as events name it.
    pub provider: String,
    /// Consent ids, exactly as events name them.
    pub consents: Vec<String>,
    /// The rule's own strategy.
    pub resolution_strategy: Option<Strategy>,
}

/// How several consent ids combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Every id is needed.
    And,
    /// One id is enough.
    Or,
}

/// `consent.unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Send all the same, as RudderStack does.
    Deliver,
    /// Keep it back.
    Withhold,
}

/// `consent.decide_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecideBy {
    /// The denied ids, as RudderStack's server does.
    Denied,
    /// The allowed ids.
    Allowed,
}

/// `mapping`.
#[derive(Clone, Debug, Default)]
pub struct MappingConfig {
    /// Folder of scripts; `None`: the built-in ones.
    pub dir: Option<PathBuf>,
    /// Whether changed scripts are loaded while running.
    pub watch: bool,
    /// What scripts see as `%customerio.<name>`.
    pub settings: Settings,
    /// Mapping threads; `None`: one per core.
    pub threads: Option<usize>,
}

/// `buffer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferConfig {
    /// Bound in bytes.
    pub max_size: u64,
    /// What to do at the bound.
    pub when_full: WhenFull,
    /// How many operations delivery reads ahead.
    pub read_ahead: usize,
}

/// `buffer.when_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait up to 20 s for room.
    Wait,
    /// Refuse at once.
    Refuse,
}

/// `customerio`.
#[derive(Clone, Debug)]
pub struct CustomerIoConfig {
    /// User name of Basic authentication.
    pub site_id: SecretString,
    /// Password of Basic authentication.
    pub api_key: SecretString,
    /// Region of the account.
    pub region: Region,
    /// Base URL instead of the region's, without a trailing slash.
    pub endpoint: Option<http::Uri>,
    /// Pins the workspace.
    pub environment_id: Option<i64>,
    /// Whether `run` asks for the account's region at start.
    pub check_credentials: bool,
    /// Allows `http://` to a host that is not loopback.
    pub allow_insecure: bool,
    /// PEM files with further roots.
    pub extra_roots: Vec<PathBuf>,
    /// How operations of one person share batches.
    pub ordering: Ordering,
    /// How long a merge waits after its people's last delivery.
    pub merge_settle: Duration,
    /// Sustained requests per second.
    pub requests_per_second: u32,
    /// Requests that may leave at once.
    pub burst: u32,
    /// Most requests in flight.
    pub concurrency: usize,
    /// Batch limits.
    pub batch: BatchConfig,
    /// Limit for name look-up, TCP, and TLS.
    pub connect_timeout: Duration,
    /// Limit for a whole request.
    pub timeout: Duration,
    /// Retries.
    pub retry: RetryConfig,
}

/// A Customer.io region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// `track.customer.io`.
    Us,
    /// `track-eu.customer.io`.
    Eu,
}

/// `customerio.ordering`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Several operations of a person may share a batch, in array order.
    Batch,
    /// One operation per person and request.
    Strict,
}

/// `customerio.batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Largest body in bytes, wrapper and commas included.
    pub max_bytes: usize,
    /// Most operations per body.
    pub max_items: usize,
    /// How long a batch may wait to fill while another request is in flight.
    pub linger: Duration,
}

/// `customerio.retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// First back-off.
    pub initial: Duration,
    /// Longest back-off.
    pub max: Duration,
    /// How long one operation may keep failing while others succeed.
    pub give_up_after: Duration,
    /// Statuses that are tried again, as single codes or classes.
    pub statuses: Vec<StatusPattern>,
    /// Item error reasons that are tried again.
    pub item_reasons: Vec<String>,
}

/// A status code or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// One code.
    Code(u16),
    /// A class: 5 stands for `5xx`.
    Class(u16),
}

/// `dead_letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// Folder, relative to `data_dir`.
    pub dir: PathBuf,
    /// Bound of all files in bytes.
    pub max_size: u64,
    /// Files older than this are removed.
    pub max_age: Duration,
    /// What to do at the bound.
    pub when_full: DeadLettersFull,
}

/// `dead_letters.when_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLettersFull {
    /// Stop settling; nothing is lost.
    Hold,
    /// Remove the oldest file (counted).
    DropOldest,
}

/// `admin`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Bearer token; required off loopback.
    pub token: Option<SecretString>,
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Lowest level of our own messages.
    pub level: LogLevel,
    /// Form of the messages.
    pub format: LogFormat,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
}
