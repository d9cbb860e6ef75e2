//! By which words are numbers told apart?
//!
//! Closed sets are enums: [`Protocol`], [`Class`], [`Limit`]. Open sets (names of listeners, routes, clusters, peers)
//! are interned once, off the data threads, when a configuration is compiled: a [`Label`] carries its text for the
//! scrape and its number for the hot path.
//!
//! Invariants: the same text has the same number as long as anybody holds it; a number is never given to another text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::locked::locked;

/// Declares a closed set of label values, each with its text and a dense index for arrays of counters.
macro_rules! closed_set {
    ($(#[doc = $doc:literal])+ $set:ident { $($(#[doc = $value_doc:literal])+ $value:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $set {
            $($(#[doc = $value_doc])+ $value,)+
        }

        impl $set {
            /// Every value, in the order of `index`.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The text of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            /// A dense number below `COUNT`.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

closed_set! {
    /// What is spoken with a client.
    Protocol {
        /// HTTP/1.0 and HTTP/1.1, upgraded connections included.
        Http1 = "http1",
        /// HTTP/2 that is not gRPC.
        Http2 = "http2",
        /// gRPC, by its content type.
        Grpc = "grpc",
        /// TLS that is passed through unopened; as a detected protocol, a ClientHello.
        Tls = "tls",
        /// Any other bytes.
        Tcp = "tcp",
    }
}

closed_set! {
    /// The first digit of a response's status, or that there was none.
    Class {
        /// 101, a connection that was upgraded. Interim responses are not counted.
        Informational = "1xx",
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirection = "3xx",
        /// 400 to 499, and 499 itself: the client went away before the response began.
        ClientError = "4xx",
        /// 500 and above.
        ServerError = "5xx",
        /// A stream without statuses.
        None = "none",
    }
}

impl Class {
    /// The class of a status; `None` is a stream without statuses.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(..200) => Self::Informational,
            Some(200..300) => Self::Success,
            Some(300..400) => Self::Redirection,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
        }
    }
}

closed_set! {
    /// What can be reached of a listener's, a cluster's or the machine's bounds. All of them stand in docs/limits.md.
    Limit {
        /// Open connections (`limits.connections`), of a listener or to a cluster.
        Connections = "connections",
        /// File descriptors of the process: accepting waits.
        FileDescriptors = "file_descriptors",
        /// Bytes of a head (`limits.headerBytes`).
        HeaderBytes = "header_bytes",
        /// Fields of a head (`limits.headerCount`).
        HeaderCount = "header_count",
        /// Bytes of a request body (`limits.requestBodyBytes`).
        RequestBodyBytes = "request_body_bytes",
        /// Requests on one connection (`limits.requestsPerConnection`).
        RequestsPerConnection = "requests_per_connection",
        /// Bytes of a header of the PROXY protocol (`limits.proxyHeaderBytes`).
        ProxyHeaderBytes = "proxy_header_bytes",
        /// HTTP/2 streams open at once (`limits.streams`).
        Streams = "streams",
        /// HTTP/2: streams that a client opened and reset (CVE-2023-44487).
        Http2Resets = "http2_resets",
        /// HTTP/2: streams that a client's mistakes made the proxy reset (CVE-2025-8671).
        Http2LocalResets = "http2_local_resets",
        /// HTTP/2: CONTINUATION frames of one header block (CVE-2024-27316).
        Http2Continuations = "http2_continuations",
        /// HTTP/2: PING frames.
        Http2Pings = "http2_pings",
        /// HTTP/2: SETTINGS frames.
        Http2Settings = "http2_settings",
        /// HTTP/2: PRIORITY frames.
        Http2Priorities = "http2_priorities",
        /// HTTP/2: WINDOW_UPDATE frames.
        Http2WindowUpdates = "http2_window_updates",
        /// HTTP/2: DATA frames with few bytes or none.
        Http2SmallData = "http2_small_data",
        /// HTTP/2: frames that wait because the client does not read.
        Http2Backlog = "http2_backlog",
        /// Requests in flight to a cluster (`limits.requests`).
        Requests = "requests",
        /// Requests waiting for a connection to a cluster (`limits.pendingRequests`).
        PendingRequests = "pending_requests",
        /// Idle HTTP/1 connections kept to an endpoint (`limits.idleConnections`): one is closed.
        IdleConnections = "idle_connections",
        /// Interim responses (1xx) before a final one.
        InterimResponses = "interim_responses",
    }
}

closed_set! {
    /// How a lookup of a name ended.
    LookupResult {
        /// With an answer.
        Success = "success",
        /// There is no such name.
        NotFound = "not_found",
        /// There is such a name, without records of the kind.
        NoRecords = "no_records",
        /// No name server answered in time.
        Timeout = "timeout",
        /// A name server answered that it can't.
        ServerFailure = "server_failure",
        /// No name server could be asked.
        Failed = "failed",
    }
}

closed_set! {
    /// Why the connection with a control plane ended, or was none. The words are those of `mesh_protocol::Error`.
    ControlLoss {
        /// Nobody is there.
        Connect = "connect",
        /// One side does not believe the other.
        Tls = "tls",
        /// The other side said no.
        Status = "status",
        /// What came is not what the protocol has, or too much.
        Protocol = "protocol",
        /// It was closed.
        Closed = "closed",
        /// It took too long.
        Deadline = "deadline",
    }
}

closed_set! {
    /// What is looked up of a name.
    NameKind {
        /// Its addresses: A and AAAA.
        Host = "host",
        /// Its SRV records.
        Service = "srv",
    }
}

closed_set! {
    /// What a certificate is shown by.
    Owner {
        /// A listener, to clients.
        Listener = "listener",
        /// A cluster's connections, to servers.
        Cluster = "cluster",
        /// A workload of a mesh, to others.
        Workload = "workload",
    }
}

/// An interned name. Cheap to clone; compared and hashed by its number.
#[derive(Clone, Debug)]
pub struct Label {
    id: u64,
    text: Arc<str>,
}

impl Label {
    /// The number for the hot path.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A label with its number beside it: a table of ten thousand has the numbers on a third of the cache lines.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'a> {
    /// [`Label::id`].
    pub id: u64,
    /// The label, which is not looked at while the number is enough.
    pub label: &'a Label,
}

impl<'a> From<&'a Label> for Numbered<'a> {
    fn from(label: &'a Label) -> Self {
        Self { id: label.id, label }
    }
}

/// The table of names in use.
#[derive(Debug, Default)]
pub(super) struct Interner(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Arc<str>, u64>,
    next: u64,
    sweep_at: usize,
}

/// The table is swept for names that nobody holds when it is at least this long.
const LEAST_SWEEP: usize = 1024;

impl Interner {
    /// The label of a name.
    pub(super) fn label(&self, text: &str) -> Label {
        let mut names = locked(&self.0);
        if let Some((text, id)) = names.ids.get_key_value(text) {
            return Label {
                id: *id,
                text: Arc::clone(text),
            };
        }
        if names.ids.len() >= names.sweep_at.max(LEAST_SWEEP) {
            // Under the lock, nobody can come by a name that only the table holds.
            names.ids.retain(|text, _| Arc::strong_count(text) > 1);
            names.sweep_at = names.ids.len() * 2;
        }
        let label = Label {
            id: names.next,
            text: Arc::from(text),
        };
        names.next += 1;
        names.ids.insert(Arc::clone(&label.text), label.id);
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_dense_and_texts_unique() {
        let texts: std::collections::HashSet<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(texts.len(), Limit::COUNT);
        for (at, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(limit.index(), at);
        }
    }

    /// The page of the manual on limits.
    fn page() -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_manual_has_every_limit_and_no_other() {
        let page = page();
        let labels = page.split("`limit=\"").skip(1);
        let on_page: std::collections::BTreeSet<_> = labels
            .filter_map(|rest| rest.split_once("\"`"))
            .map(|(label, _)| label)
            // What stands for any of them.
            .filter(|label| *label != "…")
            .collect();
        assert_eq!(on_page, Limit::ALL.iter().map(|limit| limit.as_str()).collect());
    }

    #[test]
    fn the_manual_says_how_much_the_fixed_limits_are() {
        let budgets = mesh_http2::meter::Budgets::new(65_536);
        let a_second = |n: u32| format!("| {n} a second |");
        let page = page();
        for (limit, value) in [
            (
                Limit::Http2Resets,
                format!("| {} a second, 10,000 in all |", budgets.resets),
            ),
            (Limit::Http2LocalResets, format!("| {} |", budgets.local_resets)),
            (
                Limit::Http2Continuations,
                format!("| {} |", budgets.continuations),
            ),
            (Limit::Http2Pings, a_second(budgets.pings)),
            (Limit::Http2Settings, a_second(budgets.settings)),
            (Limit::Http2Priorities, a_second(budgets.priorities)),
            (Limit::Http2WindowUpdates, a_second(budgets.window_updates)),
            (Limit::Http2SmallData, a_second(budgets.empty_data)),
            (
                Limit::InterimResponses,
                format!("| {} |", crate::exchange::message::MAX_INFORMATIONAL),
            ),
        ] {
            let label = format!("`limit=\"{}\"`", limit.as_str());
            let row = page.lines().find(|line| line.contains(&label)).unwrap();
            assert!(row.contains(&value), "{row}: {value}");
        }
        assert_eq!(budgets.lifetime_resets, 10_000);
    }

    #[test]
    fn classes_of_statuses() {
        for (status, class) in [
            (None, Class::None),
            (Some(101), Class::Informational),
            (Some(200), Class::Success),
            (Some(299), Class::Success),
            (Some(304), Class::Redirection),
            (Some(499), Class::ClientError),
            (Some(500), Class::ServerError),
            (Some(999), Class::ServerError),
        ] {
            assert_eq!(Class::of(status), class, "{status:?}");
        }
    }

    #[test]
    fn same_text_same_number() {
        let interner = Interner::default();
        let (a, b, again) = (interner.label("a"), interner.label("b"), interner.label("a"));
        assert_eq!(a.id(), again.id());
        assert_ne!(a.id(), b.id());
        assert_eq!(again.as_str(), "a");
    }

    #[test]
    fn names_nobody_holds_are_forgotten_and_their_numbers_never_reused() {
        let interner = Interner::default();
        let kept = interner.label("kept");
        let mut last = kept.id();
        for at in 0..10 * LEAST_SWEEP {
            let id = interner.label(&format!("route-{at}")).id();
            assert!(id > last);
            last = id;
        }
        assert!(interner.0.lock().unwrap().ids.len() <= LEAST_SWEEP);
        assert_eq!(interner.label("kept").id(), kept.id());
    }
}
