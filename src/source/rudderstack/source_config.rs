//! `/sourceConfig`: what a RudderStack browser SDK asks for before it sends anything.
//!
//! RudderStack's control plane serves this; the gateway does too, so that a browser SDK runs with
//! it alone. It is public, and made of the connection mode and the consent rules only: neither
//! site id nor API key of Customer.io can be in it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value, json};

use crate::config::{ConsentConfig, ConsentRule, FilterConfig, Mode, Strategy};
use crate::filter::mode::Modes;
use crate::source::Origin;

/// The part of the configuration that everybody may see. Clones show the same, also after a reload.
#[derive(Clone, Debug)]
pub struct SourceConfigView {
    public: Arc<ArcSwap<Public>>,
}

#[derive(Debug)]
struct Public {
    modes: Modes,
    rules: Vec<ConsentRule>,
    onetrust_categories: Vec<String>,
    ketch_purposes: Vec<String>,
}

impl SourceConfigView {
    /// Takes what is public of the filter and of the consent rules.
    #[must_use]
    pub fn new(filter: &FilterConfig, consent: &ConsentConfig) -> Self {
        Self { public: Arc::new(ArcSwap::from_pointee(Public::new(filter, consent))) }
    }

    /// Shows others from now on, for every clone.
    pub fn replace(&self, filter: &FilterConfig, consent: &ConsentConfig) {
        self.public.store(Arc::new(Public::new(filter, consent)));
    }

    /// Returns the answer for one source.
    #[must_use]
    pub fn json(&self, origin: &Origin, write_key: &str, enabled: bool) -> Vec<u8> {
        self.public.load().json(origin, write_key, enabled)
    }
}

impl Public {
    fn new(filter: &FilterConfig, consent: &ConsentConfig) -> Self {
        Self {
            modes: Modes::new(&filter.mode),
            rules: consent.rules.clone(),
            onetrust_categories: consent.onetrust_categories.clone(),
            ketch_purposes: consent.ketch_purposes.clone(),
        }
    }

    fn json(&self, origin: &Origin, write_key: &str, enabled: bool) -> Vec<u8> {
        let name = &*origin.source;
        let answer = json!({
            "source": {
                "id": name,
                "name": name,
                "workspaceId": "rudder-customerio",
                "writeKey": write_key,
                "enabled": enabled,
                "config": { "statsCollection": {
                    "errors": { "enabled": false },
                    "metrics": { "enabled": false },
                } },
                "destinations": [ {
                    "id": "customerio",
                    "name": "Customer.io",
                    "enabled": true,
                    "shouldApplyDeviceModeTransformation": false,
                    "propagateEventsUntransformedOnError": false,
                    "destinationDefinition": { "name": "CUSTOMERIO", "displayName": "Customer IO" },
                    "config": self.destination(&origin.source_type),
                } ],
            },
            "consentManagementMetadata": { "providers": [
                { "provider": "oneTrust", "resolutionStrategy": self.strategy("oneTrust", "and") },
                { "provider": "ketch", "resolutionStrategy": self.strategy("ketch", "or") },
            ] },
        });
        answer.to_string().into_bytes()
    }

    fn destination(&self, source_type: &str) -> Value {
        let device = self.modes.of(source_type) == Mode::Device;
        let mut config = Map::new();
        config.insert("connectionMode".into(), json!(if device { "device" } else { "cloud" }));
        config.insert("useNativeSDK".into(), json!(device));
        // Even an empty list would hide the older ones from the SDK.
        if !self.rules.is_empty() {
            config.insert("consentManagement".into(), self.rules.iter().map(rule).collect());
        }
        let mut older = |name: &str, item: &str, ids: &[String]| {
            if !ids.is_empty() {
                config.insert(name.into(), ids.iter().map(|id| json!({ item: id })).collect());
            }
        };
        older("oneTrustCookieCategories", "oneTrustCookieCategory", &self.onetrust_categories);
        older("ketchConsentPurposes", "purpose", &self.ketch_purposes);
        Value::Object(config)
    }

