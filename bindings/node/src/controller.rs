//! The control plane for JavaScript. What comes in and goes out is JSON text.
#![allow(missing_docs)] // The exports are documented where users see them: src/native.ts.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_controller::{
    Attempt, Batch, Controller, Deciding, Decision, Decisions, Elsewhere, Event, Issuer, Proof, RevokeError,
    Settings, StartError, TokenError, TokensAlone,
};
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use napi::bindgen_prelude::{AsyncTask, Env, Error, Function, Result, Status, Task};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::{failure, guarded};

/// Takes events, on JavaScript's thread. It keeps no process alive; what it is too busy for is dropped and counted.
type Queue<const MOST: usize> = ThreadsafeFunction<String, (), String, Status, false, true, MOST>;
type Told = Queue<MOST_TOLD>;
const MOST_TOLD: usize = 4096;
/// What strangers cause has a queue of its own: nothing else is lost for the number of their requests.
const MOST_TOLD_OF_STRANGERS: usize = 1024;

fn queue<const MOST: usize>(told: &Function<'_, String, ()>) -> Result<Queue<MOST>> {
    let queue = told.build_threadsafe_function::<String>();
    queue.weak::<true>().max_queue_size::<MOST>().build()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    listen: Vec<SocketAddr>,
    #[serde(default)]
    plaintext_xds: Vec<SocketAddr>,
    trust_domain: TrustDomain,
    /// Where root and issuer, and who is revoked, are kept; in memory without.
    state_dir: Option<PathBuf>,
    issuer: Option<Given>,
    /// What another control plane told of its tokens.
    tokens: Option<String>,
    /// Who is revoked already, beside whom `state_dir` has.
    #[serde(default)]
    revoked: Vec<String>,
    /// Whose revocation was taken back, though `state_dir` has it.
    #[serde(default)]
    allowed: Vec<String>,
    /// Whether others know of revocations, and have not said them yet.
    #[serde(default)]
    awaits_revoked: bool,
    certificate_ttl_ms: Option<u64>,
    telemetry_interval_ms: Option<u64>,
    /// The mesh at the start.
    #[serde(default)]
    initial: Batch,
    /// Whether JavaScript decides about certificates for which something good speaks.
    #[serde(default)]
    decides: bool,
    /// Whether it looks at what platforms say.
    #[serde(default)]
    attests: bool,
    /// Whether it knows of tokens of other control planes.
    #[serde(default)]
    knows_other_tokens: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    chain: String,
    key: String,
    roots: String,
}

impl From<Wanted> for Settings {
    fn from(wanted: Wanted) -> Self {
        let mut settings = Self::new(wanted.trust_domain);
        settings.listen = wanted.listen;
        settings.plaintext_xds = wanted.plaintext_xds;
        settings.initial = wanted.initial;
        if let Some(ttl) = wanted.certificate_ttl_ms {
            settings.authority = settings.authority.with_ttl(Duration::from_millis(ttl));
        }
        if let Some(interval) = wanted.telemetry_interval_ms {
            settings.telemetry_interval = Duration::from_millis(interval);
        }
        settings.directory = wanted.state_dir;
        settings.tokens = wanted.tokens;
        settings.revoked = wanted.revoked;
        settings.allowed = wanted.allowed;
        settings.awaits_revoked = wanted.awaits_revoked;
        if let Some(Given { chain, key, roots }) = wanted.issuer {
            settings.issuer = Issuer::Given { chain, key, roots };
        }
        settings
    }
}

