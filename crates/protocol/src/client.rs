//! How does a sidecar talk to its control plane?
//!
//! [`Control::connect`] goes through the addresses in order; the first that answers is it. One connection carries
//! everything. When it ends, [`Control::closed`] says why, all streams end with the same, and it is for the caller to
//! connect anew, after a while.
//!
//! ```text
//!   let control = Control::connect(&addresses, tls.control_client_config(&id)?, server_name()).await?;
//!   let signed = control.sign(SignRequest { csr, token, ..Default::default() }).await?;
//!   let mut ads = control.ads().await?;
//!   ads.outgoing.send(&request).await?;
//!   while let Some(response) = ads.incoming.receive().await? { .. }
//! ```
//!
//! A certificate that was renewed is shown by the next connection: the control plane ends the streams of one whose
//! certificate has ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Version};
use mesh_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::link::{Link, Witness, explained, tls_error};
use crate::message::{ControlMessage, SidecarMessage, SignRequest, SignResponse};
use crate::stream::{Duplex, Incoming, Outgoing};
use crate::{CONTENT_TYPE, keep_alive, path, window};

/// How long one address may take, names, TCP and TLS together.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a stream may take to be opened: the other side allows some at a time.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// How long a certificate may take. The decision about it may be somebody's code.
pub const SIGN_DEADLINE: Duration = Duration::from_secs(15);

/// The name that is called by TLS. It is no identity: the SPIFFE id is.
pub const SERVER_NAME: &str = "control.mesh";

/// The stream of xDS.
pub type Ads = Duplex<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
/// The stream of xDS by states of the world.
pub type StateOfTheWorld = Duplex<DiscoveryRequest, DiscoveryResponse>;
/// The stream of reports.
pub type Reports = Duplex<SidecarMessage, ControlMessage>;

/// A connection to a control plane. Clones share it; it ends with the last of them and of its streams.
#[derive(Clone)]
pub struct Control {
    requests: SendRequest<Bytes>,
    way: Option<Way>,
    authority: Arc<str>,
    link: Link,
}

/// How a control plane is reached.
#[derive(Clone, Debug)]
struct Way {
    /// Which of the addresses that were given.
    called: Arc<str>,
    peer: SocketAddr,
    local: SocketAddr,
}

/// [`SERVER_NAME`], as rustls takes it.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
}

impl Control {
    /// Connects to the first of these addresses (`host:port`) that answers.
    ///
    /// # Errors
    /// None did; what the last one said.
    pub async fn connect(
        addresses: &[String],
        tls: Arc<ClientConfig>,
        server_name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let mut last = Error::protocol("the control plane has no address");
        for address in addresses {
            let one = Self::connect_one(address, Arc::clone(&tls), server_name.clone());
            match timeout(CONNECT_DEADLINE, one).await {
                Ok(Ok(control)) => return Ok(control),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::Deadline("to connect to the control plane"),
            }
        }
        Err(last)
    }

    async fn connect_one(
        address: &str,
        tls: Arc<ClientConfig>,
        server_name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let unreachable = |error: io::Error| Error::Connect {
            address: address.into(),
            error: Arc::new(error),
        };
        let socket = TcpStream::connect(address).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let way = Way {
            called: address.into(),
            peer: socket.peer_addr().map_err(unreachable)?,
            local: socket.local_addr().map_err(unreachable)?,
        };
        let authority = server_name.to_str().into_owned();
        let connected = TlsConnector::from(tls).connect(server_name, socket).await;
        let stream = connected.map_err(|error| match tls_error(&error) {
            Some(error) => Error::Tls(error),
            None => unreachable(error),
        })?;
        let mut control = Self::over(stream, &authority).await?;
        control.way = Some(way);
        Ok(control)
    }

