//! Which route of one host takes this path?
//!
//! Exact paths and prefixes share a tree of literal segments: one walk down finds the exact node, and the deepest node
//! reached leads up through the prefixes, longest first. The walk is as deep as the longest configured path, however
//! long the path asked for.

use std::ops::Range;

use crate::hosts::{ByteKey, ByteMap, byte_map};

use super::RequestView;
use super::compiled::{CompiledRoute, Routes};
use super::regexes::Regexes;
use super::specificity::PathPattern;
use super::templates::TemplateTree;

/// The routes of one virtual host, in one cache line: there may be ten thousand hosts.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct PathIndex {
    /// The root first; it stands for the empty path before the first `/`. Empty when no route is literal.
    nodes: Box<[Node]>,
    /// Lists of more than one route.
    lists: Box<[Vec<u32>]>,
    /// Routes without a path condition.
    any: List,
    templates: Option<Box<TemplateTree>>,
    regexes: Option<Box<Regexes>>,
}

/// In one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
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

/// Routes, the most specific first.
#[derive(Clone, Copy, Debug, Default)]
enum List {
    #[default]
    Empty,
    One([u32; 1]),
    /// Which of [`PathIndex::lists`].
    Several(u32),
}

#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    One(Box<[u8]>, u32),
    Many(Box<ByteMap<u32>>),
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

    fn each(&mut self, change: impl FnMut(&mut u32)) {
        match self {
            Self::None => {}
            Self::One(_, child) => std::iter::once(child).for_each(change),
            Self::Many(children) => children.values_mut().for_each(change),
        }
    }

    fn insert(&mut self, segment: &[u8], child: u32) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(segment.into(), child),
            Self::One(only, first) => {
                let mut children = byte_map();
                children.insert(ByteKey::from_slice(&only), first);
                children.insert(segment.into(), child);
                Self::Many(Box::new(children))
            }
            Self::Many(mut children) => {
                children.insert(segment.into(), child);
                Self::Many(children)
            }
        };
    }
}

impl Node {
    /// The route, where it is by prefix and nothing else is here.
    fn leaf(&self) -> Option<u32> {
        match (&self.children, self.exact, self.prefix, self.below) {
            (Children::None, List::Empty, List::One([id]), List::Empty) if self.length > 0 => Some(id),
            _ => None,
        }
    }
}

impl List {
    fn push(&mut self, id: u32, lists: &mut Vec<Vec<u32>>) {
        *self = match *self {
            Self::Empty => Self::One([id]),
            Self::One([first]) => {
                lists.push(vec![first, id]);
                Self::Several(lists.len() as u32 - 1)
            }
            Self::Several(at) => {
                if let Some(list) = lists.get_mut(at as usize) {
                    list.push(id);
                }
                Self::Several(at)
            }
        };
    }

    #[inline]
    fn ids<'a>(&'a self, lists: &'a [Vec<u32>]) -> &'a [u32] {
        match self {
            Self::Empty => &[],
            Self::One(only) => only,
            Self::Several(at) => lists.get(*at as usize).map_or(&[], Vec::as_slice),
        }
    }
}

impl PathIndex {
    /// Indexes the routes of one virtual host, and gives each its rank.
    pub(super) fn new(routes: &mut Routes, of_host: Range<u32>) -> Self {
        let mut order: Vec<u32> = of_host.collect();
        order.sort_by_cached_key(|&id| routes.get(id).map(CompiledRoute::order));
        for (rank, &id) in (0..).zip(&order) {
            routes.rank(id, rank);
        }
        let mut nodes = Vec::new();
        let mut lists = Vec::new();
        let mut any = List::Empty;
        let mut templates = TemplateTree::default();
        let mut regexes = Vec::new();
        for route in order.iter().filter_map(|&id| routes.get(id)) {
            let list = match route.pattern() {
                PathPattern::Exact(path) => &mut node(&mut nodes, path).exact,
                PathPattern::Prefix(path) => match path.strip_suffix('/') {
                    Some(path) => &mut node(&mut nodes, path).below,
                    None => &mut node(&mut nodes, path).prefix,
                },
                PathPattern::Template(template) => {
                    templates.insert(template, route.id());
                    continue;
                }
                PathPattern::Regex(regex) => {
                    regexes.push((route.id(), regex));
                    continue;
                }
                PathPattern::None => &mut any,
            };
            list.push(route.id(), &mut lists);
        }
        Self {
            nodes: without_leaves(nodes),
            lists: lists.into(),
            any,
            templates: (!templates.is_empty()).then(|| Box::new(templates)),
            regexes: (!regexes.is_empty()).then(|| Box::new(Regexes::new(&regexes))),
        }
    }