/// Asks JavaScript. The answers come back by [`NativeController::decided`].
struct Asked {
    told: Arc<Told>,
    waiting: Waiting,
    count: AtomicU64,
    decides: bool,
    attests: bool,
    knows_other_tokens: bool,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Decision>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Decisions for Asked {
    fn decide(&self, attempt: Attempt) -> Deciding<'_> {
        if !self.decides && !matches!(attempt.proof, Proof::Attestation { .. }) {
            return TokensAlone.decide(attempt);
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        // Who never answers leaves nothing: the control plane waits some seconds and drops the receiver.
        lock(&self.waiting).retain(|_, waiting| !waiting.is_closed());
        lock(&self.waiting).insert(number, answer);
        let (kind, evidence) = match &attempt.proof {
            Proof::Attestation { kind, evidence } => (Some(kind.clone()), Some(evidence.clone())),
            _ => (None, None),
        };
        let token = match &attempt.proof {
            Proof::OtherToken(hash) => Some(hash.to_string()),
            _ => None,
        };
        let question = json!({
            "kind": "decide",
            "number": number,
            "identity": attempt.id.to_string(),
            "proof": attempt.proof.as_str(),
            "attestation": kind,
            "evidence": evidence,
            "token": token,
            "address": attempt.address.to_string(),
        });
        let status = self
            .told
            .call(question.to_string(), ThreadsafeFunctionCallMode::NonBlocking);
        Box::pin(async move {
            if status != Status::Ok {
                return deny("nobody can be asked now");
            }
            answered.await.unwrap_or_else(|_| deny("nobody decided"))
        })
    }

    fn knows_other_tokens(&self) -> bool {
        self.knows_other_tokens
    }

    fn attests(&self) -> bool {
        self.attests
    }
}

fn deny(reason: &str) -> Decision {
    Decision::Deny {
        reason: reason.to_owned(),
    }
}

type Shared = Arc<Mutex<Option<Controller>>>;

/// One control plane.
#[napi]
pub struct NativeController {
    shared: Shared,
    waiting: Waiting,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decided {
    allow: bool,
    ttl_ms: Option<u64>,
    reason: Option<String>,
}

/// What was asked for makes no sense.
fn invalid(message: impl Display) -> Error {
    failure(&json!({ "code": "option", "message": message.to_string() }))
}

/// The authority can't do what it is there for.
fn no_authority(message: impl Display) -> Error {
    failure(&json!({ "code": "authority", "message": message.to_string() }))
}

fn no_start(error: &StartError) -> Error {
    match error {
        StartError::Listen {
            address,
            error: cause,
        } => failure(&json!({
            "code": "listen",
            "listener": "control",
            "address": address.to_string(),
            "errno": cause.raw_os_error(),
            "message": error.to_string(),
        })),
        StartError::NotLoopback(_) => invalid(error),
        StartError::Authority(_) | StartError::Identity(_) => no_authority(error),
        StartError::Revoked(error) => no_revocation(error),
        StartError::Mesh(issues) => failure(&json!({ "code": "invalid", "issues": issues })),
        StartError::System(cause) => failure(&json!({ "code": "start", "message": cause.to_string() })),
    }
}

fn no_revocation(error: &RevokeError) -> Error {
    if error.is_refusal() {
        invalid(error)
    } else {
        no_authority(error)
    }
}

fn no_token(error: &TokenError) -> Error {
    if error.is_refusal() {
        invalid(error)
    } else {
        no_authority(error)
    }
}

#[napi]
impl NativeController {
    /// Starts one.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        settings: String,
        #[napi(ts_arg_type = "(event: string) => void")] told: Function<'_, String, ()>,
    ) -> Result<Self> {
        let wanted: Wanted = serde_json::from_str(&settings).map_err(invalid)?;
        let of_strangers = queue::<MOST_TOLD_OF_STRANGERS>(&told)?;
        let told = Arc::new(queue::<MOST_TOLD>(&told)?);
        let waiting: Waiting = Arc::default();
        let decisions = Arc::new(Asked {
            told: Arc::clone(&told),
            waiting: Arc::clone(&waiting),
            count: AtomicU64::new(0),
            decides: wanted.decides,
            attests: wanted.attests,
            knows_other_tokens: wanted.knows_other_tokens,
        });
        let events = Box::new(move |event: &Event| {
            // Events are plain data, which always serialises.
            let text = serde_json::to_string(event).unwrap_or_default();
            let status = match event.is_of_strangers() {
                true => of_strangers.call(text, ThreadsafeFunctionCallMode::NonBlocking),
                false => told.call(text, ThreadsafeFunctionCallMode::NonBlocking),
            };
            status == Status::Ok
        });
        let controller =
            Controller::start(wanted.into(), decisions, events).map_err(|error| no_start(&error))?;
        let shared = Arc::new(Mutex::new(Some(controller)));
        let _ = env.add_env_cleanup_hook(Arc::clone(&shared), |shared| drop(lock(&shared).take()))?;
        Ok(Self { shared, waiting })
    }

    fn with<T>(&self, work: impl FnOnce(&Controller) -> Result<T>) -> Result<T> {
        match &*lock(&self.shared) {
            Some(controller) => guarded(|| work(controller)),
            None => Err(failure(
                &json!({ "code": "closed", "message": "the control plane was closed" }),
            )),
        }
    }

    /// Where it listens.
    #[napi(catch_unwind)]
    pub fn addresses(&self) -> Result<Vec<String>> {
        self.with(|controller| Ok(controller.addresses().iter().map(ToString::to_string).collect()))
    }

    /// Where it tells resources without TLS.
    #[napi(catch_unwind)]
    pub fn plaintext_xds(&self) -> Result<Vec<String>> {
        self.with(|controller| {
            Ok(controller
                .plaintext_xds()
                .iter()
                .map(ToString::to_string)
                .collect())
        })
    }

