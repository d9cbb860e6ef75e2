//! Is a silent server still there?
//!
//! A host that vanished refuses nothing: requests are written into the void until the kernel gives up after a quarter
//! of an hour, and on a shared connection that is every request. So a connection is looked at now and then; when
//! requests went out and nothing came back, a PING asks, and a server that does not answer it until the next look is
//! gone.
//!
//! Servers punish pings: gRPC's end the connection at the third one between two of their own messages. So at most
//! [`MOST_PINGS`] are sent between two messages, and none for a stream on which both sides are quiet.

/// Pings between two messages of the server. One less than servers of gRPC take offence at.
const MOST_PINGS: u8 = 2;
/// Bytes of a PING on the wire.
const PING_BYTES: u64 = 17;

/// What a connection has moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// HEADERS and DATA frames that came.
    pub messages: u64,
    /// Bytes that came.
    pub read: u64,
    /// Bytes that went.
    pub written: u64,
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Send a PING.
    Ask,
    /// End the connection.
    Gone,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub struct Liveness {
    seen: Moved,
    /// A PING is out.
    asked: bool,
    /// Pings since the server's last message.
    pings: u8,
}

impl Liveness {
    /// Looks at a connection. `waiting` is whether streams are open; `stuck`, whether bytes have waited since before
    /// the last look for the server to read.
    pub fn look(&mut self, moved: Moved, waiting: bool, stuck: bool) -> Verdict {
        let silent = moved.read == self.seen.read;
        let wrote = moved.written > self.seen.written;
        if stuck || (self.asked && silent) {
            return Verdict::Gone;
        }
        if moved.messages != self.seen.messages {
            self.pings = 0;
        }
        self.asked = waiting && silent && wrote && self.pings < MOST_PINGS;
        self.seen = moved;
        if !self.asked {
            return Verdict::Fine;
        }
        self.pings += 1;
        self.seen.written += PING_BYTES;
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(messages: u64, read: u64, written: u64) -> Moved {
        Moved {
            messages,
            read,
            written,
        }
    }

    #[test]
    fn a_server_that_answers_neither_request_nor_ping_is_gone() {
        let mut liveness = Liveness::default();
        assert_eq!(liveness.look(moved(1, 100, 100), true, false), Verdict::Fine);
        assert_eq!(liveness.look(moved(1, 100, 200), true, false), Verdict::Ask);
        assert_eq!(liveness.look(moved(1, 100, 217), true, false), Verdict::Gone);
        assert_eq!(
            Liveness::default().look(moved(1, 100, 100), true, true),
            Verdict::Gone
        );
    }

    #[test]
    fn a_quiet_stream_is_left_in_peace() {
        let mut liveness = Liveness::default();
        liveness.look(moved(1, 100, 100), true, false);
        for _ in 0..100 {
            assert_eq!(liveness.look(moved(1, 100, 100), true, false), Verdict::Fine);
        }
        // Without streams nobody waits.
        assert_eq!(liveness.look(moved(1, 100, 900), false, false), Verdict::Fine);
    }

    #[test]
    fn a_slow_server_is_asked_twice_and_again_after_its_next_message() {
        let mut liveness = Liveness::default();
        let (mut read, mut written, mut asked) = (0, 0, 0);
        for _ in 0..10 {
            written += 100;
            if liveness.look(moved(0, read, written), true, false) == Verdict::Ask {
                (read, written, asked) = (read + PING_BYTES, written + PING_BYTES, asked + 1);
            }
        }
        assert_eq!(asked, u32::from(MOST_PINGS));
        assert_eq!(
            liveness.look(moved(1, read + 50, written), true, false),
            Verdict::Fine
        );
        assert_eq!(
            liveness.look(moved(1, read + 50, written + 100), true, false),
            Verdict::Ask
        );
    }
}
