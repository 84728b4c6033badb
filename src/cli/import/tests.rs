//! Documents as RudderStack gives them, and the configurations that are made of them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{EventListMode, Mode, Region, Strategy as Combine};
use crate::diagnostic::Diagnostic;

const SOURCE_CONFIG: &str = include_str!("../../../tests/data/gateway/sourceConfig-full.json");

fn source_config() -> Value {
    serde_json::from_str(SOURCE_CONFIG).unwrap()
}

/// Loads what is written, as `run` would.
fn loaded(text: &str) -> (Config, Vec<Diagnostic>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, text).unwrap();
    let full = Config::parse(text, "c.yaml", LoadMode::Full, &|name| Some(format!("v-{name}")));
    Config::load(&path, LoadMode::WithoutSecrets).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    full.unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

fn imported(document: Value) -> (Config, String) {
    let import = import(&document, None, None).unwrap();
    let text = yaml::write(&import);
    (loaded(&text).0, text)
}

/// All settings by source type, as the control plane keeps them.
fn by_source_type() -> Value {
    json!({
        "siteID": "s3cret-site", "apiKey": "s3cret-key", "datacenter": "EU",
        "deviceTokenEventName": "Push Token \"Seen\"",
        "connectionMode": { "web": "cloud", "android": "device", "ios": "device", "cloud": "cloud" },
        "useNativeSDK": { "web": false, "android": true, "ios": true },
        "sendPageNameInSDK": { "web": true }, "dataUseInApp": { "web": false },
        "eventFilteringOption": { "web": "blacklistedEvents" },
        "blacklistedEvents": { "web": [{ "eventName": " Noise " }, { "eventName": "" }] },
        "whitelistedEvents": { "web": [{ "eventName": "" }] },
        "consentManagement": {
            "web": [
                { "provider": "oneTrust", "resolutionStrategy": "", "consents": [{ "consent": "C0002" }, { "consent": "C0004" }] },
                { "provider": "custom", "resolutionStrategy": "or", "consents": [{ "consent": "ads" }, { "consent": "mail" }] },
            ],
            "cloud": [], "android": [],
        },
        "oneTrustCookieCategories": { "web": [{ "oneTrustCookieCategory": "C0002" }, { "oneTrustCookieCategory": "" }] },
        "ketchConsentPurposes": { "web": [{ "purpose": "marketing" }] },
    })
}

#[test]
fn settings_by_source_type_become_a_configuration() {
    let (config, text) = imported(by_source_type());
    let modes = &config.filter.mode;
    assert_eq!(modes.default, Mode::Cloud);
    assert_eq!(
        modes.by_source_type,
        [("android".to_owned(), Mode::Device), ("ios".to_owned(), Mode::Device)]
    );
    assert_eq!(config.filter.events.mode, EventListMode::Deny);
    assert_eq!(config.filter.events.names, ["Noise"]);
    let rules = &config.consent.rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].consents, ["C0002", "C0004"]);
    assert_eq!(rules[0].resolution_strategy, None);
    assert_eq!(rules[1].resolution_strategy, Some(Combine::Or));
    assert_eq!(config.consent.onetrust_categories, ["C0002"]);
    assert_eq!(config.consent.ketch_purposes, ["marketing"]);
    assert_eq!(config.mapping.settings.device_token_event_name, "Push Token \"Seen\"");
    assert_eq!(config.customerio.unwrap().region, Region::Eu);
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        text.contains("# ") && text.contains("RudderStack applies the list in device mode only")
    );
}

