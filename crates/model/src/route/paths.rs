//! Which route of one host takes this path?
//!
//! Exact paths and prefixes share a tree of literal segments: one walk down finds the exact node, and the deepest node
//! reached leads up through the prefixes, longest first. The walk is as deep as the longest configured path, however
//! long the path asked for.

use std::sync::Arc;

use crate::hosts::{ByteMap, byte_map};

use super::RequestView;
use super::compiled::{CompiledRoute, PathPattern};
use super::regexes::Regexes;
use super::templates::TemplateTree;

/// The routes of one virtual host.
#[derive(Debug)]
pub(super) struct PathIndex {
    /// The root first; it stands for the empty path before the first `/`. Empty when no route is literal.
    nodes: Vec<Node>,
    templates: TemplateTree,
    regexes: Regexes,
    /// Routes without a path condition, the most specific first.
    any: Box<[u32]>,
}

#[derive(Debug, Default)]
struct Node {
    children: Children,
    /// Bytes of the path down to here.
    length: u32,
    /// The node above; itself for the root.
    up: u32,
    /// Routes of this exact path, of this prefix, and of this prefix with a `/` at its end; the most specific first.
    exact: List,
    prefix: List,
    below: List,
}

/// Mostly nothing or one.
type List = Box<[u32]>;

#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    One(Box<[u8]>, u32),
    Many(ByteMap<u32>),
}

impl Children {
    #[inline]
    fn get(&self, segment: &[u8]) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One(only, child) => (**only == *segment).then_some(*child),
            Self::Many(children) => children.get(segment).copied(),
        }
    }

    fn insert(&mut self, segment: &[u8], child: u32) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(segment.into(), child),
            Self::One(only, first) => {
                let mut children = byte_map();
                children.insert(only, first);
                children.insert(segment.into(), child);
                Self::Many(children)
            }
            Self::Many(mut children) => {
                children.insert(segment.into(), child);
                Self::Many(children)
            }
        };
    }
}

fn push(list: &mut List, id: u32) {
    let mut longer = std::mem::take(list).into_vec();
    longer.push(id);
    *list = longer.into();
}

impl PathIndex {
    /// Indexes the routes of one virtual host, and gives each its rank.
    pub(super) fn new(routes: &mut [Arc<CompiledRoute>]) -> Self {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_cached_key(|&position| routes.get(position).map(|route| route.order()));
        for (rank, &position) in order.iter().enumerate() {
            // Nobody else holds a route while its table is compiled.
            if let Some(route) = routes.get_mut(position).and_then(Arc::get_mut) {
                route.rank = rank as u32;
            }
        }
        let mut index = Self {
            nodes: Vec::new(),
            templates: TemplateTree::default(),
            regexes: Regexes::default(),
            any: Box::default(),
        };
        let mut regexes = Vec::new();
        let mut any = Vec::new();
        for route in order.iter().filter_map(|&position| routes.get(position)) {
            match &route.pattern {
                PathPattern::Exact(path) => push(&mut index.node(path).exact, route.id),
                PathPattern::Prefix(path) => match path.strip_suffix('/') {
                    Some(path) => push(&mut index.node(path).below, route.id),
                    None => push(&mut index.node(path).prefix, route.id),
                },
                PathPattern::Template(template) => index.templates.insert(template, route.id),
                PathPattern::Regex(regex) => regexes.push((route.id, regex)),
                PathPattern::None => any.push(route.id),
            }
        }
        index.regexes = Regexes::new(&regexes);
        index.any = any.into();
        index.nodes.shrink_to_fit();
        index
    }

    /// The node of a path, made when it is new.
    fn node(&mut self, path: &str) -> &mut Node {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        let mut length = 0;
        for segment in path.as_bytes().split(|&b| b == b'/').skip(1) {
            length += 1 + segment.len();
            let known = self.nodes.get(at).and_then(|node| node.children.get(segment));
            at = match known {
                Some(child) => child as usize,
                None => {
                    let child = self.nodes.len();
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.children.insert(segment, child as u32);
                    }
                    self.nodes.push(Node {
                        length: length as u32,
                        up: at as u32,
                        ..Node::default()
                    });
                    child
                }
            };
        }
        &mut self.nodes[at]
    }

    /// The most specific route that takes the request, and the length of its prefix.
    #[inline]
    pub(super) fn find<'a>(
        &self,
        routes: &'a [Arc<CompiledRoute>],
        request: &impl RequestView,
    ) -> Option<(&'a Arc<CompiledRoute>, usize)> {
        let path = request.path();
        let first = |ids: &[u32]| {
            ids.iter()
                .filter_map(|&id| routes.get(id as usize))
                .find(|route| route.takes(request))
        };
        if path.first() != Some(&b'/') {
            return first(&self.any).map(|route| (route, 0));
        }
        let deepest = self.walk(path);
        let ended = |node: &Node| node.length as usize == path.len();
        if let Some(route) = deepest
            .filter(|&node| ended(node))
            .and_then(|node| first(&node.exact))
        {
            return Some((route, 0));
        }
        if let Some(route) = self
            .templates
            .find(routes, request)
            .or_else(|| self.regexes.find(routes, request))
        {
            return Some((route, 0));
        }
        let mut next = deepest;
        while let Some(node) = next {
            let below = if ended(node) { None } else { first(&node.below) };
            if let Some(route) = below.or_else(|| first(&node.prefix)) {
                return Some((route, node.length as usize));
            }
            next = if node.length == 0 {
                None
            } else {
                self.nodes.get(node.up as usize)
            };
        }
        first(&self.any).map(|route| (route, 0))
    }

    /// The deepest node whose path is the path asked for, or a prefix of it on a segment border.
    #[inline]
    fn walk(&self, path: &[u8]) -> Option<&Node> {
        let mut node = self.nodes.first()?;
        while let Some(rest) = path.get(node.length as usize + 1..) {
            if matches!(node.children, Children::None) {
                break;
            }
            let length = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let child = rest.get(..length).and_then(|segment| node.children.get(segment));
            match child.and_then(|child| self.nodes.get(child as usize)) {
                Some(child) => node = child,
                None => break,
            }
        }
        Some(node)
    }
}
