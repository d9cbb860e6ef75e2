//! Which certificates, keys and roots have changed on disk, and what is wrong with them?
//!
//! The control thread looks every [`EVERY`]: a `stat` for each file in use, which also sees links that are swapped. What
//! changed is read and used by new handshakes; connections stay as they are, but where a root of clients is gone: whoever
//! may have come by it is drained. What is bad is said, and what was read before serves on. Certificates that end soon are
//! said as well. Each matter is said once, when it begins.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::clock::{NEVER, Nanos, nanos};
use crate::compile::Compiler;
use crate::locked::locked;
use crate::log::Log;
use crate::plan::Plan;
use crate::telemetry::{CertificateSample, Owner};
use crate::tls::{Looked, Patience, Replaced};

/// How often files are looked at. Whoever puts a certificate there does not wait for it on the second.
const EVERY: Duration = Duration::from_secs(2);

/// What operators see of certificates, kept where any thread can read it.
pub type Certificates = Mutex<Vec<CertificateSample>>;

/// What a look at files found.
pub(crate) struct Found {
    /// The configurations of clusters that are to be replaced.
    pub(crate) replaced: Replaced,
    /// Whether a listener asks for something else of its clients, see [`ListenerPlan::tightened`].
    ///
    /// [`ListenerPlan::tightened`]: crate::plan::ListenerPlan::tightened
    pub(crate) tightened: bool,
}

/// What was looked at and said.
pub(crate) struct Files {
    next: Nanos,
    log: Arc<Log>,
    certificates: Arc<Certificates>,
    /// Warnings that hold, so that each is said once.
    said: HashSet<String>,
}

impl Files {
    pub(crate) fn new(log: Arc<Log>, certificates: Arc<Certificates>) -> Self {
        Self {
            next: NEVER,
            log,
            certificates,
            said: HashSet::new(),
        }
    }

    /// When the next look is due. Never, where no plan has certificates.
    pub(crate) fn next(&self) -> Nanos {
        self.next
    }

    /// Looks at the files of a plan.
    pub(crate) fn look(&mut self, plan: &Plan, compiler: &Compiler, patience: Patience) -> Found {
        let counters = compiler.telemetry.control();
        let refuse = |whose: &str, lines: Vec<String>| {
            counters.reloads_refused.increment();
            let message = format!("{whose}: {}; what was read before stays in use", lines.join("; "));
            self.log.warn(&message, &[("about", &"reload")]);
        };
        let mut tightened = false;
        for (name, listener) in &*plan.listeners {
            let Some(tls) = &listener.tls else { continue };
            let before = tls.tightened();
            match tls.look(patience) {
                Looked::Unchanged => {}
                Looked::Changed => {
                    counters.reloads_done.increment();
                    let message = format!("listener {name}: its new certificates are in use");
                    self.log.info(&message, &[("about", &"reload")]);
                    if tls.tightened() != before {
                        tightened = true;
                        let message =
                            format!("listener {name}: a root of clients is gone; who came before is drained");
                        self.log.info(&message, &[("about", &"reload")]);
                    }
                }
                Looked::Refused(lines) => refuse(&format!("listener {name}"), lines),
            }
        }
        let (replaced, refused) = compiler.clients.look(patience);
        if !refused.is_empty() {
            refuse("TLS to servers", refused);
        }
        if !replaced.is_empty() {
            counters.reloads_done.add(replaced.len() as u64);
            self.log.info(
                "TLS to servers: new certificates are in use",
                &[("about", &"reload")],
            );
        }
        Found { replaced, tightened }
    }

    /// Sees what is in force, after a plan or its files have changed, and plans the next look.
    pub(crate) fn review(&mut self, plan: &Plan, compiler: &Compiler, now: Nanos) {
        let wall = SystemTime::now();
        let mut samples = Vec::new();
        let mut warnings = HashSet::new();
        let mut any = false;
        for (name, listener) in &*plan.listeners {
            let Some(tls) = &listener.tls else { continue };
            any = true;
            samples.extend(tls.not_after().map(|not_after| CertificateSample {
                owner: Owner::Listener,
                name: name.to_string(),
                not_after,
            }));
            let found = tls.warnings(wall).into_iter();
            warnings.extend(found.map(|issue| format!("listener {name}: {}", issue.message)));
        }
        any |= compiler.clients.are_used();
        let shown = compiler.clients.certificates(wall);
        // Most proxies show none to servers: then there is nothing to look for.
        let none = shown.is_empty();
        for (name, cluster) in plan.clusters.iter().take_while(|_| !none) {
            let Some(tls) = &cluster.tls else { continue };
            if let Some((not_after, warning)) = shown.get(&Arc::as_ptr(&tls.config).addr()) {
                samples.push(CertificateSample {
                    owner: Owner::Cluster,
                    name: name.to_string(),
                    not_after: *not_after,
                });
                let warning = warning.iter();
                warnings.extend(warning.map(|warning| format!("cluster {name}: {warning}")));
            }
        }
        let mut new: Vec<_> = warnings.difference(&self.said).collect();
        new.sort();
        for warning in new {
            self.log.warn(warning, &[("about", &"certificate")]);
        }
        self.said = warnings;
        samples.sort_by(|a, b| (a.owner, &a.name).cmp(&(b.owner, &b.name)));
        *locked(&self.certificates) = samples;
        self.next = if any {
            now.saturating_add(nanos(EVERY))
        } else {
            NEVER
        };
    }
}
