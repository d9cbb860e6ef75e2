//! Which of two routes is asked first?

use std::cmp::Reverse;

use super::templates::Template;
use crate::issue::{IssueCode, Problem, shown};
use crate::resources::{GrpcMatch, PathMatch, RouteMatch};

/// How specific a match is, by the documented order of [`RouteMatch`]. Smaller is more specific and asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    path: (u8, [usize; 3]),
    without_grpc: bool,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

impl Specificity {
    /// How specific a match is; `None` when its path condition can't be read. Regular expressions are not compiled: they
    /// are all alike.
    pub fn of(matches: &RouteMatch) -> Option<Self> {
        let path = match &matches.path {
            Some(PathMatch::Regex(_)) => PathPattern::REGEX,
            _ => PathPattern::parse(matches).ok()?.order(),
        };
        Some(Self::new(path, matches))
    }

    pub(super) fn new(path: (u8, [usize; 3]), matches: &RouteMatch) -> Self {
        Self {
            path,
            without_grpc: matches.grpc.is_none(),
            without_method: matches.methods.is_empty(),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
        }
    }
}

/// The path condition, parsed. Kept to build the index and to say how specific it is.
#[derive(Debug)]
pub(super) enum PathPattern {
    Exact(Box<str>),
    Template(Template),
    Regex(regex::bytes::Regex),
    Prefix(Box<str>),
    None,
}

impl PathPattern {
    /// The order of regular expressions.
    const REGEX: (u8, [usize; 3]) = (2, [0; 3]);

    pub(super) fn parse(matches: &RouteMatch) -> Result<Self, Problem> {
        let pattern = match (&matches.path, &matches.grpc) {
            (Some(PathMatch::Exact(path)), _) => Self::Exact(path.as_str().into()),
            (Some(PathMatch::Prefix(prefix)), _) => Self::Prefix(prefix.as_str().into()),
            (Some(PathMatch::Template(text)), _) => Self::Template(Template::parse(text)?),
            (Some(PathMatch::Regex(text)), _) => Self::Regex(crate::pattern::compile(text)?),
            (
                None,
                Some(GrpcMatch {
                    service,
                    method: Some(method),
                }),
            ) => Self::Exact(format!("/{service}/{method}").into()),
            (
                None,
                Some(GrpcMatch {
                    service,
                    method: None,
                }),
            ) => Self::Prefix(format!("/{service}/").into()),
            (None, None) => Self::None,
        };
        match &pattern {
            Self::Exact(path) | Self::Prefix(path) if !path.starts_with('/') => Err(Problem::new(
                IssueCode::BadPath,
                format!("{} does not start with `/`", shown(path)),
                "a path such as /api",
            )),
            _ => Ok(pattern),
        }
    }

    /// Smaller is more specific: the kind, then what tells apart within the kind.
    pub(super) fn order(&self) -> (u8, [usize; 3]) {
        match self {
            Self::Exact(_) => (0, [0; 3]),
            Self::Template(template) => (1, template.order()),
            Self::Regex(_) => Self::REGEX,
            Self::Prefix(prefix) => (3, [usize::MAX - prefix.len(), 0, 0]),
            Self::None => (4, [0; 3]),
        }
    }
}
