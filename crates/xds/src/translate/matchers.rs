//! Conditions on texts, headers and query parameters.
//!
//! A condition turned round means two things: in the model it holds where there is no value, in xDS only where a missing
//! header is treated as empty. Both ways the words are chosen so that the meaning stays.

use mesh_model::resources::{ValueCondition, ValueMatch};

use super::Refusal;
use crate::wire;

/// The text as a regular expression that takes it alone, in every dialect.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

pub(super) fn to_regex(regex: String) -> wire::RegexMatcher {
    wire::RegexMatcher {
        google_re2: None,
        regex,
    }
}

/// One of these texts, as a matcher.
pub(super) fn to_one_of(texts: &[String]) -> wire::StringMatcher {
    match texts {
        [only] => wire::StringMatcher {
            exact: Some(only.clone()),
            ..wire::StringMatcher::default()
        },
        several => {
            let patterns: Vec<_> = several.iter().map(|text| escaped(text)).collect();
            wire::StringMatcher {
                safe_regex: Some(to_regex(patterns.join("|"))),
                ..wire::StringMatcher::default()
            }
        }
    }
}

/// The texts that a matcher takes, when it takes a list of them and nothing else.
pub(super) fn one_of(matcher: wire::StringMatcher) -> Result<Vec<String>, Refusal> {
    match value_condition(matcher)? {
        ValueCondition::Exact(only) => Some(vec![only]),
        ValueCondition::Regex(pattern) => alternatives(&pattern),
        _ => None,
    }
    .ok_or_else(|| {
        Refusal::new(
            "",
            "expected one text, or a regular expression of several: `GET|POST`",
        )
    })
}

fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '|' => texts.push(String::new()),
            '\\' => {
                let escaped = rest.next().filter(char::is_ascii_punctuation)?;
                texts.last_mut()?.push(escaped);
            }
            c if r".+*?()[]{}^$".contains(c) => return None,
            c => texts.last_mut()?.push(c),
        }
    }
    texts.iter().all(|text| !text.is_empty()).then_some(texts)
}

/// What a matcher asks of a text.
pub(super) fn value_condition(matcher: wire::StringMatcher) -> Result<ValueCondition, Refusal> {
    let wire::StringMatcher {
        exact,
        prefix,
        suffix,
        safe_regex,
        ignore_case,
        contains,
    } = matcher;
    // Where case does not count, and for what only others know, a pattern says the same.
    let pattern = |text: &str, before: &str, after: &str| {
        let case = if ignore_case { "(?i)" } else { "" };
        ValueCondition::Regex(format!("{case}{before}{}{after}", escaped(text)))
    };
    let condition = match (exact, prefix, suffix, safe_regex, contains) {
        (Some(text), None, None, None, None) if ignore_case => pattern(&text, "", ""),
        (Some(text), None, None, None, None) => ValueCondition::Exact(text),
        (None, Some(text), None, None, None) if ignore_case => pattern(&text, "", ".*"),
        (None, Some(text), None, None, None) => ValueCondition::Prefix(text),
        (None, None, Some(text), None, None) if ignore_case => pattern(&text, ".*", ""),
        (None, None, Some(text), None, None) => ValueCondition::Suffix(text),
        // Case has no effect on regular expressions.
        (None, None, None, Some(regex), None) => ValueCondition::Regex(regex.regex),
        (None, None, None, None, Some(text)) => pattern(&text, ".*", ".*"),
        _ => {
            return Err(Refusal::new(
                "",
                "expected one of exact, prefix, suffix, safe_regex and contains",
            ));
        }
    };
    Ok(condition)
}

/// The condition as a matcher; nothing where presence is all that is asked.
pub(super) fn to_string_matcher(condition: &ValueCondition) -> Result<Option<wire::StringMatcher>, Refusal> {
    let mut matcher = wire::StringMatcher::default();
    let text = match condition {
        ValueCondition::Present => return Ok(None),
        ValueCondition::Exact(text) => {
            matcher.exact = Some(text.clone());
            return Ok(Some(matcher));
        }
        ValueCondition::Prefix(text) => matcher.prefix.insert(text.clone()),
        ValueCondition::Suffix(text) => matcher.suffix.insert(text.clone()),
        ValueCondition::Regex(text) => &mut matcher.safe_regex.insert(to_regex(text.clone())).regex,
    };
    if text.is_empty() {
        return Err(Refusal::new("value", "xDS wants at least one byte"));
    }
    Ok(Some(matcher))
}

