//! Which path templates take this path, the most specific first?
//!
//! Templates of one host stand in a tree of segments; a variable segment is a branch beside the literal ones. The
//! search goes down both, and keeps the most specific route that takes the request. It recurses no deeper than the
//! longest template has segments.

use crate::hosts::ByteMap;
use crate::issue::{IssueCode, Problem, shown};

use super::RequestView;
use super::compiled::{CompiledRoute, Routes};

/// A parsed template, `/users/{id}/files/{path*}`.
#[derive(Debug)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<str>),
    /// `{name}`: any one segment that is not empty.
    One(Box<str>),
    /// `{name*}`: the rest, at least one byte.
    Rest(Box<str>),
}

impl Template {
    /// Most segments of a template: bounds the recursion of the search.
    pub(crate) const MAX_SEGMENTS: usize = 64;

    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let bad = |why: String| {
            Problem::new(
                IssueCode::BadTemplate,
                format!("{} {why}", shown(text)),
                "a template such as /users/{id}/{rest*}",
            )
        };
        let Some(path) = text.strip_prefix('/') else {
            return Err(bad("does not start with `/`".into()));
        };
        let mut segments = Vec::new();
        for part in path.split('/') {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return Err(bad("goes on after `{name*}`".into()));
            }
            let variable = part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
            let segment = match variable.map(|inner| (inner, inner.strip_suffix('*'))) {
                Some((_, Some(name))) => Segment::Rest(name.into()),
                Some((name, None)) => Segment::One(name.into()),
                None if part.contains(['{', '}']) => {
                    return Err(bad(format!(
                        "mixes text and a variable in the segment {}",
                        shown(part)
                    )));
                }
                None => Segment::Literal(part.into()),
            };
            if let Segment::One(name) | Segment::Rest(name) = &segment {
                let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if name.is_empty() || !name.bytes().all(word) {
                    return Err(bad(format!("has a variable named {}", shown(name))));
                }
                let same = |other: &Segment| matches!(other, Segment::One(other) | Segment::Rest(other) if other == name);
                if segments.iter().any(same) {
                    return Err(bad(format!("names {} twice", shown(name))));
                }
            }
            segments.push(segment);
        }
        if segments.len() > Self::MAX_SEGMENTS {
            return Err(bad(format!("has {} segments; 64 is the most", segments.len())));
        }
        Ok(Self { segments })
    }

    /// The literal parts, to be checked as a path; variables are replaced by a letter.
    pub(crate) fn sample(&self) -> String {
        self.segments
            .iter()
            .fold(String::new(), |path, segment| match segment {
                Segment::Literal(text) => path + "/" + text,
                Segment::One(_) | Segment::Rest(_) => path + "/x",
            })
    }

    /// Whether the template takes a path that starts with `/`; the tree below answers for many at once.
    pub(crate) fn takes(&self, path: &[u8]) -> bool {
        let mut rest = path;
        for segment in &self.segments {
            let Some((b'/', after)) = rest.split_first() else {
                return false;
            };
            let length = after.iter().position(|&b| b == b'/').unwrap_or(after.len());
            let (text, next) = after.split_at(length);
            let taken = match segment {
                Segment::Literal(literal) => literal.as_bytes() == text,
                Segment::One(_) => !text.is_empty(),
                Segment::Rest(_) => return !after.is_empty(),
            };
            if !taken {
                return false;
            }
            rest = next;
        }
        rest.is_empty()
    }

    /// Smaller is more specific.
    pub(super) fn order(&self) -> [usize; 3] {
        let literals = self
            .segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Literal(_)))
            .count();
        let open = matches!(self.segments.last(), Some(Segment::Rest(_)));
        [
            usize::MAX - literals,
            usize::from(open),
            usize::MAX - self.segments.len(),
        ]
    }
}

/// The templates of one host.
#[derive(Debug, Default)]
pub(super) struct TemplateTree {
    /// Empty, or the root first.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: ByteMap<u32>,
    one: Option<u32>,
    /// Routes whose template ends here, the most specific first.
    here: Vec<u32>,
    /// Routes whose template takes the rest from here.
    rest: Vec<u32>,
}

/// The best route so far.
struct Search<'a, 'r, R> {
    path: &'r [u8],
    routes: &'a Routes,
    request: &'r R,
    best: Option<CompiledRoute<'a>>,
}

impl TemplateTree {
    /// Whether no route has a template.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a route. Routes come the most specific first.
    pub(super) fn insert(&mut self, template: &Template, id: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in &template.segments {
            let fresh = self.nodes.len() as u32;
            let Some(node) = self.nodes.get_mut(at as usize) else {
                return;
            };
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text.as_bytes().into()).or_insert(fresh),
                Segment::One(_) => *node.one.get_or_insert(fresh),
                Segment::Rest(_) => return node.rest.push(id),
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.here.push(id);
        }
    }

    /// The most specific route that takes the request.
    pub(super) fn find<'a>(
        &self,
        routes: &'a Routes,
        request: &impl RequestView,
    ) -> Option<CompiledRoute<'a>> {
        let mut search = Search {
            path: request.path(),
            routes,
            request,
            best: None,
        };
        self.descend(0, 0, &mut search);
        search.best
    }

    /// `at` is where a segment's `/` stands, or the path's end.
    fn descend<R: RequestView>(&self, node: u32, at: usize, search: &mut Search<'_, '_, R>) {
        let Some(node) = self.nodes.get(node as usize) else {
            return;
        };
        let Some(rest) = search.path.get(at + 1..) else {
            return search.offer(&node.here);
        };
        let length = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        let segment = rest.get(..length).unwrap_or_default();
        if let Some(&child) = node.literals.get(segment) {
            self.descend(child, at + 1 + length, search);
        }
        if let (Some(child), false) = (node.one, segment.is_empty()) {
            self.descend(child, at + 1 + length, search);
        }
        if !rest.is_empty() {
            search.offer(&node.rest);
        }
    }
}

impl<R: RequestView> Search<'_, '_, R> {
    fn offer(&mut self, ids: &[u32]) {
        for route in ids.iter().filter_map(|&id| self.routes.get(id)) {
            if self.best.is_some_and(|best| best.place() <= route.place()) {
                return;
            }
            if route.takes(self.request) {
                self.best = Some(route);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_parsed() {
        for good in [
            "/",
            "/a",
            "/a/",
            "/{id}",
            "/users/{user_id}/files/{path*}",
            "/{a}/{b}/{c2*}",
        ] {
            assert!(Template::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "/{}",
            "/{a",
            "/a}",
            "/x{a}",
            "/{a}.json",
            "/{a*}/b",
            "/{a}/{a}",
            "/{a b}",
            "/{*}",
            "/{{a}}",
        ] {
            assert_eq!(
                Template::parse(bad).unwrap_err().code,
                IssueCode::BadTemplate,
                "{bad}"
            );
        }
        assert!(Template::parse(&"/a".repeat(Template::MAX_SEGMENTS + 1)).is_err());
    }

    #[test]
    fn more_literal_segments_come_first() {
        let order = |text: &str| Template::parse(text).unwrap().order();
        assert!(order("/a/b/{x}") < order("/a/{x}/{y}"));
        assert!(order("/a/{x}") < order("/a/{x*}"));
        assert!(order("/a/{x}/{y*}") < order("/a/{x*}"));
    }
}
