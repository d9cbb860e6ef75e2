//! One form for every path (attacks.md 22).

use mesh_http1::path::{PathClass, PathError, classify_path, normalise_path};

fn normal(path: &str, keep_slashes: bool) -> Result<String, PathError> {
    let mut out = b"left over".to_vec();
    normalise_path(path.as_bytes(), keep_slashes, &mut out).map(|()| String::from_utf8(out).unwrap())
}

#[test]
fn plain_paths_are_taken_as_they_are() {
    for path in [
        "/",
        "/a",
        "/a/b.c/",
        "/a.b/c..d",
        "/a:@!$&'()*+,=-._~",
        "/a/b..",
        "/{a}|\"<>^`",
    ] {
        assert_eq!(classify_path(path.as_bytes()), PathClass::Plain, "{path}");
        assert_eq!(normal(path, false).as_deref(), Ok(path));
    }
    for path in [
        "", "a", "//", "/a//b", "/.", "/.a", "/a/../b", "/%41", "/a;b", "/a\\b", "/a?", "/a#", "/a b",
        "/\x7f", "/é",
    ] {
        assert_eq!(classify_path(path.as_bytes()), PathClass::Unusual, "{path}");
    }
}

#[test]
fn paths_have_one_form() {
    for (path, want) in [
        ("//", "/"),
        ("//a", "/a"),
        ("/a//b", "/a/b"),
        ("/a//", "/a/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a//../b", "/b"),
        ("/a/b//..//c", "/a/c"),
        ("/%61%7E%2d", "/a~-"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a/.%2e/b", "/b"),
        ("/%c3%a9%3a", "/%C3%A9%3A"),
        ("/%2561", "/%2561"),
        ("/%25%32%65", "/%252e"),
        ("/.a/..b/...", "/.a/..b/..."),
        ("/a;x=1/b;/c", "/a;x=1/b;/c"),
        ("/a..;/b", "/a..;/b"),
    ] {
        assert_eq!(normal(path, false).as_deref(), Ok(want), "{path}");
    }
    assert_eq!(normal("/a%2fb%5cc", true).as_deref(), Ok("/a%2Fb%5Cc"));
    assert_eq!(normal("/a%2f..%2fb", true).as_deref(), Ok("/a%2F..%2Fb"));
}

#[test]
fn what_servers_disagree_about_is_refused() {
    use PathError::*;
    for (path, want) in [
        ("", NotAbsolute),
        ("a/b", NotAbsolute),
        ("*", NotAbsolute),
        ("/a%2fb", EscapedSlash),
        ("/a%2Fb", EscapedSlash),
        ("/a%5cb", EscapedSlash),
        ("/a%00b", EscapedNul),
        ("/a%", InvalidEscape),
        ("/a%2", InvalidEscape),
        ("/a%2/b", InvalidEscape),
        ("/a%zz", InvalidEscape),
        ("/a%u0041", InvalidEscape),
        ("/a\\b", Backslash),
        ("/..", AboveRoot),
        ("/../a", AboveRoot),
        ("/a/../../b", AboveRoot),
        ("/a/%2e%2e/%2e%2e/b", AboveRoot),
        ("//../a", AboveRoot),
        ("/a/..;x/b", DotParameter),
        ("/a/..;/b", DotParameter),
        ("/a/.;x/b", DotParameter),
        ("/a/%2e%2e;x/b", DotParameter),
        ("/a/..%3bx/b", DotParameter),
        ("/a b", InvalidByte),
        ("/a\r\nb", InvalidByte),
        ("/é", InvalidByte),
        ("/a?b", InvalidByte),
        ("/a#b", InvalidByte),
    ] {
        assert_eq!(normal(path, false), Err(want), "{path}");
    }
    assert_eq!(normal("/a%00", true), Err(EscapedNul));
    let names: std::collections::HashSet<_> = PathError::ALL.iter().map(|error| error.as_str()).collect();
    assert_eq!(names.len(), PathError::ALL.len());
}
