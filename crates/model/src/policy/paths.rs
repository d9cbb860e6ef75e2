//! Does a path meet what a rule asks for, however the server behind reads it?
//!
//! Some servers take the parameters off a path's segments (`/secret;a=1`, RFC 3986 section 3.3) before they look for what
//! to serve, and some don't. Where a path has any, rules are asked for both readings; where those differ, it can't be said
//! whether the rule matches. A rule that writes parameters itself means the path as it is.

use regex::bytes::Regex;

use crate::pattern;
use crate::resources::{GrpcMatch, PathMatch};
use crate::route::Template;

use super::conditions::Holds;
use crate::issue::Problem;

/// What a rule asks of a path.
#[derive(Debug)]
pub(super) struct Path {
    pattern: Pattern,
    writes_parameters: bool,
}

#[derive(Debug)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Template(Template),
    Regex(Regex),
}

/// A path as it is, and as it is read without parameters where it has some.
pub(super) struct Readings<'a> {
    /// Nothing where it can't be read at all.
    whole: Option<&'a [u8]>,
    bare: Option<Vec<u8>>,
}

impl<'a> Readings<'a> {
    /// Of a path in normal form.
    pub(super) fn of(path: &'a [u8]) -> Self {
        let is_readable = path.first() == Some(&b'/') && std::str::from_utf8(path).is_ok();
        let whole = is_readable.then_some(path);
        Self {
            whole,
            bare: whole.and_then(without_parameters),
        }
    }
}

impl Path {
    /// Compiles a condition.
    pub(super) fn compile(wanted: &PathMatch) -> Result<Self, Problem> {
        let (pattern, text) = match wanted {
            PathMatch::Exact(path) => (Pattern::Exact(path.as_bytes().into()), path),
            PathMatch::Prefix(path) => (Pattern::Prefix(path.as_bytes().into()), path),
            PathMatch::Template(path) => (Pattern::Template(Template::parse(path)?), path),
            PathMatch::Regex(path) => (Pattern::Regex(pattern::compile(path)?), path),
        };
        Ok(Self {
            pattern,
            writes_parameters: parameters(text.as_bytes()).is_some(),
        })
    }

    /// The path of a gRPC call, or of all of a service.
    pub(super) fn of_grpc(wanted: &GrpcMatch) -> Self {
        let pattern = match &wanted.method {
            Some(method) => Pattern::Exact(format!("/{}/{method}", wanted.service).into_bytes().into()),
            None => Pattern::Prefix(format!("/{}/", wanted.service).into_bytes().into()),
        };
        Self {
            pattern,
            writes_parameters: false,
        }
    }

    pub(super) fn takes(&self, path: &Readings<'_>) -> Holds {
        let whole = self.pattern.takes(path.whole?);
        match &path.bare {
            Some(_) if whole && self.writes_parameters => Some(true),
            Some(bare) => (self.pattern.takes(bare) == whole).then_some(whole),
            None => Some(whole),
        }
    }
}

impl Pattern {
    fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *path,
            Self::Prefix(wanted) => is_below(wanted, path),
            Self::Template(wanted) => wanted.takes(path),
            Self::Regex(wanted) => wanted.is_match(path),
        }
    }
}

/// On segment borders.
pub(super) fn is_below(prefix: &[u8], whole: &[u8]) -> bool {
    whole
        .strip_prefix(prefix)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')) || prefix.last() == Some(&b'/'))
}

/// Where a segment's parameters begin. An escaped `;` begins them too, for servers that unescape first.
fn parameters(segment: &[u8]) -> Option<usize> {
    let begins = |at: &usize| {
        let rest = segment.get(*at..).unwrap_or_default();
        rest.starts_with(b";")
            || rest
                .get(..3)
                .is_some_and(|rest| rest.eq_ignore_ascii_case(b"%3b"))
    };
    (0..segment.len()).find(begins)
}

/// The path without its segments' parameters; nothing where there are none, as nearly always. What is left of segments that
/// were nothing else are slashes, which servers take for one.
fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    if !path.iter().any(|byte| matches!(byte, b';' | b'%')) {
        return None;
    }
    let mut bare = Vec::with_capacity(path.len());
    let mut has_any = false;
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        let begin = parameters(segment);
        has_any |= begin.is_some();
        let kept = segment.get(..begin.unwrap_or(segment.len())).unwrap_or_default();
        if bare.last() != Some(&b'/') {
            bare.push(b'/');
        }
        bare.extend_from_slice(kept);
    }
    has_any.then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_off_every_segment() {
        for (path, bare) in [
            ("/", None),
            ("/a/b", None),
            ("/a%20b/", None),
            ("/a;", Some("/a")),
            ("/a;x=1", Some("/a")),
            ("/a;x=1;y=2/b;z", Some("/a/b")),
            ("/a;/", Some("/a/")),
            ("/a/;x/b", Some("/a/b")),
            ("/;x/;y/b", Some("/b")),
            ("/a/;x", Some("/a/")),
            (";x", None),
            ("/;x", Some("/")),
            ("/a%3Bx/b", Some("/a/b")),
            ("/a%3bx", Some("/a")),
            ("/a%3", None),
        ] {
            let found = without_parameters(path.as_bytes());
            assert_eq!(found.as_deref(), bare.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn what_servers_may_read_differently_can_not_be_said() {
        let exact = |path: &str| PathMatch::Exact(path.into());
        let prefix = |path: &str| PathMatch::Prefix(path.into());
        let regex = |path: &str| PathMatch::Regex(path.into());
        let template = |path: &str| PathMatch::Template(path.into());
        for (wanted, path, holds) in [
            (exact("/secret"), "/secret;a=1", None),
            (exact("/secret"), "/secret%3Ba=1", None),
            (exact("/secret"), "/other;a=1", Some(false)),
            (prefix("/pub"), "/pub/secret;a=1", Some(true)),
            (prefix("/pub/secret"), "/pub/secret;a=1", None),
            (prefix("/pub/secret"), "/pub/secret;/x", None),
            (prefix("/pub/secret"), "/pub;a/secret/x", None),
            (prefix("/pub/secret"), "/pub/;a/secret", None),
            (prefix("/pub/secret/"), "/pub/secret;a/x", None),
            (regex("/[a-z]+"), "/secret;a", None),
            (regex("/.*"), "/secret;a", Some(true)),
            (template("/a/{id}"), "/a/7;v=1", Some(true)),
            (template("/a/{id}/b"), "/a/;x/b", None),
            (exact("/items;v=1"), "/items;v=1", Some(true)),
            (exact("/items;v=1"), "/items;v=2", Some(false)),
            (regex("/items(;v=1)?"), "/items;v=1", Some(true)),
            (regex(".*;.*"), "/items;v=1", Some(true)),
        ] {
            let compiled = Path::compile(&wanted).unwrap();
            assert_eq!(
                compiled.takes(&Readings::of(path.as_bytes())),
                holds,
                "{wanted:?} {path}"
            );
        }
        let call = GrpcMatch {
            service: "shop.Basket".into(),
            method: Some("Empty".into()),
        };
        let call = Path::of_grpc(&call);
        assert_eq!(call.takes(&Readings::of(b"/shop.Basket/Empty;x")), None);
        assert_eq!(call.takes(&Readings::of(b"/shop.Basket/Empty")), Some(true));
    }
}
