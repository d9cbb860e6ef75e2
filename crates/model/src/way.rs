//! Which headers say how a request came here?
//!
//! A client that is not trusted says nothing of this: what it sends of it is not passed on, and nothing goes by it. Who
//! called is said by no client at all: a certificate proves it.

/// Tells an application which workload calls it.
pub const PEER: &str = "x-mesh-peer";

/// Says by which scheme the client came.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The scheme that the client came by, as believed values of [`FORWARDED_PROTO`] say it: that of the first proxy, where
/// there are several. `None` where they say neither `http` nor `https`.
pub fn scheme<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'static str> {
    let first = values.next()?.split(|byte| *byte == b',').next()?.trim_ascii();
    ["https", "http"]
        .into_iter()
        .find(|scheme| first.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// Whether a name, in any case, says how a request came here, or says it to some servers: `forwarded`, any
/// `x-forwarded-*`, what the mesh's own proxies say, and names that CGI and its children take for these
/// (`X_Forwarded_For`).
pub fn is_of_the_way(name: &[u8]) -> bool {
    if !matches!(name, [b'x' | b'X', b'-' | b'_', ..]) {
        return name.eq_ignore_ascii_case(b"forwarded");
    }
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|start| reads_as(start, with));
    begins(b"x-forwarded-")
        || begins(b"x-mesh-")
        || reads_as(name, b"x-real-ip")
        || reads_as(name, b"x-request-id")
}

/// Whether a name, in any case, says who called, or says it to some servers.
pub fn is_peer(name: &[u8]) -> bool {
    reads_as(name, PEER.as_bytes())
}

/// Whether a name is this one, which is in lower case, to servers that don't tell `_` from `-`.
fn reads_as(name: &[u8], other: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
    name.len() == other.len() && name.iter().zip(other).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_how_a_request_came() {
        for name in [
            "forwarded",
            "Forwarded",
            "x-forwarded-prefix",
            "X-Forwarded-Ssl",
            "X_Forwarded_For",
            "x_forwarded-host",
            "X-Mesh-Peer",
            "x_real_ip",
            "x_request_id",
        ] {
            assert!(is_of_the_way(name.as_bytes()), "{name}");
        }
        for name in [
            "x-forwarded",
            "x-real-ip-2",
            "x-request-idx",
            "xforwarded-for",
            "x-meshed",
            "forwarded-for",
            "accept",
            "x",
        ] {
            assert!(!is_of_the_way(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn schemes() {
        let said = |values: &[&'static str]| scheme(values.iter().map(|value| value.as_bytes()));
        assert_eq!(said(&["https"]), Some("https"));
        assert_eq!(said(&["HTTP"]), Some("http"));
        assert_eq!(said(&["https, http"]), Some("https"));
        assert_eq!(said(&["http", "https"]), Some("http"));
        for neither in [&[][..], &[""], &["wss"], &["httpss"], &[", https"]] {
            assert_eq!(said(neither), None, "{neither:?}");
        }
    }

    #[test]
    fn names_that_say_who_called() {
        for name in [
            "x-mesh-peer",
            "X-Mesh-Peer",
            "X_Mesh_Peer",
            "x_mesh-peer",
            "X-MESH_PEER",
        ] {
            assert!(is_peer(name.as_bytes()), "{name}");
            assert!(is_of_the_way(name.as_bytes()), "{name}");
        }
        for name in ["x-mesh-peers", "x-mesh-pee", "xmesh-peer", "x-mesh.peer", ""] {
            assert!(!is_peer(name.as_bytes()), "{name}");
        }
    }
}
