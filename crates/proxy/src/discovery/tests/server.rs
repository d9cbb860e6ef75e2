//! A name server that answers as a test tells it, on real sockets.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What the server says to a question.
#[derive(Clone)]
pub(super) enum Says {
    /// These records. An alias answers for the name and for its target.
    Records(Vec<Record>),
    /// NXDOMAIN, with this negative TTL.
    NoSuchName(u32),
    /// SERVFAIL.
    Fails,
    /// Nothing at all.
    Nothing,
    /// These records, by TCP only: by UDP they are cut off.
    TooLong(Vec<Record>),
}

type Key = (String, RecordType);

#[derive(Default)]
struct Script {
    says: HashMap<Key, Says>,
    /// The questions that came, by their numbers.
    asked: HashMap<Key, HashSet<u16>>,
}

/// The server. It ends when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(super) fn start() -> Self {
        // Any port that is free for both.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        let address = udp.local_addr().unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let script: Arc<Mutex<Script>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let by_udp = {
            let (script, over) = (Arc::clone(&script), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !over.load(Ordering::Relaxed) {
                    let Ok((len, from)) = udp.recv_from(&mut buffer) else {
                        continue;
                    };
                    if let Some(answer) = script.lock().unwrap().answer(&buffer[..len], false) {
                        let _ = udp.send_to(&answer, from);
                    }
                }
            })
        };
        let by_tcp = {
            let (script, over) = (Arc::clone(&script), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = tcp.accept() else {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let mut len = [0; 2];
                    let mut asked = Vec::new();
                    if stream.read_exact(&mut len).is_ok() {
                        asked.resize(u16::from_be_bytes(len).into(), 0);
                        let _ = stream.read_exact(&mut asked);
                    }
                    if let Some(answer) = script.lock().unwrap().answer(&asked, true) {
                        let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        let _ = stream.write_all(&[&len[..], &answer].concat());
                    }
                }
            })
        };
        Self {
            address,
            script,
            over,
            threads: vec![by_udp, by_tcp],
        }
    }

    /// From now on this is the answer. What was never told does not exist.
    pub(super) fn says(&self, name: &str, kind: RecordType, says: Says) {
        self.script.lock().unwrap().says.insert((name.into(), kind), says);
    }

    /// Addresses of both families under one TTL; a family without any has no records.
    pub(super) fn host(&self, name: &str, addresses: &[&str], ttl: u32) {
        for (kind, v4) in [(RecordType::A, true), (RecordType::AAAA, false)] {
            let records = addresses
                .iter()
                .filter(|address| address.contains('.') == v4)
                .map(|address| address_record(name, address, ttl))
                .collect();
            self.says(name, kind, Says::Records(records));
        }
    }

    /// SRV records: priority, weight, port and target.
    pub(super) fn service(&self, name: &str, records: &[(u16, u16, u16, &str)], ttl: u32) {
        let records = records
            .iter()
            .map(|(priority, weight, port, target)| {
                let target = Name::from_ascii(target).unwrap();
                let data = RData::SRV(SRV::new(*priority, *weight, *port, target));
                Record::from_rdata(full(name), ttl, data)
            })
            .collect();
        self.says(name, RecordType::SRV, Says::Records(records));
    }

    /// Forgets everything about a name: it does not exist.
    pub(super) fn forget(&self, name: &str) {
        self.script
            .lock()
            .unwrap()
            .says
            .retain(|(known, _), _| known != name);
    }

    /// How often it was asked. A question that is sent again keeps its number, and is one.
    pub(super) fn asked(&self, name: &str, kind: RecordType) -> usize {
        let script = self.script.lock().unwrap();
        script.asked.get(&(name.into(), kind)).map_or(0, HashSet::len)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Script {
    fn answer(&mut self, asked: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let asked = Message::from_vec(asked).ok()?;
        let query = asked.queries.first()?.clone();
        let name = query.name().to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.').to_owned();
        let key = (name, query.query_type());
        self.asked
            .entry(key.clone())
            .or_default()
            .insert(asked.metadata.id);
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.queries.push(query);
        match self.says.get(&key).cloned().unwrap_or(Says::NoSuchName(1)) {
            Says::Nothing => return None,
            Says::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Says::NoSuchName(ttl) => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.authorities.push(authority(ttl));
            }
            Says::TooLong(_) if !by_tcp => answer.metadata.truncation = true,
            Says::Records(records) | Says::TooLong(records) => {
                if records.is_empty() {
                    answer.authorities.push(authority(1));
                }
                answer.answers = records;
            }
        }
        answer.to_vec().ok()
    }
}

/// The record that carries the negative TTL.
fn authority(ttl: u32) -> Record {
    let soa = SOA::new(full("ns.test"), full("root.test"), 1, 60, 60, 60, ttl);
    Record::from_rdata(full("test"), ttl, RData::SOA(soa))
}

pub(super) fn address_record(name: &str, address: &str, ttl: u32) -> Record {
    let data = match address.contains('.') {
        true => RData::A(A(address.parse().unwrap())),
        false => RData::AAAA(AAAA(address.parse().unwrap())),
    };
    Record::from_rdata(full(name), ttl, data)
}

pub(super) fn alias_record(name: &str, to: &str, ttl: u32) -> Record {
    Record::from_rdata(full(name), ttl, RData::CNAME(CNAME(full(to))))
}

fn full(name: &str) -> Name {
    Name::from_str(&format!("{name}.")).unwrap()
}
