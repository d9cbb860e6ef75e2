//! Paths that are sent on, or pointed to.
//!
//! xDS replaces bytes where the model replaces segments: `/api` by `/` makes `//x` of `/api/x` there. So a replacement is
//! written in the form that gives the same paths: by prefix where that does, else by a regular expression. Where the form
//! does not say what was written, our metadata does, and counts only if it makes the same form.

use std::collections::BTreeMap;

use mesh_model::resources::{PathMatch, PathRewrite, RouteMatch};

use super::super::Refusal;
use super::super::matchers::{escaped, to_regex};
use super::ours;
use crate::wire;

/// Every path.
const ANY_PATH: &str = "^/.*$";
/// What follows the prefix.
const REST: &str = r"\1";

/// How xDS says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In place of the prefix, byte by byte.
    Prefix(String),
    Regex(wire::RegexMatchAndSubstitute),
}

impl Form {
    /// From the two fields that may say it.
    pub(super) fn of(
        prefix: Option<String>,
        regex: Option<wire::RegexMatchAndSubstitute>,
    ) -> Result<Option<Self>, Refusal> {
        match (prefix, regex) {
            (Some(_), Some(_)) => Err(Refusal::new("regex_rewrite", "not together with prefix_rewrite")),
            (Some(prefix), None) => Ok(Some(Self::Prefix(prefix))),
            (None, Some(regex)) => Ok(Some(Self::Regex(regex))),
            (None, None) => Ok(None),
        }
    }

    /// Into the two fields that may say it.
    pub(super) fn into_fields(self) -> (Option<String>, Option<wire::RegexMatchAndSubstitute>) {
        match self {
            Self::Prefix(prefix) => (Some(prefix), None),
            Self::Regex(regex) => (None, Some(regex)),
        }
    }
}

/// What a form means for the paths that a route takes.
pub(super) fn path_rewrite(
    form: Form,
    matches: &RouteMatch,
    ours: &BTreeMap<String, String>,
) -> Result<PathRewrite, Refusal> {
    if let Some(said) = ours.get(ours::PREFIX_REWRITE)
        && prefix_form(said, matches).as_ref() == Some(&form)
    {
        return Ok(PathRewrite::Prefix(said.clone()));
    }
    let refusal = || {
        Refusal::new(
            "prefix_rewrite",
            "would make paths that a replacement of whole segments does not",
        )
    };
    match form {
        Form::Prefix(by) => match (prefix_of(matches), exact_of(matches)) {
            (None, true) => Ok(PathRewrite::Full(by)),
            (Some(prefix), _) if prefix.ends_with('/') == by.ends_with('/') && !by.is_empty() => {
                Ok(PathRewrite::Prefix(by))
            }
            _ => Err(refusal()),
        },
        Form::Regex(regex) => {
            let pattern = regex.pattern.map(|pattern| pattern.regex).unwrap_or_default();
            if pattern == ANY_PATH {
                return unescaped(&regex.substitution).map(PathRewrite::Full);
            }
            let by = regex.substitution.strip_suffix(REST);
            match (prefix_of(matches), by) {
                (Some(prefix), Some(by)) if pattern == prefix_pattern(&prefix) && by.ends_with('/') => {
                    unescaped(by).map(PathRewrite::Prefix)
                }
                _ => Err(Refusal::new("regex_rewrite", "is not known")),
            }
        }
    }
}

/// The form of a replacement of the prefix.
pub(super) fn to_prefix_form(
    by: &str,
    matches: &RouteMatch,
    ours: &mut BTreeMap<String, String>,
) -> Result<Form, Refusal> {
    let form = prefix_form(by, matches).ok_or_else(|| {
        Refusal::new(
            "rewritePath",
            "the route matches no prefix that could be replaced",
        )
    })?;
    if path_rewrite(form.clone(), matches, &BTreeMap::new()) != Ok(PathRewrite::Prefix(by.to_owned())) {
        ours.insert(ours::PREFIX_REWRITE.to_owned(), by.to_owned());
    }
    Ok(form)
}

