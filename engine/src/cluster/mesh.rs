//! The mesh: one connection between each two processes of a generation.
//!
//! Each process connects to those before it and is connected to by those after it. Whoever connects shows
//! that it knows the cluster's secret and says who it is, in which generation, and is shown the same; then all of
//! them tell each other that they are complete. Anybody else, silent or talkative, is turned away in bounded time,
//! and nobody waits for them.
//!
//! ```text
//! who connects                                  who listens
//!                                          ◀──  nonce of the listener
//! magic, nonce, who I am, proof of all this ──▶
//!                                          ◀──  proof that I know it as well, and who I am
//! ```
//!
//! Both proofs are over both nonces: what was recorded of one handshake is no answer in another, whichever
//! side it is played to. The port is the [`port`](super::port)'s: it listens all the time, and hands on who comes
//! while a mesh is formed.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ring::hmac;

use super::port::Port;
use super::tls::Tls;
use super::wire::Wire;
use crate::metrics;
use crate::postgres::membership::{Decided, ProcessId};

/// How long a peer may take to be reached.
const REACH: Duration = Duration::from_secs(1);
/// How long a peer may take to say who it is.
pub const HELLO: Duration = Duration::from_secs(2);
/// How long a peer may take to say that it is complete, once we are.
const READY: Duration = Duration::from_secs(10);
/// How long a mesh may take; then the generation is given up, and the leader decides on the next.
const FORM: Duration = Duration::from_secs(20);
/// How long a peer may be silent, and what is sent to it unacknowledged.
const SILENCE: Duration = Duration::from_secs(15);
/// Between two tries to reach a peer.
const RETRY: Duration = Duration::from_millis(20);
/// Between two lines about who is missing.
const REPORT: Duration = Duration::from_secs(5);

const MAGIC: &[u8; 8] = b"VELIB\0\0\x03";
/// Generation, place, processes, workers, process.
const WORDS: usize = 8 + 4 + 4 + 4 + 16;
/// Magic, nonce, words, proof.
const HELLO_BYTES: usize = 8 + 32 + WORDS + 32;
const READY_BYTE: u8 = 0xA5;
/// What is signed says what it is for.
const WELCOME: &[u8] = b"welcome";
const MEMBER: &[u8] = b"velib member";

/// Shows in the database that a process knows the secret of its cluster.
pub fn proof(secret: &str, process: ProcessId) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, &[MEMBER, process.as_bytes()].concat()).as_ref().to_vec()
}

/// Who is to be connected.
#[derive(Clone)]
pub struct Mesh {
    /// The generation: its number, who is part of it, and where they are reached.
    pub generation: Decided,
    /// The place of this process in it.
    pub index: usize,
    /// Worker threads, the same in all processes.
    pub workers: usize,
    /// What all of them know.
    pub secret: String,
    /// What they encrypt with, if they do.
    pub tls: Option<Tls>,
}

impl Mesh {
    /// Connects all processes, for as long as [`FORM`], or until `stop`. One socket a process, none for this one.
    /// `None`: it was stopped, or somebody is missing.
    pub fn form(&self, port: &Port, stop: &AtomicBool) -> Option<Vec<Option<Wire>>> {
        metrics::PROCESSES_EXPECTED.set(self.generation.members.len() as i64);
        if self.generation.members.len() <= 1 {
            metrics::PROCESSES_CONNECTED.set(1);
            return Some(vec![None]);
        }
        let end = Instant::now() + FORM;
        let (send, accepted) = mpsc::channel();
        let _expecting = port.expect(self.clone(), send);
        while !stop.load(Ordering::Relaxed) {
            let sockets = self.connect(&accepted, stop, end)?;
            match self.agree(sockets, stop) {
                Ok(sockets) => return Some(sockets),
                Err((peer, error)) => {
                    tracing::info!(peer = self.address(peer), %error, "a peer left while the mesh was formed")
                }
            }
        }
        None
    }

