use super::*;

fn told(arguments: &str) -> Result<Task, Vec<String>> {
    read(arguments.split_whitespace().map(String::from), |_| None)
}

#[test]
fn two_addresses_are_a_whole_configuration() {
    for to in ["127.0.0.1:3000", "unix:/run/app.sock", "app.internal:80"] {
        let Ok(Task::Run(Source::Direct(resources), running)) =
            told(&format!("--listen 127.0.0.1:0 --to {to}"))
        else {
            panic!("{to}")
        };
        assert_eq!(mesh_model::validate::validate(&resources), []);
        assert_eq!(
            running,
            Running {
                threads: 1,
                lame_duck: Duration::from_secs(3),
                grace: Duration::from_secs(10),
                with_parent: None,
                dns_servers: Vec::new(),
                admin: Some("127.0.0.1:4191".parse().unwrap()),
                log_level: Level::Info,
                log_format: LogFormat::Text,
            }
        );
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let problems = told(
        "--threads 0 --lame-duck soon --grace no --with-parent me --listen here --to 1.2.3.4 --nonsense --admin no --log-level loud \
         --log-format xml --dns-server ns.test",
    )
    .unwrap_err();
    let named = [
        "--nonsense",
        "--threads",
        "--lame-duck",
        "--grace",
        "--with-parent",
        "--dns-server",
        "--admin",
        "--log-level",
        "--log-format",
        "--listen",
        "--to",
    ];
    assert_eq!(problems.len(), named.len(), "{problems:?}");
    for name in named {
        assert!(
            problems.iter().any(|problem| problem.starts_with(name)),
            "{name}: {problems:?}"
        );
    }
    for wrong in [
        "",
        "--listen :1",
        "--to :1",
        "--config a --listen :1",
        "--config",
        "--config a --config b",
        "--config a --access-log b",
    ] {
        assert!(told(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn flags_win_over_the_environment() {
    let environment = |name: &str| match name {
        "MESH_CONFIG" => Some("env.json".into()),
        "MESH_THREADS" => Some("4".into()),
        _ => None,
    };
    let task = read(["--config=flag.json".into()].into_iter(), environment).unwrap();
    let Task::Run(source, running) = task else {
        panic!("{task:?}")
    };
    assert_eq!((source, running.threads), (Source::File("flag.json".into()), 4));
}

#[test]
fn what_is_wrong_is_told_by_the_name_that_it_was_given_by() {
    let told = |flags: &str, variables: &[(&str, &str)]| {
        let environment = |name: &str| {
            let set = variables.iter().find(|(variable, _)| *variable == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        read(flags.split_whitespace().map(String::from), environment).unwrap_err()
    };
    assert_eq!(
        told(
            "--listen here --to 127.0.0.1:1",
            &[("MESH_THREADS", "0"), ("MESH_LISTEN", "x")]
        ),
        [
            "MESH_THREADS: expected 1 to 256, received `0`",
            "--listen: expected IP:PORT, [IPv6]:PORT, localhost:PORT, :PORT or unix:PATH, received `here`"
        ]
    );
    assert!(told("--to 127.0.0.1:1", &[("MESH_LISTEN", "x")])[0].starts_with("MESH_LISTEN: expected"));
    assert!(told("--listen :1", &[("MESH_TO", "1.2.3.4")])[0].starts_with("MESH_TO: expected"));
    assert_eq!(
        told("--listen :1 --to :2", &[("MESH_CONFIG", "a.json")]),
        ["MESH_CONFIG says all: leave --listen and --to out, or MESH_CONFIG"]
    );
    assert_eq!(
        told("--config a.json", &[("MESH_IDENTITY", "spiffe://mesh.test/a")]),
        ["MESH_IDENTITY: it goes with --control, which is missing"]
    );
}

#[test]
fn every_setting_can_come_from_the_environment() {
    let environment = |name: &str| {
        Some(
            match name {
                "MESH_LISTEN" => "127.0.0.1:0",
                "MESH_TO" => "127.0.0.1:1",
                "MESH_ACCESS_LOG" => "-",
                "MESH_ADMIN" => "off",
                "MESH_THREADS" => "2",
                "MESH_LAME_DUCK" => "0s",
                "MESH_GRACE" => "1m",
                "MESH_WITH_PARENT" => "1",
                "MESH_LOG_LEVEL" => "debug",
                "MESH_LOG_FORMAT" => "json",
                _ => "",
            }
            .to_owned(),
        )
    };
    let Ok(Task::Run(Source::Direct(resources), running)) = read(std::iter::empty(), environment) else {
        panic!()
    };
    assert_eq!(resources.listeners[0].access_log, Some(AccessLog::default()));
    let expected = Running {
        threads: 2,
        lame_duck: Duration::ZERO,
        grace: Duration::from_secs(60),
        with_parent: Some(1),
        dns_servers: Vec::new(),
        admin: None,
        log_level: Level::Debug,
        log_format: LogFormat::Json,
    };
    assert_eq!(running, expected);
}

#[test]
fn a_workload_of_a_mesh_has_a_control_plane() {
    let all = "--control 127.0.0.1:4144,control.test:4144 --trust-anchors roots.pem --token-file token \
               --identity spiffe://mesh.test/ns/shop/sa/basket --inbound 127.0.0.1:0 --outbound 127.0.0.1:0 \
               --ports 3000=127.0.0.1:41000 --forward web:80=127.0.0.1:0 --egress known --state-dir state";
    let Ok(Task::Run(Source::Mesh(workload), _)) = told(all) else {
        panic!()
    };
    assert_eq!(
        (workload.control.len(), &*workload.service, workload.egress),
        (2, "basket", Reach::Known)
    );
    assert!(workload.is_opaque(3306) && !workload.is_opaque(80));
    assert!(HELP.contains(OPAQUE_PORTS));
    let named = |arguments: &str, names: &[&str]| {
        let problems = told(arguments).unwrap_err();
        assert_eq!(problems.len(), names.len(), "{problems:?}");
        for name in names {
            assert!(
                problems.iter().any(|problem| problem.starts_with(name)),
                "{name}: {problems:?}"
            );
        }
    };
    named(
        "--control nowhere",
        &["--trust-anchors", "--identity", "--inbound", "--control"],
    );
    named(&format!("{all} --advertise :4143"), &["--advertise"]);
    named(&format!("{all} --opaque-ports smtp"), &["--opaque-ports"]);
    named(&format!("{all} --listen 127.0.0.1:0"), &["--listen"]);
    named(
        &format!("{all} --attestation platform=evidence"),
        &["--attestation"],
    );
    let attested = all.replace("--token-file token", "--attestation platform=evidence");
    let Ok(Task::Run(Source::Mesh(workload), _)) = told(&attested) else {
        panic!()
    };
    assert_eq!(
        workload.proof,
        Some(Proof::Attestation {
            kind: "platform".into(),
            file: "evidence".into()
        })
    );
    named(&attested.replace("platform=", ""), &["--attestation"]);
    named("--config a --identity spiffe://mesh.test/a", &["--identity"]);
}

/// A workload with more flags.
fn mesh(more: &str) -> Result<Task, Vec<String>> {
    told(&format!(
        "--control 127.0.0.1:4144 --trust-anchors roots.pem --identity spiffe://mesh.test/ns/shop/sa/web \
         --inbound 127.0.0.1:4143 {more}"
    ))
}

#[test]
fn listeners_and_ports_that_do_not_go_together_are_bad_settings() {
    for more in [
        "--outbound 127.0.0.1:4143",
        "--ports 3000=127.0.0.1:1,3000=127.0.0.1:2",
        "--forward a:80=127.0.0.1:4143",
        "--forward a:80=127.0.0.1:1,b:80=127.0.0.1:1",
        "--forward a:80=127.0.0.1:1,a:80=127.0.0.1:2",
    ] {
        let problems = mesh(more).unwrap_err();
        assert!(problems[0].contains("do not go together"), "{more}: {problems:?}");
    }
    assert!(mesh("--outbound 127.0.0.1:4140 --forward a:80=127.0.0.1:1,a:81=127.0.0.1:2").is_ok());
}

#[test]
fn a_copy_is_called_by_what_is_a_line_of_a_log_at_most() {
    let named = |flag: &str, name: &str| {
        let more = format!("{flag}={name}");
        let arguments = [
            "--control=127.0.0.1:4144",
            "--trust-anchors=roots.pem",
            "--identity=spiffe://mesh.test/ns/shop/sa/web",
            "--inbound=127.0.0.1:4143",
            &more,
        ];
        read(arguments.into_iter().map(String::from), |_| None)
    };
    for flag in ["--name", "--service"] {
        for odd in ["evil\u{1b}[2J", "evil\nbasket-1: ready", "a\r"] {
            let problems = named(flag, odd).unwrap_err();
            assert!(problems[0].starts_with(flag), "{problems:?}");
            assert!(!problems[0].contains(char::is_control), "{problems:?}");
        }
        assert!(named(flag, &"n".repeat(300)).is_err());
        assert!(named(flag, "web 1").is_ok());
    }
}

#[test]
fn only_this_machine_calls_as_a_workload_unless_told_otherwise() {
    let from = |more: &str| match mesh(more) {
        Ok(Task::Run(Source::Mesh(workload), _)) => Some(workload.outbound_from),
        _ => None,
    };
    let told = [
        "",
        "--outbound-from local",
        "--outbound-from any",
        "--outbound-from me",
    ];
    let (local, any) = (Some(OutboundFrom::Local), Some(OutboundFrom::Any));
    assert_eq!(told.map(from), [local, local, any, None]);
}

#[test]
fn help_and_version_need_nothing_else() {
    assert_eq!(told("--help --threads x"), Ok(Task::Help));
    assert_eq!(told("-V"), Ok(Task::Version));
    assert_eq!(
        told("--config a --check"),
        Ok(Task::Check(Source::File("a".into())))
    );
}
