use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::diagnostic::{Diagnostic, Severity};
use crate::event::decode::decode;
use crate::event::{Need, Plan, TypeIndex};
use crate::operation::grammar::check_root;
use crate::outcome::{Reason, ReasonCode};

/// Scripts of one type, `track`, from files joined in order.
fn scripts(files: &[(&str, &str)]) -> Mappings {
    Mappings {
        list: vec![("track".to_owned(), files.iter().map(|(n, _)| (*n).to_owned()).collect())],
        list_text: String::new(),
        files: files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        tests: Vec::new(),
        dir: None,
    }
}

fn load(text: &str) -> Result<Arc<Mapping>, Vec<Diagnostic>> {
    Mapping::load(&scripts(&[("track.vrl", text)]), &Settings::default()).map(Arc::new)
}

fn refused(text: &str) -> Diagnostic {
    load(text).unwrap_err().remove(0)
}

fn shown(files: &[(&str, &str)]) -> String {
    let faults = Mapping::load(&scripts(files), &Settings::default()).unwrap_err();
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

fn run_on(mapper: &mut Mapper, event: &Json, plan: &Plan) -> Mapped {
    let event = decode(&Bytes::from(event.to_string()), plan).unwrap();
    mapper.map(event.index.unwrap(), event.body)
}

fn run(text: &str, event: &Json) -> Mapped {
    let mapping = load(text).unwrap_or_else(|faults| panic!("{}", faults[0]));
    run_on(&mut mapping.worker(), event, &Plan::everything(&["track"]))
}

/// The script behind a body that makes `.` an operation.
fn body(text: &str) -> String {
    format!("{text}\n. = {{ \"type\": \"person\", \"action\": \"event\" }}")
}

fn failed(mapped: Mapped) -> (ReasonCode, String) {
    match mapped {
        Mapped::Failed(reason) => (reason.code, reason.detail.unwrap_or_default().into()),
        other => panic!("{other:?}"),
    }
}

// --- What is refused at load ---

#[test]
fn sources_that_would_overflow_the_stack_or_never_compile_are_refused_at_once() {
    let nested =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for killer in [
        format!("x = {}", nested("(", ")", 1000)),
        format!("x = {}", nested("[", "]", 500)),
        nested("if true { ", " }", 1000),
        format!("x = {}true", "!".repeat(2000)),
        format!("x = 1{}", " + 1".repeat(400)),
        format!("x = true{}", " && true".repeat(2000)),
        format!("x = \"{}\"", "{{ y }}".repeat(500)),
        format!("x = {}", nested("to_string(", ")", 200)),
    ] {
        assert_eq!(refused(&killer).code, "script_too_deep", "{}", killer.get(..40).unwrap());
    }
}

#[test]
fn what_the_guard_lets_pass_compiles_and_runs() {
    let nested =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for text in [
        format!("x = {}\n.n = x", nested("(", ")", 100)),
        format!(".n = {}", nested("[", "]", 100)),
        format!(".n = 1{}", " + 1".repeat(99)),
        format!(".n = {}true", "!".repeat(99)),
        format!("if true {{ {} }}", nested("if .a == 1 { .n = ", " }", 30)),
    ] {
        let mapped = run(&text, &json!({ "type": "track", "a": 1 }));
        assert!(matches!(mapped, Mapped::Root(_)), "{text}: {mapped:?}");
    }
}

#[test]
fn a_refused_function_is_told_with_the_reason() {
    let fault = refused(&body("x = now()\n.x = x"));
    assert_eq!(fault.code, "E105");
    assert_eq!(
        fault.message,
        "`now` is not available: a mapping must give the same result when it is repeated"
    );
    assert_eq!(fault.help, None);
    for call in ["get_env_var!(\"HOME\")", "unnest!(.a)", "get_secret(\"a\")", "range(1, 2)"] {
        let fault = refused(&body(&format!("x = {call}\n.x = x")));
        assert!(fault.message.contains("is not available"), "{call}: {fault}");
    }
    let unknown = refused(&body("x = downcas(\"A\")\n.x = x"));
    assert!(unknown.help.unwrap().contains("downcase"), "a misspelt name gets a suggestion");
}

#[test]
fn metadata_is_read_only() {
    assert_eq!(refused(&body("%customerio.record_object = \"x\"")).code, "E315");
    assert_eq!(refused(&body("x = del(%customerio)\n.x = x")).code, "E610");
}

#[test]
fn diagnostics_name_file_and_line_across_joined_files() {
    let first = "x = 1\nname = \"é\"\n";
    insta::assert_snapshot!(
        "unhandled_error",
        shown(&[
            ("a.vrl", first),
            ("b.vrl", "\n. = { \"n\": downcase(.event), \"x\": x, \"y\": name }\n")
        ])
    );
    insta::assert_snapshot!(
        "syntax_error",
        shown(&[("a.vrl", first), ("b.vrl", ".a = (1 + \n.b = }\n"), ("c.vrl", ". = {}")])
    );
    insta::assert_snapshot!("unfinished", shown(&[("a.vrl", "x = 1\n. = { \"a\": x,\n")]));
    insta::assert_snapshot!(
        "type_error",
        shown(&[
            ("a.vrl", "x = \"é\" # ü\n"),
            ("b.vrl", "y = 1; z = \"ß\" == upcase(5); .z = [x, y, z]\n")
        ])
    );
    insta::assert_snapshot!("misspelt", shown(&[("a.vrl", ". = { \"type\": downcas(\"A\") }")]));
}

#[test]
fn a_script_that_ends_within_an_assignment_is_refused() {
    // The `null` that follows for running must not complete it.
    let fault = refused(". =");
    assert_eq!((fault.code.as_str(), fault.place.unwrap().line), ("E204", 1));
}

#[test]
fn a_needless_abort_mark_is_a_warning_with_its_place() {
    let mapping = load(&body("x = downcase!(\"A\")\nassert!(x == \"a\")")).unwrap();
    let warning = mapping.warnings().iter().find(|w| w.code == "E620").unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    let place = warning.place.as_ref().unwrap();
    assert_eq!((place.file.as_str(), place.line), ("track.vrl", 1));
}

#[test]
fn a_fault_in_a_shared_file_is_told_once() {
    let mut scripts = scripts(&[("a.vrl", "x = downcase(.a)")]);
    scripts.list.push(("page".to_owned(), vec!["a.vrl".to_owned()]));
    assert_eq!(Mapping::load(&scripts, &Settings::default()).unwrap_err().len(), 1);
}

#[test]
fn results_that_can_never_be_operations_are_refused_at_load() {
    for (text, said) in [
        (". = \"text\"", "always string"),
        (". = null", "always null"),
        (". = { \"action\": \"event\" }", "never has `type`"),
        (". = { \"type\": 1, \"action\": \"event\" }", "`type` of `.` is always integer"),
        (". = [{ \"type\": \"person\", \"action\": \"event\" }, 5]", "element 1"),
    ] {
        let fault = refused(text);
        assert_eq!(fault.code, "invalid_result", "{text}");
        assert!(fault.message.contains(said), "{text}: {}", fault.message);
    }
    for text in [
        ". = []",
        "abort \"never\"",
        "kind = .kind\n. = {}\n.type = kind\n.action = \"x\"",
        "if .a == 1 { . = \"x\" }",
        ".type = \"person\"",
        "x = {}\n. = x | { \"type\": \"person\", \"action\": string(.a) ?? \"\" }",
    ] {
        assert!(load(text).is_ok(), "{text}");
    }
}

// --- Running ---

#[test]
fn settings_are_seen_as_metadata() {
    let text =
        ". = { \"type\": %customerio.record_object, \"action\": \"x\", \"n\": %customerio.none }";
    let Mapped::Root(root) = run(text, &json!({ "type": "track" })) else { panic!() };
    let expected = json!({ "type": "person", "action": "x", "n": null });
    assert_eq!(serde_json::to_value(&root).unwrap(), expected);
}

#[test]
fn nested_closures_end_at_the_budget_and_the_next_event_runs() {
    let text = body(
        "n = 0\nfor_each(array!(.a)) -> |_i, _x| {\n  for_each(array!(.a)) -> |_j, _y| { n = n + 1 }\n}\nif n < 0 { abort }",
    );
    let mapping = load(&text).unwrap();
    let mut mapper = mapping.worker();
    let large = json!({ "type": "track", "a": vec![1; 2000] });
    let (code, detail) = failed(run_on(&mut mapper, &large, mapping.plan()));
    assert_eq!(code, ReasonCode::ScriptBudget);
    assert!(detail.contains("track.vrl"), "{detail}");
    let small = json!({ "type": "track", "a": [1, 2] });
    assert!(matches!(run_on(&mut mapper, &small, mapping.plan()), Mapped::Root(_)));
}

#[test]
fn few_steps_that_take_too_long_end_as_well_and_the_next_event_runs() {
    let text = body(
        "x = \"\"\nfor_each(array!(.a)) -> |_i, _x| {\n  for_each(array!(.a)) -> |_j, _y| { x = sha2(string!(.s)) }\n}\nif x == \"no\" { abort }",
    );
    let mapping = load(&text).unwrap();
    let mut mapper = mapping.worker();
    // 10,000 rounds of a few steps: far from the budget, were each of them not so large.
    let large = json!({ "type": "track", "a": vec![1; 100], "s": "x".repeat(1 << 20) });
    let (code, detail) = failed(run_on(&mut mapper, &large, mapping.plan()));
    assert_eq!(code, ReasonCode::ScriptBudget, "{detail}");
    let small = json!({ "type": "track", "a": [1, 2], "s": "x" });
    assert!(matches!(run_on(&mut mapper, &small, mapping.plan()), Mapped::Root(_)));
}

#[test]
fn the_budget_cannot_be_caught() {
    let text = body(
        "n, err = for_each(array!(.a)) -> |_i, _x| {\n  for_each(array!(.a)) -> |_j, _y| { to_int!(\"1\") }\n}\nif n == err { abort }",
    );
    match load(&text) {
        Ok(_) => {
            let large = json!({ "type": "track", "a": vec![1; 2000] });
            assert_eq!(failed(run(&text, &large)).0, ReasonCode::ScriptBudget);
        }
        Err(faults) => assert!(faults[0].code.starts_with('E'), "{}", faults[0]),
    }
}

#[test]
fn abort_drops_with_the_scripts_text() {
    let Mapped::Dropped(reason) = run("abort \"not wanted\"", &json!({ "type": "track" })) else {
        panic!()
    };
    assert_eq!(reason, Reason::new(ReasonCode::ScriptAbort, "not wanted"));
}

#[test]
fn an_assertion_fails_with_the_scripts_text_alone() {
    let text = body("assert!(.a == 1, message: \"a must be 1\")");
    let failed = failed(run(&text, &json!({ "type": "track", "a": 2 })));
    assert_eq!(failed, (ReasonCode::ScriptError, "a must be 1".to_owned()));
}

#[test]
fn an_error_names_file_and_line_and_no_value_of_the_event() {
    let files = [
        ("a.vrl", "x = .a\n"),
        ("b.vrl", "\n  y = to_int!(x)\n. = { \"type\": \"a\", \"action\": \"b\", \"y\": y }"),
    ];
    let mapping = Arc::new(Mapping::load(&scripts(&files), &Settings::default()).unwrap());
    let event = json!({ "type": "track", "a": "s3cret" });
    let (code, detail) = failed(run_on(&mut mapping.worker(), &event, mapping.plan()));
    assert_eq!(code, ReasonCode::ScriptError);
    assert!(detail.starts_with("b.vrl:2:7: to_int: "), "{detail}");
    assert!(!detail.contains("s3cret"), "{detail}");
}

// The overflow is one only where it is checked.
#[cfg(debug_assertions)]
#[test]
fn a_panic_inside_of_vrl_fails_the_event_and_the_next_one_runs() {
    let mapping = load(&body("x = format_int!(int!(.n), 2)\nif x == \"\" { abort }")).unwrap();
    let mut mapper = mapping.worker();
    let event = |n: i64| json!({ "type": "track", "n": n });
    let (code, detail) = failed(run_on(&mut mapper, &event(i64::MIN), mapping.plan()));
    assert_eq!((code, detail.as_str()), (ReasonCode::ScriptPanic, "track.vrl: VRL panicked"));
    assert!(matches!(run_on(&mut mapper, &event(5), mapping.plan()), Mapped::Root(_)));
}

#[test]
fn variables_do_not_outlive_their_event() {
    let mapping = load(&body("if .a == 1 { x = 1 }\ny = .a\nif y == 3 { abort }")).unwrap();
    let mut mapper = mapping.worker();
    for a in [1, 2] {
        let event = json!({ "type": "track", "a": a });
        assert!(matches!(run_on(&mut mapper, &event, mapping.plan()), Mapped::Root(_)));
    }
    fn is_send<T: Send>(_: &T) {}
    is_send(&mapper);
}

// --- Pruning ---

fn why_all(text: &str) -> Option<&'static str> {
    load(text).unwrap_or_else(|faults| panic!("{text}: {}", faults[0])).types[0].proof.why_all
}

