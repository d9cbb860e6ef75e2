//! Certificates made by the `openssl` command, and what the tests do with sockets.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mesh_identity::tls::Protocol;
use mesh_identity::{MeshTls, Peer, Rejection, Svid, TrustBundle, WorkloadKey, sni};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, ServerConnection, StreamOwned};

/// The workload that is called in most tests, and the one that calls.
pub(crate) const BASKET: &str = "spiffe://mesh.test/ns/shop/sa/basket";
pub(crate) const FRONT: &str = "spiffe://mesh.test/ns/shop/sa/front";

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A directory with an authority and certificates, all made by `openssl`.
pub(crate) struct Pki {
    path: PathBuf,
    count: AtomicU32,
}

/// What stands in a certificate.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// The value of `subjectAltName` in a configuration of `openssl`.
    pub(crate) names: Option<String>,
    pub(crate) authority: bool,
    /// Days from now.
    pub(crate) days: (i64, i64),
    /// Signed by itself instead of the root.
    pub(crate) self_signed: bool,
}

impl Leaf {
    pub(crate) fn of(id: &str) -> Self {
        Self {
            names: Some(format!("URI:{id}")),
            authority: false,
            days: (-1, 1),
            self_signed: false,
        }
    }

    pub(crate) fn named(names: &str) -> Self {
        Self {
            names: Some(names.to_owned()),
            ..Self::of("")
        }
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mesh-openssl-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let pki = Self {
            path,
            count: AtomicU32::new(0),
        };
        for (name, text) in [
            ("index.txt", ""),
            ("serial", "1000\n"),
            ("index.txt.attr", "unique_subject = no\n"),
        ] {
            fs::write(pki.file(name), text).unwrap();
        }
        pki.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=test root",
            "-keyout",
            "root.key",
            "-out",
            "root.crt",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        pki
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// Runs a command in the directory; what it printed.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a certificate and its key; the name of both files, without `.crt` and `.key`.
    pub(crate) fn make(&self, leaf: &Leaf) -> String {
        let name = format!("leaf-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        let (certificate, config) = (format!("{name}.crt"), format!("{name}.cnf"));
        self.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &key,
        ]);
        self.openssl(&["req", "-new", "-key", &key, "-subj", "/CN=leaf", "-out", &request]);
        let authority = if leaf.authority { "TRUE" } else { "FALSE" };
        let names = leaf
            .names
            .as_ref()
            .map(|names| format!("subjectAltName = {names}\n"));
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n\
             default_md = sha256\npolicy = any\nx509_extensions = leaf\n[any]\ncommonName = supplied\n\
             [leaf]\nbasicConstraints = critical,CA:{authority}\nkeyUsage = critical,digitalSignature\n\
             extendedKeyUsage = serverAuth,clientAuth\n{}",
            names.unwrap_or_default()
        );
        fs::write(self.file(&config), text).unwrap();
        let (start, end) = (date(leaf.days.0), date(leaf.days.1));
        let mut arguments = vec![
            "ca",
            "-batch",
            "-config",
            &config,
            "-in",
            &request,
            "-out",
            &certificate,
            "-notext",
            "-startdate",
            &start,
            "-enddate",
            &end,
        ];
        match leaf.self_signed {
            true => arguments.extend(["-selfsign", "-keyfile", &key]),
            false => arguments.extend(["-cert", "root.crt", "-keyfile", "root.key"]),
        }
        self.openssl(&arguments);
        name
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        let domain = "mesh.test".parse().unwrap();
        Arc::new(TrustBundle::from_pem(domain, &self.read("root.crt")).unwrap())
    }

    /// A workload of ours with a certificate of this authority.
    pub(crate) fn workload(&self, id: &str) -> MeshTls {
        let name = self.make(&Leaf::of(id));
        let key = WorkloadKey::from_pem(&self.read(&format!("{name}.key"))).unwrap();
        let chain = CertificateDer::from_pem_slice(&self.read(&format!("{name}.crt"))).unwrap();
        let tls = MeshTls::new("mesh.test".parse().unwrap());
        tls.set_svid(Arc::new(Svid::new(&key, vec![chain], SystemTime::now()).unwrap()));
        tls.set_bundle(self.bundle());
        tls
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// `YYYYMMDDHHMMSSZ` so many days from now.
fn date(days: i64) -> String {
    let distance = Duration::from_secs(days.unsigned_abs() * 86_400);
    let time = match days < 0 {
        true => SystemTime::now() - distance,
        false => SystemTime::now() + distance,
    };
    let date = der::DateTime::from_system_time(time).unwrap().to_string();
    date.chars()
        .filter(|one| one.is_ascii_digit())
        .collect::<String>()
        + "Z"
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Waits for its end, no longer than the deadline.
    pub(crate) fn ended(&mut self) {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < DEADLINE, "openssl does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Starts `openssl s_server` with this certificate; its address.
pub(crate) fn s_server(pki: &Pki, leaf: &str, more: &[&str]) -> (Process, SocketAddr) {
    let (certificate, key) = (format!("{leaf}.crt"), format!("{leaf}.key"));
    let mut child = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &certificate,
            "-key",
            &key,
        ])
        .args([
            "-CAfile",
            "root.crt",
            "-Verify",
            "3",
            "-verify_return_error",
            "-alpn",
            "mesh/tcp",
            "-rev",
        ])
        .args(more)
        .current_dir(&pki.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let process = Process(child);
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "s_server says no address");
        if let Some(address) = line.trim().strip_prefix("ACCEPT ") {
            let address = address.parse().unwrap();
            // Read on, so that it never waits for us.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return (process, address);
        }
    }
}

