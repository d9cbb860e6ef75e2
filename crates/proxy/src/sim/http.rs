//! HTTP/1 as a script reads and writes it: simple, and written apart from the codec that it tests.

use std::io;

use super::bytes::Talk;
use super::clock::Sim;

/// How a message's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

/// A message's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("a head in ASCII");
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            start,
            fields: fields.collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).map(|value| value.parse().expect(name))
    }

    pub(super) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(super) fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a status")
    }

    pub(super) fn says_close(&self) -> bool {
        self.get("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The framing that the fields say.
    pub(super) fn framing(&self) -> Framing {
        match (self.get("transfer-encoding"), self.get("content-length")) {
            (Some("chunked"), None) => Framing::Chunked,
            (None, Some(_)) => Framing::Length,
            (None, None) => Framing::None,
            both => panic!("{both:?}"),
        }
    }
}

/// A body, and how far it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
}

impl Talk {
    /// Reads a head. An error: the connection ended, or broke, before it was there.
    pub(super) async fn head(&mut self) -> io::Result<Head> {
        let head = self.take_until(b"\r\n\r\n").await?;
        Ok(Head::parse(&head))
    }

    /// Reads a body framed like this.
    pub(super) async fn body(&mut self, framing: Framing, length: u64) -> Body {
        let mut body = Vec::new();
        let result = match framing {
            Framing::None => Ok(()),
            Framing::Length => self.some(length as usize, &mut body).await,
            Framing::Chunked => self.chunks(&mut body).await,
            Framing::Close => loop {
                body.append(&mut self.unread);
                match self.fill().await {
                    Ok(0) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            },
        };
        match result {
            Ok(()) => Body::Whole(body),
            Err(_) => Body::Cut(body),
        }
    }

    async fn some(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let mut left = length;
        loop {
            let n = left.min(self.unread.len());
            body.extend(self.unread.drain(..n));
            left -= n;
            if left == 0 {
                return Ok(());
            }
            self.need(1).await?;
        }
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.take_until(b"\r\n").await?;
            let line = String::from_utf8(line).expect("a chunk's size");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            if size == 0 {
                break;
            }
            self.some(size, body).await?;
            assert_eq!(self.take(2).await?, b"\r\n", "the end of a chunk");
        }
        loop {
            if self.take_until(b"\r\n").await? == b"\r\n" {
                return Ok(());
            }
        }
    }
}

/// A body's bytes as they are sent, chunks cut at random.
pub(super) fn framed(sim: &Sim, framing: Framing, body: &[u8]) -> Vec<u8> {
    match framing {
        Framing::None => Vec::new(),
        Framing::Length | Framing::Close => body.to_vec(),
        Framing::Chunked => {
            let mut out = Vec::new();
            let mut rest = body;
            while !rest.is_empty() {
                let most = sim.one(&[1 + rest.len() / 20, rest.len()]);
                let (chunk, later) = rest.split_at(1 + sim.below(most as u64) as usize);
                out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
                rest = later;
            }
            out.extend_from_slice(b"0\r\n\r\n");
            out
        }
    }
}