const OPEN: &[&str] = &[
    "if .x == 1 { . = { \"type\": \"a\", \"action\": \"b\" } }",
    ".a = 1",
    ". |= { \"a\": 1 }",
    ". = del(.p)",
    ". = object!(.p)",
    ". = { \"type\": \"a\", \"action\": \"b\" } | object!(.p)",
    "x = . \n. = { \"type\": \"a\", \"action\": \"b\", \"x\": x }",
    "x = get!(., [\"p\"])\n. = { \"type\": \"a\", \"action\": \"b\", \"x\": x }",
    "x = encode_json(.)\n. = { \"type\": \"a\", \"action\": \"b\", \"x\": x }",
    "if .x == 1 { return 1 }\n. = { \"type\": \"a\", \"action\": \"b\" }",
    "for_each(array!(.p)) -> |_i, _x| { . = { \"type\": \"a\", \"action\": \"b\" } }",
    "x = .x == 1 && { . = { \"type\": \"a\", \"action\": \"b\" }; true }\nif x { .y = 1 }",
    "x = .x == 1 || { . = { \"type\": \"a\", \"action\": \"b\" }; true }\nif x { .y = 1 }",
    "x = to_int(to_string(.x) ?? .x) ?? { . = { \"type\": \"a\", \"action\": \"b\" }; 1 }\nif x == 1 { .y = 1 }",
    "., err = parse_json(.j)\nif err != null { .e = true }",
    "., err = merge(.p, {})\nif err != null { .e = true }",
    "if .x == 1 { . = {} } else if .x == 2 { . = {} }",
    "x = map_values(object!(.p)) -> |v| { . = {}; v }\n.x = x",
    "x = filter(array!(.p)) -> |_i, _v| { . = {}; true }\n.x = x",
    ". = [del(.p)]",
    ". = array!(.p)",
];

