//! A configuration of Vector: how Vector reads it, and what in it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::remap;

/// Every option that the recipes use, by component: what Vector's reference names for its type. A
/// `*` stands for names of one's own.
const OPTIONS: [(&str, &[&str]); 9] = [
    (
        "sources file",
        &["include", "max_line_bytes", "oldest_first", "offset_key", "fingerprint.strategy"],
    ),
    ("sources stdin", &["max_length"]),
    (
        "sources http_server",
        &[
            "address",
            "method",
            "path",
            "strict_path",
            "path_key",
            "auth.username",
            "auth.password",
            "framing.method",
            "decoding.codec",
        ],
    ),
    ("transforms remap", &["inputs", "source", "files", "drop_on_error", "reroute_dropped"]),
    ("transforms filter", &["inputs", "condition"]),
    ("transforms route", &["inputs", "route.*"]),
    (
        "sinks vector",
        &[
            "inputs",
            "address",
            "compression",
            "keepalive",
            "acknowledgements.enabled",
            "request.concurrency",
            "request.retry_max_duration_secs",
            "request.timeout_secs",
            "batch.max_events",
            "batch.max_bytes",
            "batch.timeout_secs",
            "tls.enabled",
            "tls.ca_file",
            "tls.crt_file",
            "tls.key_file",
            "buffer.type",
            "buffer.max_size",
            "buffer.when_full",
        ],
    ),
    (
        "sinks http",
        &[
            "inputs",
            "uri",
            "method",
            "compression",
            "encoding.codec",
            "framing.method",
            "payload_prefix",
            "payload_suffix",
            "auth.strategy",
            "auth.token",
            "auth.user",
            "auth.password",
            "acknowledgements.enabled",
            "request.concurrency",
            "request.rate_limit_num",
            "request.rate_limit_duration_secs",
            "request.retry_max_duration_secs",
            "request.timeout_secs",
            "healthcheck.uri",
            "retry_strategy.type",
            "retry_strategy.status_codes",
            "batch.max_events",
            "batch.max_bytes",
            "batch.timeout_secs",
            "tls.ca_file",
            "tls.crt_file",
            "tls.key_file",
            "buffer.type",
            "buffer.max_size",
            "buffer.when_full",
        ],
    ),
    ("sinks file", &["inputs", "path", "encoding.codec", "acknowledgements.enabled"]),
];

/// A configuration, with the variables replaced.
pub struct Recipe {
    root: Value,
}

/// One source, transform, or sink.
pub struct Component<'a> {
    pub section: &'a str,
    pub name: &'a str,
    pub options: &'a Map<String, Value>,
}

impl Component<'_> {
    pub fn kind(&self) -> &str {
        self.options.get("type").and_then(Value::as_str).unwrap_or("none")
    }

    pub fn texts(&self, option: &str) -> Vec<String> {
        match self.options.get(option) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => {
                items.iter().map(|i| i.as_str().expect("a text").to_owned()).collect()
            }
            _ => Vec::new(),
        }
    }

    pub fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option).and_then(Value::as_str)
    }

    fn is_on(&self, option: &str) -> bool {
        self.options.get(option) == Some(&Value::Bool(true))
    }

    /// The names under which others take in what comes out here.
    pub fn outputs(&self) -> Vec<String> {
        let name = self.name;
        match (self.section, self.kind()) {
            ("sinks", _) => Vec::new(),
            (_, "route") => {
                let routes = self.options["route"].as_object().expect("routes");
                let named = routes.keys().map(String::as_str).chain(["_unmatched"]);
                named.map(|route| format!("{name}.{route}")).collect()
            }
            (_, "remap") if self.is_on("reroute_dropped") => {
                vec![name.to_owned(), format!("{name}.dropped")]
            }
            _ => vec![name.to_owned()],
        }
    }

    fn unknown_options(&self) -> Vec<String> {
        let what = format!("{} {}", self.section, self.kind());
        let Some((_, known)) = OPTIONS.iter().find(|(name, _)| *name == what) else {
            return vec![format!("{}: no component `{what}`", self.name)];
        };
        let mut found = Vec::new();
        for (option, value) in self.options.iter().filter(|(option, _)| *option != "type") {
            look(option, value, known, &mut found);
        }
        found.iter().map(|path| format!("{}: no option `{path}`", self.name)).collect()
    }
}

