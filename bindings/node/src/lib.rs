//! The data plane for JavaScript: thin, no logic. What comes in and goes out is JSON text, so that the resources have one
//! form; nothing crosses this border for a request.
//!
//! Every entry catches panics: a defect of the core is an exception in JavaScript, never the end of the process.
#![allow(missing_docs)] // The exports are documented where users see them: src/native.ts.

mod controller;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_http1::Http1;
use mesh_proxy::admin;
use mesh_proxy::discovery::name_server;
use mesh_proxy::log::{Entry, Level, Log, News};
use mesh_proxy::proxy::{Applied, ApplyError, Change, DrainOptions, Options, PanicWhere, Phase, Proxy};
use mesh_proxy::telemetry::prometheus::ProcessMetrics;
use mesh_proxy::telemetry::{Report, Samples, Telemetry, TelemetryOptions, json, prometheus};
use napi::JsDeferred;
use napi::bindgen_prelude::{AsyncTask, Env, Error, Function, Object, Result, Status, Task};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::json;

/// An error whose message is JSON: `code`, and what belongs to it. The TypeScript side makes its own errors of it.
fn failure(value: &serde_json::Value) -> Error {
    Error::new(Status::GenericFailure, value.to_string())
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(failure(&json!({ "code": "panic" }))))
}

fn apply_error(error: &ApplyError) -> Error {
    failure(&match error {
        ApplyError::Invalid(issues) => json!({ "code": "invalid", "issues": issues }),
        ApplyError::Listen {
            listener,
            address,
            holder,
            error,
        } => json!({
            "code": "listen",
            "listener": listener,
            "address": address.to_string(),
            "holder": holder,
            "errno": error.raw_os_error(),
            "message": error.to_string(),
        }),
        ApplyError::Closed => json!({ "code": "closed" }),
        ApplyError::Panicked => json!({ "code": "panic" }),
    })
}

type Shared = Arc<Mutex<Option<Proxy>>>;

fn with<T>(shared: &Shared, work: impl FnOnce(&mut Proxy) -> Result<T>) -> Result<T> {
    let mut proxy = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *proxy {
        Some(proxy) => guarded(|| work(proxy)),
        None => Err(failure(&json!({ "code": "closed" }))),
    }
}

/// Takes what the proxy says, on JavaScript's thread. It keeps no process alive; what it is too busy for is dropped.
type Queue<const MOST: usize> = ThreadsafeFunction<String, (), String, Status, false, true, MOST>;
const MOST_SAID: usize = 1024;
/// As many panics as anybody wants to be told of at once.
const MOST_PANICS: usize = 64;
/// A proxy drains once.
const MOST_DRAINS: usize = 1;

fn log(said: &Function<'_, String, ()>) -> Result<Log> {
    fn put<const MOST: usize>(queue: &Queue<MOST>, entry: &Entry<'_>) {
        let entry = entry.json(SystemTime::now()).to_string();
        queue.call(entry, ThreadsafeFunctionCallMode::NonBlocking);
    }
    fn queue<const MOST: usize>(said: &Function<'_, String, ()>) -> Result<Queue<MOST>> {
        let queue = said.build_threadsafe_function::<String>();
        queue.weak::<true>().max_queue_size::<MOST>().build()
    }
    let entries = queue::<MOST_SAID>(said)?;
    // News have queues of their own: none is lost for the number of the others.
    let panics = queue::<MOST_PANICS>(said)?;
    let drains = queue::<MOST_DRAINS>(said)?;
    // Everything: the logger that it goes to has a level of its own.
    let log = Log::new(Level::Debug, move |entry| put(&entries, entry));
    Ok(log.with_news(move |about, entry| match about {
        News::Panic => put(&panics, entry),
        News::Drain => put(&drains, entry),
    }))
}

/// One proxy.
#[napi]
pub struct NativeProxy {
    shared: Shared,
}

