//! Which end of a benchmark is this process? It is the origin behind the proxies, or one of the clients in front.
//!
//! Every sub-command is one thread with one epoll, so that a single core carries both ends and the core beside it
//! belongs to the proxy alone. Each prints one JSON object; a wrong status, a wrong length, a connection that breaks:
//! all are counted as errors, and an error makes the measurement worthless to the caller.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod bulk;
mod drive;
mod h1;
mod h2;
mod histogram;
mod idle;
mod link;
mod origin;
mod poll;
mod run;
mod tls;
mod wire;

use std::process::ExitCode;

use args::Args;

const USAGE: &str = "usage: mesh-load COMMAND [--option value]...
  origin  --http ADDR --tcp ADDR       HTTP/1, h2c, gRPC echo; bulk bytes
  h1      --to ADDR                    closed loop, one request at a time on each connection
  h2      --to ADDR --streams N        closed loop, prior knowledge
  grpc    --to ADDR --streams N        closed loop, unary calls that echo --message bytes
  rate    --to ADDR --rate N           open loop: N requests a second, whatever the answers do; --protocol h1|h2|grpc
  tcp     --to ADDR --up B --down B    bytes in each direction on every connection
  idle    --to ADDR                    one request on each connection, then hold them until standard input ends
closed and open loop: --connections N, --seconds S or --requests N, --path P, --host H, --variants N ({n} in path and
host becomes 0..N), --fresh (a connection for each request, h1), --tls --group x25519|x25519mlkem768,
--certificate FILE --key FILE (a client certificate), --server-name NAME, --alpn NAME";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let outcome = Args::parse(words).and_then(|args| match command.as_str() {
        "origin" => origin::serve(&args),
        "h1" | "h2" | "grpc" | "rate" => drive::load(&command, &args),
        "tcp" => bulk::transfer(&args),
        "idle" => idle::hold(&args),
        _ => Err(USAGE.to_owned()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(64)
        }
    }
}
