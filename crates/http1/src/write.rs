//! Heads written: start lines, fields, and whole runs of fields copied from a head that came.

use crate::field::Field;

/// Writes one head to the end of a buffer.
pub struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> HeadWriter<'o> {
    /// A writer that appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// The buffer.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// `METHOD target HTTP/1.1`
    pub fn request_line(&mut self, method: &[u8], target: &[u8]) {
        self.out.reserve(method.len() + target.len() + 256);
        self.out.extend_from_slice(method);
        self.out.push(b' ');
        self.out.extend_from_slice(target);
        self.out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    /// `HTTP/1.1 status reason`; the usual phrase when `reason` is empty.
    pub fn status_line(&mut self, status: u16, reason: &[u8]) {
        self.out.extend_from_slice(b"HTTP/1.1 ");
        let digit = |n: u16| b'0' + (n % 10) as u8;
        self.out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
        self.out.extend_from_slice(if reason.is_empty() { phrase(status).as_bytes() } else { reason });
        self.out.extend_from_slice(b"\r\n");
    }

    /// `name: value`
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    /// `Content-Length: n`
    pub fn content_length(&mut self, n: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = n;
        loop {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + (rest % 10) as u8;
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.field(b"Content-Length", digits.get(at..).unwrap_or_default());
    }

    /// The blank line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends the fields that `keep` wants. Neighbours that stay and are written canonically are copied in one piece;
/// others get one space behind the colon and none at the end.
pub fn copy_fields(buf: &[u8], fields: &[Field], out: &mut Vec<u8>, mut keep: impl FnMut(&Field) -> bool) {
    let mut run: Option<(u32, u32)> = None;
    let flush = |run: &mut Option<(u32, u32)>, out: &mut Vec<u8>| {
        if let Some((start, end)) = run.take() {
            out.extend_from_slice(buf.get(start as usize..end as usize).unwrap_or_default());
        }
    };
    for field in fields {
        if !keep(field) {
            continue;
        }
        if field.canonical {
            match &mut run {
                Some((_, end)) if *end == field.line.start => *end = field.line.end,
                _ => {
                    flush(&mut run, out);
                    run = Some((field.line.start, field.line.end));
                }
            }
        } else {
            flush(&mut run, out);
            out.extend_from_slice(field.name.of(buf));
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.of(buf));
            out.extend_from_slice(b"\r\n");
        }
    }
    flush(&mut run, out);
}

/// The phrase that RFC 9110 section 15 has for a status; empty for those it does not know.
fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        _ => "",
    }
}
