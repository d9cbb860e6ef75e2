//! In which form does a sidecar ask for resources?
//!
//! By incremental xDS. Of a control plane that has none it asks for states of the world, as long as that connection lasts.

use std::time::Instant;

use mesh_protocol::client::{Ads, StateOfTheWorld};
use mesh_protocol::{Control, Error};
use mesh_xds::client::{Client, Form, Response};

use super::life::Life;

/// The stream of resources.
pub(super) enum Asking {
    Incremental(Ads),
    Whole(StateOfTheWorld),
}

impl Asking {
    pub(super) fn is_incremental(&self) -> bool {
        matches!(self, Self::Incremental(_))
    }

    /// Takes what the client has to say, to be sent by [`Asking::step`].
    pub(super) fn push(&mut self, client: &mut Client) -> Result<(), Error> {
        match self {
            Self::Incremental(stream) => {
                while let Some(request) = client.poll_request() {
                    stream.outgoing.push(&request)?;
                }
            }
            Self::Whole(stream) => {
                while let Some(request) = client.poll_whole_request() {
                    stream.outgoing.push(&request)?;
                }
            }
        }
        Ok(())
    }

    /// Whether something is to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Self::Incremental(stream) => stream.outgoing.is_waiting(),
            Self::Whole(stream) => stream.outgoing.is_waiting(),
        }
    }

    /// Sends what waits, and gives what comes, where it `hears`; `None` when all was sent. May be given up at any time.
    pub(super) async fn step(&mut self, hears: bool) -> Result<Option<Response>, Error> {
        Ok(match self {
            Self::Incremental(stream) => stream.step(hears).await?.map(Response::Incremental),
            Self::Whole(stream) => stream.step(hears).await?.map(Response::Whole),
        })
    }
}

impl Life<'_> {
    /// Opens the stream of resources. Whether there is one of this form is seen by what comes.
    pub(super) async fn ask(&mut self, control: &Control, form: Form) -> Result<Asking, Error> {
        let asking = match form {
            Form::Incremental => Asking::Incremental(self.meanwhile(control.ads()).await?),
            Form::Whole => {
                self.log().info(
                    "the control plane has no incremental xDS: states of the world are asked for",
                    &[],
                );
                Asking::Whole(self.meanwhile(control.state_of_the_world()).await?)
            }
        };
        self.client.connected(form, Instant::now());
        Ok(asking)
    }
}