    fn address(&self, peer: usize) -> &str {
        self.generation.addresses.get(peer).map_or("", String::as_str)
    }

    fn connect(
        &self,
        accepted: &mpsc::Receiver<(usize, Wire)>,
        stop: &AtomicBool,
        end: Instant,
    ) -> Option<Vec<Option<Wire>>> {
        let mut sockets: Vec<Option<Wire>> = self.generation.members.iter().map(|_| None).collect();
        let mut reported = Instant::now();
        loop {
            let missing: Vec<usize> =
                (0..sockets.len()).filter(|i| *i != self.index && sockets[*i].is_none()).collect();
            metrics::PROCESSES_CONNECTED.set((sockets.len() - missing.len()) as i64);
            if missing.is_empty() {
                return Some(sockets);
            }
            let late = Instant::now() > end;
            if late || reported.elapsed() > REPORT {
                reported = Instant::now();
                let names: Vec<&str> = missing.iter().map(|i| self.address(*i)).collect();
                let (generation, missing) = (self.generation.number, names.join(", "));
                tracing::info!(generation, missing, given_up = late, "waiting for the other processes");
            }
            if late || stop.load(Ordering::Relaxed) {
                return None;
            }
            for peer in missing.into_iter().filter(|peer| *peer < self.index) {
                match self.reach(peer) {
                    Ok(socket) => sockets[peer] = Some(socket),
                    Err(error) => tracing::debug!(peer = self.address(peer), %error, "not reached yet"),
                }
            }
            while let Ok((peer, socket)) = accepted.try_recv() {
                sockets[peer] = Some(socket);
            }
            if sockets.iter().enumerate().any(|(i, socket)| i != self.index && socket.is_none()) {
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Connects to a process before this one.
    fn reach(&self, peer: usize) -> std::io::Result<Wire> {
        let address = self.address(peer).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| std::io::Error::other("the name has no address"))?;
        let socket = TcpStream::connect_timeout(&address, REACH)?;
        limit(&socket)?;
        let host = self.address(peer).rsplit_once(':').map_or("", |(host, _)| host);
        let mut socket = match &self.tls {
            Some(tls) => tls.connect(socket, host, Instant::now() + HELLO)?,
            None => Wire::plain(socket),
        };
        let mut theirs = [0; 32];
        socket.read_within(&mut theirs, HELLO)?;
        let (ours, words): ([u8; 32], _) = (rand::random(), self.words(self.index));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let proof = hmac::sign(&key, &[&theirs[..], &ours, &words].concat());
        socket.write_all(&[&MAGIC[..], &ours, &words, proof.as_ref()].concat())?;
        let mut welcome = [0; 32];
        socket.read_within(&mut welcome, HELLO)?;
        hmac::verify(&key, &[&ours[..], &theirs, WELCOME, &self.words(peer)].concat(), &welcome)
            .map_err(|_| std::io::Error::other("it does not know the secret of the cluster, or is another process"))?;
        Ok(socket)
    }

    /// Listens to who connects: a process after this one, or a stranger.
    ///
    /// # Errors
    /// It is a stranger, or does not say who it is in time.
    pub fn hear(&self, socket: TcpStream) -> std::io::Result<(usize, Wire)> {
        limit(&socket)?;
        let mut socket = match &self.tls {
            Some(tls) => tls.accept(socket, Instant::now() + HELLO)?,
            None => Wire::plain(socket),
        };
        let ours: [u8; 32] = rand::random();
        socket.write_all(&ours)?;
        let mut hello = [0; HELLO_BYTES];
        socket.read_within(&mut hello, HELLO)?;
        let (magic, rest) = hello.split_at(8);
        let (theirs, rest) = rest.split_at(32);
        let (words, proof) = rest.split_at(WORDS);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        if magic != MAGIC || hmac::verify(&key, &[&ours[..], theirs, words].concat(), proof).is_err() {
            return Err(std::io::Error::other("it is no process of this cluster"));
        }
        let peer = u32::from_le_bytes(words[8..12].try_into().expect("4 bytes")) as usize;
        if peer <= self.index || peer >= self.generation.members.len() || words != self.words(peer) {
            return Err(std::io::Error::other("it takes the generation for another one than this process does"));
        }
        socket.write_all(hmac::sign(&key, &[theirs, &ours, WELCOME, &self.words(self.index)].concat()).as_ref())?;
        Ok((peer, socket))
    }

    /// Who is speaking, and what it takes the generation to be.
    fn words(&self, index: usize) -> [u8; WORDS] {
        let mut words = [0; WORDS];
        words[..8].copy_from_slice(&self.generation.number.to_le_bytes());
        for (i, word) in [index, self.generation.members.len(), self.workers].into_iter().enumerate() {
            words[8 + 4 * i..12 + 4 * i].copy_from_slice(&(word as u32).to_le_bytes());
        }
        words[20..].copy_from_slice(self.generation.members[index].as_bytes());
        words
    }

    /// Tells everybody that this process is complete, and hears it of everybody.
    fn agree(
        &self,
        mut sockets: Vec<Option<Wire>>,
        stop: &AtomicBool,
    ) -> Result<Vec<Option<Wire>>, (usize, std::io::Error)> {
        for (peer, socket) in sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            socket.write_all(&[READY_BYTE]).map_err(|error| (peer, error))?;
        }
        let end = Instant::now() + READY;
        for (peer, socket) in sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            let heard = (|| {
                let ready = await_byte(socket, stop, end)?;
                let socket = socket.socket();
                socket.set_read_timeout(None)?;
                socket.set_write_timeout(None)?;
                socket.set_nodelay(true)?;
                notice_silence(socket)?;
                Ok(ready)
            })();
            if heard.map_err(|error| (peer, error))? != READY_BYTE {
                return Err((peer, std::io::Error::other("it did not say that it is ready")));
            }
        }
        Ok(sockets)
    }
}

