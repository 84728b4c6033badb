//! Where in a document the destination is.
//!
//! | document | what it is |
//! |---|---|
//! | `{"siteID":…, "datacenter":…, …}` | the configuration of a destination |
//! | `{"name":…, "config":{…}}`, alone or in `destination` | a destination |
//! | `{"writeKey":…, "destinations":[…]}`, alone or in `source` | a source and its destinations |
//! | `{"sources":[…]}`, or a list of any of these | a workspace |

use serde_json::{Map, Value};

use super::settings::{DEVICE_ONLY, KNOWN};
use super::{Notes, label, member};
use crate::config::SOURCE_TYPES;

type Members = Map<String, Value>;

/// Members of a destination that need no word: they are read elsewhere, or mean nothing here.
const OF_A_DESTINATION: [&str; 29] = [
    "id",
    "ID",
    "name",
    "Name",
    "type",
    "enabled",
    "Enabled",
    "isEnabled",
    "config",
    "Config",
    "destinationDefinition",
    "DestinationDefinition",
    "destinationDefinitionId",
    "updatedAt",
    "createdAt",
    "shouldApplyDeviceModeTransformation",
    "propagateEventsUntransformedOnError",
    "workspaceId",
    "WorkspaceID",
    "deleted",
    "isConnectionEnabled",
    "isProcessorEnabled",
    "IsProcessorEnabled",
    "revisionId",
    "RevisionID",
    "secretConfig",
    "liveEventsConfig",
    "transformations",
    "Transformations",
];

/// A destination in the document, and the source at which it stands.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    destination: Option<&'a Members>,
    config: &'a Members,
    source: Option<&'a Members>,
}

/// The destination that is imported.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// The name that it has in RudderStack.
    pub name: Option<String>,
    /// Its configuration.
    pub config: &'a Members,
    sources: Vec<&'a Members>,
}

/// A source that sends to the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name that it has in RudderStack.
    pub name: Option<String>,
    /// Its type, if it is known.
    pub source_type: Option<String>,
    /// Whether it is switched on.
    pub enabled: bool,
}

/// Chooses the Customer.io destination of a document.
///
/// # Errors
///
/// There is none, or there are several and `wanted` names none of them.
pub fn choose<'a>(
    document: &'a Value,
    wanted: Option<&str>,
    notes: &mut Notes,
) -> Result<Chosen<'a>, String> {
    let mut all = Vec::new();
    search(document, None, &mut all);
    let mut groups: Vec<Vec<Found<'a>>> = Vec::new();
    for found in all.into_iter().filter(Found::is_customerio) {
        let same = |group: &&mut Vec<Found<'a>>| group.iter().any(|f| f.is_same_as(&found));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(found),
            None => groups.push(vec![found]),
        }
    }
    if groups.is_empty() {
        return Err("the document holds no destination of Customer.io".to_owned());
    }
    let listed: Vec<String> = groups.iter().flat_map(|g| g.first()).map(Found::listed).collect();
    let list = format!("choose one with --destination NAME|ID:\n  {}", listed.join("\n  "));
    if let Some(wanted) = wanted {
        groups.retain(|group| group.iter().any(|found| found.is_called(wanted)));
    }
    let mut groups = groups.into_iter();
    match (groups.next(), groups.next()) {
        (Some(group), None) => take(group, notes),
        (None, _) => Err(format!("there is no Customer.io destination of that name or id; {list}")),
        (Some(_), Some(_)) => Err(format!("there are several Customer.io destinations; {list}")),
    }
}

/// Looks for destinations. How deep it goes is bounded by the parser of the document.
fn search<'a>(value: &'a Value, source: Option<&'a Members>, found: &mut Vec<Found<'a>>) {
    let members = match value {
        Value::Array(items) => {
            return items.iter().for_each(|item| search(item, source, found));
        }
        Value::Object(members) => members,
        _ => return,
    };
    let object = |name: &str| members.get(name).filter(|value| value.is_object());
    let list = |name: &str| members.get(name).filter(|value| value.is_array());
    if let Some(inner) = object("source").or_else(|| list("sources")) {
        search(inner, source, found);
    } else if let Some(inner) = object("destination") {
        search(inner, source, found);
    } else if let Some(inner) = list("destinations") {
        let is_source =
            members.contains_key("writeKey") || members.contains_key("sourceDefinition");
        search(inner, if is_source { Some(members) } else { source }, found);
    } else if let Some(config) =
        object("config").or_else(|| object("Config")).and_then(Value::as_object)
    {
        found.push(Found { destination: Some(members), config, source });
    } else {
        found.push(Found { destination: None, config: members, source });
    }
}

