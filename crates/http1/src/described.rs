//! Would a request that somebody describes be read?
//!
//! By the same reader as those that come: the head is written as a client would, and parsed. HTTP/2 refuses the same
//! hosts, methods and fields, and some more that no client can be told to send by a description.

use mesh_model::decide::{Codec, DescribedHead};
use mesh_model::errors::Reason;
use mesh_model::resources::{EscapedSlashes, ListenerLimits};

use crate::error::HeadError;
use crate::limits::Limits;
use crate::path::normalise_path;
use crate::request::RequestHead;

/// HTTP/1.1, as `mesh_model::decide` asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Http1;

impl Codec for Http1 {
    fn check_head(
        &self,
        head: &DescribedHead<'_>,
        limits: &ListenerLimits,
    ) -> Result<(), (Reason, &'static str)> {
        let limits = Limits {
            head_bytes: limits.header_bytes as usize,
            fields: limits.header_count as usize,
            ..Limits::default()
        };
        read(head, &limits).map_err(|error| (error.reason(), error.as_str()))
    }

    fn normal_path(&self, path: &[u8], slashes: EscapedSlashes) -> Result<Vec<u8>, String> {
        let mut normal = Vec::new();
        match normalise_path(path, slashes == EscapedSlashes::Keep, &mut normal) {
            Ok(()) => Ok(normal),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read(head: &DescribedHead<'_>, limits: &Limits) -> Result<(), HeadError> {
    let text = written(head)?;
    RequestHead::new().parse(&text, limits).map(drop)
}

/// The head as HTTP/1.1 has it. What would end a line, or a name, too early can't be written.
fn written(head: &DescribedHead<'_>) -> Result<Vec<u8>, HeadError> {
    let on_a_line = |part: &[u8]| !part.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    let whole = |part: &[u8], otherwise: HeadError| on_a_line(part).then_some(()).ok_or(otherwise);
    whole(head.method, HeadError::InvalidMethod)?;
    whole(head.target, HeadError::InvalidTarget)?;
    let mut text = [head.method, b" ", head.target, b" HTTP/1.1\r\n"].concat();
    for host in head.hosts {
        whole(host, HeadError::InvalidHost)?;
        write_field(&mut text, b"host", host);
    }
    if head.hosts.is_empty() {
        write_field(&mut text, b"host", b"any");
    }
    for (name, value) in head.fields {
        let name = name.as_bytes();
        whole(value, HeadError::InvalidValue)?;
        if !on_a_line(name) || name.contains(&b':') {
            return Err(HeadError::InvalidName);
        }
        write_field(&mut text, name, value);
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

fn write_field(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Said {
        method: &'static str,
        target: &'static str,
        hosts: Vec<&'static str>,
        fields: Vec<(&'static str, &'static str)>,
    }

    fn said() -> Said {
        Said {
            method: "GET",
            target: "/a?b",
            hosts: vec!["shop.test"],
            fields: vec![],
        }
    }

    fn check(said: &Said, limits: &ListenerLimits) -> Result<(), (Reason, &'static str)> {
        let hosts: Vec<_> = said.hosts.iter().map(|host| host.as_bytes().to_vec()).collect();
        let field = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let fields: Vec<_> = said.fields.iter().map(field).collect();
        let head = DescribedHead {
            method: said.method.as_bytes(),
            target: said.target.as_bytes(),
            hosts: &hosts,
            fields: &fields,
        };
        Http1.check_head(&head, limits)
    }

    #[test]
    fn requests_are_read_as_those_that_come() {
        let limits = ListenerLimits::default();
        let passes = |said: Said| assert_eq!(check(&said, &limits), Ok(()));
        passes(said());
        passes(Said {
            hosts: vec![],
            ..said()
        });
        passes(Said {
            method: "CONNECT",
            target: "a.test:1",
            hosts: vec!["a.test:1"],
            ..said()
        });
        passes(Said {
            fields: vec![("x-a", ""), ("x-a", " spaces around "), ("x-b", "\u{e9}")],
            ..said()
        });

        let host = |host| Said {
            hosts: vec![host],
            ..said()
        };
        let field = |name, value| Said {
            fields: vec![(name, value)],
            ..said()
        };
        let target = |target| Said { target, ..said() };
        let method = |method| Said { method, ..said() };
        for (said, rule) in [
            (host("user@shop.test"), "invalid_host"),
            (host("shop.test:99999"), "invalid_host"),
            (host("a,b"), "invalid_host"),
            (host("a\r\nb"), "invalid_host"),
            (host(""), "invalid_host"),
            (
                Said {
                    hosts: vec!["a", "a"],
                    ..said()
                },
                "duplicate_host",
            ),
            (
                Said {
                    method: "CONNECT",
                    target: "a.test",
                    ..said()
                },
                "invalid_authority",
            ),
            (method("G T"), "invalid_target_form"),
            (method(""), "invalid_method"),
            (method("\r\nGET"), "invalid_method"),
            (target("/\u{e9}"), "invalid_target"),
            (target("/a b"), "unsupported_version"),
            (target("/ HTTP/1.1\r\nx: y"), "invalid_target"),
            (target("*"), "invalid_target_form"),
            (field("x y", "1"), "space_before_colon"),
            (field("", "1"), "empty_field_name"),
            (field("x:y", "1"), "invalid_field_name"),
            (field("x\r\ny", "1"), "invalid_field_name"),
            (field("x", "1\r\ny: 2"), "invalid_field_value"),
            (field("x", "\0"), "invalid_field_value"),
            (field("content-length", "x"), "invalid_content_length"),
        ] {
            let found = check(&said, &limits);
            assert_eq!(found, Err((Reason::BadRequest, rule)), "{said:?}");
        }
    }

    #[test]
    fn more_than_a_listener_reads_is_too_much() {
        let limits = ListenerLimits {
            header_bytes: 1024,
            header_count: 2,
            ..ListenerLimits::default()
        };
        let many = Said {
            fields: vec![("a", "1"); 3],
            ..said()
        };
        assert_eq!(
            check(&many, &limits),
            Err((Reason::TooManyHeaders, "too_many_fields"))
        );
        let long: &'static str = Box::leak("a".repeat(2000).into_boxed_str());
        let large = Said {
            fields: vec![("a", long)],
            ..said()
        };
        assert_eq!(
            check(&large, &limits),
            Err((Reason::HeadTooLarge, "head_too_large"))
        );
        let expects = Said {
            fields: vec![("expect", "wonders")],
            ..said()
        };
        let refused = check(&expects, &limits);
        assert_eq!(refused, Err((Reason::ExpectationFailed, "expectation_failed")));
    }
}
