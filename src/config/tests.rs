//! Whole configurations: what is accepted, and what is said about the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::tree::{Data, Node};
use super::*;
use crate::diagnostic::Diagnostic;

const ANNOTATED: &str = include_str!("../../config/rudder-customerio.yaml");
const QUICKSTART: &str = include_str!("../../config/quickstart.yaml");

/// A section `customerio` that is as it must be.
const CUSTOMERIO: &str = "customerio: { site_id: site, api_key: key }\n";

fn env(name: &str) -> Option<String> {
    match name {
        "WRITE_KEY" | "CUSTOMERIO_SITE_ID" | "CUSTOMERIO_API_KEY" => Some(format!("s3cret-{name}")),
        "NUMBER" => Some("17".to_owned()),
        "YES" => Some("true".to_owned()),
        "PORT" => Some("127.0.0.1:1".to_owned()),
        "EMPTY" => Some(String::new()),
        "BLANKS" => Some(" s3cret".to_owned()),
        _ => None,
    }
}

fn full(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    Ok(Config::parse(text, "c.yaml", LoadMode::Full, &env)?)
}

fn bare(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    Ok(Config::parse(text, "c.yaml", LoadMode::WithoutSecrets, &env)?)
}

/// Everything that is said about a text, one diagnostic per paragraph.
fn said(text: &str) -> String {
    show(match full(text) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    })
}

fn said_bare(text: &str) -> String {
    show(match bare(text) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    })
}

fn show(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.iter().fold(String::new(), |mut text, diagnostic| {
        writeln!(text, "{diagnostic}").unwrap();
        text
    })
}

/// Says what is wrong with a text that lacks only source and destination.
fn said_with(text: &str) -> String {
    said(&format!("{text}\n{CUSTOMERIO}sources: [ {{ type: stdin }} ]\n"))
}

fn codes(text: &str) -> Vec<String> {
    let diagnostics = match full(text) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    };
    diagnostics.into_iter().map(|d| d.code).collect()
}

#[test]
fn declared_defaults_are_valid_and_as_documented() {
    let config = Config::default();
    assert!(config.sources.is_empty() && config.customerio.is_none());
    assert_eq!((config.buffer.kind, config.buffer.max_size), (BufferKind::Disk, 8 << 30));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.filter.integration_names, ["Customer IO"]);
    assert_eq!(config.mapping.settings, crate::mapping::Settings::default());
    assert!(config.mapping.watch);
    let (config, _) = full(&format!("sources: [ {{ type: rudderstack }} ]\n{CUSTOMERIO}")).unwrap();
    let customerio = config.customerio.unwrap();
    assert_eq!((customerio.requests_per_second, customerio.burst), (100, 100));
    assert_eq!(customerio.retry.give_up_after, Duration::from_secs(86_400));
    assert_eq!(customerio.retry.statuses.last(), Some(&StatusPattern::Class(5)));
    assert_eq!(customerio.batch.max_bytes, 500_000);
}

#[test]
fn the_annotated_file_says_the_defaults_and_every_key() {
    let (config, warnings) = full(ANNOTATED).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let shown = |config: &Config| {
        let mut config = config.clone();
        config.sources.clear();
        config.customerio = None;
        format!("{config:#?}")
    };
    assert_eq!(shown(&config), shown(&Config::default()));

    let short = "sources: [ { type: rudderstack, write_keys: [ { key: x, name: web } ] } ]\n";
    let (plain, _) = full(&format!("{short}{CUSTOMERIO}")).unwrap();
    assert_eq!(format!("{config:?}"), format!("{plain:?}"));

    for key in keys_of(&schema()) {
        assert!(ANNOTATED.contains(&format!("{key}:")), "the annotated file lacks `{key}`");
    }
}