    /// Changes the mesh (JSON), whole or not at all.
    #[napi(catch_unwind)]
    pub fn apply(&self, batch: String) -> Result<()> {
        let refused = |issues| failure(&json!({ "code": "invalid", "issues": issues }));
        let batch = Batch::parse(&batch).map_err(refused)?;
        self.with(|controller| controller.apply(batch).map_err(refused))
    }

    /// A token for an identity.
    #[napi(catch_unwind)]
    pub fn issue_token(&self, identity: String, uses: u32, ttl_ms: u32) -> Result<String> {
        let id: SpiffeId = identity.parse().map_err(invalid)?;
        let ttl = Duration::from_millis(ttl_ms.into());
        self.with(|controller| {
            controller
                .issue_token(id, uses, ttl)
                .map_err(|error| no_token(&error))
        })
    }

    /// Believes an identity or a serial number no more.
    #[napi(catch_unwind)]
    pub fn revoke(&self, whom: String) -> Result<()> {
        self.with(|controller| controller.revoke(&whom).map_err(|error| no_revocation(&error)))
    }

    /// Takes a revocation back; whether there was one.
    #[napi(catch_unwind)]
    pub fn allow(&self, whom: String) -> Result<bool> {
        self.with(|controller| controller.allow(&whom).map_err(|error| no_revocation(&error)))
    }

    /// Who is revoked.
    #[napi(catch_unwind)]
    pub fn revoked(&self) -> Result<Vec<String>> {
        self.with(|controller| Ok(controller.revoked()))
    }

    /// Whether others have said who is revoked.
    #[napi(catch_unwind)]
    pub fn knows_revoked(&self, knows: bool) -> Result<()> {
        self.with(|controller| {
            controller.knows_revoked(knows);
            Ok(())
        })
    }

    /// How it has changed (JSON) who is at other control planes.
    #[napi(catch_unwind)]
    pub fn elsewhere(&self, change: String) -> Result<()> {
        let change: Elsewhere = serde_json::from_str(&change).map_err(invalid)?;
        self.with(|controller| {
            controller.elsewhere(change);
            Ok(())
        })
    }

    /// Replaces the issuer.
    #[napi(catch_unwind)]
    pub fn rotate_issuer(&self) -> Result<()> {
        self.with(|controller| controller.rotate_issuer().map_err(no_authority))
    }

    /// Begins to replace the root.
    #[napi(catch_unwind)]
    pub fn rotate_root(&self) -> Result<()> {
        self.with(|controller| controller.rotate_root().map_err(no_authority))
    }

    /// The roots to trust, in PEM.
    #[napi(catch_unwind)]
    pub fn bundle(&self) -> Result<String> {
        self.with(|controller| Ok(controller.bundle()))
    }

    /// The sidecars that are there, as JSON.
    #[napi(catch_unwind)]
    pub fn sidecars(&self) -> Result<String> {
        self.with(|controller| Ok(json!(controller.sidecars()).to_string()))
    }

    /// Who calls whom, as JSON.
    #[napi(catch_unwind)]
    pub fn edges(&self) -> Result<String> {
        self.with(|controller| Ok(json!(controller.edges()).to_string()))
    }

    /// The answer (JSON) to a question of the kind `decide`.
    #[napi(catch_unwind)]
    pub fn decided(&self, number: u32, decision: String) -> Result<()> {
        let decided: Decided = serde_json::from_str(&decision).map_err(invalid)?;
        let decision = match decided.allow {
            true => Decision::Allow {
                ttl: decided.ttl_ms.map(Duration::from_millis),
            },
            false => deny(&decided.reason.unwrap_or_else(|| "for no reason".to_owned())),
        };
        if let Some(waiting) = lock(&self.waiting).remove(&number.into()) {
            // It may have given up.
            let _ = waiting.send(decision);
        }
        Ok(())
    }

    /// Ends it; resolves when its thread is gone, with what it knows of tokens, for the one that takes its place: until then it
    /// spends some. Nothing when that was told before.
    #[napi(catch_unwind)]
    pub fn close(&self) -> AsyncTask<Closing> {
        AsyncTask::new(Closing {
            shared: Arc::clone(&self.shared),
        })
    }
}

pub struct Closing {
    shared: Shared,
}

impl Task for Closing {
    type Output = Option<String>;
    type JsValue = Option<String>;

    fn compute(&mut self) -> Result<Self::Output> {
        guarded(|| {
            let controller = lock(&self.shared).take();
            Ok(controller.map(|mut controller| {
                controller.close();
                controller.tokens()
            }))
        })
    }

    fn resolve(&mut self, _: Env, tokens: Self::Output) -> Result<Self::JsValue> {
        Ok(tokens)
    }
}