#[napi]
impl NativeProxy {
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        threads: u32,
        #[napi(ts_arg_type = "(entry: string) => void")] said: Function<'_, String, ()>,
        dns_servers: Vec<String>,
    ) -> Result<Self> {
        let proxy = Proxy::start(Options {
            threads: threads as usize,
            log: Arc::new(log(&said)?),
            // They were looked at where they can be refused.
            dns_servers: dns_servers
                .iter()
                .filter_map(|server| name_server(server))
                .collect(),
            ..Options::default()
        })
        .map_err(|error| failure(&json!({ "code": "start", "message": error.to_string() })))?;
        let shared = Arc::new(Mutex::new(Some(proxy)));
        // The threads must be gone before this environment is: worker.terminate(), process.exit().
        let _ = env.add_env_cleanup_hook(Arc::clone(&shared), |shared| drop(take(&shared)))?;
        Ok(Self { shared })
    }

    /// Applies resources (JSON). Resolves with `{version, addresses: [{listener, address}]}` (JSON).
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn apply<'env>(&self, env: &'env Env, resources: String) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        let _ = env.spawn(Apply {
            shared: Arc::clone(&self.shared),
            resources,
            answer: Some(Answer(Some(deferred))),
        })?;
        Ok(promise)
    }

    /// Starts the admin server; gives its address.
    #[napi(catch_unwind)]
    pub fn serve_admin(&self, address: String, lame_duck_ms: u32) -> Result<String> {
        let failed = |error: &dyn Display, errno: Option<i32>| {
            failure(&json!({
                "code": "listen",
                "listener": "admin",
                "address": address,
                "errno": errno,
                "message": error.to_string(),
            }))
        };
        let options = admin::Options {
            address: address.parse().map_err(|error: String| failed(&error, None))?,
            lame_duck: Duration::from_millis(lame_duck_ms.into()),
        };
        with(&self.shared, |proxy| {
            let bound = proxy.serve_admin(options);
            bound
                .map(|bound| bound.to_string())
                .map_err(|error| failed(&error, error.raw_os_error()))
        })
    }

    /// Changes how long a drain that the admin server is asked for still accepts.
    #[napi(catch_unwind)]
    pub fn set_lame_duck(&self, lame_duck_ms: u32) -> Result<()> {
        with(&self.shared, |proxy| {
            proxy.set_lame_duck(Duration::from_millis(lame_duck_ms.into()));
            Ok(())
        })
    }

    /// Counts a configuration that was refused before it came here.
    #[napi(catch_unwind)]
    pub fn count_refused(&self) -> Result<()> {
        with(&self.shared, |proxy| {
            proxy.count_refused();
            Ok(())
        })
    }

    /// Looks at certificates, keys and roots now.
    #[napi(catch_unwind)]
    pub fn reload_files(&self) -> Result<()> {
        with(&self.shared, |proxy| {
            proxy.reload_files();
            Ok(())
        })
    }

    /// Panics on the control thread or on the data threads, for tests.
    #[napi(catch_unwind)]
    pub fn provoke_panic(&self, on_control: bool) -> Result<()> {
        with(&self.shared, |proxy| {
            proxy.provoke_panic(if on_control {
                PanicWhere::Control
            } else {
                PanicWhere::Data
            });
            Ok(())
        })
    }

    /// Opens the files of access logs anew.
    #[napi(catch_unwind)]
    pub fn reopen_logs(&self) -> Result<()> {
        with(&self.shared, |proxy| {
            proxy.reopen_logs();
            Ok(())
        })
    }

    /// Begins the way out; see `phase`.
    #[napi(catch_unwind)]
    pub fn drain(&self, lame_duck_ms: u32, work_ms: Option<u32>) -> Result<()> {
        let span = |ms: u32| Duration::from_millis(ms.into());
        with(&self.shared, |proxy| {
            proxy.drain(DrainOptions {
                lame_duck: span(lame_duck_ms),
                work: work_ms.map(span),
            });
            Ok(())
        })
    }

    /// `starting`, `ready`, `draining`, `drained` or `closed`.
    #[napi(catch_unwind)]
    pub fn phase(&self) -> &'static str {
        with(&self.shared, |proxy| {
            Ok(match *proxy.phase().borrow() {
                Phase::Starting => "starting",
                Phase::Ready => "ready",
                Phase::Draining => "draining",
                Phase::Drained => "drained",
            })
        })
        .unwrap_or("closed")
    }

    /// Ends everything; resolves when all threads are gone.
    #[napi(catch_unwind)]
    pub fn close(&self) -> AsyncTask<Close> {
        AsyncTask::new(Close {
            shared: Arc::clone(&self.shared),
        })
    }

    /// The numbers as JSON.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> AsyncTask<Look> {
        AsyncTask::new(Look {
            shared: Arc::clone(&self.shared),
            form: Form::Json,
        })
    }

    /// The numbers in Prometheus' text format, without those of the process: it is the application's.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> AsyncTask<Look> {
        AsyncTask::new(Look {
            shared: Arc::clone(&self.shared),
            form: Form::Prometheus,
        })
    }
}

