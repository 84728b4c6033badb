//! The imported settings as text of a configuration file.

use std::fmt::Write;

use crate::config::{ConsentConfig, EventListMode, Mode, ModeConfig, Region, Strategy};

use super::document::Source;
use super::settings::is_reference;
use super::{Import, Note};

/// Longest line of a comment.
const WIDTH: usize = 98;

/// Writes the file.
pub fn write(import: &Import) -> String {
    let mut out = head(import);
    let settings = &import.settings;
    out.push_str(
        "\nsources:\n  - type: rudderstack\n    listen: 127.0.0.1:8080\n    write_keys:\n",
    );
    for (variable, source) in named(&import.sources) {
        put(&mut out, format_args!("      - key: \"${{env:{variable}}}\"\n"));
        let name = source.name.filter(|name| !is_reference(name) && !name.trim().is_empty());
        put(
            &mut out,
            format_args!("        name: {}\n", quoted(name.as_deref().unwrap_or("rudderstack"))),
        );
        let source_type = source.source_type.as_deref().unwrap_or("web");
        put(&mut out, format_args!("        source_type: {source_type}\n"));
        if !source.enabled {
            out.push_str("        enabled: false\n");
        }
    }
    put(&mut out, format_args!("\nfilter:\n  mode: {}\n", mode(&settings.mode)));
    let list = match settings.events.mode {
        EventListMode::Off => None,
        EventListMode::Allow => Some("allow"),
        EventListMode::Deny => Some("deny"),
    };
    if let Some(list) = list {
        let names = flow(&settings.events.names);
        put(&mut out, format_args!("  events:\n    mode: {list}\n    names: {names}\n"));
    }
    consent(&mut out, &settings.consent);
    if !settings.device_token_event_name.is_empty() {
        let name = quoted(&settings.device_token_event_name);
        put(
            &mut out,
            format_args!("\nmapping:\n  settings:\n    device_token_event_name: {name}\n"),
        );
    }
    let region = match settings.region {
        Region::Us => "us",
        Region::Eu => "eu",
    };
    put(
        &mut out,
        format_args!(
            "\ncustomerio:\n  site_id: \"${{env:CUSTOMERIO_SITE_ID}}\"\n  \
             api_key: \"${{env:CUSTOMERIO_API_KEY}}\"\n  region: {region}\n  api: v2\n"
        ),
    );
    out
}

/// Names of the environment variables that the file takes secrets from.
pub fn variables(sources: &[Source]) -> Vec<String> {
    let secrets = ["CUSTOMERIO_SITE_ID", "CUSTOMERIO_API_KEY"].map(str::to_owned);
    secrets.into_iter().chain(named(sources).into_iter().map(|(name, _)| name)).collect()
}

/// The sources, each with the variable of its write key. There is always one.
fn named(sources: &[Source]) -> Vec<(String, Source)> {
    match sources {
        [] => {
            let any = Source { name: None, source_type: None, enabled: true };
            vec![("WRITE_KEY".to_owned(), any)]
        }
        [one] => vec![("WRITE_KEY".to_owned(), one.clone())],
        several => {
            let with_number = several.iter().zip(1..);
            with_number.map(|(source, n)| (format!("WRITE_KEY_{n}"), source.clone())).collect()
        }
    }
}

fn head(import: &Import) -> String {
    let mut out = String::new();
    let of = import.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    comment(
        &mut out,
        "",
        &format!(
            "Configuration of rudder-customerio, made by `rudder-customerio import` from the RudderStack \
             destination{of}. A key that is not here has its default."
        ),
    );
    out.push_str("#\n");
    let variables = variables(&import.sources).join(", ");
    comment(
        &mut out,
        "",
        &format!("Secrets are not in this file. Set {variables} in the environment."),
    );
    if !import.notes.is_empty() {
        out.push_str("#\n");
        comment(&mut out, "", "Not carried over as it was:");
    }
    for Note { about, means } in &import.notes {
        comment(&mut out, "  ", &format!("- {about}: {means}"));
    }
    out
}

/// Writes words as lines of a comment.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    let mut first = true;
    let mut end = |line: &mut String| {
        let hang = if first || indent.is_empty() { "" } else { "  " };
        first = false;
        put(out, format_args!("# {indent}{hang}{line}\n"));
        line.clear();
    };
    for word in text.split_whitespace() {
        if !line.is_empty()
            && line.chars().count() + word.chars().count() + indent.len() + 5 > WIDTH
        {
            end(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    end(&mut line);
}

fn mode(mode: &ModeConfig) -> String {
    let word = |mode: Mode| if mode == Mode::Device { "device" } else { "cloud" };
    if mode.by_source_type.is_empty() {
        return word(mode.default).to_owned();
    }
    let listed = mode.by_source_type.iter().map(|(t, m)| format!("{t}: {}, ", word(*m)));
    format!("{{ {}default: {} }}", listed.collect::<String>(), word(mode.default))
}

fn consent(out: &mut String, consent: &ConsentConfig) {
    let ConsentConfig { rules, onetrust_categories, ketch_purposes, .. } = consent;
    out.push_str("\nconsent:\n");
    if rules.is_empty() {
        out.push_str("  rules: []\n");
    } else {
        out.push_str("  rules:\n");
    }
    for rule in rules {
        let (provider, ids) = (quoted(&rule.provider), flow(&rule.consents));
        put(out, format_args!("    - provider: {provider}\n      consents: {ids}\n"));
        match rule.resolution_strategy {
            None => {}
            Some(Strategy::And) => out.push_str("      resolution_strategy: and\n"),
            Some(Strategy::Or) => out.push_str("      resolution_strategy: or\n"),
        }
    }
    for (key, ids) in
        [("onetrust_categories", onetrust_categories), ("ketch_purposes", ketch_purposes)]
    {
        if !ids.is_empty() {
            put(out, format_args!("  {key}: {}\n", flow(ids)));
        }
    }
}

fn flow(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[ {} ]", texts.join(", "))
}

/// Writes a text in double quotes, with what YAML takes for a line break or does not print escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                put(&mut out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c if c.is_control() => put(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a String takes everything");
}
