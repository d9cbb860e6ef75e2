//! Why can't a text be read, in words for people who wrote it?
//!
//! The parser has words of its own, for people who write parsers. It tells what is wrong by them alone, so they are known
//! here; those that are not known are passed on as they are.

use serde_path_to_error::Segment;

use super::nearest;
use crate::issue::{Issue, IssueCode, PathStep, Position, shown};

/// What is wrong, and what was expected.
type Words = (String, Option<String>);

/// A text without anything.
pub(super) fn empty() -> Issue {
    Issue {
        path: Vec::new(),
        code: IssueCode::Syntax,
        message: "there is nothing here".to_owned(),
        expected: Some("JSON".to_owned()),
        position: Some(Position { line: 1, column: 1 }),
    }
}

/// What the parser found, where.
pub(super) fn unreadable<'a>(path: impl Iterator<Item = &'a Segment>, error: &serde_json::Error) -> Issue {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let (code, (message, expected)) = match error.is_syntax() || error.is_eof() {
        true => (IssueCode::Syntax, syntax(text)),
        false => (IssueCode::Shape, shape(text)),
    };
    let steps = path.filter_map(|segment| match segment {
        Segment::Seq { index } => Some(PathStep::Index(*index)),
        Segment::Map { key } => Some(PathStep::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    Issue {
        path: steps.collect(),
        code,
        message,
        expected,
        // The parser counts columns from 0 at a line that it has not begun.
        position: (error.line() > 0).then(|| Position {
            line: error.line(),
            column: error.column().max(1),
        }),
    }
}

/// Text that is no JSON.
fn syntax(text: &str) -> Words {
    const ENDS: &str = "the text ends too early";
    const NONE: &str = "this is no JSON";
    const ESCAPE: (&str, &str) = (
        "no such escape is known in JSON",
        r#"\", \\, \n, \t, \u0041 and the like"#,
    );
    let (message, expected) = match text {
        "EOF while parsing a list" => (ENDS, "`]`"),
        "EOF while parsing an object" => (ENDS, "`}`"),
        "EOF while parsing a string" => (ENDS, "`\"`"),
        "EOF while parsing a value" => (ENDS, "a value"),
        "expected `:`" => (NONE, "`:` behind the key"),
        "expected ident" => (NONE, "true, false or null"),
        "expected value" => (
            NONE,
            "a value: an object, a list, a text in double quotes, a number, true, false or null",
        ),
        "key must be a string" => (NONE, "a key in double quotes"),
        "trailing comma" => (NONE, "something behind the comma, or no comma"),
        "trailing characters" => ("there is more behind the end", "nothing"),
        "invalid number" => ("this is no number", "one such as 10 or 0.5"),
        "number out of range" => ("the number is too large", "one below 1e308"),
        "recursion limit exceeded" => (
            "lists and objects are nested too deep",
            "127 of them in one another at most",
        ),
        "invalid escape"
        | "invalid unicode code point"
        | "lone leading surrogate in hex escape"
        | "unexpected end of hex escape" => ESCAPE,
        _ if text.starts_with("control character") => {
            ("a control character stands in a text", r"an escape such as \n")
        }
        _ => match text.strip_prefix("expected ") {
            Some(expected) => (NONE, expected),
            None => return (text.to_owned(), None),
        },
    };
    (message.to_owned(), Some(expected.to_owned()))
}

/// JSON that is something else.
fn shape(text: &str) -> Words {
    // The last one: what was received may say so too.
    let (what, expected) = match text.rsplit_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (text, None),
    };
    for (prefix, kind) in [("unknown field ", "field"), ("unknown variant ", "value")] {
        if let Some(name) = what.strip_prefix(prefix).and_then(quoted) {
            let known = || expected.into_iter().flat_map(quoted_all);
            let there_is_no = format!("there is no {kind} {}", shown(name));
            return match nearest(name, known()) {
                Some(near) => (format!("{there_is_no}; did you mean {}?", shown(near)), None),
                None => (there_is_no, expected.map(ToOwned::to_owned)),
            };
        }
    }
    let message = if let Some(name) = what.strip_prefix("missing field ").and_then(quoted) {
        format!("the field {} is missing", shown(name))
    } else if let Some(name) = what.strip_prefix("duplicate field ").and_then(quoted) {
        format!("the field {} stands here a second time", shown(name))
    } else if let Some(received) = what.strip_prefix("invalid type: ") {
        format!("{} stands here", thing(received))
    } else if let Some(received) = what.strip_prefix("invalid value: ") {
        format!("{} can't stand here", thing(received))
    } else if let Some(expected) = text.strip_prefix("expected ") {
        return ("the value can't be read".to_owned(), Some(expected.to_owned()));
    } else {
        what.to_owned()
    };
    (message, expected.map(kind_of))
}

/// What was received, as the parser names it.
fn thing(received: &str) -> String {
    let number = received
        .strip_prefix("integer ")
        .or_else(|| received.strip_prefix("floating point "));
    if let Some(number) = number.and_then(quoted) {
        return format!("the number {number}");
    }
    if let Some(text) = received.strip_prefix("string ") {
        const MOST: usize = 80;
        return match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("the text {}...\"", text.get(..end).unwrap_or_default()),
            None => format!("the text {text}"),
        };
    }
    match received {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "unit value" => "null".to_owned(),
        _ => match received.strip_prefix("boolean ").and_then(quoted) {
            Some(boolean) => boolean.to_owned(),
            None => received.to_owned(),
        },
    }
}

/// What was expected, as the parser names it.
fn kind_of(expected: &str) -> String {
    let kind = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a string" => "a text",
        "a boolean" => "true or false",
        "unit" => "null",
        "string or map" => "a text or an object",
        "u8" => "a whole number, 0 to 255",
        "u16" => "a whole number, 0 to 65535",
        "u32" => "a whole number, 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged enum ") => {
            "an object"
        }
        _ => expected,
    };
    kind.to_owned()
}

