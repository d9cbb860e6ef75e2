//! Who does a request say that it is for, and who sent it, when it leaves?

use mesh_model::resources::{Discovery, HostRewrite};

use super::head::{Outgoing, Trust};
use super::message::{Length, RequestRef};
use super::request::RequestKind;
use super::{Context, Forward};
use crate::balance::EndpointState;
use crate::io::Net;
use crate::upstream::cluster::ClusterPlan;

/// What is made for one outgoing head and lent to it.
pub(super) struct Parts {
    request_id: [u8; 36],
    host: Option<String>,
    websocket_key: Option<[u8; 24]>,
}

impl Parts {
    /// For a request that goes to an endpoint.
    pub(super) fn new<N: Net>(
        cx: &Context<'_, N>,
        plan: &ClusterPlan,
        endpoint: &EndpointState,
        forward: &Forward<'_>,
        request: RequestRef<'_>,
    ) -> Self {
        let host = match forward.route.host_rewrite() {
            HostRewrite::Upstream => Some(upstream_name(plan, endpoint)),
            // Who asks for nobody, as HTTP/1.0 may, asks whoever answers there (RFC 9112 section 3.3).
            HostRewrite::Keep if request.authority().is_empty() => Some(upstream_name(plan, endpoint)),
            HostRewrite::Keep | HostRewrite::Set(_) => None,
        };
        let random = || (cx.thread.random(), cx.thread.random());
        Self {
            request_id: request_id(random()),
            host,
            websocket_key: request.opens_websocket().then(|| websocket_key(random())),
        }
    }

    /// The id that the request gets unless it keeps its own.
    pub(super) fn request_id(&self) -> [u8; 36] {
        self.request_id
    }

    /// The server's own name, where that is sent instead of the client's, or the client asks for nobody: HTTP/2 servers
    /// refuse a request without an authority.
    pub(super) fn server_name(&self) -> &[u8] {
        self.host.as_deref().unwrap_or_default().as_bytes()
    }

    /// The head as it leaves.
    pub(super) fn outgoing<'a, N: Net>(
        &'a self,
        cx: &'a Context<'_, N>,
        forward: &'a Forward<'a>,
        request: RequestRef<'a>,
        length: Length,
    ) -> Outgoing<'a> {
        let authority = match forward.route.host_rewrite() {
            HostRewrite::Keep => request.authority(),
            HostRewrite::Set(host) => host.as_bytes(),
            HostRewrite::Upstream => self.server_name(),
        };
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        Outgoing {
            // RFC 8441 section 5: what was an extended CONNECT becomes a GET that asks for an upgrade.
            method: match (request, forward.kind) {
                (RequestRef::Http2(_), RequestKind::Upgrade) => b"GET",
                _ => request.method(),
            },
            target: forward
                .target
                .as_deref()
                .unwrap_or_else(|| request.path_and_query()),
            authority,
            peer: cx.peer,
            trust: if cx.plan.trusts(cx.peer.ip) {
                Trust::Trusted
            } else {
                Trust::Untrusted
            },
            request_id: text(&self.request_id),
            via: cx.plan.resource.via.as_deref(),
            edits: forward.route.request_edits(),
            length,
            expects: request.expects_continue() && length != Length::None,
            upgrade: request.upgrade(),
            websocket_key: self.websocket_key.as_ref().map(|key| text(key)),
        }
    }

    /// What a server must answer to the key of a WebSocket that was made here.
    pub(super) fn websocket_accept(&self) -> Option<[u8; 28]> {
        self.websocket_key.as_ref().map(websocket_accept)
    }
}

/// The name a cluster's servers know themselves by.
fn upstream_name(plan: &ClusterPlan, endpoint: &EndpointState) -> String {
    match (&plan.resource.discovery, plan.resource.tls_name()) {
        (Discovery::Dns { host, port }, _) => match (port, plan.tls.is_some()) {
            (443, true) | (80, false) => host.clone(),
            _ => format!("{host}:{port}"),
        },
        (_, Some(name)) => name.into(),
        _ => match &endpoint.address {
            mesh_model::resources::Address::Ip(address) => address.to_string(),
            mesh_model::resources::Address::Unix(_) => "localhost".into(),
        },
    }
}

/// A random UUID (RFC 9562 version 4).
fn request_id((high, low): (u64, u64)) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let bits = (u128::from(high) << 64) | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, byte) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *byte = DIGITS[((bits >> shift) & 0xf) as usize];
        }
    }
    text
}

/// Sixteen random bytes in base64 (RFC 6455 section 4.1).
fn websocket_key((high, low): (u64, u64)) -> [u8; 24] {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&high.to_be_bytes());
    second.copy_from_slice(&low.to_be_bytes());
    base64(&bytes)
}

/// The proof that a server read the key (RFC 6455 section 4.2.2).
fn websocket_accept(key: &[u8; 24]) -> [u8; 28] {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest.finish().as_ref())
}

/// Base64 with padding (RFC 4648 section 4), as much of it as there is room for.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; N];
    for (four, three) in text.chunks_mut(4).zip(bytes.chunks(3)) {
        let bits = three
            .iter()
            .zip([16, 8, 0])
            .fold(0u32, |bits, (byte, shift)| bits | (u32::from(*byte) << shift));
        for (digit, shift) in four.iter_mut().zip([18, 12, 6, 0]).take(three.len() + 1) {
            *digit = DIGITS[((bits >> shift) & 0x3f) as usize];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids() {
        let id = String::from_utf8(request_id((u64::MAX, 0)).to_vec()).unwrap();
        assert_eq!(id, "ffffffff-ffff-4fff-8000-000000000000");
    }

    #[test]
    fn websocket_keys_and_proofs_are_those_of_the_rfc() {
        assert_eq!(
            &websocket_accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let sample = u128::from_be_bytes(*b"the sample nonce");
        let key = websocket_key(((sample >> 64) as u64, sample as u64));
        assert_eq!(&key, b"dGhlIHNhbXBsZSBub25jZQ==");
    }
}
