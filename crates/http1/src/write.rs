//! How is a head written?
//!
//! Always as HTTP/1.1 (RFC 9112 section 2.3: a proxy sends its own version), each field as `name: value`.

use crate::field::Field;
use crate::scan::{is_token, value_end};

/// Writes a head into a buffer. It never writes a field that could be read as two: one whose name is no token, or whose
/// value has a control byte, is left out.
#[derive(Debug)]
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> HeadWriter<'o> {
    /// Appends to this buffer.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// The buffer, for [`copy_fields`].
    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// `method target HTTP/1.1`. Method and target are those of a parsed head or were checked
    /// ([`crate::is_token`], [`crate::is_target`]).
    #[inline]
    pub fn request_line(&mut self, method: &[u8], target: &[u8]) {
        debug_assert!(is_token(method) && crate::is_target(target));
        self.out.reserve(method.len() + target.len() + 12);
        self.out.extend_from_slice(method);
        self.out.push(b' ');
        self.out.extend_from_slice(target);
        self.out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    /// `HTTP/1.1 status reason`. Without a reason, or with one that has control bytes, the usual one is written.
    #[inline]
    pub fn status_line(&mut self, status: u16, reason: &[u8]) {
        let reason = if reason.is_empty() || value_end(reason, 0).is_some() {
            reason_phrase(status).as_bytes()
        } else {
            reason
        };
        let digit = |n: u16| b'0' + (n % 10) as u8;
        let digits = [digit(status / 100), digit(status / 10), digit(status), b' '];
        self.out.reserve(reason.len() + 15);
        self.out.extend_from_slice(b"HTTP/1.1 ");
        self.out.extend_from_slice(&digits);
        self.out.extend_from_slice(reason);
        self.out.extend_from_slice(b"\r\n");
    }

    /// `name: value`.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        if is_token(name) && value_end(value, 0).is_none() {
            write_line(self.out, name, value);
        }
    }

    /// `Content-Length`.
    #[inline]
    pub fn content_length(&mut self, length: u64) {
        self.out.extend_from_slice(b"Content-Length: ");
        write_decimal(length, self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The blank line.
    #[inline]
    pub fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// `name: value` and CRLF.
#[inline]
pub(crate) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Copies the fields for which `keep` says so. Neighbours that are written as we would write them are copied in one
/// piece; others are written anew, in the case their names came with.
#[inline]
pub fn copy_fields(buf: &[u8], fields: &[Field], out: &mut Vec<u8>, mut keep: impl FnMut(&Field) -> bool) {
    let mut run = crate::Span::default();
    for field in fields {
        let kept = keep(field);
        if kept && field.canonical && field.line.start == run.end {
            run.end = field.line.end;
            continue;
        }
        out.extend_from_slice(run.of(buf));
        run = crate::Span::default();
        if kept && field.canonical {
            run = field.line;
        } else if kept {
            write_line(out, field.name.of(buf), field.value.of(buf));
        }
    }
    out.extend_from_slice(run.of(buf));
}

fn write_decimal(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal(n, &mut [0; 20]));
}

/// Decimal digits, without formatting machinery.
pub fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
        used += 1;
        if n == 0 {
            break;
        }
    }
    digits.get(20 - used..).unwrap_or_default()
}

/// Hexadecimal digits, upper case as the RFC's examples.
pub(crate) fn write_hex(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 16];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        let value = (n & 15) as u8;
        *digit = if value < 10 {
            b'0' + value
        } else {
            b'A' + value - 10
        };
        n >>= 4;
        used += 1;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(16 - used..).unwrap_or_default());
}

/// The usual reason phrase of a status (RFC 9110 section 15 and the IANA registry); empty for those without.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}