/// A name between backticks.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

/// All names between backticks.
fn quoted_all(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use crate::validate::parse;

    #[test]
    fn what_is_wrong_is_said_in_words_for_people() {
        let value = "a value: an object, a list, a text in double quotes, a number, true, false or null";
        let cases = [
            ("", "1:1: there is nothing here (expected JSON)"),
            (" \n", "1:1: there is nothing here (expected JSON)"),
            ("{", "1:1: the text ends too early (expected `}`)"),
            (
                "{\n  \"listeners\": [\n",
                "3:1: listeners: the text ends too early (expected `]`)",
            ),
            (
                "{\"listeners\":",
                "1:13: listeners: the text ends too early (expected a value)",
            ),
            ("{\"listeners", "1:11: the text ends too early (expected `\"`)"),
            (
                "{ \"listeners\": nothing }",
                "1:17: listeners: this is no JSON (expected true, false or null)",
            ),
            (
                "{\"listeners\": [}",
                &format!("1:16: listeners[0]: this is no JSON (expected {value})"),
            ),
            (
                "{ listeners: [] }",
                "1:3: this is no JSON (expected a key in double quotes)",
            ),
            (
                "{\"listeners\" []}",
                "1:14: this is no JSON (expected `:` behind the key)",
            ),
            (
                "{\"listeners\": [],}",
                "1:18: this is no JSON (expected something behind the comma, or no comma)",
            ),
            ("{} {}", "1:4: there is more behind the end (expected nothing)"),
            (
                "{\"listeners\": 1}",
                "1:15: listeners: the number 1 stands here (expected a list)",
            ),
            (
                "{\"listeners\": {}}",
                "1:14: listeners: an object stands here (expected a list)",
            ),
            (
                "{\"listeners\": [null]}",
                "1:19: listeners[0]: null stands here (expected an object)",
            ),
            (
                "{\"listeners\": [], \"listeners\": []}",
                "1:29: the field `listeners` stands here a second time",
            ),
            (
                "{\"listners\": []}",
                "1:11: listners: there is no field `listners`; did you mean `listeners`?",
            ),
            (
                "{\"listeners\": [{\"name\": true}]}",
                "1:28: listeners[0].name: true stands here (expected a text)",
            ),
            (
                "{\"listeners\": [{}]}",
                "1:17: listeners[0]: the field `name` is missing",
            ),
            (
                "{\"listeners\": [{\"name\": \"a\", \"direction\": \"inbond\"}]}",
                "1:50: listeners[0].direction: there is no value `inbond`; did you mean `inbound`?",
            ),
        ];
        let told = cases.map(|(text, _)| {
            let issues: Vec<_> = parse(text).unwrap_err().iter().map(ToString::to_string).collect();
            issues.join("\n")
        });
        assert_eq!(told, cases.map(|(_, said)| said.to_owned()));
        let odd = parse("{\"listeners\": \"a, expected b\"}").unwrap_err().remove(0);
        assert_eq!(
            (&*odd.message, odd.expected.as_deref()),
            ("the text \"a, expected b\" stands here", Some("a list"))
        );
        let far = parse("{\"mesh\": {}}").unwrap_err().remove(0);
        assert_eq!(far.message, "there is no field `mesh`");
        assert!(far.expected.unwrap().starts_with("one of `listeners`"));
        let long = parse(&format!("{{\"listeners\": \"{}\"}}", "a".repeat(1000)))
            .unwrap_err()
            .remove(0);
        assert!(long.message.len() < 120, "{}", long.message);
    }
}