const CLOSED: &[&str] = &[
    // In a closure `return` is an error.
    "for_each(array!(.p)) -> |_i, _x| { return 1 }\n. = { \"type\": \"a\", \"action\": \"b\" }",
    ". = { \"type\": \"a\", \"action\": \"b\", \"x\": .x }",
    "if .x == 1 { . = { \"type\": \"a\", \"action\": \"b\" } } else { . = [] }",
    ". = [{ \"type\": \"a\", \"action\": \"b\" }, { \"type\": \"c\", \"action\": del(.p) }]",
    "x = .x\n. = { \"type\": \"a\", \"action\": \"b\" }\n.x = x",
    "if .x == 1 { abort }\n. = { \"type\": \"a\", \"action\": \"b\", \"p\": .p.q.r }",
];

#[test]
fn an_event_is_pruned_only_if_every_way_replaces_it() {
    for text in CLOSED {
        assert_eq!(why_all(text), None, "{text}");
    }
    for text in OPEN {
        // `. = [del(.p)]` holds nothing but what was read.
        if *text != ". = [del(.p)]" {
            assert!(why_all(text).is_some(), "{text}");
        }
    }
}

#[test]
fn pruned_and_whole_runs_agree_for_tricky_scripts() {
    let members = |x: Json, p: Json| json!({ "type": "track", "x": x, "p": p, "j": "[1]", "junk": { "a": 1 }, "q": [1] });
    let events = [
        members(json!(1), json!([{ "a": 1 }, 2])),
        members(json!(2), json!({ "q": { "r": 1 }, "s": 2 })),
        members(json!("n"), json!([])),
        members(json!(null), json!(7)),
    ];
    for text in OPEN.iter().chain(CLOSED) {
        let mapping = load(text).unwrap();
        let mut mapper = mapping.worker();
        for event in &events {
            let whole = run_on(&mut mapper, event, &Plan::everything(&["track"]));
            let pruned = run_on(&mut mapper, event, mapping.plan());
            assert_eq!(format!("{whole:?}"), format!("{pruned:?}"), "{text}\n{event}");
        }
    }
}