#[test]
fn the_flat_form_and_every_wrapping_give_the_same_settings() {
    let flat = json!({
        "siteID": "s", "apiKey": "k", "connectionMode": "device", "useNativeSDK": true,
        "consentManagement": [{ "provider": "ketch", "consents": [{ "consent": "a" }] }],
    });
    let destination = json!({
        "id": "d1", "name": "CIO", "enabled": true, "config": flat,
        "destinationDefinition": { "name": "CUSTOMERIO", "displayName": "Customer IO" },
    });
    let upper = json!({ "ID": "d1", "Name": "CIO", "Config": flat, "DestinationDefinition": { "Name": "CUSTOMERIO" } });
    let api = json!({ "destination": { "id": "d1", "type": "CUSTOMERIO", "name": "CIO", "isEnabled": true, "config": flat } });
    let other = json!({ "id": "d2", "config": { "apiKey": "x" }, "destinationDefinition": { "name": "GA4" } });
    let source = json!({ "id": "s1", "name": "shop", "writeKey": "wk", "destinations": [other, destination],
        "sourceDefinition": { "name": "Javascript", "type": "web" } });
    for document in [
        flat.clone(),
        destination.clone(),
        upper,
        api,
        json!([other, destination]),
        json!({ "destinations": [destination] }),
        json!({ "source": source }),
        json!({ "sources": [source, { "writeKey": "w2", "destinations": [other] }] }),
    ] {
        let (config, text) = imported(document);
        assert_eq!(config.filter.mode.default, Mode::Device, "{text}");
        assert_eq!(config.consent.rules[0].provider, "ketch", "{text}");
        assert!(!text.contains("wk"), "{text}");
    }
}

#[test]
fn of_several_destinations_one_must_be_chosen() {
    let document = source_config();
    let why = import(&document, None, None).unwrap_err();
    for part in ["--destination", "Customer.io cloud (dst_cio_cloud)", "(dst_cio_device)"] {
        assert!(why.contains(part), "{why}");
    }
    let why = import(&document, Some("another"), None).unwrap_err();
    assert!(why.contains("dst_cio_cloud") && !why.contains("another"), "{why}");
    for wanted in ["dst_cio_device", "Customer.io device"] {
        let import = import(&document, Some(wanted), None).unwrap();
        let (config, _) = loaded(&yaml::write(&import));
        assert_eq!(config.filter.mode.default, Mode::Device);
        assert_eq!(config.customerio.unwrap().region, Region::Eu);
        let crate::config::SourceConfig::RudderStack(source) = &config.sources[0] else {
            panic!("no gateway")
        };
        assert_eq!(source.write_keys[0].name, "Web shop");
    }
}

#[test]
fn the_source_config_answer_is_written_with_remarks_and_without_keys() {
    let import = import(&source_config(), Some("dst_cio_device"), None).unwrap();
    insta::assert_snapshot!(yaml::write(&import));
}

#[test]
fn rules_that_differ_by_source_type_are_not_mixed() {
    let rule = |id: &str| json!([{ "provider": "custom", "consents": [{ "consent": id }] }]);
    let document = json!({ "siteID": "s", "consentManagement": { "web": rule("a"), "ios": rule("b"), "cloud": [] } });
    let why = import(&document, None, None).unwrap_err();
    assert!(why.contains("--source-type") && why.contains("web") && why.contains("ios"), "{why}");
    for (chosen, ids) in [("web", vec!["a"]), ("ios", vec!["b"]), ("cloud", vec![])] {
        let import = import(&document, None, Some(chosen)).unwrap();
        let found: Vec<_> =
            import.settings.consent.rules.iter().flat_map(|r| &r.consents).collect();
        assert_eq!(found, ids, "{chosen}");
    }
}

#[test]
fn forms_that_nobody_filled_out_say_nothing() {
    let (config, _) = imported(json!({
        "siteID": "s", "eventFilteringOption": { "web": "blacklistedEvents", "ios": "" },
        "blacklistedEvents": { "web": [{ "eventName": "A" }], "ios": [{ "eventName": "" }] },
        "oneTrustCookieCategories": { "web": [{ "oneTrustCookieCategory": "C1" }], "ios": [{ "oneTrustCookieCategory": "" }] },
        "consentManagement": {
            "web": [{ "provider": "custom", "resolutionStrategy": "or", "consents": [{ "consent": "x" }] }],
            "ios": [{ "provider": "oneTrust", "resolutionStrategy": "", "consents": [{ "consent": "" }] }],
        },
    }));
    assert_eq!(config.filter.events.names, ["A"]);
    assert_eq!(config.consent.onetrust_categories, ["C1"]);
    assert_eq!(config.consent.rules.len(), 1);
}

