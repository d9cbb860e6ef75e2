//! What does one line of the access log look like?
//!
//! One JSON object a line, absent fields left out. Bytes of clients go in as they came, as far as JSON can say them:
//! text that is UTF-8 stays, control characters are escaped (also those above ASCII, which some terminals obey), and a
//! byte that is no UTF-8 becomes the four characters `\xHH`.
//!
//! Invariants: every line parses as JSON, holds no raw line break and ends with one; its length is bounded, whatever a
//! client sends; nothing is allocated but what the buffer grows by.

use std::io::Write;
use std::net::SocketAddr;

use mesh_model::errors::Reason;
use mesh_model::resources::Address;

use super::super::labels::Protocol;
use crate::telemetry::Nanos;

/// Longer values are cut here and end with `…`: a line is for finding a request, not for keeping it.
pub const VALUE_BYTES: usize = 2048;

/// A finished request, call or stream.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it ended, in milliseconds since 1970.
    pub time_ms: u64,
    /// The listener that accepted the connection.
    pub listener: &'a str,
    /// The route that took it.
    pub route: Option<&'a str>,
    /// The cluster it went to.
    pub cluster: Option<&'a str>,
    /// The address of the server that got it last.
    pub endpoint: Option<&'a Address>,
    /// What was spoken with the client.
    pub protocol: Protocol,
    /// The method, as it came.
    pub method: Option<&'a [u8]>,
    /// The authority, as it came.
    pub host: Option<&'a [u8]>,
    /// Path and query, as they came.
    pub path: Option<&'a [u8]>,
    /// The status the client got.
    pub status: Option<u16>,
    /// The `grpc-status` the client got.
    pub grpc_status: Option<u32>,
    /// Why the proxy answered or closed by itself. Gives `reason` and `layer`.
    pub reason: Option<Reason>,
    /// From the head's last byte to the response's last byte.
    pub duration: Nanos,
    /// Tries after the first.
    pub retries: Option<u32>,
    /// Bytes of the body or stream from the client.
    pub bytes_in: u64,
    /// Bytes of the body or stream to the client.
    pub bytes_out: u64,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The `x-request-id` it was forwarded with.
    pub request_id: Option<&'a [u8]>,
    /// The client's `user-agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The version of TLS, such as `1.3`; absent without TLS.
    pub tls: Option<&'a str>,
    /// The name that the client asked for in its TLS handshake.
    pub sni: Option<&'a str>,
    /// The name in the certificate that the client showed.
    pub peer: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// A record with what every line has.
    pub fn new(time_ms: u64, listener: &'a str, protocol: Protocol) -> Self {
        Self {
            time_ms,
            listener,
            route: None,
            cluster: None,
            endpoint: None,
            protocol,
            method: None,
            host: None,
            path: None,
            status: None,
            grpc_status: None,
            reason: None,
            duration: 0,
            retries: None,
            bytes_in: 0,
            bytes_out: 0,
            client: None,
            request_id: None,
            user_agent: None,
            tls: None,
            sni: None,
            peer: None,
        }
    }
}

impl Record<'_> {
    /// Appends the record as a line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.time_ms, out);
        out.push(b'"');
        text("listener", Some(self.listener.as_bytes()), out);
        text("route", self.route.map(str::as_bytes), out);
        text("cluster", self.cluster.map(str::as_bytes), out);
        match self.endpoint {
            Some(Address::Ip(address)) => {
                key("endpoint", out);
                push(out, format_args!("\"{address}\""));
            }
            Some(Address::Unix(path)) => text("endpoint", Some(path.as_bytes()), out),
            None => {}
        }
        text("protocol", Some(self.protocol.as_str().as_bytes()), out);
        text("method", self.method, out);
        text("host", self.host, out);
        text("path", self.path, out);
        number("status", self.status.map(u64::from), out);
        number("grpc_status", self.grpc_status.map(u64::from), out);
        if let Some(reason) = self.reason {
            text("reason", Some(reason.as_str().as_bytes()), out);
            text("layer", Some(reason.layer().as_str().as_bytes()), out);
        }
        key("duration_ms", out);
        write_millis(self.duration, out);
        number("retries", self.retries.map(u64::from), out);
        number("bytes_in", Some(self.bytes_in), out);
        number("bytes_out", Some(self.bytes_out), out);
        if let Some(client) = self.client {
            key("client", out);
            push(out, format_args!("\"{client}\""));
        }
        text("request_id", self.request_id, out);
        text("user_agent", self.user_agent, out);
        text("tls", self.tls.map(str::as_bytes), out);
        text("sni", self.sni.map(str::as_bytes), out);
        text("peer", self.peer.map(str::as_bytes), out);
        out.extend_from_slice(b"}\n");
    }
}

fn push(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory can't fail.
    let _ = out.write_fmt(arguments);
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        out.push(b'"');
        match value.get(..VALUE_BYTES) {
            Some(cut) if value.len() > VALUE_BYTES => {
                escape(whole_characters(cut), out);
                out.extend_from_slice("…".as_bytes());
            }
            _ => escape(value, out),
        }
        out.push(b'"');
    }
}

fn number(name: &str, value: Option<u64>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        decimal(value, 1, out);
    }
}