fn keys_of(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(members) => {
            let own = members.get("properties").and_then(Value::as_object);
            let own = own.into_iter().flat_map(|p| p.keys().cloned());
            own.chain(members.values().flat_map(keys_of)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(keys_of).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_quickstart_needs_no_environment() {
    let (config, warnings) =
        Config::parse(QUICKSTART, "q.yaml", LoadMode::Full, &|_| None).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let endpoint = config.customerio.unwrap().endpoint.unwrap();
    assert_eq!(endpoint.authority().unwrap(), "127.0.0.1:8090");
}

#[test]
fn the_sample_events_are_objects_with_ids() {
    let samples = include_str!("../../config/sample-events.ndjson");
    let events: Vec<Value> = samples.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.len(), 26);
    let ids: std::collections::BTreeSet<&str> =
        events.iter().map(|event| event["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    for kind in ["identify", "track", "page", "screen", "group", "alias", "heartbeat"] {
        assert!(events.iter().any(|event| event["type"] == kind), "{kind}");
    }
}

/// All keys that this and later versions know; the later ones are named, never ignored.
#[test]
fn every_key_is_known_and_what_is_to_come_is_told() {
    let text = r#"
data_dir: ./data
sources:
  - type: rudderstack
    listen: 127.0.0.1:8080
    write_keys: [ { key: "${env:WRITE_KEY}", name: web, source_type: web, enabled: true } ]
    ack: delivered
    max_body: 4096000
    trusted_proxies: [ 10.0.0.0/8, "::1" ]
    tls: null
  - { type: http, listen: 127.0.0.1:8081, token: x, event_path: null, ack: buffered, tls: null }
  - { type: vector, listen: 127.0.0.1:6000, event_path: null, max_body: 104857600 }
  - { type: kafka, brokers: [ "localhost:9092" ], topics: [ events ], group: g, event_path: null }
  - { type: stdin, event_path: .message }
filter:
  mode: { web: device, default: cloud }
  integration_names: [ "Customer IO" ]
  events: { mode: deny, names: [ Noise ] }
consent:
  rules:
    - { provider: oneTrust, consents: [ C0002, C0004 ] }
    - { provider: custom, consents: [ marketing ], resolution_strategy: or }
  onetrust_categories: [ C0002 ]
  ketch_purposes: [ ads ]
  unknown: withhold
  decide_by: allowed
mapping:
  dir: vrl
  watch: true
  settings: { device_token_event_name: "", record_object: event }
  threads: 4
buffer: { type: disk, max_size: 8 GiB, when_full: wait, on_corruption: set_aside, read_ahead: 20000 }
customerio:
  site_id: "${env:CUSTOMERIO_SITE_ID}"
  api_key: "${env:CUSTOMERIO_API_KEY}"
  region: eu
  endpoint: http://127.0.0.1:8090/
  api: v1
  environment_id: 12345
  check_credentials: true
  allow_insecure: false
  extra_roots: [ root.pem ]
  ordering: strict
  merge_settle: 5s
  rate_limit: { requests_per_second: 100, burst: 100 }
  concurrency: 8
  batch: { max_bytes: 500000, max_items: 1000, linger: 20ms }
  connect_timeout: 10s
  timeout: 30s
  retry: { initial: 1s, max: 5m, give_up_after: 24h, statuses: [ 408, 5xx ], item_reasons: [ busy ] }
dead_letters: { dir: dead-letters, max_size: 1 GiB, max_age: 90d, when_full: drop_oldest }
admin: { listen: "127.0.0.1:9797", token: "${env:WRITE_KEY}" }
log: { level: info, format: json }
drain_timeout: 30s
"#;
    insta::assert_snapshot!(said(text), @r"
    error[not_yet_supported]: the source type `kafka` is not yet supported
      --> c.yaml:13:13 (sources[3].type)
      = help: use rudderstack, http, vector, or stdin
    ");
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    insta::assert_snapshot!(said(
        "dat_dir: x
sources:
  - type: rudderstak
  - type: rudderstack
    listen: localhost:8080
    write_keys:
      - { name: web, enabled: yes }
    max_body: 5 megs
    event_path: .message
consent:
  rules:
    - { provider: ' oneTrust', consents: [] }
    - { provider: custom, consents: [ '', C1 ], resolution_strategy: any }
customerio:
  site_id: 17
  api_key: ${env:NOT_THERE}
  region: uss
  merge_settle: 5
  batch: { max_bytes: 32 kB, max_itmes: 10 }
  retry: { statuses: [ 200, 5xx, 6xx ] }
buffer: [ memory ]
log:
  level: verbose
"
    ), @r"
    error[unknown_key]: there is no key `dat_dir` here
      --> c.yaml:1:1 (dat_dir)
      = help: did you mean `data_dir`?
    error[unknown_value]: expected one of `rudderstack`, `http`, `vector`, `stdin`
      --> c.yaml:3:11 (sources[0].type)
      = help: did you mean `rudderstack`?
    error[bad_address]: this is not an IP address and a port
      --> c.yaml:5:13 (sources[1].listen)
      = help: write an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080, [::]:8080
    error[missing_key]: the key `key` is required here
      --> c.yaml:7:9 (sources[1].write_keys[0].key)
    error[wrong_type]: expected true or false, found text
      --> c.yaml:7:31 (sources[1].write_keys[0].enabled)
    error[bad_unit]: this is not a size
      --> c.yaml:8:15 (sources[1].max_body)
      = help: write bytes, or a whole number with kB, MB, GB, KiB, MiB, GiB, or TiB: 512 MiB
    error[unknown_key]: `type: rudderstack` has no key `event_path`
      --> c.yaml:9:5 (sources[1].event_path)
      = help: it is an option of the sources http, vector, and stdin; leave it out: SDKs send events as they are
    error[outer_blanks]: the text begins or ends with a blank, and is compared exactly
      --> c.yaml:12:19 (consent.rules[0].provider)
      = help: take the blank away
    error[empty_list]: the list is empty
      --> c.yaml:12:42 (consent.rules[0].consents)
      = help: name at least one
    error[empty_value]: the text is empty
      --> c.yaml:13:39 (consent.rules[1].consents[0])
    error[unknown_value]: expected one of `and`, `or`
      --> c.yaml:13:70 (consent.rules[1].resolution_strategy)
    error[wrong_type]: expected text, found a number
      --> c.yaml:15:12 (customerio.site_id)
      = help: put the value in quotes
    error[missing_env]: the environment variable NOT_THERE is not set
      --> c.yaml:16:12 (customerio.api_key)
      = help: set it, or write the value here; a variable may be empty, but must be there
    error[unknown_value]: expected one of `us`, `eu`
      --> c.yaml:17:11 (customerio.region)
    error[bad_unit]: this is not a duration with its unit
      --> c.yaml:18:17 (customerio.merge_settle)
      = help: write a whole number with ms, s, m, h, or d: 30s
    error[out_of_range]: the value must be between 32800 bytes and 500000 bytes
      --> c.yaml:19:23 (customerio.batch.max_bytes)
    error[unknown_key]: there is no key `max_itmes` here
      --> c.yaml:19:30 (customerio.batch.max_itmes)
      = help: did you mean `max_items`?
    error[bad_status]: expected an error status
      --> c.yaml:20:24 (customerio.retry.statuses[0])
      = help: write a code from 400 to 599, 4xx, or 5xx
    error[bad_status]: expected an error status
      --> c.yaml:20:34 (customerio.retry.statuses[2])
      = help: write a code from 400 to 599, 4xx, or 5xx
    error[wrong_type]: expected a mapping of keys, found a list
      --> c.yaml:21:9 (buffer)
    error[unknown_value]: expected one of `error`, `warn`, `info`, `debug`, `trace`
      --> c.yaml:23:10 (log.level)
    ");
}

#[test]
fn a_buffer_in_memory_is_small_unless_it_is_told_otherwise() {
    let buffer = |text: &str| {
        let text = format!("buffer: {text}\n{CUSTOMERIO}sources: [ {{ type: stdin }} ]\n");
        full(&text).unwrap().0.buffer
    };
    assert_eq!(buffer("{ type: memory }"), BufferConfig::memory());
    assert_eq!(BufferConfig::memory().max_size, 512 << 20);
    assert_eq!(buffer("{ type: memory, max_size: 2 GiB }").max_size, 2 << 30);
    assert_eq!(buffer("{ max_size: 2 GiB }").max_size, 2 << 30);
    assert_eq!(buffer("{ max_size: null }").max_size, 8 << 30);
}

#[test]
fn what_a_buffer_in_memory_ignores_is_told() {
    insta::assert_snapshot!(said_with("buffer: { type: memory, on_corruption: set_aside }"), @r"
    warning[no_effect]: `set_aside` has no effect on a buffer in memory
      --> c.yaml:1:40 (buffer.on_corruption)
      = help: leave the key out
    ");
    assert_eq!(said_with("buffer: { on_corruption: set_aside }"), "");
    assert!(said_with("buffer: { type: disc }").contains("did you mean `disk`?"));
}

#[test]
fn a_key_of_another_source_is_told_with_the_sources_that_have_it() {
    let keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([
        ("listen", BTreeSet::from(["rudderstack", "http", "vector"])),
        ("write_keys", BTreeSet::from(["rudderstack"])),
        ("trusted_proxies", BTreeSet::from(["rudderstack"])),
        ("token", BTreeSet::from(["http"])),
        ("event_path", BTreeSet::from(["http", "vector", "stdin"])),
        ("ack", BTreeSet::from(["rudderstack", "http", "vector"])),
        ("max_body", BTreeSet::from(["rudderstack", "http", "vector"])),
        ("tls", BTreeSet::from(["rudderstack", "http", "vector"])),
    ]);
    for kind in ["rudderstack", "http", "vector", "stdin"] {
        for (key, owners) in keys.iter().filter(|(_, owners)| !owners.contains(kind)) {
            let text = format!("{CUSTOMERIO}sources: [ {{ type: {kind}, {key}: x }} ]\n");
            let said = said(&text);
            assert!(said.contains(&format!("`type: {kind}` has no key `{key}`")), "{said}");
            let help = said.split_once("= help: it is an option of the source").unwrap().1;
            let named = help.split(';').next().unwrap();
            for other in ["rudderstack", "http", "vector", "stdin"] {
                assert_eq!(named.contains(other), owners.contains(other), "{other}: {said}");
            }
        }
    }
}

#[test]
fn presence_is_told_beside_other_mistakes() {
    insta::assert_snapshot!(said("log: { level: loud }\n"), @r"
    warning[no_source]: there is no source
      --> c.yaml:1:1 (sources)
      = help: add one, for example: sources: [ { type: rudderstack } ]
    error[missing_key]: the section `customerio` is required
      --> c.yaml:1:1 (customerio)
      = help: add it with site_id and api_key
    error[unknown_value]: expected one of `error`, `warn`, `info`, `debug`, `trace`
      --> c.yaml:1:15 (log.level)
    ");
    assert_eq!(codes(""), ["no_source", "missing_key"]);
    assert_eq!(codes("sources:\ncustomerio:\n"), ["wrong_type", "missing_key"]);
    assert!(bare("").is_ok());
}

#[test]
fn a_missing_key_that_is_only_misspelt_is_told_once() {
    let keys = "customerio: { site-id: a, api_key: b }\nsources: [ { type: stdin } ]";
    assert_eq!(codes(keys), ["unknown_key"]);
    assert!(said(keys).contains("did you mean `site_id`?"));
    let sections = "source: [ { type: stdin } ]\ncustomer_io: { site_id: a, api_key: b }";
    assert_eq!(codes(sections), ["unknown_key", "unknown_key"]);
    assert_eq!(
        codes("customerio: { colour: a, api_key: b }\nsources: [ { type: stdin } ]").len(),
        2
    );
}

#[test]
fn contradictions_between_keys_are_told() {
    insta::assert_snapshot!(said(
        "sources:
  - { type: rudderstack, listen: '0.0.0.0:9797' }
  - { type: rudderstack, listen: '127.0.0.1:8080', write_keys: [ { key: a }, { key: a } ] }
  - { type: rudderstack, listen: '[::]:8080', write_keys: [ { key: b } ] }
  - { type: stdin }
  - { type: stdin }
filter: { mode: { andriod: device }, events: { mode: allow } }
consent:
  rules:
    - { provider: oneTrust, consents: [ C1 ], resolution_strategy: or }
    - { provider: oneTrust, consents: [ C2 ] }
customerio:
  site_id: 'a:b'
  api_key: key
  endpoint: http://example.org
  connect_timeout: 1m
  retry: { initial: 1m, max: 1s }
admin: { listen: '0.0.0.0:9797' }
"
    ), @r"
    error[write_keys_required]: write keys are required, since `listen` is not a loopback address
      --> c.yaml:2:5 (sources[0].write_keys)
      = help: name the write keys that are accepted, or listen on 127.0.0.1
    error[address_in_use]: the address is also used by `admin.listen`
      --> c.yaml:2:34 (sources[0].listen)
      = help: choose another port
    error[duplicate_write_key]: this write key is there twice
      --> c.yaml:3:85 (sources[1].write_keys[1].key)
      = help: keep one of the two entries
    error[address_in_use]: the address is also used by `sources[1].listen`
      --> c.yaml:4:34 (sources[2].listen)
      = help: choose another port
    error[stdin_twice]: only one source can read standard input
      --> c.yaml:6:5 (sources[4])
      = help: keep one source of type stdin
    warning[unknown_source_type]: this is no source type of RudderStack's, and no write key has it
      --> c.yaml:7:28 (filter.mode.andriod)
      = help: did you mean `android`?
    error[empty_list]: `mode: allow` with no name lets no track event pass
      --> c.yaml:7:46 (filter.events.names)
      = help: name the events that may pass, or write mode: off
    warning[strategy_not_read]: the strategy is read for the provider `custom` only; for others the event has it
      --> c.yaml:10:68 (consent.rules[0].resolution_strategy)
      = help: leave the key out, or write consent.decide_by: allowed
    error[duplicate_rule]: `consent.rules[0]` is for the same provider
      --> c.yaml:11:19 (consent.rules[1].provider)
      = help: join the two rules: each provider has one
    error[colon_in_site_id]: a site id has no colon; Basic authentication would be split at it
      --> c.yaml:13:12 (customerio.site_id)
      = help: write the site id alone here, and the API key in customerio.api_key
    error[insecure_endpoint]: http:// sends the credentials in the clear to a host that is not loopback
      --> c.yaml:15:13 (customerio.endpoint)
      = help: use https://, or set customerio.allow_insecure: true
    warning[no_effect]: `connect_timeout` is longer than `timeout`, which ends the request first
      --> c.yaml:16:20 (customerio.connect_timeout)
      = help: make it the shorter one
    error[out_of_range]: `initial` is longer than `max`
      --> c.yaml:17:21 (customerio.retry.initial)
      = help: make it the shorter one
    error[token_required]: a token is required, since `listen` is not a loopback address
      --> c.yaml:18:8 (admin.token)
      = help: set admin.token, or listen on 127.0.0.1
    ");
    insta::assert_snapshot!(said_with(
        "consent: { unknown: withhold, decide_by: allowed }\nfilter: { events: { names: [ A ] } }"
    ), @r"
    warning[no_rule]: `withhold` needs a rule: without any, all events are sent
      --> c.yaml:1:21 (consent.unknown)
      = help: add a rule to consent.rules
    warning[no_rule]: `allowed` needs a rule: without any, all events are sent
      --> c.yaml:1:42 (consent.decide_by)
      = help: add a rule to consent.rules
    warning[no_effect]: the names have no effect with `mode: off`
      --> c.yaml:2:28 (filter.events.names)
      = help: write mode: allow or mode: deny
    ");
}

#[test]
fn references_are_whole_values_and_typed_by_their_key() {
    let text = format!(
        "sources: [ {{ type: stdin }} ]\n{CUSTOMERIO}mapping: {{ threads: '${{env:NUMBER}}', watch: '${{env:YES}}' }}\nadmin: {{ listen: '${{env:PORT}}' }}\n"
    );
    let (config, _) = full(&text).unwrap();
    assert_eq!(config.mapping.threads, Some(17));
    assert!(config.mapping.watch);
    assert_eq!(config.admin.listen, SocketAddr::from(([127, 0, 0, 1], 1)));
    insta::assert_snapshot!(said_with(
        "data_dir: /var/${env:NUMBER}
mapping: { dir: '${NUMBER}', threads: '${env:YES}' }
admin: { token: '${env:EMPTY}' }
dead_letters: { dir: '${file:/nowhere/at/all}' }
log: { level: '${env:NOT-A-NAME}', format: '${env:NOT_THERE}' }
drain_timeout: '${env:BLANKS}'"
    ), @r"
    error[reference_in_text]: `${…}` stands for references only
      --> c.yaml:1:11 (data_dir)
      = help: a reference must be the whole value; put the whole value into the variable or file
    error[bad_reference]: `${…}` stands for references only
      --> c.yaml:2:17 (mapping.dir)
      = help: write ${env:NAME} or ${file:PATH}
    error[wrong_type]: expected a whole number, found text
      --> c.yaml:2:39 (mapping.threads)
    error[empty_value]: the value is empty
      --> c.yaml:3:17 (admin.token)
      = help: check the variable, the file, or the value here
    error[missing_file]: cannot read the file /nowhere/at/all: there is no such file
      --> c.yaml:4:22 (dead_letters.dir)
      = help: paths in references are relative to the working directory
    error[bad_reference]: `${…}` stands for references only
      --> c.yaml:5:15 (log.level)
      = help: a variable's name has letters, digits, and _ only
    error[missing_env]: the environment variable NOT_THERE is not set
      --> c.yaml:5:44 (log.format)
      = help: set it, or write the value here; a variable may be empty, but must be there
    error[bad_unit]: this is not a duration with its unit
      --> c.yaml:6:16 (drain_timeout)
      = help: write a whole number with ms, s, m, h, or d: 30s
    ");
}

#[test]
fn a_secret_file_is_read_and_its_odd_blanks_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, " s3cret-key \n").unwrap();
    let text = format!(
        "sources: [ {{ type: stdin }} ]\ncustomerio: {{ site_id: site, api_key: '${{file:{}}}' }}\n",
        path.display()
    );
    let (config, warnings) = full(&text).unwrap();
    assert_eq!(config.customerio.unwrap().api_key.expose_secret(), "s3cret-key");
    assert_eq!(warnings.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["blanks_trimmed"]);
}

#[test]
fn without_secrets_nothing_secret_is_asked_for() {
    let asked = std::cell::RefCell::new(Vec::new());
    let env = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    let text = "mapping: { settings: { device_token_event_name: '${env:TOKEN_EVENT}' } }\n";
    let faults = Config::parse(text, "c.yaml", LoadMode::WithoutSecrets, &env).unwrap_err();
    assert_eq!(faults[0].code, "missing_env");
    let (config, _) = Config::parse(ANNOTATED, "c.yaml", LoadMode::WithoutSecrets, &env).unwrap();
    assert!(config.customerio.is_some());
    let elsewhere = "data_dir: ${env:DIR}\nadmin: { listen: '${env:ADMIN}' }\n";
    let (config, _) = Config::parse(elsewhere, "c.yaml", LoadMode::WithoutSecrets, &env).unwrap();
    assert_eq!(config.admin.listen, Config::default().admin.listen);
    assert_eq!(*asked.borrow(), ["TOKEN_EVENT", "DIR", "ADMIN"]);
}

#[test]
fn values_are_never_shown() {
    // Each text has one mistake at or beside a value that must not be seen.
    for text in [
        "customerio: { api_kye: s3cret }\n",
        "customerio: { api_key: [ s3cret ], site_id: { s3cret: s3cret } }\n",
        "customerio: { 's3cret-9': x }\n",
        "customerio: s3cret\n",
        "s3cret\n",
        "sources: s3cret\n",
        "sources: [ { type: s3cret } ]\n",
        "sources: [ { type: rudderstack, write_keys: { s3cret-1: web } } ]\n",
        "sources: [ { type: rudderstack, write_keys: [ s3cret ] } ]\n",
        "customerio: { site_id: 's3cret:a', api_key: s3cret }\n",
        "customerio: { region: s3cret, endpoint: 'https://user:s3cret@host' }\n",
        "customerio: { site_id: ' s3cret', api_key: \"s3cret\\n\" }\n",
        "customerio: { site_id: 'x${env:s3cret}', api_key: s3cret, timeout: s3cret }\n",
        "customerio: { site_id: a, api_key: 's3cret }\n",
        "customerio: { site_id: a, api_key: s3cret: s3cret }\n",
        "admin: { token: s3cret, token: s3cret }\n",
        "admin: { token: ${env:BLANKS} }\n",
        "admin: { token: *s3cret }\n",
        "admin: { token: %s3cret }\n",
    ] {
        for diagnostics in [full(text).unwrap_err(), bare(text).err().unwrap_or_default()] {
            let shown = format!("{diagnostics:?} {}", show(diagnostics.clone()));
            // The name of a variable is no value.
            let shown = shown.replace("${env:s3cret}", "");
            assert!(!shown.contains("s3cret"), "{text}\n{shown}");
        }
    }
    let (config, _) = full(ANNOTATED).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_list_per_source_type_is_told_apart_from_a_mistake() {
    insta::assert_snapshot!(said_bare(
        "consent: { rules: { web: [] }, onetrust_categories: { web: [ C1 ] }, ketch_purposes: }\n"
    ), @r"
    error[not_yet_supported]: a list per source type is not yet supported
      --> c.yaml:1:19 (consent.rules)
      = help: write one list; it holds for all sources
    error[not_yet_supported]: a list per source type is not yet supported
      --> c.yaml:1:53 (consent.onetrust_categories)
      = help: write one list; it holds for all sources
    error[wrong_type]: expected a list, found nothing
      --> c.yaml:1:84 (consent.ketch_purposes)
      = help: write [] for an empty list
    ");
}

#[test]
fn toml_says_the_same_as_yaml() {
    let text = "drain_timeout = \"5s\"\n[[sources]]\ntype = \"stdin\"\n\n[customerio]\nsite_id = \"a\"\napi_key = \"b\"\nregoin = \"eu\"\n";
    let faults = Config::parse(text, "c.toml", LoadMode::Full, &env).unwrap_err();
    insta::assert_snapshot!(show(faults.into()), @r"
    error[unknown_key]: there is no key `regoin` here
      --> c.toml:8:1 (customerio.regoin)
      = help: did you mean `region`?
    ");
    let text = text.replace("regoin", "region");
    let (config, _) = Config::parse(&text, "c.toml", LoadMode::Full, &env).unwrap();
    assert_eq!(config.customerio.unwrap().region, Region::Eu);
}

#[test]
fn endpoints_are_base_urls() {
    let code = |url: &str, more: &str| {
        codes(&format!(
            "sources: [ {{ type: stdin }} ]\ncustomerio: {{ site_id: a, api_key: b, endpoint: '{url}'{more} }}\n"
        ))
    };
    for good in [
        "http://127.0.0.1:8090",
        "http://localhost:8090/",
        "http://[::1]:8090",
        "http://api.localhost",
        "https://proxy.example/track/",
    ] {
        assert!(code(good, "").is_empty(), "{good}");
    }
    for bad in
        ["ftp://a", "127.0.0.1:8090", "http://", "https://a?b=c", "https://a#b", "https://u@a"]
    {
        assert_eq!(code(bad, ""), ["bad_url"], "{bad}");
    }
    assert_eq!(code("http://127.0.0.1.evil.example", ""), ["insecure_endpoint"]);
    let (config, warnings) = full("sources: [ { type: stdin } ]\ncustomerio: { site_id: a, api_key: b, endpoint: 'http://10.0.0.1/x/', allow_insecure: true }\n").unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(config.customerio.unwrap().endpoint.unwrap().to_string(), "http://10.0.0.1/x");
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.yaml");
    assert_eq!(Config::load(&path, LoadMode::Full).unwrap_err()[0].code, "unreadable_file");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(Config::load(&path, LoadMode::Full).unwrap_err()[0].code, "not_utf8");
    std::fs::write(&path, vec![b' '; yaml::MAX_BYTES + 1]).unwrap();
    assert_eq!(Config::load(&path, LoadMode::Full).unwrap_err()[0].code, "file_too_large");
}

/// Replaces one value of the annotated file, by position, with another.
fn replace(node: &mut Node, nth: &mut usize, with: &Node) {
    if *nth == 0 {
        *node = with.clone();
    }
    *nth = nth.wrapping_sub(1);
    match &mut node.data {
        Data::List(elements) => elements.iter_mut().for_each(|e| replace(e, nth, with)),
        Data::Map(entries) => entries.iter_mut().for_each(|e| replace(&mut e.value, nth, with)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_value_anywhere_makes_loading_panic(
        nth in 0usize..130,
        value in prop_oneof![
            Just("null"), Just("[]"), Just("{}"), Just("[ [ ] ]"), Just("-1"), Just("1e300"),
            Just("9223372036854775807"), Just("''"), Just("' '"), Just("'${'"), Just("'${env:X}'"),
            Just("'${file:}'"), Just("'${file:/}'"), Just("99999999999999999999d"), Just("true"),
            Just("0"), Just("{ type: stdin }"), Just("'é:1'"), Just(".nan"), Just("http://a/%zz"),
        ],
    ) {
        let mut tree = yaml::parse(ANNOTATED, "c.yaml").unwrap();
        replace(&mut tree, &mut { nth }, &yaml::parse(value, "v").unwrap());
        let text = tree.to_json().to_string();
        for mode in [LoadMode::Full, LoadMode::WithoutSecrets] {
            if let Err(faults) = Config::parse(&text, "c.yaml", mode, &env) {
                prop_assert!(faults.iter().all(|fault| fault.code != "internal"), "{:?}", faults);
            }
        }
    }
}

#[test]
fn listeners_need_a_token_off_loopback_both_files_of_tls_and_an_own_address() {
    insta::assert_snapshot!(said(&format!(
        "{CUSTOMERIO}sources:
  - {{ type: http, listen: 0.0.0.0:1 }}
  - {{ type: http, listen: 0.0.0.0:2, token: x, tls: {{ cert_file: c, key: k }} }}
  - {{ type: vector, listen: 127.0.0.1:3, token: x, event_path: message }}
"
    )), @r#"
    error[token_required]: a token is required, since `listen` is not a loopback address
      --> c.yaml:3:5 (sources[0].token)
      = help: set `token`, or listen on 127.0.0.1
    error[missing_key]: the key `key_file` is required here
      --> c.yaml:4:53 (sources[1].tls.key_file)
    error[unknown_key]: there is no key `key` here
      --> c.yaml:4:69 (sources[1].tls.key)
      = help: known keys here: cert_file, key_file, client_ca_file
    error[unknown_key]: `type: vector` has no key `token`
      --> c.yaml:5:42 (sources[2].token)
      = help: it is an option of the source http; Vector's protocol carries none: ask for certificates with tls.client_ca_file
    error[bad_path]: this is not a path
      --> c.yaml:5:64 (sources[2].event_path)
      = help: begin with a dot, and write keys of other than letters, digits, and _ in quotes: .a."b-c"; an element of a list, as in .a[0], cannot be named
    "#);
    assert_eq!(
        codes(&format!(
            "{CUSTOMERIO}sources: [ {{ type: http }}, {{ type: vector, listen: 127.0.0.1:8081 }} ]"
        )),
        ["address_in_use"]
    );
}
