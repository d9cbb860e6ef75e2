//! Do the reference text and the structs say the same?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

/// Of each message and enum: its fields as `name = number: type`, in order.
type Schema = BTreeMap<String, Vec<String>>;

const PROTO: &str = include_str!("../../../proto/mesh/v1/mesh.proto");
const RUST: &str = include_str!("../src/message.rs");

/// `UpperCase` as `UPPER_CASE`, if it is to be so.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The text, which has one declaration a line. Fields of a `oneof` are fields of their message.
fn proto() -> Schema {
    let mut schema = Schema::new();
    let mut name = String::new();
    for line in PROTO.lines().map(|line| line.split("//").next().unwrap().trim()) {
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        match words.as_slice() {
            [kind @ ("message" | "enum"), of, ..] => {
                name = format!("{kind} {of}");
                schema.insert(name.clone(), Vec::new());
            }
            ["service", ..] => name.clear(),
            [field, "=", number] if name.starts_with("enum") => {
                let field = field.to_ascii_lowercase();
                schema.get_mut(&name).unwrap().push(format!("{field} = {number}"));
            }
            [kind @ .., field, "=", number] if name.starts_with("message") => {
                let kind = kind.join(" ");
                schema
                    .get_mut(&name)
                    .unwrap()
                    .push(format!("{field} = {number}: {kind}"));
            }
            _ => {}
        }
    }
    schema
}

/// The structs, whose fields have their attribute on the line before.
fn rust() -> Schema {
    let mut schema = Schema::new();
    // A message that is a `oneof` alone is written as a struct and an enum.
    let mut oneofs = BTreeMap::new();
    let mut name = String::new();
    let mut attribute = "";
    for line in RUST.lines().map(str::trim) {
        let words: Vec<&str> = line.trim_end_matches(',').split([' ', ':', '(', ')']).collect();
        match words.as_slice() {
            ["impl", ..] => break,
            ["pub", "struct", of, ..] => {
                name = format!("message {of}");
                schema.insert(name.clone(), Vec::new());
            }
            ["pub", "enum", of, ..] => {
                let message = oneofs.get(*of).cloned();
                name = message.unwrap_or_else(|| format!("enum {of}"));
                schema.entry(name.clone()).or_default();
            }
            [field, "=", number] if name.starts_with("enum") => {
                let field = field.to_ascii_lowercase();
                schema.get_mut(&name).unwrap().push(format!("{field} = {number}"));
            }
            _ if line.starts_with("#[prost(oneof") => {
                let of = line.split('"').nth(1).unwrap();
                oneofs.insert(of.to_owned(), name.clone());
            }
            _ if line.starts_with("#[prost(") => attribute = line,
            [first, rest @ ..] if !attribute.is_empty() => {
                let number = attribute.split('"').rev().nth(1).unwrap();
                let (field, of) = match (*first, rest) {
                    ("pub", [field, ..]) => ((*field).to_owned(), rest.last().copied().unwrap()),
                    (variant, [of, ..]) => (snake(variant), *of),
                    _ => panic!("{line}"),
                };
                let kind = attribute
                    .trim_start_matches("#[prost(")
                    .split([',', ' ', '='])
                    .next()
                    .unwrap();
                let kind = match kind {
                    "message" => of
                        .trim_start_matches("Vec<")
                        .trim_start_matches("Option<")
                        .trim_end_matches('>'),
                    "enumeration" => attribute.split('"').nth(1).unwrap(),
                    kind => kind,
                };
                let repeated = if attribute.contains("repeated") {
                    "repeated "
                } else {
                    ""
                };
                schema
                    .get_mut(&name)
                    .unwrap()
                    .push(format!("{field} = {number}: {repeated}{kind}"));
                attribute = "";
            }
            _ => {}
        }
    }
    schema
}

#[test]
fn the_reference_text_and_the_structs_say_the_same() {
    let (proto, rust) = (proto(), rust());
    assert!(proto.len() > 15, "{proto:?}");
    assert_eq!(proto["message Hello"][1], "services = 2: repeated ServicePort");
    assert_eq!(proto, rust);
}