    /// Over a byte stream that is there already.
    ///
    /// # Errors
    /// It ended before HTTP/2 was spoken.
    pub async fn over<T>(io: T, authority: &str) -> Result<Self, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, seen) = Witness::new(io);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(window::STREAM)
            .initial_connection_window_size(window::CONNECTION)
            .max_header_list_size(window::HEADERS)
            .max_send_buffer_size(window::SENDING);
        let (requests, connection) = builder
            .handshake(io)
            .await
            .map_err(|error| ended(&seen, Some(&error)))?;
        let (ending, link) = Link::new();
        tokio::spawn(drive(connection, seen, ending));
        Ok(Self {
            requests,
            way: None,
            authority: authority.into(),
            link,
        })
    }

    /// Which control plane it is; `None` where it was not connected by an address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.way.as_ref().map(|way| way.peer)
    }

    /// From where it is called; `None` where it was not connected by an address.
    pub fn local(&self) -> Option<SocketAddr> {
        self.way.as_ref().map(|way| way.local)
    }

    /// Which of the addresses that were given has answered; `None` where there were none.
    pub fn called(&self) -> Option<&str> {
        self.way.as_ref().map(|way| &*way.called)
    }

    /// When the connection has ended: why.
    pub async fn closed(&self) -> Error {
        self.link.ended().await
    }

    /// Asks for a certificate.
    ///
    /// # Errors
    /// A refusal is an [`Error::Status`], whose text says why.
    pub async fn sign(&self, request: SignRequest) -> Result<SignResponse, Error> {
        let call = async {
            let Duplex {
                mut outgoing,
                mut incoming,
            } = self.open(path::SIGN).await?;
            // Who is refused early is told so, though not all was sent.
            let sent = match outgoing.send(&request).await {
                Ok(()) => outgoing.end().await,
                Err(error) => Err(error),
            };
            match incoming.receive().await? {
                Some(response) => Ok(response),
                None => Err(sent
                    .err()
                    .unwrap_or_else(|| Error::protocol("answered without a message"))),
            }
        };
        timeout(SIGN_DEADLINE, call)
            .await
            .unwrap_or(Err(Error::Deadline("a certificate")))
    }

    /// Opens the stream of xDS, incremental and aggregated. Whether it is accepted is seen by what comes.
    ///
    /// # Errors
    /// The connection is no more.
    pub async fn ads(&self) -> Result<Ads, Error> {
        self.open(path::DELTA).await
    }

    /// Opens the stream of xDS, aggregated, by states of the world.
    ///
    /// # Errors
    /// As [`Control::ads`].
    pub async fn state_of_the_world(&self) -> Result<StateOfTheWorld, Error> {
        self.open(path::STATE_OF_THE_WORLD).await
    }

    /// Opens the stream of reports. Its first message must be a hello.
    ///
    /// # Errors
    /// As [`Control::ads`].
    pub async fn report(&self) -> Result<Reports, Error> {
        self.open(path::REPORT).await
    }

    async fn open<Out, In>(&self, path: &str) -> Result<Duplex<Out, In>, Error>
    where
        Out: Message,
        In: Message + Default,
    {
        let ready = timeout(OPEN_DEADLINE, self.requests.clone().ready()).await;
        let mut requests = match ready {
            Ok(Ok(requests)) => requests,
            Ok(Err(error)) => return Err(self.link.explain(error).await),
            Err(_) => return Err(Error::Deadline("to open a stream")),
        };
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("https://{}{path}", self.authority))
            .header("content-type", CONTENT_TYPE)
            .header("te", "trailers")
            .body(())
            .map_err(|error| Error::protocol(error.to_string()))?;
        match requests.send_request(request, false) {
            Ok((response, stream)) => Ok(Duplex {
                outgoing: Outgoing::new(stream, self.link.clone()),
                incoming: Incoming::answer(response, self.link.clone()),
            }),
            Err(error) => Err(self.link.explain(error).await),
        }
    }
}

/// Keeps the connection going until it ends, and says why it did.
async fn drive<T>(
    mut connection: h2::client::Connection<T, Bytes>,
    seen: Arc<OnceLock<rustls::Error>>,
    ending: watch::Sender<Option<Error>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let ping_pong = connection.ping_pong();
    let error = tokio::select! {
        outcome = connection => ended(&seen, outcome.err().as_ref()),
        () = keep_alive::unanswered(ping_pong) => Error::Deadline("the control plane's answer to a ping"),
    };
    ending.send_replace(Some(error));
}

/// Why a connection ended: because of TLS, if TLS ever had something to say.
fn ended(seen: &OnceLock<rustls::Error>, error: Option<&h2::Error>) -> Error {
    match (seen.get(), error) {
        (Some(error), _) => Error::Tls(error.clone()),
        (None, Some(error)) => explained(error),
        (None, None) => Error::Closed,
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({:?})", self.address())
    }
}
