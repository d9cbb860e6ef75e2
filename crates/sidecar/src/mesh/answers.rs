//! What does a sidecar do with what its control plane answers?
//!
//! ```text
//!   wishes ──> subscriptions ──> responses ──> accepted by the feed, or refused and told ──> what is complete goes live
//! ```

use std::time::{Duration, Instant};

use mesh_model::resources::Discovery;
use mesh_protocol::Error;
use mesh_protocol::message::{ConfigState, FromSidecar};
use mesh_proxy::proxy::{Applied, ApplyError, Change};
use mesh_xds::client::{DOES_NOT_EXIST_AFTER, Event, Refused, Response, Subscribed};
use mesh_xds::kind::Kind;

use super::feed::Answer;
use super::life::Life;
use super::reports::Telling;
use super::state::Owner;
use crate::course::announce;

/// Changes that come close together go live together.
const TOGETHER: Duration = Duration::from_millis(2);
/// How long what goes live first waits for who is revoked: as long as for a resource that may not exist.
const DENIED_WITHIN: Duration = DOES_NOT_EXIST_AFTER;
/// Names that are left out, of which the control plane is told.
const MAX_LEFT_OUT: usize = 64;
/// How exactly it is kept when the control plane was heard of last: for that alone nothing is written more often.
const KEEP_HEARD: Duration = Duration::from_secs(60);