/// The form of a replacement of the whole path.
pub(super) fn to_full_form(path: &str) -> Form {
    Form::Regex(wire::RegexMatchAndSubstitute {
        pattern: Some(to_regex(ANY_PATH.to_owned())),
        substitution: escaped_substitution(path),
    })
}

fn prefix_form(by: &str, matches: &RouteMatch) -> Option<Form> {
    let prefix = prefix_of(matches)?;
    let bare = by.trim_end_matches('/');
    Some(if prefix.ends_with('/') {
        // Something follows, and its slash is the prefix's.
        Form::Prefix(format!("{bare}/"))
    } else if bare.len() == by.len() && !by.is_empty() {
        Form::Prefix(by.to_owned())
    } else {
        Form::Regex(wire::RegexMatchAndSubstitute {
            pattern: Some(to_regex(prefix_pattern(&prefix))),
            substitution: format!("{}/{REST}", escaped_substitution(bare)),
        })
    })
}

fn prefix_pattern(prefix: &str) -> String {
    format!("^{}/?(.*)$", escaped(prefix))
}

fn prefix_of(matches: &RouteMatch) -> Option<String> {
    match (&matches.path, &matches.grpc) {
        (Some(PathMatch::Prefix(prefix)), _) => Some(prefix.clone()),
        (None, Some(grpc)) if grpc.method.is_none() => Some(format!("/{}/", grpc.service)),
        _ => None,
    }
}

fn exact_of(matches: &RouteMatch) -> bool {
    match (&matches.path, &matches.grpc) {
        (Some(path), _) => matches!(path, PathMatch::Exact(_)),
        (None, grpc) => grpc.as_ref().is_some_and(|grpc| grpc.method.is_some()),
    }
}

fn escaped_substitution(text: &str) -> String {
    text.replace('\\', r"\\")
}

fn unescaped(text: &str) -> Result<String, Refusal> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next() != Some('\\') {
            return Err(Refusal::new(
                "regex_rewrite.substitution",
                "what was captured is not known",
            ));
        }
        plain.push(c);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use mesh_model::filter;
    use mesh_model::resources::Filters;
    use proptest::prelude::*;

    use super::*;

    /// What a client of xDS makes of a path.
    fn applied(form: &Form, prefix: &str, path: &str) -> String {
        match form {
            Form::Prefix(by) => format!("{by}{}", path.strip_prefix(prefix).unwrap()),
            Form::Regex(regex) => {
                let pattern = regex::Regex::new(&regex.pattern.as_ref().unwrap().regex).unwrap();
                let by = regex
                    .substitution
                    .replace('$', "$$")
                    .replace(REST, "${1}")
                    .replace(r"\\", r"\");
                pattern.replace(path, by.as_str()).into_owned()
            }
        }
    }

    proptest! {
        #[test]
        fn a_form_makes_the_paths_that_the_model_makes(
            prefix in "(/[ab.+]){0,2}/?", rest in "(/[ab]){0,2}/?", by in "(/[c$.]){0,2}/?", full in any::<bool>(),
        ) {
            prop_assume!(!prefix.is_empty());
            let below = format!("{}{rest}", prefix.trim_end_matches('/'));
            prop_assume!(below.starts_with(&prefix));
            let matches = RouteMatch { path: Some(PathMatch::Prefix(prefix.clone())), ..RouteMatch::default() };
            let (form, rewrite_path) = if full {
                (to_full_form(&by), PathRewrite::Full(by))
            } else {
                (to_prefix_form(&by, &matches, &mut BTreeMap::new()).unwrap(), PathRewrite::Prefix(by))
            };
            let filters = Filters { rewrite_path: Some(rewrite_path), ..Filters::default() };
            let mut expected = Vec::new();
            filter::rewrite_path(filters.rewrite_path.as_ref(), below.as_bytes(), prefix.trim_end_matches('/').len(), &mut expected);
            prop_assert_eq!(applied(&form, &prefix, &below), String::from_utf8(expected).unwrap());
        }
    }
}