/// Starts `openssl s_client`, which sends a line and shows what comes back.
pub(crate) fn s_client(pki: &Pki, leaf: Option<&str>, address: SocketAddr, more: &[&str]) -> Process {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &address.to_string(),
        "-quiet",
        "-CAfile",
        "root.crt",
    ]);
    command.args([
        "-servername",
        "p8080.basket.shop.mesh.test",
        "-verify_return_error",
    ]);
    if let Some(leaf) = leaf {
        command.args(["-cert", &format!("{leaf}.crt"), "-key", &format!("{leaf}.key")]);
    }
    let mut child = command
        .args(more)
        .current_dir(&pki.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || {
        // It may have been refused before it reads.
        let _ = stdin.write_all(b"ping\n");
        std::thread::sleep(DEADLINE);
    });
    Process(child)
}

fn timed(stream: TcpStream) -> TcpStream {
    // Lines are answered one by one: nothing is gained by waiting for more.
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A handshake or an exchange that failed.
#[derive(Debug)]
pub(crate) enum Failed {
    Tls(rustls::Error),
    Io(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(inner) => Self::Tls(inner.clone()),
            None => Self::Io(error),
        }
    }
}

impl Failed {
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Tls(error) => Rejection::of(error),
            Self::Io(_) => None,
        }
    }
}

/// The next caller, if one comes before the deadline.
fn accept(listener: &TcpListener) -> Result<TcpStream, Failed> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < DEADLINE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => {
                let (stream, _) = result?;
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
    }
}

/// Accepts one caller, answers its line with `pong`, and says who it was.
pub(crate) fn serve_one(listener: &TcpListener, tls: &MeshTls) -> Result<(Peer, Protocol), Failed> {
    let config = tls.server_config(Protocol::ALL).map_err(Failed::Tls)?;
    let stream = accept(listener)?;
    let connection = ServerConnection::new(config).map_err(Failed::Tls)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, timed(stream)));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    assert_eq!(line, "ping\n");
    let connection = &mut stream.get_mut().conn;
    let peer = Peer::of(&connection.peer_certificates().unwrap()[0]).unwrap();
    let protocol = Protocol::agreed(connection.alpn_protocol());
    let protocol = protocol.map_err(|rejection| Failed::Tls(rejection.into()))?;
    let stream = stream.get_mut();
    stream.write_all(b"pong\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok((peer, protocol))
}

/// A connection to a workload.
pub(crate) struct Call(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Call {
    pub(crate) fn begin(tls: &MeshTls, expected: &str, address: SocketAddr) -> Result<Self, Failed> {
        let config = tls.client_config(&expected.parse().unwrap(), Protocol::Tcp);
        let name = sni::Target::new(8080, "basket", "shop", &"mesh.test".parse().unwrap()).unwrap();
        let name = name.server_name().unwrap();
        let connection = ClientConnection::new(config.map_err(Failed::Tls)?, name).map_err(Failed::Tls)?;
        let stream = timed(TcpStream::connect(address)?);
        Ok(Self(BufReader::new(StreamOwned::new(connection, stream))))
    }

    /// Sends a line; the one that comes back.
    pub(crate) fn say(&mut self, line: &str) -> Result<String, Failed> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        self.0.get_mut().flush()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    pub(crate) fn connection(&mut self) -> &mut ClientConnection {
        &mut self.0.get_mut().conn
    }
}

/// Serves callers until the listener is told to end: each line comes back.
pub(crate) fn echo(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Result<(), Failed> {
    let connection = ServerConnection::new(config).map_err(Failed::Tls)?;
    let mut stream = StreamOwned::new(connection, timed(stream));
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => stream.write_all(bytes.get(..count).unwrap_or_default())?,
        }
    }
}