#[test]
fn only_read_members_are_needed_and_an_index_ends_the_path() {
    let mapping = load(
        ". = { \"type\": .context.ids[0].id, \"action\": .context.a.b, \"d\": del(.traits), \"e\": exists(.context.a.c) }",
    )
    .unwrap();
    let need = mapping.plan().need(TypeIndex(0));
    let context = need.member("context").unwrap();
    assert_eq!(context.member("ids"), Some(&Need::All));
    assert_eq!(context.member("a").unwrap().member("b"), Some(&Need::All));
    assert_eq!(context.member("a").unwrap().member("c"), Some(&Need::All));
    assert_eq!(context.member("a").unwrap().member("d"), None);
    assert_eq!(need.member("traits"), Some(&Need::All));
    assert_eq!(need.member("properties"), None);
}

#[test]
fn a_script_that_is_not_pruned_is_remarked() {
    let notes = load(".type = \"person\"").unwrap().notes();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("track.vrl") && notes[0].contains(". = …"), "{}", notes[0]);
}

// --- The built-in scripts ---

static BUILT_IN: LazyLock<Arc<Mapping>> =
    LazyLock::new(|| Arc::new(Mapping::load(&Mappings::built_in(), &Settings::default()).unwrap()));

#[test]
fn the_built_in_scripts_compile_without_a_warning_and_are_all_pruned() {
    assert_eq!(BUILT_IN.warnings(), []);
    assert_eq!(BUILT_IN.notes(), Vec::<String>::new());
    assert_eq!(BUILT_IN.hash().len(), 16);
    assert_eq!(BUILT_IN.file(BUILT_IN.plan().find("TRACK").unwrap()), "track.vrl");
}