/// A header's conditions. There are two where xDS asks that the header is there and does not match.
pub(super) fn headers(matcher: wire::HeaderMatcher) -> Result<Vec<ValueMatch>, Refusal> {
    let wire::HeaderMatcher {
        name,
        present_match,
        invert_match: invert,
        treat_missing_header_as_empty: missing_is_empty,
        string_match,
        exact_match,
        prefix_match,
        suffix_match,
        safe_regex_match,
        contains_match,
    } = matcher;
    if name.starts_with(':') {
        return Err(Refusal::new(
            "name",
            "only `:method` is known of the pseudo headers",
        ));
    }
    // The older fields mean what the newer one says.
    let older = wire::StringMatcher {
        exact: exact_match,
        prefix: prefix_match,
        suffix: suffix_match,
        safe_regex: safe_regex_match,
        ignore_case: false,
        contains: contains_match,
    };
    let condition = |value, invert| ValueMatch {
        name: name.clone(),
        value,
        invert,
    };
    let value = match (present_match, string_match) {
        (Some(present), None) if older == wire::StringMatcher::default() => {
            return Ok(vec![condition(ValueCondition::Present, invert == present)]);
        }
        (None, Some(matcher)) if older == wire::StringMatcher::default() => value_condition(matcher),
        (None, None) => value_condition(older),
        _ => Err(Refusal::new("", "expected one condition")),
    }?;
    let takes_missing = missing_is_empty && value.takes_empty();
    match (invert, takes_missing) {
        (false, false) => Ok(vec![condition(value, false)]),
        (false, true) => Err(Refusal::new(
            "treat_missing_header_as_empty",
            "a header that is either missing or matches is not known",
        )),
        (true, _) if missing_is_empty && !takes_missing => Ok(vec![condition(value, true)]),
        (true, _) => Ok(vec![
            condition(ValueCondition::Present, false),
            condition(value, true),
        ]),
    }
}

pub(super) fn to_header(condition: &ValueMatch) -> Result<wire::HeaderMatcher, Refusal> {
    if condition.name.starts_with(':') {
        return Err(Refusal::new("name", "is not the name of a header"));
    }
    let string_match = to_string_matcher(&condition.value)?;
    let presence = string_match.is_none();
    if condition.invert && !presence && condition.value.takes_empty() {
        return Err(Refusal::new(
            "invert",
            "xDS can't say that a header is missing or not empty",
        ));
    }
    Ok(wire::HeaderMatcher {
        name: condition.name.clone(),
        present_match: presence.then_some(true),
        invert_match: condition.invert,
        treat_missing_header_as_empty: condition.invert && !presence,
        string_match,
        ..wire::HeaderMatcher::default()
    })
}

pub(super) fn query(matcher: wire::QueryParameterMatcher) -> Result<ValueMatch, Refusal> {
    let value = match (matcher.string_match, matcher.present_match) {
        (Some(matcher), None) => value_condition(matcher)?,
        (None, Some(true)) => ValueCondition::Present,
        _ => {
            return Err(Refusal::new(
                "",
                "expected string_match, or present_match that is true",
            ));
        }
    };
    Ok(ValueMatch {
        name: matcher.name,
        value,
        invert: false,
    })
}

pub(super) fn to_query(condition: &ValueMatch) -> Result<wire::QueryParameterMatcher, Refusal> {
    if condition.invert {
        return Err(Refusal::new("invert", "xDS can't turn round a query condition"));
    }
    let string_match = to_string_matcher(&condition.value)?;
    Ok(wire::QueryParameterMatcher {
        name: condition.name.clone(),
        present_match: string_match.is_none().then_some(true),
        string_match,
    })
}