/// Appends a number of at least `width` digits. Without the machinery of `fmt`: a line has a dozen.
fn decimal(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if value == 0 && used >= width {
            break;
        }
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Without the character that a cut left incomplete at the end.
fn whole_characters(cut: &[u8]) -> &[u8] {
    match std::str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() => cut.get(..error.valid_up_to()).unwrap_or(cut),
        _ => cut,
    }
}

/// Appends bytes as the inside of a JSON string.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                // Line and paragraph separators end a line for JavaScript and some tools.
                _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                    push(out, format_args!("\\u{:04x}", u32::from(character)));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            push(out, format_args!("\\\\x{byte:02X}"));
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Milliseconds with three digits behind the point.
fn write_millis(nanos: Nanos, out: &mut Vec<u8>) {
    let micros = nanos / 1000;
    decimal(micros / 1000, 1, out);
    out.push(b'.');
    decimal(micros % 1000, 3, out);
}

/// RFC 3339 in UTC with milliseconds. The days are counted as in Howard Hinnant's `civil_from_days`.
pub(crate) fn write_time(ms: u64, out: &mut Vec<u8>) {
    let seconds = ms / 1000;
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (seconds / 3600 % 24, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (ms % 1000, 3, b'Z'),
    ];
    for (value, width, end) in parts {
        decimal(value, width, out);
        out.push(end);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::telemetry::access_log) fn record() -> Record<'static> {
        Record::new(1_700_000_000_123, "web", Protocol::Http1)
    }

    fn parse(record: &Record<'_>) -> Value {
        let mut line = Vec::new();
        record.write(&mut line);
        let (end, inside) = line.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(
            inside.iter().all(|byte| *byte >= b' '),
            "no control byte inside a line"
        );
        serde_json::from_slice(inside).unwrap()
    }

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_full_line() {
        let endpoint = "127.0.0.1:3001".parse().unwrap();
        let record = Record {
            route: Some("api"),
            cluster: Some("shop"),
            endpoint: Some(&endpoint),
            method: Some(b"GET"),
            host: Some(b"shop.test"),
            path: Some(b"/a?b=\"c\""),
            status: Some(503),
            grpc_status: Some(14),
            reason: Some(Reason::Overloaded),
            duration: 1_234_567_890,
            bytes_in: 10,
            bytes_out: u64::MAX,
            client: Some("[::1]:4000".parse().unwrap()),
            request_id: Some(b"r-1"),
            user_agent: Some(b"curl/8"),
            retries: Some(2),
            tls: Some("1.3"),
            sni: Some("shop.test"),
            peer: Some("spiffe://mesh/ns/shop/sa/web"),
            ..record()
        };
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z", "listener": "web", "route": "api", "cluster": "shop",
            "endpoint": "127.0.0.1:3001", "protocol": "http1", "method": "GET", "host": "shop.test",
            "path": "/a?b=\"c\"", "status": 503, "grpc_status": 14, "reason": "overloaded", "layer": "proxy",
            "duration_ms": 1234.567, "retries": 2, "bytes_in": 10, "bytes_out": u64::MAX, "client": "[::1]:4000",
            "request_id": "r-1", "user_agent": "curl/8", "tls": "1.3",
            "sni": "shop.test", "peer": "spiffe://mesh/ns/shop/sa/web",
        });
        assert_eq!(parse(&record), expected);
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z", "listener": "web", "protocol": "http1",
            "duration_ms": 0.0, "bytes_in": 0, "bytes_out": 0,
        });
        assert_eq!(parse(&record()), expected);
    }

    #[test]
    fn dates() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut out = Vec::new();
            write_time(ms, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn no_byte_of_a_client_leaves_its_string() {
        assert_eq!(escaped(b"plain ~"), "plain ~");
        assert_eq!(
            escaped(b"\"\\\n\r\t\0\x1b\x7f"),
            r#"\"\\\n\r\t\u0000\u001b\u007f"#
        );
        assert_eq!(escaped("ä\u{9b}\u{2028}😀".as_bytes()), "ä\\u009b\\u2028😀");
        assert_eq!(escaped(b"a\xff\xc3("), r"a\\xFF\\xC3(");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = format!("{}{}", "a".repeat(VALUE_BYTES - 1), "ä".repeat(10));
        let value = parse(&Record {
            path: Some(long.as_bytes()),
            ..record()
        });
        assert_eq!(value["path"], format!("{}…", "a".repeat(VALUE_BYTES - 1)));
        let exact = vec![0xff; VALUE_BYTES];
        let value = parse(&Record {
            path: Some(&exact),
            ..record()
        });
        assert_eq!(value["path"], r"\xFF".repeat(VALUE_BYTES));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_back(
            path in prop::collection::vec(any::<u8>(), 0..VALUE_BYTES * 2),
            agent in any::<String>(),
        ) {
            let value = parse(&Record {
                path: Some(&path),
                user_agent: Some(agent.as_bytes()),
                ..record()
            });
            let shown = value["path"].as_str().unwrap();
            if path.len() <= VALUE_BYTES {
                let expected: String = path.utf8_chunks().fold(String::new(), |mut text, chunk| {
                    text.push_str(chunk.valid());
                    chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
                    text
                });
                prop_assert_eq!(shown, expected);
            } else {
                prop_assert!(shown.ends_with('…'));
            }
            if agent.len() <= VALUE_BYTES {
                prop_assert_eq!(value["user_agent"].as_str().unwrap(), agent);
            }
        }
    }
}
