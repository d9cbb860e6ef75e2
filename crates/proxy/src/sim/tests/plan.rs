//! How requests and their responses are to go, drawn at random.

use super::bytes::content;
use super::clock::{MS, Sim};
use super::http::{Framing, framed};
use crate::clock::Nanos;

/// How one request and its response are to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) version: &'static str,
    pub(super) request: Framing,
    pub(super) request_length: usize,
    pub(super) status: u16,
    pub(super) response: Framing,
    pub(super) response_length: usize,
    pub(super) informational: u64,
    pub(super) thinks: Nanos,
    pub(super) deed: Deed,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Reads the request, answers it, goes on.
    Answers,
    /// And says that it closes, but does not.
    SaysClose,
    /// And closes without a word.
    Closes,
    /// And some time later closes without a word.
    ClosesLater(Nanos),
    /// Answers when it has seen the head, then reads the rest.
    Early,
    /// Answers when it has seen the head, and closes.
    EarlyCloses,
    /// Sends bytes behind the response.
    Extra,
    /// Ends in the middle of the response's body.
    Cuts,
    /// Breaks off in the middle of the response's body.
    Breaks,
    /// Closes without an answer.
    Hangs,
    /// Says nothing.
    Silent,
    /// Says something else.
    Garbles,
}

impl Deed {
    /// Whether a response can be expected to be whole.
    pub(super) fn is_good(self) -> bool {
        use Deed::*;
        matches!(
            self,
            Answers | SaysClose | Closes | ClosesLater(_) | Early | EarlyCloses | Extra
        )
    }

    /// Whether a body that ends with the connection ends elsewhere.
    pub(super) fn blurs_the_end(self) -> bool {
        matches!(self, Self::Extra | Self::Cuts)
    }

    /// Whether the server's connection may not be used again.
    pub(super) fn spoils(self) -> bool {
        !matches!(self, Self::Answers | Self::Early | Self::ClosesLater(_))
    }
}

impl Plan {
    pub(super) fn draw(sim: &Sim, id: u64, window: usize, good: bool) -> Self {
        use Deed::*;
        let method = sim.one(&["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]);
        let request = match method {
            "GET" | "HEAD" => Framing::None,
            _ => sim.one(&[Framing::None, Framing::Length, Framing::Chunked]),
        };
        let version = if request != Framing::Chunked && sim.once_in(6) {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        let status = sim.one(&[200, 200, 200, 204, 304, 404, 500]);
        let response = match status {
            204 | 304 => Framing::None,
            _ => sim.one(&[Framing::Length, Framing::Length, Framing::Chunked, Framing::Close]),
        };
        let most = (window * 100).min(300_000) as u64;
        let length = |framing| match framing {
            Framing::None => 0,
            _ => sim.below(sim.one(&[1, 10, most])) as usize,
        };
        let later = sim.below(50 * MS);
        let deed = if good {
            sim.one(&[Answers, Answers, Answers, SaysClose, Early, EarlyCloses, Extra])
        } else {
            sim.one(&[
                Answers,
                Closes,
                ClosesLater(later),
                EarlyCloses,
                Extra,
                Cuts,
                Breaks,
                Hangs,
                Silent,
                Garbles,
            ])
        };
        Self {
            id,
            method,
            version,
            request,
            request_length: length(request),
            status,
            response,
            response_length: length(response),
            informational: sim.one(&[0, 0, 0, 1, 3]),
            thinks: sim.below(sim.one(&[1, 2 * MS, 300 * MS])),
            deed,
        }
    }

    /// Whether a response can be expected to be whole. A close with unread bytes is a reset: it cuts what ends with the
    /// connection.
    pub(super) fn is_good(&self) -> bool {
        self.deed.is_good() && !(self.deed == Deed::EarlyCloses && self.response == Framing::Close)
    }

    /// Whether the response may be complete before the request.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.deed, Deed::Early | Deed::EarlyCloses) && self.request != Framing::None
    }

    /// Whether a failed try may be repeated.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE")
    }

    pub(super) fn bodiless(&self) -> bool {
        self.method == "HEAD" || matches!(self.status, 204 | 304)
    }

    pub(super) fn request_bytes(&self, sim: &Sim) -> Vec<u8> {
        let body = content(self.id, self.request_length);
        let mut bytes = format!(
            "{} /{} {}\r\nHost: a.test\r\n",
            self.method, self.id, self.version
        );
        if self.version == "HTTP/1.0" {
            bytes += "Connection: keep-alive\r\n";
        }
        match self.request {
            Framing::Length => bytes += &format!("Content-Length: {}\r\n", body.len()),
            Framing::Chunked => bytes += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        bytes += "\r\n";
        [bytes.into_bytes(), framed(sim, self.request, &body)].concat()
    }

    pub(super) fn response_bytes(&self, sim: &Sim) -> Vec<u8> {
        let body = content(!self.id, self.response_length);
        let mut bytes = String::new();
        for _ in 0..self.informational {
            bytes += "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        }
        bytes += &format!("HTTP/1.1 {} \r\nX-Id: {}\r\n", self.status, self.id);
        match self.response {
            Framing::Length => bytes += &format!("Content-Length: {}\r\n", body.len()),
            Framing::Chunked => bytes += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        if self.deed == Deed::SaysClose {
            bytes += "Connection: close\r\n";
        }
        bytes += "\r\n";
        let body = if self.bodiless() {
            Vec::new()
        } else {
            framed(sim, self.response, &body)
        };
        [bytes.into_bytes(), body].concat()
    }
}
