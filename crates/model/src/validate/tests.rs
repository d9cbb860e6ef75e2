//! One configuration that uses everything, and what each wrong value in it is answered with.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::wrong_values::cases;
use super::*;
use crate::route::RouteIndex;
use crate::sni::SniIndex;

/// Every resource and every field, hardly one at its default.
fn maximal() -> Value {
    serde_json::from_str(include_str!("maximal.json")).unwrap()
}

fn read(value: &Value) -> Resources {
    parse(&value.to_string()).unwrap()
}

#[test]
fn a_maximal_configuration_is_right_and_round_trips() {
    let resources = read(&maximal());
    assert_eq!(validate(&resources), []);
    let text = serde_json::to_string(&resources).unwrap();
    assert_eq!(parse(&text).unwrap(), resources);
    assert_eq!(validate_json(&text), "[]");
    assert_eq!(validate(&Resources::default()), []);
    assert_eq!(resources.clusters[2].tls_name(), Some("site.internal"));
}

/// Replaces the value at a pointer, which is made when its parent is there.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = maximal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} is not there"))
    {
        Value::Object(object) => drop(object.insert(key.into(), value)),
        Value::Array(array) if key == "-" => array.push(value),
        Value::Array(array) => array[key.parse::<usize>().unwrap()] = value,
        other => panic!("{parent} is {other}"),
    }
    config
}

const ROUTE: &str = "/routeTables/0/virtualHosts/0/routes/0";

#[test]
fn every_wrong_value_is_found_where_it_stands() {
    for (pointer, value, path, code) in cases() {
        let pointer = pointer.replacen('R', ROUTE, usize::from(pointer.starts_with('R')));
        let short = [
            ("R", "routeTables[0].virtualHosts[0].routes[0]"),
            ("D", "routeTables[0].virtualHosts[0].routes[1]"),
            ("G", "routeTables[0].virtualHosts[0].routes[2]"),
            ("E", "routeTables[0].virtualHosts[1].routes[0]"),
        ];
        let path = match short
            .iter()
            .find(|(name, _)| path.starts_with(&format!("{name}.")))
        {
            Some((name, long)) => path.replacen(name, long, 1),
            None => path.to_owned(),
        };
        let config = with(&pointer, value.clone());
        let issues = validate(&read(&config));
        let seen: Vec<_> = issues
            .iter()
            .map(|issue| (render_path(&issue.path), issue.code))
            .collect();
        assert!(
            seen.contains(&(path.clone(), code)),
            "{pointer} = {value}: {path} {code:?} is not in {seen:?}"
        );
        for issue in &issues {
            assert!(
                issue.message.len() < 400 && !issue.message.contains('\n'),
                "{}",
                issue.message
            );
        }
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let mut config = with("/listeners/0/routes", json!("mian"));
    config["clusters"][3]["tls"] = json!({});
    config["routeTables"][0]["virtualHosts"][0]["routes"][0]["match"]["methods"] = json!(["get", "a b"]);
    let issues = validate(&read(&config));
    let seen: Vec<_> = issues.iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        [
            "listeners[0].routes: there is no route table `mian`; did you mean `main`?",
            "routeTables[0].virtualHosts[0].routes[0].match.methods[0]: `get` would never match: methods are compared with \
             case (expected `GET`)",
            "routeTables[0].virtualHosts[0].routes[0].match.methods[1]: `a b` is not a method (expected a token such as GET)",
            "clusters[3].tls.serverName: nothing says which name the servers must prove (expected the DNS name or IP address \
             in their certificate)",
        ]
    );
}

#[test]
fn the_list_of_problems_is_bounded() {
    let listeners: Vec<_> = (0..5000)
        .map(|n| json!({ "name": "", "address": format!("127.0.0.1:{}", n + 1) }))
        .collect();
    let issues = validate(&read(&json!({ "listeners": listeners })));
    assert_eq!(issues.len(), Issues::MAX + 1);
    assert_eq!(issues.last().unwrap().code, IssueCode::TooMany);
    assert!(issues.last().unwrap().message.starts_with("9000 more"));
}

