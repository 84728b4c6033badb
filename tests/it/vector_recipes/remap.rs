//! Running the VRL of a recipe as stock Vector runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::{ExternalEnv, RuntimeState};
use vrl::compiler::{
    CompileConfig, Function, Program, TargetValue, TimeZone, compile_with_external,
};
use vrl::diagnostic::Formatter;
use vrl::value::{Secrets, Value};

use super::recipe::{Component, Recipe};

/// An event in Vector: its value, its metadata, and which input it came from.
#[derive(Clone, Debug)]
pub struct Event {
    pub value: Value,
    pub metadata: Value,
    pub number: usize,
}

/// Functions of the library that stock Vector 0.58 does not have yet.
const NEWER: [&str; 1] = ["range"];

fn functions() -> Vec<Box<dyn Function>> {
    vrl::stdlib::all().into_iter().filter(|f| !NEWER.contains(&f.identifier())).collect()
}

/// Compiles a text without any function but stock Vector's. Warnings count as errors.
pub fn compile(text: &str) -> Result<Program, String> {
    // A keyword of newer versions; older ones take it for a variable that is not there.
    if text.lines().any(|line| line.split('#').next().unwrap_or("").trim() == "break") {
        return Err("stock Vector does not know `break`".to_owned());
    }
    let (env, config) = (ExternalEnv::default(), CompileConfig::default());
    let shown = |list| Formatter::new(text, list).to_string();
    let done = compile_with_external(text, &functions(), &env, config).map_err(shown)?;
    if done.warnings.is_empty() { Ok(done.program) } else { Err(shown(done.warnings)) }
}

/// How a run ended: what it returned, or why it did not.
fn run(program: &Program, target: &mut TargetValue) -> Result<Value, (&'static str, String)> {
    let mut runtime = Runtime::new(RuntimeState::default());
    // Vector's default is the machine's zone, which is anything.
    let zone = TimeZone::parse("Asia/Kathmandu").expect("a zone");
    runtime.resolve(target, program, &zone).map_err(|ended| match ended {
        Terminate::Abort(error) => ("abort", error.to_string()),
        Terminate::Error(error) => ("error", error.to_string()),
        Terminate::Interrupted => ("error", "interrupted".to_owned()),
    })
}

/// Reads YAML.
pub fn yaml(text: &str) -> serde_json::Value {
    let program = compile("parse_yaml!(string!(.))").expect("compile");
    let mut target = target(&Event { value: text.into(), metadata: object([]), number: 0 });
    let value = run(&program, &mut target).unwrap_or_else(|(_, why)| panic!("no YAML: {why}"));
    json(&value)
}

pub fn json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).expect("JSON")
}

pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn target(event: &Event) -> TargetValue {
    TargetValue {
        value: event.value.clone(),
        metadata: event.metadata.clone(),
        secrets: Secrets::new(),
    }
}

/// The program of a `remap`, as Vector puts it together.
pub fn source(component: &Component<'_>) -> String {
    if let Some(source) = component.text("source") {
        return source.to_owned();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &String| {
        fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    component.texts("files").iter().map(read).collect::<Vec<_>>().join("\n")
}

/// Every VRL text of a component, with where it stands.
pub fn programs(component: &Component<'_>) -> Vec<(String, String)> {
    let name = component.name;
    match component.kind() {
        "remap" => vec![(name.to_owned(), source(component))],
        "filter" => {
            vec![(name.to_owned(), component.text("condition").expect("a condition").to_owned())]
        }
        "route" => {
            let routes = component.options["route"].as_object().expect("routes");
            let text = |v: &serde_json::Value| v.as_str().expect("a condition").to_owned();
            routes.iter().map(|(route, v)| (format!("{name}.{route}"), text(v))).collect()
        }
        _ => Vec::new(),
    }
}

/// What came out of each output, by its name, and what came to each sink.
pub type Flow = BTreeMap<String, Vec<Event>>;

/// Lets events of one source go through all transforms.
///
/// Where branches meet again, events stand in the order of their inputs: Vector may do otherwise.
pub fn flow(recipe: &Recipe, source: &str, events: Vec<Event>) -> Flow {
    let mut flow = Flow::from([(source.to_owned(), events)]);
    let mut waiting = recipe.components();
    waiting.retain(|component| component.section != "sources");
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|component| {
            let inputs: Option<Vec<_>> =
                component.texts("inputs").iter().map(|input| flow.get(input)).collect();
            let Some(inputs) = inputs else { return true };
            let mut events: Vec<Event> = inputs.into_iter().flatten().cloned().collect();
            events.sort_by_key(|event| event.number);
            for (output, event) in pass(component, events) {
                flow.entry(output).or_default().push(event);
            }
            for output in component.outputs() {
                flow.entry(output).or_default();
            }
            false
        });
        assert!(waiting.len() < before, "the transforms form a circle");
    }
    flow
}

fn pass(component: &Component<'_>, events: Vec<Event>) -> Vec<(String, Event)> {
    if events.is_empty() {
        return Vec::new();
    }
    let programs: Vec<(String, Program)> = programs(component)
        .into_iter()
        .map(|(name, text)| (name, compile(&text).unwrap_or_else(|why| panic!("{why}"))))
        .collect();
    let holds = |program: &Program, event: &Event| {
        run(program, &mut target(event)).is_ok_and(|value| value == Value::Boolean(true))
    };
    let name = component.name.to_owned();
    let mut out = Vec::new();
    for event in events {
        match component.kind() {
            "remap" => out.extend(remap(component, &programs[0].1, event)),
            "filter" if holds(&programs[0].1, &event) => out.push((name.clone(), event)),
            "filter" => {}
            "route" => {
                let taken = programs.iter().filter(|(_, program)| holds(program, &event));
                let mut taken: Vec<_> = taken.map(|(route, _)| route.clone()).collect();
                if taken.is_empty() {
                    taken.push(format!("{name}._unmatched"));
                }
                out.extend(taken.into_iter().map(|route| (route, event.clone())));
            }
            _ => out.push((name.clone(), event)),
        }
    }
    out
}

fn remap(component: &Component<'_>, program: &Program, event: Event) -> Vec<(String, Event)> {
    let name = component.name;
    let on = |option: &str| component.options.get(option) == Some(&serde_json::Value::Bool(true));
    let mut target = target(&event);
    let ended = run(program, &mut target);
    match ended {
        Ok(_) => {
            let values = match target.value {
                Value::Array(values) => values,
                value => vec![value],
            };
            let whole = |value| match value {
                Value::Object(_) => value,
                other => object([("message", other)]),
            };
            let metadata = target.metadata;
            values
                .into_iter()
                .map(|value| {
                    let metadata = metadata.clone();
                    let event = Event { value: whole(value), metadata, number: event.number };
                    (name.to_owned(), event)
                })
                .collect()
        }
        Err((reason, message)) => {
            if reason == "error" && !on("drop_on_error") {
                return vec![(name.to_owned(), event)];
            }
            if !on("reroute_dropped") {
                return Vec::new();
            }
            let mut event = event;
            let about = object([
                ("reason", reason.into()),
                ("message", message.into()),
                ("component_id", name.into()),
            ]);
            event.value.insert(vrl::path!("metadata", "dropped"), about);
            vec![(format!("{name}.dropped"), event)]
        }
    }
}
