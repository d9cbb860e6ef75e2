use std::sync::Mutex;
use std::time::Instant;

use mesh_proxy::log::Level;
use mesh_proxy::proxy::Options;

use super::*;
use crate::settings::LogFormat;

type Said = Arc<Mutex<Vec<String>>>;

const GO_ON: ControlFlow<End> = ControlFlow::Continue(());

fn ends(code: u8) -> ControlFlow<End> {
    ControlFlow::Break(End::Code(code))
}

/// Has `then` see a sidecar that starts, and what it says.
fn with<T>(command: Option<&str>, lives: bool, then: impl AsyncFnOnce(Course<'_>, Said) -> T) -> T {
    let said = Said::default();
    let lines = Arc::clone(&said);
    let proxy = Proxy::start(Options {
        log: Arc::new(Log::new(Level::Info, move |entry| {
            lines.lock().unwrap().push(entry.text());
        })),
        ..Options::default()
    })
    .unwrap();
    let running = Running {
        threads: 1,
        lame_duck: Duration::ZERO,
        grace: Duration::ZERO,
        with_parent: None,
        dns_servers: Vec::new(),
        admin: None,
        log_level: Level::Info,
        log_format: LogFormat::Text,
    };
    let work = Work {
        source: &Arc::new(Source::Direct(Box::default())),
        running: &running,
        command: command.map(|command| vec![command.into()]),
        awaited: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(then(Course::new(&proxy, work, lives), said))
}

fn applied(version: u64, names: &[&str]) -> Result<Applied, Vec<String>> {
    let at = |name: &&str| ((*name).to_owned(), "127.0.0.1:1".parse().unwrap());
    Ok(Applied {
        version,
        addresses: names.iter().map(at).collect(),
    })
}

fn bad() -> Result<Applied, Vec<String>> {
    Err(vec!["it is bad".to_owned()])
}

fn take(said: &Said) -> Vec<String> {
    std::mem::take(&mut said.lock().unwrap())
}

#[test]
fn the_first_configuration_is_refused_and_later_ones_are_told_of() {
    let refused = ControlFlow::Break(End::Refused(vec!["it is bad".to_owned()]));
    with(None, false, async |mut course, said| {
        assert_eq!(course.on_applied(applied(1, &["main"])), GO_ON);
        assert_eq!(take(&said), ["main listens on 127.0.0.1:1"]);
        assert_eq!(course.on_applied(bad()), GO_ON);
        assert_eq!(
            take(&said),
            [
                "error: it is bad",
                "error: not applied: the last good configuration keeps serving"
            ]
        );
        assert_eq!(course.on_applied(applied(2, &["main", "more"])), GO_ON);
        assert_eq!(take(&said), ["version 2 is live", "more listens on 127.0.0.1:1"]);
    });
    with(None, false, async |mut course, said| {
        assert_eq!(course.on_applied(bad()), refused);
        assert_eq!(take(&said), [""; 0]);
    });
}

#[test]
fn what_is_bad_is_nobodys_concern_once_a_drain_has_begun_before_anything_was_served() {
    with(Some("true"), false, async |mut course, said| {
        assert_eq!(course.on_signal().await, GO_ON);
        assert_eq!(take(&said), ["draining; a second signal ends at once"]);
        assert_eq!(course.on_applied(bad()), GO_ON);
        assert_eq!(take(&said), [""; 0]);
        // It is live all the same, and the command is not started for its end.
        assert_eq!(course.on_applied(applied(1, &[])), GO_ON);
        assert!(matches!(course.command, Command::Waiting(_)));
        assert_eq!(course.on_applied(bad()), GO_ON);
        assert_eq!(take(&said).len(), 2);
        assert!(drained(&mut course.phase).await);
        assert_eq!(
            course.on_drained(true, std::future::pending()).await,
            ends(SUCCESS)
        );
    });
}

#[test]
fn a_second_signal_ends_it() {
    with(None, false, async |mut course, said| {
        assert_eq!(course.on_applied(applied(1, &[])), GO_ON);
        assert_eq!(course.on_signal().await, GO_ON);
        assert_eq!(course.on_signal().await, ends(FAILURE));
        assert_eq!(take(&said)[1], "warning: ended before all work was done");
    });
    // The first may have been a drain on the admin port.
    with(None, false, async |mut course, _| {
        course.proxy.drain(DrainOptions {
            lame_duck: Duration::ZERO,
            work: None,
        });
        assert!(drained(&mut course.phase).await);
        assert_eq!(course.on_signal().await, ends(FAILURE));
    });
}

#[test]
fn a_command_that_ends_drains_the_proxy_and_its_code_is_the_end() {
    with(Some("true"), false, async |mut course, said| {
        course.stage = Stage::Serving;
        assert_eq!(course.on_command_ended(7), GO_ON);
        assert_eq!(take(&said), ["the command ended with 7: draining"]);
        assert_eq!(course.stage, Stage::Draining { has_served: true });
        // What it left behind has gone with it.
        assert_eq!(course.on_command_left_somebody(), GO_ON);
        assert_eq!(take(&said), [""; 0]);
        assert!(drained(&mut course.phase).await);
        assert_eq!(course.on_drained(true, std::future::pending()).await, ends(7));
    });
}

#[test]
fn a_command_that_ends_after_a_drain_has_nothing_to_drain() {
    with(Some("true"), false, async |mut course, said| {
        course.proxy.drain(DrainOptions {
            lame_duck: Duration::ZERO,
            work: None,
        });
        assert!(drained(&mut course.phase).await);
        course.stage = Stage::Drained;
        assert_eq!(course.on_command_ended(0), ends(0));
        assert_eq!(take(&said), [""; 0]);
    });
}

#[test]
fn a_control_plane_hears_that_it_goes_but_not_for_long() {
    let begun = Instant::now();
    with(None, true, async |mut course, _| {
        assert_eq!(
            course.on_drained(true, std::future::ready(())).await,
            ends(SUCCESS)
        );
        assert!(course.has_left);
    });
    with(None, true, async |mut course, _| {
        assert_eq!(
            course.on_drained(true, std::future::pending()).await,
            ends(SUCCESS)
        );
        assert!(!course.has_left && begun.elapsed() >= FAREWELL);
    });
    with(None, true, async |mut course, _| {
        assert_eq!(course.on_left(), GO_ON);
        // It is not asked again.
        let never = async { panic!("it has left") };
        assert_eq!(course.on_drained(true, never).await, ends(SUCCESS));
    });
}

#[test]
fn a_proxy_that_can_not_drain_is_a_failure() {
    with(None, false, async |mut course, _| {
        assert_eq!(
            course.on_drained(false, std::future::pending()).await,
            ends(FAILURE)
        );
    });
}

#[test]
fn a_sidecar_of_a_mesh_is_ready_when_it_serves_and_its_command_listens() {
    with(None, true, async |mut course, said| {
        assert_eq!(course.on_joined(), GO_ON);
        assert_eq!(take(&said), ["ready"]);
        assert!(course.stage.has_served());
    });
    with(None, true, async |mut course, said| {
        course.awaited = Some("127.0.0.1:3000".parse().unwrap());
        assert_eq!(course.on_joined(), GO_ON);
        assert_eq!(take(&said), ["waits until the command listens on 127.0.0.1:3000"]);
        assert!(!course.awaits_command(), "there is none");
        assert_eq!(course.on_listening(), GO_ON);
        assert_eq!(take(&said), ["ready"]);
        assert_eq!(course.awaited, None);
    });
}