/// Waits for one byte until `end`, or until `stop`.
fn await_byte(socket: &mut Wire, stop: &AtomicBool, end: Instant) -> std::io::Result<u8> {
    let mut byte = [0];
    loop {
        socket.socket().set_read_timeout(Some(RETRY))?;
        match socket.read(&mut byte) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(byte[0]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if stop.load(Ordering::Relaxed) || Instant::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

fn limit(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_read_timeout(Some(HELLO))?;
    socket.set_write_timeout(Some(HELLO))
}

/// A peer whose machine is gone says nothing: after [`SILENCE`] its connection is broken.
fn notice_silence(socket: &TcpStream) -> std::io::Result<()> {
    let alive = socket2::TcpKeepalive::new().with_time(SILENCE / 3).with_interval(SILENCE / 3);
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_keepalive(&alive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::cluster::tls::tests::Authority;

    /// A port for each of so many processes, and the generation of all.
    fn cluster(count: usize) -> (Vec<Port>, Decided) {
        let ports: Vec<Port> = (0..count).map(|_| Port::open("127.0.0.1:0").unwrap()).collect();
        let addresses = ports.iter().map(|port| port.address().to_string()).collect();
        let members = (0..count).map(|i| ProcessId::from_bytes([i as u8; 16])).collect();
        (ports, Decided { number: 7, members, addresses })
    }

    fn mesh(generation: &Decided, index: usize, secret: &str) -> Mesh {
        Mesh { generation: generation.clone(), index, workers: 2, secret: secret.to_string(), tls: None }
    }

    #[test]
    fn strangers_neither_join_nor_hold_up() {
        let (ports, generation) = cluster(3);
        let stop = Arc::new(AtomicBool::new(false));
        let form = |port: Port, index: usize| {
            let (mesh, stop) = (mesh(&generation, index, "s"), Arc::clone(&stop));
            std::thread::spawn(move || mesh.form(&port, &stop))
        };
        let mut ports = ports.into_iter();
        let first = form(ports.next().unwrap(), 0);
        std::thread::sleep(Duration::from_millis(200));
        // Silent ones, more than may be listened to, and a talkative one.
        let address = &generation.addresses[0];
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut loud = TcpStream::connect(address).unwrap();
        // It may be closed on us.
        let _ = loud.write_all(&[b'x'; 4096]);
        // Those that do not know the secret, or take the generation for another.
        assert!(mesh(&generation, 1, "wrong").reach(0).is_err());
        for other in [
            Decided { number: 6, ..generation.clone() },
            Decided { number: 8, ..generation.clone() },
            Decided { members: (5..8).map(|i| ProcessId::from_bytes([i; 16])).collect(), ..generation.clone() },
        ] {
            assert!(mesh(&other, 1, "s").reach(0).is_err(), "{other:?}");
        }
        assert!(Mesh { workers: 3, ..mesh(&generation, 1, "s") }.reach(0).is_err());
        let begun = Instant::now();
        let (second, third) = (ports.next().unwrap(), ports.next().unwrap());
        let others = [form(third, 2), form(second, 1)];
        for (thread, process) in std::iter::once(first).chain(others).zip([0, 2, 1]) {
            let sockets = thread.join().unwrap().unwrap();
            for (i, socket) in sockets.iter().enumerate() {
                assert_eq!(socket.is_some(), i != process);
            }
        }
        assert!(begun.elapsed() < HELLO, "{:?}", begun.elapsed());
        drop(silent);
    }

    /// Passes a handshake on between two processes; what each of them said.
    fn recorded(first: &Mesh, second: &Mesh, listener: &TcpListener) -> (Vec<u8>, Vec<u8>) {
        let middle = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut through = second.clone();
        through.generation.addresses[0] = middle.local_addr().unwrap().to_string();
        std::thread::scope(|scope| {
            let hears = scope.spawn(|| first.hear(listener.accept().unwrap().0).map(|(peer, _)| peer));
            let reaches = scope.spawn(|| through.reach(0).map(drop));
            let (mut left, mut right) =
                (middle.accept().unwrap().0, TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let (mut said, mut hello) = (vec![0; 32], vec![0; HELLO_BYTES]);
            right.read_exact(&mut said).unwrap();
            left.write_all(&said).unwrap();
            left.read_exact(&mut hello).unwrap();
            right.write_all(&hello).unwrap();
            let mut welcome = [0; 32];
            right.read_exact(&mut welcome).unwrap();
            left.write_all(&welcome).unwrap();
            said.extend(welcome);
            assert_eq!(hears.join().unwrap().unwrap(), 1);
            reaches.join().unwrap().unwrap();
            (said, hello)
        })
    }

    #[test]
    fn a_handshake_that_was_recorded_is_no_answer_in_another() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let generation = Decided {
            number: 7,
            members: vec![ProcessId::from_bytes([0; 16]), ProcessId::from_bytes([1; 16])],
            addresses: vec![address.clone(), "127.0.0.1:1".to_string()],
        };
        let (first, second) = (mesh(&generation, 0, "s"), mesh(&generation, 1, "s"));
        let (said, hello) = recorded(&first, &second, &listener);
        std::thread::scope(|scope| {
            // To who listens.
            let hears = scope.spawn(|| first.hear(listener.accept().unwrap().0).map(|(peer, _)| peer));
            let mut stranger = TcpStream::connect(&address).unwrap();
            stranger.write_all(&hello).unwrap();
            assert!(hears.join().unwrap().unwrap_err().to_string().contains("no process of this cluster"));
            // To who connects.
            let reaches = scope.spawn(|| second.reach(0).map(drop));
            let (mut stranger, _) = listener.accept().unwrap();
            stranger.write_all(&said[..32]).unwrap();
            stranger.read_exact(&mut [0; HELLO_BYTES]).unwrap();
            stranger.write_all(&said[32..]).unwrap();
            assert!(reaches.join().unwrap().unwrap_err().to_string().contains("does not know the secret"));
        });
    }

    #[test]
    fn a_process_stops_while_it_waits() {
        let (mut ports, generation) = cluster(2);
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = {
            let (mesh, port, stop) = (mesh(&generation, 0, ""), ports.remove(0), Arc::clone(&stop));
            std::thread::spawn(move || mesh.form(&port, &stop))
        };
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
        assert!(waiting.join().unwrap().is_none());
    }

    #[test]
    fn the_proof_is_of_one_process_and_one_secret() {
        let (one, other) = (ProcessId::from_bytes([1; 16]), ProcessId::from_bytes([2; 16]));
        assert_eq!(proof("s", one), proof("s", one));
        assert!(proof("s", one) != proof("s", other) && proof("s", one) != proof("t", one));
    }

    #[test]
    fn only_certificates_of_the_authority_and_for_the_name_do() {
        let (ports, generation) = cluster(2);
        let (authority, other) = (Authority::new(), Authority::new());
        let encrypted = |index: usize, tls: Tls| Mesh { tls: Some(tls), ..mesh(&generation, index, "s") };
        let stop = Arc::new(AtomicBool::new(false));
        let form = |port: Port, mesh: Mesh| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || mesh.form(&port, &stop))
        };
        let mut ports = ports.into_iter();
        let first = form(ports.next().unwrap(), encrypted(0, authority.tls("127.0.0.1")));
        std::thread::sleep(Duration::from_millis(200));
        let said = |mesh: &Mesh| match mesh.reach(0).err() {
            Some(error) => error.to_string(),
            // In TLS 1.3 whoever connects hears only afterwards that its certificate does not do.
            None => "reached".to_string(),
        };
        assert_ne!(said(&mesh(&generation, 1, "s")), "reached");
        let error = said(&encrypted(1, other.tls("127.0.0.1")));
        assert!(error.contains("invalid peer certificate"), "{error}");
        // It trusts the authority of the others, and shows them a certificate of its own.
        let [certificate, key, _] = other.files("127.0.0.1");
        let [_, _, root] = authority.files("127.0.0.1");
        let foreign = Tls::load(&certificate, &key, &root).unwrap().unwrap();
        let error = said(&encrypted(1, foreign));
        assert!(error.contains("alert") || error.contains("reset") || error.contains("closed"), "{error}");
        let second = form(ports.next().unwrap(), encrypted(1, authority.tls("127.0.0.1")));
        let mut wires = [first, second].map(|thread| thread.join().unwrap().unwrap());
        let [one, two] = [wires[0][1].take().unwrap(), wires[1][0].take().unwrap()];
        // Both write more than fits on the way before either reads.
        let send = |wire: Wire, byte: u8| {
            let mut reads = wire.try_clone().unwrap();
            let mut writes = wire;
            let writing = std::thread::spawn(move || {
                writes.write_all(&vec![byte; 30_000_000]).unwrap();
                writes.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let reading = std::thread::spawn(move || {
                let mut read = vec![];
                reads.read_to_end(&mut read).unwrap();
                (read.len(), read.into_iter().max().unwrap())
            });
            (writing, reading)
        };
        for ((writing, reading), theirs) in [send(one, 1), send(two, 2)].into_iter().zip([2, 1]) {
            writing.join().unwrap();
            assert_eq!(reading.join().unwrap(), (30_000_000, theirs));
        }
    }

    #[test]
    fn a_certificate_for_another_name_is_refused() {
        let (authority, listener) = (Authority::new(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (elsewhere, here) = (authority.tls("velib-1.velib"), authority.tls("127.0.0.1"));
        let address = listener.local_addr().unwrap();
        let end = Instant::now() + HELLO;
        std::thread::scope(|scope| {
            let hears = scope.spawn(|| elsewhere.accept(listener.accept().unwrap().0, end).map(drop));
            let error = here.connect(TcpStream::connect(address).unwrap(), "127.0.0.1", end).err().unwrap();
            assert!(error.to_string().contains("certificate"), "{error}");
            assert!(hears.join().unwrap().is_err());
        });
    }
}