fn look(path: &str, value: &Value, known: &[&str], found: &mut Vec<String>) {
    let of_own = path.rsplit_once('.').map(|(above, _)| format!("{above}.*"));
    if known.contains(&path) || of_own.is_some_and(|own| known.contains(&&*own)) {
        return;
    }
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                look(&format!("{path}.{name}"), member, known, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

impl Recipe {
    /// Reads a file of `config/vector` with these variables.
    pub fn load(name: &str, variables: &[(&str, &str)]) -> Self {
        Self::parse(&text(name), variables)
    }

    pub fn parse(text: &str, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().copied().collect();
        Self { root: remap::yaml(&interpolate(text, &variables)) }
    }

    pub fn components(&self) -> Vec<Component<'_>> {
        let mut all = Vec::new();
        for section in ["sources", "transforms", "sinks"] {
            let part = self.root[section].as_object().expect("every recipe has all three");
            all.extend(part.iter().map(|(name, options)| Component {
                section,
                name,
                options: options.as_object().expect("options"),
            }));
        }
        all
    }

    pub fn component(&self, name: &str) -> Component<'_> {
        let mut all = self.components().into_iter();
        all.find(|c| c.name == name).unwrap_or_else(|| panic!("no component {name}"))
    }

    /// Value at a JSON pointer.
    pub fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
    }

    /// Options that the types of components do not have.
    pub fn unknown_options(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.components().iter().flat_map(Component::unknown_options).collect();
        for key in self.root.as_object().expect("a mapping").keys() {
            if !["data_dir", "sources", "transforms", "sinks"].contains(&&**key) {
                found.push(format!("no section `{key}`"));
            }
        }
        found
    }

    /// Inputs that nothing gives, outputs that nothing takes, and names that are used twice.
    pub fn loose_ends(&self) -> Vec<String> {
        let components = self.components();
        let mut outputs = BTreeSet::new();
        let mut found = Vec::new();
        for output in components.iter().flat_map(Component::outputs) {
            if !outputs.insert(output.clone()) {
                found.push(format!("`{output}` is there twice"));
            }
        }
        let inputs: BTreeSet<String> =
            components.iter().flat_map(|component| component.texts("inputs")).collect();
        found.extend(inputs.difference(&outputs).map(|name| format!("nothing gives `{name}`")));
        found.extend(outputs.difference(&inputs).map(|name| format!("nothing takes `{name}`")));
        found
    }
}

/// The names of the recipes, without their ending.
pub const NAMES: [&str; 4] = ["grpc", "http", "sdk", "direct"];

/// The text of one.
pub fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/vector/{name}.yaml"));
    fs::read_to_string(path).unwrap()
}

/// Replaces variables as Vector does: in the whole text, before it is YAML, comments included.
pub fn interpolate(text: &str, variables: &BTreeMap<&str, &str>) -> String {
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inner, rest) = part
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .unwrap_or_else(|| panic!("Vector takes `${part}` for a variable"));
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let value = variables.get(name).copied().or(default);
        whole += value.unwrap_or_else(|| panic!("Vector does not start without {name}"));
        whole += rest;
    }
    whole
}

/// Takes the `#` away from the options in comments; those at a line's begin are the head's prose.
pub fn with_comments_as_options(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some(rest) = line.trim_start().strip_prefix("# ") else { return line.to_owned() };
        let is_option = rest.trim_start().split_once(':').is_some_and(|(key, value)| {
            !(key.is_empty() || indent.is_empty())
                && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && (value.is_empty() || value.starts_with(' '))
        });
        if is_option { format!("{indent}{rest}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}
