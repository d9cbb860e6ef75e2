//! What changes on the way: headers, the path, the host; and where does a redirect point?
//!
//! Edits are compiled once. For each header that passes, [`CompiledEdits::drops`] is one bit test unless a name of the
//! same length is edited. Paths are handed in and out in normal form.

use crate::resources::{HeaderEdits, PathRewrite, Redirect};

/// Header edits, ready to apply: drop what [`CompiledEdits::drops`], then append [`CompiledEdits::additions`]. Mostly there
/// are none, and then nothing is looked at.
#[derive(Clone, Debug, Default)]
pub struct CompiledEdits(Option<Box<Edits>>);

#[derive(Clone, Debug)]
struct Edits {
    /// Names to drop, lower case: those removed and those set.
    dropped: Box<[Box<str>]>,
    /// Which lengths those names have: bit `length % 64`.
    lengths: u64,
    /// Lower-case name and value: those set, then those added.
    additions: Box<[(Box<str>, Box<str>)]>,
}

impl CompiledEdits {
    /// Nothing is changed.
    pub(crate) const NONE: Self = Self(None);

    /// Compiles edits. A name that is set twice keeps its last value.
    pub fn new(edits: &HeaderEdits) -> Self {
        if edits.is_empty() {
            return Self::default();
        }
        let lower = |name: &str| name.to_ascii_lowercase().into_boxed_str();
        let set: Vec<_> = edits
            .set
            .iter()
            .map(|header| (lower(&header.name), header.value.as_str().into()))
            .collect();
        let mut dropped: Vec<_> = edits.remove.iter().map(|name| lower(name)).collect();
        dropped.extend(set.iter().map(|(name, _)| name.clone()));
        dropped.sort();
        dropped.dedup();
        let last = |at: usize, name: &str| !set.iter().skip(at + 1).any(|(later, _)| **later == *name);
        let mut additions: Vec<(Box<str>, Box<str>)> = set
            .iter()
            .enumerate()
            .filter(|(at, (name, _))| last(*at, name))
            .map(|(_, header)| header.clone())
            .collect();
        additions.extend(
            edits
                .add
                .iter()
                .map(|header| (lower(&header.name), header.value.as_str().into())),
        );
        Self(Some(Box::new(Edits {
            lengths: dropped
                .iter()
                .fold(0, |lengths, name| lengths | length_bit(name.len())),
            dropped: dropped.into(),
            additions: additions.into(),
        })))
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a header that came (name in any case) is not sent on.
    #[inline]
    pub fn drops(&self, name: &[u8]) -> bool {
        self.0.as_deref().is_some_and(|edits| edits.drops(name))
    }

    /// Lower-case names and values to append, in order.
    #[inline]
    pub fn additions(&self) -> impl Iterator<Item = (&str, &str)> {
        let additions = self.0.as_deref().map_or(&[][..], |edits| &*edits.additions);
        additions.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl Edits {
    #[inline]
    fn drops(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name.len()) != 0
            && self
                .dropped
                .iter()
                .any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name))
    }
}

const fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

/// Appends the path that is sent on to `out`, and says whether it is another than the one that came; if not, `out` is
/// untouched. `prefix_len` is [`Matched::prefix_len`](crate::route::Matched::prefix_len). A request without a path
/// (CONNECT, `OPTIONS *`) keeps what it has.
pub fn rewrite_path(to: Option<&PathRewrite>, path: &[u8], prefix_len: usize, out: &mut Vec<u8>) -> bool {
    match to {
        Some(rewrite) if path.starts_with(b"/") => {
            rewritten(rewrite, path, prefix_len, out);
            true
        }
        _ => false,
    }
}

fn rewritten(rewrite: &PathRewrite, path: &[u8], prefix_len: usize, out: &mut Vec<u8>) {
    match rewrite {
        PathRewrite::Full(full) => out.extend_from_slice(full.as_bytes()),
        PathRewrite::Prefix(replacement) => match path.get(prefix_len..) {
            // The prefix ends on a segment border: the rest is empty or starts with `/`.
            Some(rest) if !rest.is_empty() => {
                out.extend_from_slice(replacement.trim_end_matches('/').as_bytes());
                out.extend_from_slice(rest);
            }
            _ if replacement.is_empty() => out.push(b'/'),
            _ => out.extend_from_slice(replacement.as_bytes()),
        },
    }
}