#[test]
fn the_built_in_scripts_pass_their_tests() {
    let report = run_suite(&Mappings::built_in(), &Settings::default(), &[], &check_root);
    assert_eq!(report.failed, []);
    assert_eq!(report.diagnostics, []);
    assert!(report.passed > 100, "{}", report.passed);
}

#[test]
fn every_file_of_the_folder_is_built_in() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("vrl");
    let mut scripts = Mappings::built_in();
    let names = |dir: &Path| {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".vrl") || name.ends_with(".yaml"))
            .collect();
        names.sort();
        names
    };
    let mut built_in: Vec<_> = scripts.files.iter().map(|(name, _)| name.clone()).collect();
    built_in.push("mapping.yaml".to_owned());
    built_in.sort();
    assert_eq!(built_in, names(&dir));
    assert_eq!(scripts.tests.len(), names(&dir.join("tests")).len());
    // Read from the folder they are the same.
    scripts.dir = Some(dir.clone());
    assert_eq!(Mappings::read(&dir).unwrap(), scripts);
}

#[test]
fn the_hash_changes_with_scripts_and_list_but_not_with_tests() {
    let hash = |change: fn(&mut Mappings)| {
        let mut scripts = scripts(&[("a.vrl", ". = []"), ("b.vrl", "")]);
        change(&mut scripts);
        Mapping::load(&scripts, &Settings::default()).unwrap().hash().to_owned()
    };
    let plain = hash(|_| {});
    assert_eq!(plain, hash(|s| s.tests.push(("t".to_owned(), String::new()))));
    assert_ne!(plain, hash(|s| s.files[1].1.push(' ')));
    assert_ne!(plain, hash(|s| s.list[0].1.truncate(1)));
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-5_i64..2_000_000_000_000).prop_map(Json::from),
        (-1.0..1e12).prop_map(|n: f64| Json::from(n)),
        Just(json!("")),
        Just(json!("2024-03-01T12:34:56.789Z")),
        Just(json!("ada@example.org")),
        Just(json!("person")),
        "[a-zA-Zé. ]{0,12}".prop_map(Json::from),
    ]
}