    fn strategy(&self, provider: &str, otherwise: &'static str) -> &'static str {
        let mut rules = self.rules.iter();
        rules
            .find(|rule| rule.provider == provider)
            .and_then(|rule| rule.resolution_strategy)
            .map_or(otherwise, strategy_text)
    }
}

fn rule(rule: &ConsentRule) -> Value {
    let consents = rule.consents.iter().map(|id| json!({ "consent": id }));
    let mut out = json!({ "provider": rule.provider, "consents": consents.collect::<Value>() });
    if let Some(strategy) = rule.resolution_strategy {
        out["resolutionStrategy"] = json!(strategy_text(strategy));
    }
    out
}

fn strategy_text(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::And => "and",
        Strategy::Or => "or",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{DecideBy, EventListConfig, EventListMode, ModeConfig, Unknown};

    pub(in crate::source::rudderstack) fn view() -> SourceConfigView {
        let filter = FilterConfig {
            mode: ModeConfig {
                default: Mode::Cloud,
                by_source_type: vec![("android".into(), Mode::Device)],
            },
            integration_names: vec![],
            events: EventListConfig { mode: EventListMode::Deny, names: vec!["hidden".into()] },
        };
        let rule = |provider: &str, consent: &str, resolution_strategy| ConsentRule {
            provider: provider.into(),
            consents: vec![consent.into()],
            resolution_strategy,
        };
        let consent = ConsentConfig {
            rules: vec![
                rule("custom", "marketing", Some(Strategy::And)),
                rule("oneTrust", "C0004", None),
            ],
            onetrust_categories: vec!["C0002".into()],
            ketch_purposes: vec![],
            unknown: Unknown::Deliver,
            decide_by: DecideBy::Denied,
        };
        SourceConfigView::new(&filter, &consent)
    }

    fn shown(source_type: &str, enabled: bool) -> Value {
        let origin = Origin { source: "shop".into(), source_type: source_type.into() };
        serde_json::from_slice(&view().json(&origin, "KEY", enabled)).unwrap()
    }

    #[test]
    fn the_shape_is_the_one_of_the_control_plane() {
        let full: Value = serde_json::from_str(include_str!(
            "../../../tests/data/gateway/sourceConfig-full.json"
        ))
        .unwrap();
        let ours = shown("web", true);
        let theirs = &full["source"]["destinations"][0];
        let destination = &ours["source"]["destinations"][0];
        for name in ["destinationDefinition", "config"] {
            assert!(destination[name].is_object());
        }
        for (name, value) in theirs["config"].as_object().unwrap() {
            assert_eq!(&destination["config"][name], value, "{name}");
        }
        for name in theirs.as_object().unwrap().keys().filter(|name| *name != "updatedAt") {
            assert!(destination.get(name).is_some(), "{name}");
        }
        assert_eq!(ours["source"]["config"], full["source"]["config"]);
        assert_eq!(ours["consentManagementMetadata"], full["consentManagementMetadata"]);
        assert_eq!(
            destination["config"]["oneTrustCookieCategories"],
            json!([{ "oneTrustCookieCategory": "C0002" }])
        );
        assert_eq!(ours["source"]["writeKey"], "KEY");
    }

    #[test]
    fn the_mode_is_the_one_of_the_source_type() {
        let config = |kind| shown(kind, true)["source"]["destinations"][0]["config"].clone();
        assert_eq!(config("web")["connectionMode"], "cloud");
        assert_eq!(config("android")["connectionMode"], "device");
        assert_eq!(shown("web", false)["source"]["enabled"], false);
    }

    #[test]
    fn every_clone_follows_a_reload() {
        let (first, origin) = (view(), Origin { source: "s".into(), source_type: "web".into() });
        let clone = first.clone();
        let config = crate::config::Config::default();
        first.replace(&config.filter, &config.consent);
        let shown: Value = serde_json::from_slice(&clone.json(&origin, "KEY", true)).unwrap();
        let destination = &shown["source"]["destinations"][0]["config"];
        assert_eq!(destination, &json!({ "connectionMode": "cloud", "useNativeSDK": false }));
    }

    #[test]
    fn nothing_but_modes_and_consent_is_shown() {
        let text = shown("web", true).to_string();
        assert!(!text.contains("hidden") && !text.contains("apiKey") && !text.contains("siteID"));
    }
}