impl Life<'_> {
    /// Brings the subscriptions up to what is wished for.
    pub(super) fn subscribe(&mut self) {
        let now = Instant::now();
        let wishes = self.feed.wishes();
        let gone: Vec<_> = self.subscribed.difference(&wishes).cloned().collect();
        for (kind, name) in gone {
            self.client.unsubscribe(kind, &name);
            self.feed.removed(kind, &name);
            self.subscribed.remove(&(kind, name));
        }
        for (kind, name) in wishes {
            if self.subscribed.contains(&(kind, name.clone())) {
                continue;
            }
            let subscribed = match kind {
                Kind::Listener if self.feed.is_own(&name) => {
                    self.client.subscribe_until_said(kind, &name, now)
                }
                Kind::Listener if self.feed.is_kept(&name) => self.client.subscribe_lasting(kind, &name, now),
                _ => self.client.subscribe(kind, &name, now),
            };
            match subscribed {
                Subscribed::Yes => drop(self.subscribed.insert((kind, name))),
                Subscribed::Unknown if kind == Kind::Listener => self.does_not_exist(kind, &name),
                // It is asked for again when something else happens.
                Subscribed::Unknown => {}
                // It is asked for when others were answered.
                Subscribed::Full => break,
            }
        }
    }

    pub(super) fn want(&mut self, name: &str) {
        self.usage.asked_for(name);
        self.feed.want(name);
        self.tell_closed();
        self.mark();
    }

    /// Whoever asks for a name that is no more, of which what is said was refused, or for a port that its host does not
    /// declare, need not wait.
    pub(super) fn tell_closed(&mut self) {
        let client = &self.client;
        for name in self
            .feed
            .take_unusable(|kind, name| client.is_refused(kind, name))
        {
            self.proxy.wanted().unusable(&name);
        }
        for name in self.feed.take_gone() {
            self.proxy.wanted().unknown(&name);
        }
        for name in self.feed.take_undeclared(Instant::now()) {
            self.proxy.wanted().undeclared(&name);
        }
    }

    pub(super) fn mark(&mut self) {
        self.dirty.get_or_insert_with(Instant::now);
    }

    pub(super) fn responded(&mut self, response: Response, telling: &mut Telling) -> Result<(), Error> {
        let feed = &mut self.feed;
        let Refused { told, more } = self.client.received(response, Instant::now(), |kind, name, any| {
            feed.accept(kind, name, any)
        });
        self.proxy.control_plane().refused.add((told.len() + more) as u64);
        for (kind, name, nack) in told {
            let fields: [(&str, &dyn std::fmt::Display); 2] = [("resource", &name), ("reason", &nack)];
            let what = match self.client.is_refused(kind, &name) {
                true => "a resource was refused, and there is no good one: what needs it does not serve",
                false => "a resource was refused: the last good one serves",
            };
            self.log().error(what, &fields);
            let state = ConfigState {
                kind: kind.type_url().to_owned(),
                name: plain(&name, mesh_protocol::MAX_NAME),
                nack: plain(&nack, mesh_protocol::MAX_NACK),
                ..ConfigState::default()
            };
            telling.push(FromSidecar::ConfigState(state))?;
        }
        if more > 0 {
            self.log()
                .error("more resources were refused", &[("more", &more)]);
        }
        if let Some(pem) = self.feed.take_roots() {
            self.trust(&pem);
        }
        self.tell_closed();
        self.events();
        self.mark();
        Ok(())
    }

    pub(super) fn events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Removed(kind, name) => self.feed.removed(kind, &name),
                Event::DoesNotExist(kind, name) => {
                    if kind != Kind::Listener || !self.feed.is_kept(&name) {
                        self.subscribed.remove(&(kind, name.clone()));
                    }
                    self.does_not_exist(kind, &name);
                }
                Event::Unsaid(..) => {
                    let what = match self.feed.knows_who_may_call() {
                        true => "the control plane does not say who may call: what it said last holds",
                        false => "the control plane does not say who may call: not ready until it does",
                    };
                    let identity: &dyn std::fmt::Display = &self.workload.identity;
                    self.log().warn(what, &[("identity", identity)]);
                }
                Event::Held { kind, resources, .. } => self.log().warn(
                    "the control plane removes most of what it has given: it is held for a while",
                    &[("kind", &kind.type_url()), ("resources", &resources)],
                ),
            }
            self.mark();
        }
        self.proxy.control_plane().holds(self.client.held());
    }

    fn does_not_exist(&mut self, kind: Kind, name: &str) {
        let now = Instant::now();
        if self.feed.is_full() && self.usage.is_old(now) {
            self.look_at_usage(now);
        }
        let usage = &self.usage;
        let idle_since = |cluster: &str| usage.idle_since(cluster);
        for (name, answer) in self.feed.does_not_exist(kind, name, idle_since) {
            match answer {
                Answer::Later => {}
                Answer::Unknown => self.proxy.wanted().unknown(&name),
                Answer::Undeclared => self.proxy.wanted().undeclared(&name),
                Answer::Full => self.proxy.wanted().full(&name),
            }
        }
        self.tell_closed();
        self.mark();
    }

    /// When what is there is to go live.
    pub(super) fn applies_at(&self) -> Option<Instant> {
        let wait = if self.awaits_denied {
            DENIED_WITHIN
        } else {
            TOGETHER
        };
        let since = self.dirty.filter(|_| self.applying.is_none());
        since.map(|since| since + wait)
    }

    /// Begins to make what is there go live, when it is time.
    pub(super) fn apply(&mut self) {
        if self.applies_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.dirty = None;
        let resources = self.feed.resources();
        self.look_up();
        if let Some(resources) = resources {
            if std::mem::replace(&mut self.awaits_denied, false) {
                self.log().warn(
                    "the control plane has not said who is revoked: serving all the same",
                    &[],
                );
            }
            self.applying = Some(Box::pin(self.proxy.apply_soon(Change::Replace(resources))));
        }
    }

    /// Has names looked up that are to go live.
    fn look_up(&mut self) {
        for source in self.feed.take_sources() {
            let (found, of) = (self.found.0.clone(), source.clone());
            self.proxy.look_up_then(source, move || drop(found.send(of)));
        }
    }

    /// A name that is to go live was looked up, or long enough.
    pub(super) fn looked_up(&mut self, source: &Discovery) {
        self.feed.looked_up(source);
        self.mark();
    }

    pub(super) fn applied(&mut self, applied: Result<Applied, ApplyError>) {
        self.applying = None;
        match applied {
            Ok(applied) => {
                let before = std::mem::take(&mut self.listening);
                self.listening = announce(self.proxy.log(), &before, applied);
            }
            // It has drained meanwhile, as it was told to.
            Err(ApplyError::Closed) => return,
            Err(error) => {
                self.refused(&error);
                return;
            }
        }
        self.feed.in_force();
        self.refused_whole = None;
        self.proxy.control_plane().falls_behind(false);
        for name in self.feed.take_answers() {
            self.proxy.wanted().known(&name);
        }
        self.tell_closed();
        let heard = self.proxy.control_plane().heard();
        let heard_at = heard.map(|at| at - at % KEEP_HEARD.as_secs());
        if let Some(state) = &mut self.state {
            let mut kept = self.feed.kept(heard_at);
            kept.of = Owner::new(&self.workload.identity, &self.tls.bundle());
            if let Err(error) = state.keep(kept) {
                self.tell_unkept("the configuration can't be kept", &error);
            }
        }
        // Not before it is kept: whoever is killed once it was ready is to be ready again.
        self.serves.send_replace(true);
    }

    /// What was tried can't be in force. It is tried again at once without the names that are to blame.
    fn refused(&mut self, error: &ApplyError) {
        let left_out = match error {
            ApplyError::Invalid(issues) => self.feed.leave_out(issues, &error.to_string()),
            ApplyError::Panicked => self.feed.leave_out(&[], &error.to_string()),
            ApplyError::Listen { .. } | ApplyError::Closed => Vec::new(),
        };
        for (name, reason) in &left_out {
            let fields: [(&str, &dyn std::fmt::Display); 2] = [("name", name), ("reason", reason)];
            self.log()
                .error("a name is left out: the rest is served", &fields);
        }
        if !left_out.is_empty() {
            self.tell_closed();
            self.mark();
        }
        // It is tried again with what has changed meanwhile, or without what was left out.
        if self.dirty.is_some() {
            return;
        }
        let what = if self.listening.is_empty() {
            "not applied, and nothing is served yet"
        } else {
            "not applied: the last good configuration keeps serving"
        };
        self.log().error(what, &[("error", error)]);
        self.refused_whole = Some(error.to_string());
        self.proxy.control_plane().falls_behind(true);
        for name in self.feed.take_answers() {
            self.proxy.wanted().unusable(&name);
        }
    }

    /// Tells the control plane what of all that is known is not in force, and why, where that is not what it was told.
    pub(super) fn tell_refused(&self, telling: &mut Telling) -> Result<(), Error> {
        let names = self.feed.left_out().take(MAX_LEFT_OUT);
        let whole = self.refused_whole.iter();
        let refused = names
            .map(|(name, reason)| ((ConfigState::NAME, plain(name, mesh_protocol::MAX_NAME)), reason))
            .chain(whole.map(|reason| ((ConfigState::CONFIGURATION, "as a whole".to_owned()), &**reason)))
            .map(|(of, reason)| (of, plain(reason, mesh_protocol::MAX_NACK)))
            .collect();
        telling.refused(refused)
    }
}

/// What a control plane named, as it may be told back: it takes no control characters, and nothing longer.
fn plain(text: &str, bytes: usize) -> String {
    let mut plain = text.replace(char::is_control, "\u{fffd}");
    plain.truncate(plain.floor_char_boundary(bytes));
    plain
}
