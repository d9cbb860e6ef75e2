//! What do the frames do that carry nothing: settings, windows, resets, pings, leave-taking?

use crate::code::Code;
use crate::connection::{Connection, Fatal, LEAVING, Leaving, MOST_WINDOW};
use crate::frame::{self, Frame, Kind};
use crate::meter::Role;
use crate::stream::Failure;

impl Connection {
    pub(crate) fn on_priority(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream == 0 {
            return Err(Fatal::protocol("http2_priority"));
        }
        let depends = payload
            .first_chunk::<4>()
            .map(|on| u32::from_be_bytes(*on) & 0x7fff_ffff);
        let (code, token) = match depends {
            Some(on) if payload.len() == 5 && on != frame.stream => return Ok(()),
            Some(_) if payload.len() == 5 => (Code::PROTOCOL_ERROR, "http2_priority"),
            _ => (Code::FRAME_SIZE_ERROR, "http2_frame_size"),
        };
        // RFC 9113 section 6.3 calls it an error of the stream; one that is idle can't be reset.
        match self.find(frame.stream) {
            Some((at, _)) => self.stream_error(at, code, token),
            None => return Err(Fatal::new(code, token)),
        }
        Ok(())
    }

    pub(crate) fn on_reset(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        let code = match payload.first_chunk::<4>() {
            Some(code) if payload.len() == 4 => Code(u32::from_be_bytes(*code)),
            _ => return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size")),
        };
        if frame.stream == 0 || self.is_idle(frame.stream) {
            return Err(Fatal::protocol("http2_idle_stream"));
        }
        if let Some((at, stream)) = self.find(frame.stream) {
            stream.peer_reset = true;
            stream.fail(if code == Code::REFUSED_STREAM {
                // RFC 9113 section 8.7: it may be sent again.
                Failure::Refused
            } else {
                Failure::Reset(code)
            });
            self.settle(at);
        }
        Ok(())
    }

    pub(crate) fn on_settings(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(Fatal::protocol("http2_settings"));
        }
        if frame.is_ack() && !payload.is_empty() || !payload.len().is_multiple_of(6) {
            return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size"));
        }
        if frame.is_ack() {
            self.settled = true;
            return Ok(());
        }
        let mut first_window = None;
        for setting in payload.as_chunks::<6>().0 {
            let [n0, n1, v0, v1, v2, v3] = *setting;
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([n0, n1]) {
                1 => self.encoder.resize(value as usize),
                2 | 8 if value > 1 => return Err(Fatal::protocol("http2_settings")),
                // RFC 9113 section 6.5.2: servers must not allow push to clients.
                2 if self.role == Role::Client && value != 0 => {
                    return Err(Fatal::protocol("http2_settings"));
                }
                3 => self.peer.streams = value,
                4 if i64::from(value) > MOST_WINDOW => {
                    return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "http2_flow_control"));
                }
                // The last one counts: all streams are gone through for it.
                4 => first_window = Some(value),
                5 if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fatal::protocol("http2_settings"));
                }
                // More than this in a frame would hold up the other streams.
                5 => self.peer.frame = frame::MOST,
                _ => {}
            }
        }
        if let Some(window) = first_window {
            self.on_first_window(window)?;
        }
        self.control(Kind::Settings, frame::ACK, 0, &[]);
        self.wake_greeted();
        Ok(())
    }

    /// RFC 9113 section 6.9.2: the windows of all streams change by the difference.
    fn on_first_window(&mut self, window: u32) -> Result<(), Fatal> {
        let overflow = Fatal::new(Code::FLOW_CONTROL_ERROR, "http2_flow_control");
        let grows = i64::from(window) - i64::from(self.peer.window);
        self.peer.window = window;
        for (_, stream) in &mut self.streams {
            stream.send_window += grows;
            if stream.send_window > MOST_WINDOW {
                return Err(overflow);
            }
            if grows > 0 {
                stream.wake_sender();
            }
        }
        Ok(())
    }

    pub(crate) fn on_ping(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(Fatal::protocol("http2_ping"));
        }
        if payload.len() != 8 {
            return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size"));
        }
        if !frame.is_ack() {
            self.control(Kind::Ping, frame::ACK, 0, payload);
        } else if payload == LEAVING && self.leaving == Leaving::Said {
            self.leaving = Leaving::Read;
        }
        Ok(())
    }

    pub(crate) fn on_go_away(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(Fatal::protocol("http2_go_away"));
        }
        let last = match payload.first_chunk::<4>() {
            Some(last) if payload.len() >= 8 => u32::from_be_bytes(*last) & 0x7fff_ffff,
            _ => return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size")),
        };
        self.peer_leaves = true;
        if self.role == Role::Client {
            // RFC 9113 section 6.8: streams above the one that it names were not looked at.
            let unseen: Vec<usize> = self
                .streams
                .iter_mut()
                .filter(|(_, stream)| stream.id > last)
                .map(|(at, stream)| {
                    stream.fail(Failure::Refused);
                    at
                })
                .collect();
            for at in unseen {
                self.settle(at);
            }
        }
        self.wake_driver();
        Ok(())
    }

    pub(crate) fn on_window_update(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        let grows = match payload.first_chunk::<4>() {
            Some(grows) if payload.len() == 4 => i64::from(u32::from_be_bytes(*grows) & 0x7fff_ffff),
            _ => return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "http2_frame_size")),
        };
        if frame.stream == 0 {
            self.send_window += grows;
            if grows == 0 {
                return Err(Fatal::protocol("http2_window_update"));
            }
            if self.send_window > MOST_WINDOW {
                return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "http2_flow_control"));
            }
            self.unblock();
            return Ok(());
        }
        if self.is_idle(frame.stream) {
            return Err(Fatal::protocol("http2_idle_stream"));
        }
        if let Some((at, stream)) = self.find(frame.stream) {
            stream.send_window += grows;
            if grows == 0 {
                self.stream_error(at, Code::PROTOCOL_ERROR, "http2_window_update");
            } else if stream.send_window > MOST_WINDOW {
                self.stream_error(at, Code::FLOW_CONTROL_ERROR, "http2_flow_control");
            } else {
                stream.wake_sender();
            }
        }
        Ok(())
    }
}
