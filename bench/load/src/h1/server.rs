//! How does the origin answer HTTP/1.1? At once, with as many bytes as the path's last segment says.

use std::io::Write;

use super::{FIELDS, content_length};
use crate::wire::{Output, length_of};

/// Bodies up to here leave in one write with their head.
const WHOLE: u64 = 64 * 1024;

/// One connection from a proxy.
#[derive(Default)]
pub(crate) struct Server {
    body_left: u64,
    answer: Option<u64>,
}

impl Server {
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Output) -> Result<usize, String> {
        let mut used = 0;
        // A large body still leaving keeps the next request waiting: answers stay in order.
        while out.fill == 0 {
            let rest = bytes.get(used..).unwrap_or_default();
            let take = self.body_left.min(rest.len() as u64);
            self.body_left -= take;
            used += take as usize;
            if self.body_left > 0 {
                break;
            }
            if let Some(length) = self.answer.take() {
                respond(length, out);
                continue;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let mut headers = [httparse::EMPTY_HEADER; FIELDS];
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(rest) {
                Ok(httparse::Status::Complete(size)) => {
                    used += size;
                    self.body_left = content_length(head.headers).unwrap_or(0);
                    self.answer = Some(length_of(head.path.unwrap_or_default()));
                }
                Ok(httparse::Status::Partial) => break,
                Err(error) => return Err(format!("bad request head: {error}")),
            }
        }
        Ok(used)
    }
}

fn respond(length: u64, out: &mut Output) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: ";
    out.bytes.extend_from_slice(head.as_bytes());
    // Writing into a vector cannot fail.
    let _ = write!(out.bytes, "{length}\r\n\r\n");
    if length <= WHOLE {
        out.bytes.resize(out.bytes.len() + length as usize, b'm');
    } else {
        out.fill = length;
    }
}