#[test]
fn what_cannot_be_read_has_a_place() {
    let issue = |text: &str| parse(text).unwrap_err().remove(0);
    let unknown = issue("{\n  \"clusters\": [{ \"name\": \"a\", \"nmae\": 1 }]\n}");
    assert_eq!(render_path(&unknown.path), "clusters[0].nmae");
    assert_eq!(
        (unknown.code, unknown.position),
        (IssueCode::Shape, Some(Position { line: 2, column: 36 }))
    );
    assert_eq!(unknown.message, "there is no field `nmae`; did you mean `name`?");
    let wrong = issue(r#"{"listeners":[{"name":"a","address":"x"}]}"#);
    assert_eq!(render_path(&wrong.path), "listeners[0].address");
    assert_eq!(
        wrong.expected.unwrap(),
        "IP:PORT, [IPv6]:PORT, localhost:PORT, :PORT or unix:PATH"
    );
    assert_eq!(issue("{").code, IssueCode::Syntax);
    assert_eq!(issue("{} {}").code, IssueCode::Syntax);
    assert_eq!(issue(&"[".repeat(100_000)).code, IssueCode::Shape);
    let deep = format!("{{\"clusters\":{}", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
    let kind = issue(
        r#"{"routeTables":[{"name":"a","virtualHosts":[{"hosts":["*"],"routes":[{"action":{"kind":"x"}}]}]}]}"#,
    );
    assert_eq!(
        render_path(&kind.path),
        "routeTables[0].virtualHosts[0].routes[0].action.kind"
    );
    let text = validate_json("{");
    assert!(
        text.starts_with(r#"[{"path":"","code":"syntax","message":"#),
        "{text}"
    );
}

#[test]
fn names_near_by_are_suggested() {
    let known = || ["api", "site", "site-next"].into_iter();
    assert_eq!(nearest("sit", known()), Some("site"));
    assert_eq!(nearest("site-nxet", known()), Some("site-next"));
    assert_eq!(nearest("database", known()), None);
    assert_eq!(
        (
            distance("kitten", "sitting"),
            distance("", "ab"),
            distance("ab", "")
        ),
        (3, 2, 2)
    );
    assert_eq!((distance("admin", "amdin"), distance("ca", "abc")), (1, 3));
}

proptest! {
    /// Puts any JSON at any place: reading and checking never panic, and what is accepted compiles.
    #[test]
    fn what_is_accepted_compiles(place in any::<prop::sample::Index>(), text in "[a-z/{}*%.:\\[\\]()0-9-]{0,12}", number in any::<i64>(), kind in 0..4) {
        let mut config = maximal();
        let mut pointers = Vec::new();
        collect(&config, String::new(), &mut pointers);
        let pointer = place.get(&pointers);
        *config.pointer_mut(pointer).unwrap() = match kind {
            0 => json!(number),
            1 => Value::Null,
            2 => json!([text]),
            _ => json!(text),
        };
        if let Ok(resources) = parse(&config.to_string()) && validate(&resources).is_empty() {
            prop_assert_eq!(&parse(&serde_json::to_string(&resources).unwrap()).unwrap(), &resources);
            for table in &resources.route_tables {
                prop_assert!(RouteIndex::compile(table).is_ok());
            }
            for listener in &resources.listeners {
                prop_assert!(SniIndex::compile(&listener.sni).is_ok());
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,64}") {
        let _ = validate_json(&text);
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object
                .iter()
                .for_each(|(key, value)| collect(value, format!("{at}/{key}"), pointers));
        }
        Value::Array(array) => {
            array
                .iter()
                .enumerate()
                .for_each(|(index, value)| collect(value, format!("{at}/{index}"), pointers));
        }
        _ => {}
    }
    pointers.push(at);
}