#[test]
fn only_sources_of_the_chosen_type_are_written() {
    let destination = json!({ "id": "d", "config": { "siteID": "s" } });
    let source = |name: &str, kind: &str| json!({ "name": name, "writeKey": "k", "sourceDefinition": { "type": kind }, "destinations": [destination] });
    let document = json!({ "sources": [source("a", "web"), source("b", "ios")] });
    let import = import(&document, None, Some("ios")).unwrap();
    let names: Vec<_> = import.sources.iter().map(|s| s.name.as_deref()).collect();
    assert_eq!(names, [Some("b")]);
}

#[test]
fn the_type_of_the_documents_sources_chooses_the_rules() {
    let rule = |id: &str| json!([{ "provider": "custom", "consents": [{ "consent": id }] }]);
    let document = json!({ "source": {
        "name": "app", "writeKey": "w", "enabled": false, "sourceDefinition": { "name": "iOS", "type": "ios" },
        "destinations": [{ "config": { "siteID": "s", "consentManagement": { "web": rule("a"), "ios": rule("b") } } }],
    } });
    let (config, text) = imported(document);
    assert_eq!(config.consent.rules[0].consents, ["b"]);
    assert!(text.contains("source_type: ios\n        enabled: false"), "{text}");
}

fn noted(document: Value) -> String {
    let import = import(&document, None, None).unwrap();
    loaded(&yaml::write(&import));
    import.notes.iter().map(|n| format!("{}: {}\n", n.about, n.means)).collect()
}

#[test]
fn what_is_not_carried_over_is_said_and_its_value_is_not() {
    for (document, about) in [
        (json!({ "siteID": "s", "customHeader": "s3cret" }), "customHeader: not known here"),
        (json!({ "siteID": "s", "s3cret": 1 }), "a member whose name is not shown: not known here"),
        (json!({ "config": { "siteID": "s" }, "oauth": "s3cret" }), "oauth: not known here"),
        (json!({ "config": { "siteID": "s" }, "enabled": false }), "switched off"),
        (json!({ "config": { "siteID": "s" }, "transformations": [{ "code": "s3cret" }] }), "vrl/"),
        (json!({ "siteID": "s", "datacenter": "s3cret" }), "datacenter: neither US nor EU"),
        (json!({ "siteID": "s" }), "datacenter: not in the document"),
        (json!({ "siteID": "s", "connectionMode": "s3cret" }), "connectionMode: neither"),
        (
            json!({ "siteID": "s", "connectionMode": { "web": "cloud" }, "useNativeSDK": { "web": true } }),
            "arrive twice",
        ),
        (json!({ "siteID": "s", "deviceTokenEventName": 7 }), "deviceTokenEventName: no name"),
        (
            json!({ "siteID": "s", "deviceTokenEventName": "${env:s3cret}" }),
            "deviceTokenEventName: no name",
        ),
        (
            json!({ "siteID": "s", "eventFilteringOption": "whitelistedEvents" }),
            "whitelistedEvents: it names no event",
        ),
        (
            json!({ "siteID": "s", "eventFilteringOption": "s3cret" }),
            "eventFilteringOption: not known",
        ),
        (
            json!({ "siteID": "s", "consentManagement": [{ "provider": "a", "consents": [{ "consent": "x" }] }, 7] }),
            "0 of its 1 rules",
        ),
        (
            json!({ "siteID": "s", "consentManagement": [{ "provider": "custom", "resolutionStrategy": "any", "consents": [{ "consent": "x" }] }] }),
            "counts as and",
        ),
        (
            json!({ "siteID": "s", "consentManagement": [{ "provider": "custom", "consents": [{ "consent": " x " }] }] }),
            "blanks at the ends",
        ),
        (
            json!({ "siteID": "s", "oneTrustCookieCategories": [{ "oneTrustCookieCategory": "${s3cret}" }] }),
            "IS SENT",
        ),
        (
            json!({ "siteID": "s", "ketchConsentPurposes": "s3cret" }),
            "ketchConsentPurposes: no list",
        ),
    ] {
        let notes = noted(document.clone());
        assert!(notes.contains(about), "{document}: {notes}");
        assert!(!notes.contains("s3cret"), "{notes}");
    }
}