fn take(shared: &Shared) -> Option<Proxy> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The promise of a change, settled from whichever thread knows how it went. One that nobody answers, because the proxy
/// has ended, is rejected.
struct Answer(Option<JsDeferred<String, Given>>);
type Given = Box<dyn FnOnce(Env) -> Result<String> + Send>;

impl Answer {
    fn give(mut self, result: Result<String>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<String>) {
        match (self.0.take(), result) {
            (Some(deferred), Ok(text)) => deferred.resolve(Box::new(|_| Ok(text))),
            (Some(deferred), Err(error)) => deferred.reject(error),
            (None, _) => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.settle(Err(apply_error(&ApplyError::Closed)));
    }
}

/// Reads resources and hands them on. It does not wait until they are live, which a silent server of names may hold up
/// for seconds: threads of libuv's pool are few and everybody's, and no environment ends while one is at work.
pub struct Apply {
    shared: Shared,
    resources: String,
    answer: Option<Answer>,
}

impl Task for Apply {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        let Some(answer) = self.answer.take() else {
            return Ok(());
        };
        let read = guarded(|| {
            mesh_model::validate::parse(&self.resources)
                .map_err(|issues| failure(&json!({ "code": "invalid", "issues": issues })))
        });
        match read {
            Ok(resources) => with(&self.shared, |proxy| {
                proxy.apply_then(Change::Replace(resources), |result| {
                    answer.give(
                        result
                            .map(|applied| told(&applied))
                            .map_err(|error| apply_error(&error)),
                    );
                });
                Ok(())
            }),
            Err(error) => {
                answer.give(Err(error));
                Ok(())
            }
        }
    }

    fn resolve(&mut self, _: Env, (): ()) -> Result<()> {
        Ok(())
    }

    /// The answer says it.
    fn reject(&mut self, _: Env, _: Error) -> Result<()> {
        Ok(())
    }
}

fn told(applied: &Applied) -> String {
    let addresses: Vec<_> = applied
        .addresses
        .iter()
        .map(|(listener, address)| json!({ "listener": listener, "address": address.to_string() }))
        .collect();
    json!({ "version": applied.version, "addresses": addresses }).to_string()
}

pub struct Close {
    shared: Shared,
}

impl Task for Close {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        guarded(|| {
            drop(take(&self.shared));
            Ok(())
        })
    }

    fn resolve(&mut self, _: Env, (): ()) -> Result<()> {
        Ok(())
    }
}

enum Form {
    Json,
    Prometheus,
}

pub struct Look {
    shared: Shared,
    form: Form,
}

impl Task for Look {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> Result<String> {
        with(&self.shared, |proxy| {
            Ok(match self.form {
                Form::Json => json::render(&proxy.look()).to_string(),
                Form::Prometheus => metrics_of(&proxy.report()),
            })
        })
    }

    fn resolve(&mut self, _: Env, output: String) -> Result<String> {
        Ok(output)
    }
}

fn metrics_of(report: &Report) -> String {
    let options = prometheus::Options {
        process: ProcessMetrics::Hidden,
        ..Default::default()
    };
    prometheus::render(report, &options)
}

/// The metrics of a proxy that has done nothing: every family there is.
#[napi(catch_unwind)]
pub fn metric_families() -> String {
    metrics_of(&Telemetry::new(TelemetryOptions::default()).look(Samples::default()))
}

/// Everything that is wrong with resources (JSON), as a JSON array.
#[napi(catch_unwind)]
pub fn validate(resources: String) -> String {
    mesh_model::validate::validate_json(&resources)
}

/// The same, what is wrong with the files that they name included. Nothing listens, and no log is opened.
#[napi(catch_unwind)]
pub fn check(resources: String) -> String {
    let checked = mesh_model::validate::read(&resources).and_then(mesh_proxy::compile::check);
    json!(checked.err().unwrap_or_default()).to_string()
}

/// Which listener, route and cluster a request (JSON) would take, as JSON.
#[napi(catch_unwind)]
pub fn decide(resources: String, request: String) -> String {
    mesh_model::decide::decide_json(&resources, &request, &Http1)
}

/// The processors that this process may keep busy: its affinity and the quota of its control groups. One where nobody
/// says.
#[napi(catch_unwind)]
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |most| u32::try_from(most.get()).unwrap_or(u32::MAX))
}