impl Found<'_> {
    /// Whether this is a destination of Customer.io: its definition says so, or there is none and
    /// its settings look like it.
    fn is_customerio(&self) -> bool {
        let definition = self
            .member("destinationDefinition")
            .or_else(|| self.member("DestinationDefinition"))
            .and_then(Value::as_object);
        let named = |name: &str| definition.and_then(|d| d.get(name)).and_then(Value::as_str);
        let name = named("name").or_else(|| named("Name"));
        match name.or_else(|| self.text("type")) {
            Some(name) => name.eq_ignore_ascii_case("CUSTOMERIO"),
            None => self.config.keys().any(|key| KNOWN.contains(&key.as_str())),
        }
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.destination?.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    fn id(&self) -> Option<&str> {
        self.text("id").or_else(|| self.text("ID"))
    }

    fn name(&self) -> Option<&str> {
        self.text("name").or_else(|| self.text("Name"))
    }

    fn is_called(&self, wanted: &str) -> bool {
        self.id() == Some(wanted) || self.name() == Some(wanted)
    }

    /// Whether both are one destination, which stands at each source that sends to it.
    fn is_same_as(&self, other: &Self) -> bool {
        self.id().is_some() && self.id() == other.id()
    }

    fn listed(&self) -> String {
        match (self.name(), self.id()) {
            (Some(name), Some(id)) => format!("{} ({})", label(name), label(id)),
            (Some(name), None) | (None, Some(name)) => label(name),
            (None, None) => "one without name and id".to_owned(),
        }
    }
}

fn take<'a>(group: Vec<Found<'a>>, notes: &mut Notes) -> Result<Chosen<'a>, String> {
    let Some(&first) = group.first() else {
        return Err("the document holds no destination of Customer.io".to_owned());
    };
    let on = ["enabled", "Enabled", "isEnabled"].iter().find_map(|name| first.member(name));
    if on == Some(&Value::Bool(false)) {
        notes.add(
            "enabled",
            "the destination is switched off in RudderStack; this configuration sends all the same",
        );
    }
    if group.iter().any(|found| found.config != first.config) {
        notes.add(
            "config",
            "the destination's settings differ by source; those at the first source are taken",
        );
    }
    let scripts = ["transformations", "Transformations"].iter().find_map(|name| first.member(name));
    if scripts.and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        notes.add(
            "transformations",
            "what they do to events must be written into the scripts in vrl/; RudderStack runs them \
             before its own mapping",
        );
    }
    for name in first.destination.into_iter().flat_map(Members::keys) {
        if !OF_A_DESTINATION.contains(&name.as_str()) {
            notes.add(member(name), "not known here, and left out with its value");
        }
    }
    let sources = group.iter().filter_map(|found| found.source).collect();
    Ok(Chosen { name: first.name().map(label), config: first.config, sources })
}

impl Chosen<'_> {
    /// Returns the sources that the document names, with the type that was `asked` for if it does
    /// not say theirs.
    pub fn sources(&self, asked: Option<&str>, notes: &mut Notes) -> Vec<Source> {
        let mut sources: Vec<Source> =
            self.sources.iter().map(|source| read(source, asked)).collect();
        if let Some(asked) = asked {
            let before = sources.len();
            sources.retain(|source| source.source_type.as_deref() == Some(asked));
            if sources.len() < before {
                let means = "those of other types are left out: each type has a process of its own";
                notes.add("sources", means);
            }
        }
        for source in &sources {
            if source.source_type.is_none() {
                let name = source.name.as_deref().unwrap_or("without a name");
                notes.add(
                    format!("source {name}"),
                    "the document does not say its type; web is written: correct source_type if it \
                     is another",
                );
            }
        }
        if self.sources.iter().any(|source| has_plan(source)) {
            notes.add("tracking plan", "events are not checked against it here");
        }
        if sources.is_empty() {
            notes.add(
                "sources",
                "the document names none that count; one with the write key of WRITE_KEY is written",
            );
        }
        sources
    }
}

fn read(source: &Members, asked: Option<&str>) -> Source {
    let definition = source.get("sourceDefinition").and_then(Value::as_object);
    let of = |name: &str| definition.and_then(|d| d.get(name)).and_then(Value::as_str);
    let known = |text: &str| SOURCE_TYPES.into_iter().find(|known| *known == text);
    let javascript = of("name") == Some("Javascript");
    let source_type = of("type").and_then(known).or(javascript.then_some("web")).or(asked);
    Source {
        name: source.get("name").and_then(Value::as_str).map(label),
        source_type: source_type.map(str::to_owned),
        enabled: source.get("enabled") != Some(&Value::Bool(false)),
    }
}

fn has_plan(source: &Members) -> bool {
    ["dgSourceTrackingPlanConfig", "trackingPlan"]
        .iter()
        .filter_map(|name| source.get(*name).and_then(Value::as_object))
        .any(|plan| !plan.is_empty())
}

/// Whether a member of a configuration has a meaning that is known here.
pub fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || DEVICE_ONLY.contains(&name)
}