/// The `location` of a redirect: the parts it names, and of the request's the others; the query is always kept.
/// When the scheme changes and the host is kept, its port goes: it belongs to the other scheme. Without any host
/// (HTTP/1.0) the location is relative. Bytes that can't stand in a header are percent-encoded.
pub fn redirect_location(
    redirect: &Redirect,
    scheme: &str,
    host: &[u8],
    path: &[u8],
    query: &[u8],
    prefix_len: usize,
) -> String {
    let target = redirect.scheme.as_deref().unwrap_or(scheme);
    let mut location = Vec::with_capacity(16 + host.len() + path.len() + query.len());
    let host = match &redirect.host {
        Some(host) => host.as_bytes(),
        None if target != scheme => without_port(host),
        None => host,
    };
    if !host.is_empty() {
        location.extend_from_slice(target.as_bytes());
        location.extend_from_slice(b"://");
        location.extend_from_slice(host);
    }
    match &redirect.path {
        Some(rewrite) => rewritten(rewrite, path, prefix_len, &mut location),
        None if path.starts_with(b"/") => location.extend_from_slice(path),
        None => location.push(b'/'),
    }
    if !query.is_empty() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut text = String::with_capacity(location.len());
    for byte in location {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            let digit = |value: u8| {
                char::from_digit(value.into(), 16)
                    .unwrap_or('0')
                    .to_ascii_uppercase()
            };
            text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

/// The host without its port; a final dot stays.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&b| matches!(b, b':' | b']')) {
        Some(at) if host.get(at) == Some(&b':') => host.get(..at).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::resources::HeaderValue;

    fn header(name: &str, value: &str) -> HeaderValue {
        HeaderValue {
            name: name.into(),
            value: value.into(),
        }
    }

    #[test]
    fn headers_are_removed_set_and_added() {
        let edits = CompiledEdits::new(&HeaderEdits {
            remove: vec!["X-Old".into()],
            set: vec![header("X-A", "1"), header("x-a", "2")],
            add: vec![header("x-a", "3"), header("X-Old", "4")],
        });
        assert!(edits.drops(b"x-old") && edits.drops(b"X-OLD") && edits.drops(b"X-a"));
        assert!(!edits.drops(b"x-b") && !edits.drops(b"") && !edits.drops(b"x-older"));
        assert_eq!(
            edits.additions().collect::<Vec<_>>(),
            [("x-a", "2"), ("x-a", "3"), ("x-old", "4")]
        );
        assert!(CompiledEdits::new(&HeaderEdits::default()).is_empty());
        assert!(!CompiledEdits::default().drops(b"x"));
    }

    #[test]
    fn paths_are_rewritten() {
        let rewrite = |rewrite: PathRewrite, path: &str, prefix: &str| {
            let mut out = Vec::new();
            rewrite_path(
                Some(&rewrite),
                path.as_bytes(),
                prefix.trim_end_matches('/').len(),
                &mut out,
            )
            .then(|| String::from_utf8(out).unwrap())
        };
        let by_prefix =
            |path, prefix, with: &str| rewrite(PathRewrite::Prefix(with.into()), path, prefix).unwrap();
        assert_eq!(by_prefix("/api/x", "/api", "/v2"), "/v2/x");
        assert_eq!(by_prefix("/api/x", "/api/", "/v2"), "/v2/x");
        assert_eq!(by_prefix("/api/x", "/api", "/v2/"), "/v2/x");
        assert_eq!(by_prefix("/api/x", "/api", "/"), "/x");
        assert_eq!(by_prefix("/api", "/api", "/"), "/");
        assert_eq!(by_prefix("/api", "/api", ""), "/");
        assert_eq!(by_prefix("/api", "/api", "/v2/"), "/v2/");
        assert_eq!(by_prefix("/api/", "/api", "/v2"), "/v2/");
        assert_eq!(by_prefix("/x", "/", "/v2"), "/v2/x");
        assert_eq!(by_prefix("/", "/", "/v2"), "/v2/");
        assert_eq!(
            rewrite(PathRewrite::Full("/one".into()), "/x/y", "").unwrap(),
            "/one"
        );
        assert_eq!(rewrite(PathRewrite::Full("/one".into()), "*", ""), None);
        assert_eq!(rewrite(PathRewrite::Full("/one".into()), "", ""), None);
        assert!(!rewrite_path(None, b"/x", 0, &mut Vec::new()));
    }

    #[test]
    fn redirects_point_somewhere() {
        let base = Redirect {
            status: 302,
            scheme: None,
            host: None,
            path: None,
        };
        let to_https = Redirect {
            scheme: Some("https".into()),
            ..base.clone()
        };
        let at = |redirect: &Redirect, host: &str, path: &str, query: &str, prefix_len| {
            redirect_location(
                redirect,
                "http",
                host.as_bytes(),
                path.as_bytes(),
                query.as_bytes(),
                prefix_len,
            )
        };
        assert_eq!(
            at(&to_https, "shop.test:8080", "/a", "b=1", 0),
            "https://shop.test/a?b=1"
        );
        assert_eq!(at(&to_https, "[::1]:80", "/", "", 0), "https://[::1]/");
        assert_eq!(at(&to_https, "[::1]", "/", "", 0), "https://[::1]/");
        let host = Redirect {
            host: Some("new.test:81".into()),
            ..base.clone()
        };
        assert_eq!(at(&host, "shop.test:8080", "/a", "", 0), "http://new.test:81/a");
        let path = Redirect {
            path: Some(PathRewrite::Prefix("/v2".into())),
            ..base.clone()
        };
        assert_eq!(
            at(&path, "shop.test:8080", "/api/x", "", 4),
            "http://shop.test:8080/v2/x"
        );
        assert_eq!(at(&path, "", "/api/x", "", 4), "/v2/x");
        assert_eq!(at(&host, "", "*", "", 0), "http://new.test:81/");
        assert_eq!(
            redirect_location(&base, "http", b"h", b"/\xff\r\n ", b"\"", 0),
            "http://h/%FF%0D%0A%20?\""
        );
    }
    fn headers() -> impl Strategy<Value = Vec<HeaderValue>> {
        let one = ("[xyXY]{1,2}", "[12]").prop_map(|(name, value)| header(&name, &value));
        vec(one, 0..5)
    }

    proptest! {
        #[test]
        fn edits_are_those_made_one_after_another(
            came in headers(), remove in vec("[xyXY]{1,2}", 0..3), set in headers(), add in headers(),
        ) {
            let edits = HeaderEdits { remove, set, add };
            let mut expected = came.clone();
            let without = |list: &mut Vec<HeaderValue>, name: &str| {
                list.retain(|header| !header.name.eq_ignore_ascii_case(name));
            };
            for name in &edits.remove {
                without(&mut expected, name);
            }
            for header in &edits.set {
                without(&mut expected, &header.name);
                expected.push(header.clone());
            }
            expected.extend(edits.add.iter().cloned());

            let compiled = CompiledEdits::new(&edits);
            let kept = came.iter().filter(|header| !compiled.drops(header.name.as_bytes()));
            let kept = kept.map(|header| (header.name.to_ascii_lowercase(), header.value.clone()));
            let added = compiled.additions().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let expected = expected.into_iter().map(|header| (header.name.to_ascii_lowercase(), header.value));
            prop_assert_eq!(kept.chain(added).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }

        #[test]
        fn a_rewritten_path_is_a_path(
            prefix in "(/[ab]){0,2}/?", rest in "(/[ab]){0,2}/?", with in "(/[cd]){0,2}/?",
        ) {
            // A prefix that ends in `/` is matched without it; the rest then begins with it.
            let length = prefix.trim_end_matches('/').len();
            let path = match format!("{}{rest}", &prefix[..length]) {
                path if path.is_empty() => "/".to_owned(),
                path => path,
            };
            let mut out = Vec::new();
            rewritten(&PathRewrite::Prefix(with.clone()), path.as_bytes(), length, &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert!(text.starts_with('/') && !text.contains("//"), "{} with {} is {}", path, with, text);
            prop_assert!(text.starts_with(with.trim_end_matches('/')));
            prop_assert!(text.ends_with(&rest));
        }
    }
}
