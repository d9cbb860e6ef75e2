//! What does a connection cost that only waits? Each is used once, then held until standard input ends.
//!
//! Prints a line when all are open, so that the caller knows when to look at the proxy, and checks at the end that none
//! was closed meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::args::Args;
use crate::run::Errors;

/// Connections opened and used at the same time: upstream pools stay as small as under light load.
const AT_ONCE: usize = 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `idle`.
pub(crate) fn hold(args: &Args) -> Result<(), String> {
    let to: SocketAddr = args.need("to")?;
    let path: String = args.or("path", "/b/100".to_owned())?;
    let count: usize = args.or("connections", 2000)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench.test\r\nuser-agent: mesh-load\r\n\r\n");
    let mut errors = Errors::default();
    let mut held = Vec::with_capacity(count);
    while held.len() < count && errors.count == 0 {
        match batch(to, &request, AT_ONCE.min(count - held.len())) {
            Ok(sockets) => held.extend(sockets),
            Err(message) => errors.add(message),
        }
    }
    errors.print(json!({ "held": held.len() }));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    for socket in &held {
        if let Err(message) = still_open(socket) {
            errors.add(message);
        }
    }
    errors.print(json!({ "held": held.len() }));
    Ok(())
}

fn batch(to: SocketAddr, request: &str, count: usize) -> Result<Vec<TcpStream>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = TcpStream::connect(to).map_err(text)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        socket.write_all(request.as_bytes()).map_err(text)?;
        sockets.push(socket);
    }
    for socket in &mut sockets {
        answer(socket)?;
    }
    Ok(sockets)
}

/// Reads one whole answer with status 200.
fn answer(socket: &mut TcpStream) -> Result<(), String> {
    let (mut bytes, mut block) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        if let Ok(httparse::Status::Complete(size)) = head.parse(&bytes) {
            if head.code != Some(200) {
                return Err(format!("status {:?}, expected 200", head.code));
            }
            let length = crate::h1::content_length(head.headers).ok_or("an answer without content-length")?;
            if bytes.len() as u64 >= size as u64 + length {
                return Ok(());
            }
        }
        match socket.read(&mut block) {
            Ok(0) => return Err("closed before the answer was whole".to_owned()),
            Ok(count) => bytes.extend_from_slice(block.get(..count).unwrap_or_default()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn still_open(mut socket: &TcpStream) -> Result<(), String> {
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    match socket.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Ok(0) => Err("an idle connection was closed".to_owned()),
        Ok(_) => Err("bytes on an idle connection".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
