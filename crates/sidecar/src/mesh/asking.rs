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
    Delta(Ads),
    StateOfTheWorld(StateOfTheWorld),
}

impl Asking {
    pub(super) fn is_incremental(&self) -> bool {
        matches!(self, Self::Delta(_))
    }

    /// Takes what the client has to say, to be sent by [`Asking::step`].
    pub(super) fn push(&mut self, client: &mut Client) -> Result<(), Error> {
        match self {
            Self::Delta(stream) => {
                while let Some(request) = client.poll_request() {
                    stream.outgoing.push(&request)?;
                }
            }
            Self::StateOfTheWorld(stream) => {
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
            Self::Delta(stream) => stream.outgoing.is_waiting(),
            Self::StateOfTheWorld(stream) => stream.outgoing.is_waiting(),
        }
    }

    /// Sends what waits, and gives what comes, where it `hears`; `None` when all was sent. May be given up at any time.
    pub(super) async fn step(&mut self, hears: bool) -> Result<Option<Response>, Error> {
        Ok(match self {
            Self::Delta(stream) => stream.step(hears).await?.map(Response::Delta),
            Self::StateOfTheWorld(stream) => stream.step(hears).await?.map(Response::StateOfTheWorld),
        })
    }
}

impl Life<'_> {
    /// Opens the stream of resources. Whether there is one of this form is seen by what comes.
    pub(super) async fn ask(&mut self, control: &Control, form: Form) -> Result<Asking, Error> {
        let asking = match form {
            Form::Delta => Asking::Delta(self.meanwhile(control.ads()).await?),
            Form::StateOfTheWorld => {
                self.log().info(
                    "the control plane has no incremental xDS: states of the world are asked for",
                    &[],
                );
                Asking::StateOfTheWorld(self.meanwhile(control.state_of_the_world()).await?)
            }
        };
        self.client.connected(form, Instant::now());
        Ok(asking)
    }
}
