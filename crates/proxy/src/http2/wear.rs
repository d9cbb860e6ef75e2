//! How much of what `h2` bears has a connection used up, so that it is better replaced in time?
//!
//! `h2` counts some frames against a budget of the connection and ends it when that is spent, whoever's streams are on
//! it. Two of its accounts never balance: small DATA frames that come late, for a stream that this side has reset, are
//! charged for ever; and empty DATA frames are counted over the connection's life. Both come from honest peers: a
//! caller cancels a stream of messages, a server flushes. And servers count as well: many end a connection on which too
//! many streams were reset, against rapid reset, though here each reset may be another caller's. A [`Wear`] keeps these
//! accounts and says when half is spent; the connection then takes no new streams, and those it has end in peace.

use super::frame::Head;
use super::meter::Role;

/// What `h2` is told to bear: a small frame that waits costs 256 less its bytes.
pub const DATA_BUDGET: usize = 1024 * 1024;
/// Payload below which a frame is small, as `h2` has it.
const SMALL: u32 = 256;
/// Empty DATA frames in a connection's life, as `h2` has it.
const MOST_EMPTY: u32 = 100;
/// Streams that may be reset before a server takes offence: nghttp2, so Node and others, bears 1,000 in a burst.
const MOST_RESETS: u32 = 1000;
/// Streams that are remembered as reset. A forgotten one is charged too little.
const REMEMBERED: usize = 256;

/// The accounts of one connection.
#[derive(Debug)]
pub struct Wear {
    role: Role,
    leaked: u32,
    empty: u32,
    reset: u32,
    /// Streams that this side reset, by number; made when there is one.
    resets: Option<Box<[u32; REMEMBERED]>>,
}

impl Wear {
    /// Of a new connection.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            leaked: 0,
            empty: 0,
            reset: 0,
            resets: None,
        }
    }

    /// This side reset a stream.
    pub fn on_reset(&mut self, stream: u32) {
        self.reset = self.reset.saturating_add(1);
        let resets = self.resets.get_or_insert_with(|| Box::new([0; REMEMBERED]));
        if let Some(place) = resets.get_mut(place(stream)) {
            *place = stream;
        }
    }

    /// DATA came.
    pub fn on_data(&mut self, head: &Head) {
        match head.data() {
            _ if head.ends_stream() => {}
            0 => self.empty = self.empty.saturating_add(1),
            n if n >= SMALL => self.leaked = self.leaked.saturating_sub(n - SMALL),
            n if self.was_reset(head.stream) => self.leaked = self.leaked.saturating_add(SMALL - n),
            _ => {}
        }
    }

    fn was_reset(&self, stream: u32) -> bool {
        let resets = self.resets.as_ref();
        resets.is_some_and(|resets| resets.get(place(stream)) == Some(&stream))
    }

    /// Whether half is spent.
    #[inline]
    pub fn is_worn(&self) -> bool {
        let offends = self.role == Role::Client && self.reset >= MOST_RESETS / 2;
        self.leaked as usize >= DATA_BUDGET / 2 || self.empty >= MOST_EMPTY / 2 || offends
    }
}

/// Streams of one side have numbers two apart.
fn place(stream: u32) -> usize {
    (stream / 2) as usize % REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::frame::Kind;

    fn data(stream: u32, length: u32) -> Head {
        Head {
            kind: Kind::Data,
            flags: 0,
            stream,
            length,
            word: 0,
        }
    }

    #[test]
    fn late_small_frames_wear_a_connection_out_and_large_ones_mend_it() {
        let mut wear = Wear::new(Role::Server);
        for _ in 0..1_000_000 {
            wear.on_data(&data(1, 5));
        }
        assert!(!wear.is_worn());
        for stream in (1..8001).step_by(2) {
            wear.on_reset(stream);
            wear.on_data(&data(stream, 5));
            wear.on_data(&data(1_000_001, 512));
        }
        assert!(!wear.is_worn());
        let late = (1..).step_by(2).take_while(|stream| {
            wear.on_reset(*stream);
            wear.on_data(&data(*stream, 5));
            !wear.is_worn()
        });
        assert_eq!(late.count(), DATA_BUDGET / 2 / 251);
    }

    #[test]
    fn empty_frames_count_for_life() {
        let mut wear = Wear::new(Role::Server);
        for n in 0..50 {
            assert!(!wear.is_worn(), "{n}");
            wear.on_data(&data(1, 0));
        }
        assert!(wear.is_worn());
    }

    #[test]
    fn many_resets_wear_a_connection_to_a_server_out() {
        let (mut client, mut server) = (Wear::new(Role::Client), Wear::new(Role::Server));
        for stream in (1..1000).step_by(2) {
            assert!(!client.is_worn(), "{stream}");
            client.on_reset(stream);
            server.on_reset(stream);
        }
        assert!(client.is_worn() && !server.is_worn());
    }
}