/// A member that scripts look for, of any kind.
fn tree() -> impl Strategy<Value = Json> {
    const KEYS: &[&str] = &[
        "id",
        "email",
        "userId",
        "traits",
        "name",
        "address",
        "device",
        "token",
        "type",
        "key",
        "createdAt",
        "user_properties",
        "objectTypeId",
        "groupId",
        "action",
        "externalId",
        "page",
        "url",
        "event",
        "app",
        "identifiers",
        "0",
        "a.b",
        "mappedToDestination",
    ];
    scalar().prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map(prop::sample::select(KEYS), inner, 0..6).prop_map(|m| {
                Json::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

fn event() -> impl Strategy<Value = Json> {
    const TYPES: &[&str] = &["identify", "track", "page", "screen", "group", "alias", "record"];
    const KEYS: &[&str] = &[
        "userId",
        "anonymousId",
        "event",
        "name",
        "properties",
        "traits",
        "context",
        "timestamp",
        "originalTimestamp",
        "groupId",
        "previousId",
        "user_properties",
        "integrations",
        "fields",
        "identifiers",
        "action",
        "junk",
        "messageId",
        "category",
    ];
    let members = prop::collection::btree_map(prop::sample::select(KEYS), tree(), 0..10);
    (prop::sample::select(TYPES), members).prop_map(|(name, members)| {
        let mut event: serde_json::Map<_, _> =
            members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        event.insert("type".to_owned(), json!(name));
        Json::Object(event)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn pruned_and_whole_runs_of_the_built_in_scripts_agree(events in prop::collection::vec(event(), 150)) {
        let mut mapper = BUILT_IN.worker();
        let types: Vec<&str> = BUILT_IN.plan().types().map(|(name, _)| name).collect();
        let everything = Plan::everything(&types);
        for event in events {
            let whole = run_on(&mut mapper, &event, &everything);
            let pruned = run_on(&mut mapper, &event, BUILT_IN.plan());
            prop_assert_eq!(format!("{:?}", whole), format!("{:?}", pruned), "{}", event);
            let code = match &whole {
                Mapped::Failed(reason) => Some(reason.code),
                _ => None,
            };
            prop_assert!(
                !matches!(code, Some(ReasonCode::ScriptPanic | ReasonCode::ScriptBudget)),
                "{}", event
            );
        }
    }
}

// --- The border ---

#[test]
fn the_compiler_is_named_only_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let own = root.join("mapping");
    let mut folders = vec![root];
    let mut named: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let outside = !path.starts_with(&own) && path != own.with_extension("rs");
                if outside && (text.contains("vrl::compiler") || text.contains("vrl::stdlib")) {
                    named.push(path);
                }
            }
        }
    }
    assert!(named.is_empty(), "vrl's compiler is used outside of mapping: {named:?}");
}