#[test]
fn a_browser_is_told_the_same_strategy_as_before() {
    let mut document = source_config();
    document["consentManagementMetadata"]["providers"][0]["resolutionStrategy"] = json!("or");
    let import = import(&document, Some("dst_cio_cloud"), None).unwrap();
    let rule = import.settings.consent.rules.iter().find(|r| r.provider == "oneTrust").unwrap();
    assert_eq!(rule.resolution_strategy, Some(Combine::Or));
    loaded(&yaml::write(&import));
}

#[test]
fn several_sources_have_a_variable_each() {
    let destination = json!({ "id": "d", "config": { "siteID": "s" } });
    let (config, text) = imported(json!({ "sources": [
        { "name": "a", "writeKey": "k1", "destinations": [destination] },
        { "name": "b\nc", "writeKey": "k2", "destinations": [destination] },
    ] }));
    assert!(text.contains("${env:WRITE_KEY_1}") && text.contains("${env:WRITE_KEY_2}"), "{text}");
    let crate::config::SourceConfig::RudderStack(source) = &config.sources[0] else {
        panic!("no gateway")
    };
    assert_eq!(source.write_keys[1].name, "b?c");
}

#[test]
fn what_holds_no_destination_is_refused() {
    for document in [
        json!(7),
        json!([]),
        json!({}),
        json!({ "a": 1 }),
        json!({ "source": { "destinations": [] } }),
    ] {
        let why = import(&document, None, None).unwrap_err();
        assert!(why.contains("no destination of Customer.io"), "{document}: {why}");
    }
    assert_eq!(
        parse(b"{\"apiKey\": s3cret}").unwrap_err(),
        "the document is no JSON: line 1, column 12"
    );
}

#[test]
fn a_file_comes_with_its_folder_and_is_overwritten_by_force_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config/c.yaml");
    save(&path, "first and long", false).unwrap();
    let why = save(&path, "second", false).unwrap_err();
    assert!(why.contains("--force"), "{why}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first and long");
    save(&path, "second", true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "cloud",
            "device",
            "whitelistedEvents",
            "blacklistedEvents",
            "or",
            "and",
            "CUSTOMERIO",
            "custom",
            "oneTrust",
            "${env:X}",
            " C1 ",
            "",
            "\u{2028}#",
            "a: b",
            "- x",
            "\u{0}",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name = prop_oneof![
            6 => prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
            1 => ".{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

const KEYS: [&str; 38] = [
    "siteID",
    "apiKey",
    "datacenter",
    "deviceTokenEventName",
    "connectionMode",
    "useNativeSDK",
    "useNativeSDKToSend",
    "eventFilteringOption",
    "whitelistedEvents",
    "blacklistedEvents",
    "consentManagement",
    "oneTrustCookieCategories",
    "ketchConsentPurposes",
    "eventName",
    "provider",
    "consents",
    "consent",
    "resolutionStrategy",
    "oneTrustCookieCategory",
    "purpose",
    "web",
    "ios",
    "cloud",
    "config",
    "Config",
    "destination",
    "destinations",
    "source",
    "sources",
    "writeKey",
    "sourceDefinition",
    "destinationDefinition",
    "name",
    "id",
    "type",
    "enabled",
    "consentManagementMetadata",
    "providers",
];

const SECRET: &str = "zq9-the-secret-zq9";

/// Puts a secret where secrets are, everywhere in a document.
fn with_secrets(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(with_secrets),
        Value::Object(members) => {
            members.values_mut().for_each(with_secrets);
            for name in ["siteID", "apiKey", "writeKey", "someToken", "secretConfig"] {
                members.insert(name.to_owned(), json!(SECRET));
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_gives_a_valid_configuration_or_an_error_and_never_a_secret(
        mut document in any_json(), chosen in prop::option::of(prop::sample::select(SOURCE_TYPES.to_vec())),
    ) {
        with_secrets(&mut document);
        match import(&document, None, chosen) {
            Ok(import) => {
                let text = yaml::write(&import);
                prop_assert!(!text.contains(SECRET), "{}", text);
                prop_assert!(check(&text).is_ok(), "{:?}\n{}", check(&text), text);
            }
            Err(why) => prop_assert!(!why.contains(SECRET), "{}", why),
        }
    }
}
