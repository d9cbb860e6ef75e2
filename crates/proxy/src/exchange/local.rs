//! What does the proxy say when it answers itself?

use mesh_model::errors::Reason;
use mesh_model::filter::CompiledEdits;
use mesh_model::resources::{Redirect, Respond};

use super::message::{Downstream, LocalResponse};

/// The name in `proxy-status` (RFC 9209 section 2).
const NAME: &str = "mesh";

/// The `proxy-status` field for a reason. `detail` is one of our own tokens, never the peer's bytes.
pub fn proxy_status(reason: Reason, detail: Option<&str>) -> String {
    let mut field = format!(
        "{NAME}; error={}; details=\"{}",
        reason.proxy_status_error(),
        reason.as_str()
    );
    if let Some(detail) = detail {
        field.push_str(": ");
        field.push_str(detail);
    }
    field.push('"');
    field
}

/// The short text for a reason, with the detail where there is one.
pub fn text(reason: Reason, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{} ({})\n", reason.text(), detail.replace('_', " ")),
        None => format!("{}\n", reason.text()),
    }
}

/// Answers with a reason: status, `proxy-status`, short text; gRPC callers get `grpc-status` and `grpc-message`.
pub fn refuse<D: Downstream>(down: &mut D, reason: Reason, detail: Option<&str>) {
    refuse_as(down, reason, detail, reason.grpc_status());
}

/// The same with another `grpc-status` than the reason's. What a route changes it changes in answers, not in errors.
pub fn refuse_as<D: Downstream>(down: &mut D, reason: Reason, detail: Option<&str>, grpc_status: u32) {
    let grpc = down.request().is_grpc();
    let edits = &CompiledEdits::default();
    let status = proxy_status(reason, detail);
    let text = text(reason, detail);
    let response = if grpc {
        LocalResponse {
            status: 200,
            fields: &[("proxy-status", &status)],
            edits,
            content_type: "application/grpc",
            body: b"",
            grpc: Some((grpc_status, text.trim_end())),
        }
    } else {
        LocalResponse {
            status: reason.status(),
            fields: &[("proxy-status", &status)],
            edits,
            content_type: "text/plain; charset=utf-8",
            body: text.as_bytes(),
            grpc: None,
        }
    };
    down.respond(&response);
}

/// Answers as a route says, with its `edits`.
pub fn respond<D: Downstream>(down: &mut D, respond: &Respond, edits: &CompiledEdits) {
    down.respond(&LocalResponse {
        status: respond.status,
        fields: &[],
        edits,
        content_type: &respond.content_type,
        body: respond.body.as_bytes(),
        grpc: None,
    });
}

/// Sends the client elsewhere, with the `edits` of the route that says so.
pub fn redirect<D: Downstream>(down: &mut D, redirect: &Redirect, location: &str, edits: &CompiledEdits) {
    down.respond(&LocalResponse {
        status: redirect.status,
        fields: &[("location", location)],
        edits,
        content_type: "text/plain; charset=utf-8",
        body: b"",
        grpc: None,
    });
}

impl LocalResponse<'_> {
    /// The fields as they are sent, but for those of gRPC, of the body's length and of the connection.
    pub fn edited(&self) -> impl Iterator<Item = (&str, &str)> {
        let has_type = !self.body.is_empty() || self.grpc.is_some();
        let own = self.fields.iter().copied();
        own.chain(has_type.then_some(("content-type", self.content_type)))
            .filter(|(name, _)| !self.edits.drops(name.as_bytes()))
            .chain(self.edits.additions())
    }
}