    /// The route that takes every request, if there is no other one.
    pub(super) fn only(&self, routes: &Routes, of_host: Range<u32>) -> Option<u32> {
        let List::One([id]) = self.any else {
            return None;
        };
        let alone = of_host.len() == 1 && routes.get(id)?.conditions().is_none();
        alone.then_some(id)
    }

    /// The most specific route that takes the request, and the length of its prefix.
    #[inline]
    pub(super) fn find<'a>(
        &self,
        routes: &'a Routes,
        request: &impl RequestView,
    ) -> Option<(CompiledRoute<'a>, usize)> {
        let path = request.path();
        let first = |list: &List| {
            list.ids(&self.lists)
                .iter()
                .filter_map(|&id| routes.get(id))
                .find(|route| route.takes(request))
        };
        if path.first() != Some(&b'/') {
            return first(&self.any).map(|route| (route, 0));
        }
        let mut leaf = Node::default();
        let deepest = self.walk(path, &mut leaf);
        let ended = |node: &Node| node.length as usize == path.len();
        if let Some(route) = deepest
            .filter(|&node| ended(node))
            .and_then(|node| first(&node.exact))
        {
            return Some((route, 0));
        }
        let templates = || self.templates.as_ref()?.find(routes, request);
        let regexes = || self.regexes.as_ref()?.find(routes, request);
        if let Some(route) = templates().or_else(regexes) {
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

    /// The deepest node whose path is the path asked for, or a prefix of it on a segment border. `leaf` is where one is made
    /// that is no more than the number of its route.
    #[inline]
    fn walk<'a>(&'a self, path: &[u8], leaf: &'a mut Node) -> Option<&'a Node> {
        let mut at = 0;
        let mut node = self.nodes.first()?;
        while let Some(rest) = path.get(node.length as usize + 1..) {
            if matches!(node.children, Children::None) {
                break;
            }
            let length = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let child = rest.get(..length).and_then(|segment| node.children.get(segment));
            let Some(child) = child else {
                break;
            };
            if child & LEAF != 0 {
                leaf.length = node.length + 1 + length as u32;
                leaf.up = at;
                leaf.prefix = List::One([child & !LEAF]);
                return Some(leaf);
            }
            match self.nodes.get(child as usize) {
                Some(below) => (at, node) = (child, below),
                None => break,
            }
        }
        Some(node)
    }
}

/// Marks a child that is the number of a route: a node with nothing but one route by prefix. So it is in tables of many
/// prefixes, and no node has to be looked at.
const LEAF: u32 = 1 << 31;

/// The nodes without those that are no more than a route's number.
fn without_leaves(nodes: Vec<Node>) -> Box<[Node]> {
    let mut values = Vec::with_capacity(nodes.len());
    let mut stays = 0;
    for node in &nodes {
        let value = node.leaf().map_or(stays, |id| id | LEAF);
        stays += u32::from(value & LEAF == 0);
        values.push(value);
    }
    let moved = |old: u32| values.get(old as usize).copied().unwrap_or_default();
    let kept = nodes.into_iter().filter(|node| node.leaf().is_none());
    kept.map(|mut node| {
        node.up = moved(node.up);
        node.children.each(|child| *child = moved(*child));
        node
    })
    .collect()
}

/// The node of a path, made when it is new.
fn node<'a>(nodes: &'a mut Vec<Node>, path: &str) -> &'a mut Node {
    if nodes.is_empty() {
        nodes.push(Node::default());
    }
    let mut at = 0;
    let mut length = 0;
    for segment in path.as_bytes().split(|&b| b == b'/').skip(1) {
        length += 1 + segment.len();
        let known = nodes.get(at).and_then(|node| node.children.get(segment));
        at = match known {
            Some(child) => child as usize,
            None => {
                let child = nodes.len();
                if let Some(node) = nodes.get_mut(at) {
                    node.children.insert(segment, child as u32);
                }
                nodes.push(Node {
                    length: length as u32,
                    up: at as u32,
                    ..Node::default()
                });
                child
            }
        };
    }
    &mut nodes[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_look_up_reads_is_a_cache_line_each() {
        assert_eq!(size_of::<Node>(), 64);
        assert_eq!(size_of::<PathIndex>(), 64);
    }
}
