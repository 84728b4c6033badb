//! What must hold after any sequence of operations.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn person() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4u8).prop_map(|n| json!({"id": format!("u-{n}")})),
        (0..4u8).prop_map(|n| json!({"email": format!("E{n}@example.org")})),
        (1..9u8).prop_map(|n| json!({"cio_id": format!("{n:012x}")})),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..3u8).prop_map(|n| json!({"object_type_id": "1", "object_id": format!("o-{n}")})),
        (1..4u8).prop_map(|n| json!({"cio_object_id": format!("ob{n:010x}")})),
    ]
}

fn attributes() -> impl Strategy<Value = Value> {
    let id = prop::option::of((0..4u8).prop_map(|n| json!(format!("u-{n}"))));
    let email = prop::option::of((0..4u8).prop_map(|n| json!(format!("e{n}@example.org"))));
    let visitor = prop::option::of((0..2u8).prop_map(|n| json!(format!("a-{n}"))));
    let plan = prop::option::of(prop_oneof![Just(Value::Null), Just(json!("x")), Just(json!(1.5))]);
    (id, email, visitor, plan).prop_map(|(id, email, visitor, plan)| {
        let all = [("id", id), ("email", email), ("anonymous_id", visitor), ("plan", plan)];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let of_person = |action: &'static str| {
        person()
            .prop_map(move |who| json!({"type": "person", "action": action, "identifiers": who}))
    };
    prop_oneof![
        8 => (person(), attributes(), prop::option::of(0..50u32)).prop_map(|(who, attributes, at)| json!({
            "type": "person", "action": "identify", "identifiers": who,
            "attributes": attributes, "timestamp": at,
        })),
        4 => (person(), 0..3u8).prop_map(|(who, n)| json!({
            "type": "person", "action": "event", "identifiers": who, "name": "x",
            "id": format!("0000000000000000000000000{n}"),
        })),
        3 => (0..2u8).prop_map(|n| json!({
            "type": "person", "action": "page", "name": "/",
            "identifiers": {"anonymous_id": format!("a-{n}")},
        })),
        3 => (person(), 0..3u8).prop_map(|(who, n)| json!({
            "type": "person", "action": "add_device", "identifiers": who,
            "device": {"token": format!("t-{n}"), "platform": "ios"},
        })),
        3 => (object(), person()).prop_map(|(object, who)| json!({
            "type": "object", "action": "identify", "identifiers": object,
            "cio_relationships": [{"identifiers": who}],
        })),
        1 => (object(), 0..2u8).prop_map(|(object, n)| json!({
            "type": "object", "action": "identify_anonymous", "identifiers": object,
            "cio_relationships": [{"identifiers": {"anonymous_id": format!("a-{n}")}}],
        })),
        2 => (person(), object(), any::<bool>()).prop_map(|(who, object, add)| json!({
            "type": "person", "identifiers": who,
            "action": if add { "add_relationships" } else { "delete_relationships" },
            "cio_relationships": [{"identifiers": object}],
        })),
        2 => (person(), person()).prop_map(|(one, other)| json!({
            "type": "person", "action": "merge", "primary": one, "secondary": other,
        })),
        1 => object().prop_map(|object| json!({
            "type": "object", "action": "delete", "identifiers": object,
        })),
        1 => of_person("delete"),
        1 => of_person("suppress"),
        1 => of_person("unsuppress"),
    ]
}

/// Everybody is found by each of their identifiers, tokens and visitors belong to one person, and
/// relationships are the same from both sides.
fn check(workspace: &Workspace) {
    let mut tokens = BTreeSet::new();
    let mut visitors = BTreeSet::new();
    for person in workspace.state.people.iter() {
        for identifier in person.identifiers() {
            let found = workspace.state.people.find(&identifier);
            assert_eq!(found.as_ref(), Some(&person.cio_id), "{identifier:?}");
            assert!(!workspace.is_suppressed(&identifier), "{identifier:?} is suppressed");
        }
        for token in person.devices.keys() {
            assert!(tokens.insert(token), "two people have {token}");
        }
        for visitor in &person.anonymous_ids {
            assert!(visitors.insert(visitor), "two people are {visitor}");
            let owner = workspace.state.visitors[visitor].owner.as_ref();
            assert_eq!(owner, Some(&person.cio_id));
        }
        for object in &person.objects {
            assert!(workspace.state.objects[object].people.contains_key(&person.cio_id));
        }
    }
    for object in workspace.state.objects.values() {
        for cio_id in object.people.keys() {
            let person = workspace.state.people.get(cio_id).unwrap();
            assert!(person.objects.contains(&object.cio_object_id));
        }
    }
}

fn apply(workspace: &mut Workspace, operations: &[Value]) {
    for (at, operation) in operations.iter().enumerate() {
        let at = Seconds(f64::from(u32::try_from(at).unwrap()) * 60.0);
        workspace.accept(Received::at(at), operation.clone()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn indexes_and_both_sides_of_relations_agree(
        operations in prop::collection::vec(operation(), 0..40),
    ) {
        let mut workspace = Workspace::new(Options::default(), 1);
        for (at, operation) in operations.into_iter().enumerate() {
            let at = Seconds(f64::from(u32::try_from(at).unwrap()) * 60.0);
            workspace.accept(Received::at(at), operation).unwrap();
            check(&workspace);
        }
        let mut restored = Workspace::new(Options::default(), 1);
        let snapshot = serde_json::to_string(workspace.snapshot()).unwrap();
        restored.restore(serde_json::from_str(&snapshot).unwrap());
        check(&restored);
        prop_assert_eq!(restored.people(), workspace.people());
        prop_assert_eq!(restored.objects(), workspace.objects());
    }

    #[test]
    fn an_operation_may_be_repeated_at_once(
        operations in prop::collection::vec(operation(), 0..30),
        last in operation().prop_filter("may be repeated", may_be_repeated),
    ) {
        let mut once = Workspace::new(Options::default(), 1);
        apply(&mut once, &operations);
        once.accept(Received::at(Seconds(5000.0)), last.clone()).unwrap();
        let mut twice = once.clone();
        twice.accept(Received::at(Seconds(5000.0)), last).unwrap();
        let content = |workspace: &Workspace| -> Vec<Value> {
            workspace.people().iter().map(view::PersonView::content).collect()
        };
        prop_assert_eq!(content(&once), content(&twice));
    }
}

/// All but events without an id, and what may change whom its own identifiers name.
fn may_be_repeated(operation: &Value) -> bool {
    let action = operation["action"].as_str().unwrap();
    !matches!(action, "page" | "merge") && (action != "identify" || operation["type"] == "object")
}

#[test]
fn merges_move_what_the_primary_lacks() {
    let mut workspace = Workspace::new(Options::default(), 1);
    let device = json!({"token": "t", "platform": "ios"});
    let relation = json!([{"identifiers": {"object_type_id": "1", "object_id": "o"}}]);
    apply(
        &mut workspace,
        &[
            json!({"type": "person", "action": "identify", "identifiers": {"id": "a"}}),
            json!({"type": "person", "action": "identify", "identifiers": {"email": "b@b.no"}, "attributes": {"anonymous_id": "v"}, "cio_relationships": relation}),
            json!({"type": "person", "action": "add_device", "identifiers": {"email": "b@b.no"}, "device": device}),
            json!({"type": "person", "action": "merge", "primary": {"id": "a"}, "secondary": {"email": "b@b.no"}}),
            json!({"type": "person", "action": "page", "identifiers": {"anonymous_id": "v"}, "name": "/"}),
        ],
    );
    check(&workspace);
    let people = workspace.people();
    assert_eq!(people.len(), 1);
    let person = people[0].content();
    assert_eq!(person["ids"], json!({"id": "a", "email": "b@b.no", "phone": null}));
    assert_eq!(person["relations"], json!([["1", "o", {}]]));
    assert!(person["devices"].get("t").is_some());
    assert_eq!(person["events"].as_array().unwrap().len(), 1);
}

#[test]
fn an_older_update_does_not_bring_back_a_removed_attribute() {
    let mut workspace = Workspace::new(Options::default(), 1);
    let identify = |value: Value, at: u32| json!({"type": "person", "action": "identify", "identifiers": {"id": "a"}, "attributes": {"plan": value}, "timestamp": at});
    apply(
        &mut workspace,
        &[identify(json!("x"), 10), identify(Value::Null, 30), identify(json!("y"), 20)],
    );
    assert_eq!(workspace.people()[0].attribute("plan"), None);
}

#[test]
fn deleting_a_person_keeps_the_visitor_s_unattached_events() {
    let mut workspace = Workspace::new(Options::default(), 1);
    let mut at = |seconds: f64, operation: Value| {
        workspace.accept(Received::at(Seconds(seconds)), operation).unwrap();
    };
    at(
        0.0,
        json!({"type": "person", "action": "identify", "identifiers": {"id": "a"}, "attributes": {"anonymous_id": "v"}}),
    );
    at(
        400.0,
        json!({"type": "person", "action": "page", "identifiers": {"anonymous_id": "v"}, "name": "/"}),
    );
    at(401.0, json!({"type": "person", "action": "delete", "identifiers": {"id": "a"}}));
    at(
        402.0,
        json!({"type": "person", "action": "identify", "identifiers": {"id": "b"}, "attributes": {"anonymous_id": "v"}}),
    );
    assert_eq!(workspace.people()[0].events.len(), 1);
}

#[test]
fn more_than_300_attributes_fail_one_by_one() {
    let mut workspace = Workspace::new(Options::default(), 1);
    let many = |prefix: &str, count: usize| {
        let attributes: Map<_, _> =
            (0..count).map(|n| (format!("{prefix}{n}"), json!(n))).collect();
        json!({"type": "person", "action": "identify", "identifiers": {"id": "a"}, "attributes": attributes})
    };
    apply(&mut workspace, &[many("a", 300), many("b", 2)]);
    assert_eq!(workspace.people()[0].attributes.len(), 300);
    assert_eq!(workspace.activity().len(), 2);
}

#[test]
fn events_for_unknown_people_create_nobody_by_switch() {
    let options = Options { events_create_people: false, ..Options::default() };
    let mut workspace = Workspace::new(options, 1);
    apply(
        &mut workspace,
        &[json!({"type": "person", "action": "event", "identifiers": {"id": "a"}, "name": "x"})],
    );
    assert!(workspace.people().is_empty());
    assert_eq!(workspace.activity()[0].kind, ActivityKind::UpdateOnlyNoMatch);
}
