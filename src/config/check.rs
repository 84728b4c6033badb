//! Checks that concern several sections.

use std::net::SocketAddr;

use super::context::Context;
use super::declare::{Form, Sect};
use super::suggest::nearest;
use super::tree::{Data, Node};
use super::{Config, SourceConfig};
use crate::diagnostic::Diagnostic;

/// RudderStack's source types.
pub(crate) const SOURCE_TYPES: [&str; 13] = [
    "web",
    "android",
    "androidKotlin",
    "ios",
    "iosSwift",
    "unity",
    "amp",
    "cloud",
    "warehouse",
    "reactnative",
    "flutter",
    "cordova",
    "shopify",
];

/// Notes what a file lacks that is to run, whatever else is wrong with it.
pub(super) fn presence(tree: &Node, cx: &mut Context<'_>) {
    let data = |key: &str| tree.get(key).map(|node| &node.data);
    // A key that is meant to be the section is told as unknown already.
    let misspelt = |key: &str| {
        tree.get(key).is_none()
            && tree.entries().iter().any(|entry| nearest(&entry.key, [key]).is_some())
    };
    let no_source =
        data("sources").is_none_or(|data| matches!(data, Data::List(list) if list.is_empty()));
    if no_source && !misspelt("sources") {
        let fault = Diagnostic::warning("no_source", "there is no source")
            .help("add one, for example: sources: [ { type: rudderstack } ]");
        cx.fault(tree, "sources", fault);
    }
    if data("customerio").is_none_or(|data| matches!(data, Data::Null)) && !misspelt("customerio") {
        let fault = Diagnostic::error("missing_key", "the section `customerio` is required")
            .help("add it with site_id and api_key");
        cx.fault(tree, "customerio", fault);
    }
}

/// Notes what sections contradict in each other.
pub(super) fn together(config: &Config, tree: &Node, cx: &mut Context<'_>) {
    listeners(config, tree, cx);
    source_types(config, tree, cx);
    let stdin = |source: &SourceConfig| matches!(source, SourceConfig::Stdin(_));
    let mut inputs = config.sources.iter().enumerate().filter(|(_, source)| stdin(source));
    if let Some((second, _)) = inputs.nth(1) {
        let fault = Diagnostic::error("stdin_twice", "only one source can read standard input")
            .help("keep one source of type stdin");
        cx.fault(tree, &format!("sources[{second}]"), fault);
    }
}

/// Two listeners need two addresses; port 0 takes any free one.
fn listeners(config: &Config, tree: &Node, cx: &mut Context<'_>) {
    let mut taken: Vec<(SocketAddr, String)> =
        vec![(config.admin.listen, "admin.listen".to_owned())];
    for (index, source) in config.sources.iter().enumerate() {
        let Some(listen) = source.listen() else { continue };
        let key = format!("sources[{index}].listen");
        if let Some((_, other)) = taken.iter().find(|(address, _)| meet(*address, listen)) {
            let message = format!("the address is also used by `{other}`");
            let fault = Diagnostic::error("address_in_use", message).help("choose another port");
            cx.fault(tree, &key, fault);
        }
        taken.push((listen, key));
    }
}

fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (any || a.ip() == b.ip())
}

/// A misspelt source type would silently never be met.
fn source_types(config: &Config, tree: &Node, cx: &mut Context<'_>) {
    let used = |source_type: &str| {
        config.sources.iter().any(|source| match source {
            SourceConfig::RudderStack(source) => {
                source.write_keys.iter().any(|key| key.source_type == source_type)
            }
            SourceConfig::Http(_) | SourceConfig::Vector(_) | SourceConfig::Stdin(_) => false,
        })
    };
    for (index, source) in config.sources.iter().enumerate() {
        let SourceConfig::RudderStack(source) = source else { continue };
        for (at, key) in source.write_keys.iter().enumerate() {
            let named =
                config.filter.mode.by_source_type.iter().any(|(t, _)| *t == key.source_type);
            if SOURCE_TYPES.contains(&key.source_type.as_str()) || named {
                continue;
            }
            let message =
                "this is no source type of RudderStack's, and `filter.mode` does not name it";
            let mut fault = Diagnostic::warning("unknown_source_type", message);
            if let Some(meant) = nearest(&key.source_type, SOURCE_TYPES) {
                fault = fault.help(format!("did you mean `{meant}`?"));
            }
            cx.fault(tree, &format!("sources[{index}].write_keys[{at}].source_type"), fault);
        }
    }
    for (source_type, _) in &config.filter.mode.by_source_type {
        if SOURCE_TYPES.contains(&source_type.as_str()) || used(source_type) {
            continue;
        }
        let message = "this is no source type of RudderStack's, and no write key has it";
        let mut fault = Diagnostic::warning("unknown_source_type", message);
        if let Some(meant) = nearest(source_type, SOURCE_TYPES) {
            fault = fault.help(format!("did you mean `{meant}`?"));
        }
        cx.fault(tree, &format!("filter.mode.{source_type}"), fault);
    }
}

/// Decodes and checks a whole document.
pub(super) fn decode(tree: &Node, cx: &mut Context<'_>) -> Option<Config> {
    let config: Option<Config> = Sect::decode(tree, cx);
    if cx.with_secrets() {
        presence(tree, cx);
    }
    if let Some(config) = &config {
        together(config, tree, cx);
    }
    config
}
