//! The mesh: one connection between each two processes of a generation.
//!
//! Each process connects to those before it and is connected to by those after it. Whoever connects shows
//! that it knows the cluster's secret and says who it is; then all of them tell each other that they are
//! complete. Anybody else, silent or talkative, is turned away in bounded time, and nobody waits for them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ring::hmac;

use crate::metrics;

/// How long a peer may take to say who it is.
const HELLO: Duration = Duration::from_secs(2);
/// How long a peer may take to say that it is complete, once we are.
const READY: Duration = Duration::from_secs(10);
/// How long a peer may be silent, and what is sent to it unacknowledged.
const SILENCE: Duration = Duration::from_secs(15);
/// Connections that are being listened to at one time; more are closed at once.
const STRANGERS: usize = 32;
/// Between two tries to reach a peer.
const RETRY: Duration = Duration::from_millis(100);
/// Between two lines about who is missing.
const REPORT: Duration = Duration::from_secs(10);

const MAGIC: &[u8; 8] = b"VELIB\0\0\x01";
const READY_BYTE: u8 = 0xA5;

/// Who is to be connected.
#[derive(Clone)]
pub struct Mesh {
    /// Where each process listens, in their order.
    pub peers: Vec<String>,
    /// This process.
    pub process: usize,
    /// Worker threads, the same in all processes.
    pub workers: usize,
    /// What all of them know.
    pub secret: String,
}

/// Why a mesh cannot be formed, however long one waits.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Our own address.
    #[error("the address {address} of this process cannot be listened on: {error}; is another process using it?")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
}

impl Mesh {
    /// Connects all processes; waits for them as long as it takes, or until `stop`. One socket a process,
    /// none for this one. `None`: stopped.
    ///
    /// # Errors
    /// If this process cannot listen on its own address.
    pub fn form(&self, stop: &AtomicBool) -> Result<Option<Vec<Option<TcpStream>>>, MeshError> {
        if self.peers.len() <= 1 {
            metrics::PROCESSES_CONNECTED.set(1);
            return Ok(Some(vec![None]));
        }
        let address = &self.peers[self.process];
        let failed = |error| MeshError::Listen { address: address.clone(), error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        while !stop.load(Ordering::Relaxed) {
            let Some(sockets) = self.connect(&listener, stop) else { return Ok(None) };
            match self.agree(sockets) {
                Ok(sockets) => return Ok(Some(sockets)),
                Err((peer, error)) => {
                    tracing::info!(peer = self.peers[peer], %error, "a peer left while the mesh was formed")
                }
            }
        }
        Ok(None)
    }

    fn connect(&self, listener: &TcpListener, stop: &AtomicBool) -> Option<Vec<Option<TcpStream>>> {
        let mut sockets: Vec<Option<TcpStream>> = self.peers.iter().map(|_| None).collect();
        let (send, accepted) = mpsc::channel();
        let listening = Arc::new(AtomicUsize::new(0));
        let mut reported = Instant::now();
        loop {
            let missing: Vec<usize> =
                (0..sockets.len()).filter(|i| *i != self.process && sockets[*i].is_none()).collect();
            metrics::PROCESSES_CONNECTED.set((sockets.len() - missing.len()) as i64);
            if missing.is_empty() {
                return Some(sockets);
            }
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            if reported.elapsed() > REPORT {
                reported = Instant::now();
                let names: Vec<&str> = missing.iter().map(|i| self.peers[*i].as_str()).collect();
                tracing::info!(missing = names.join(", "), "waiting for the other processes");
            }
            for peer in missing.into_iter().filter(|peer| *peer < self.process) {
                match self.reach(peer) {
                    Ok(socket) => sockets[peer] = Some(socket),
                    Err(error) => tracing::debug!(peer = self.peers[peer], %error, "not reached yet"),
                }
            }
            self.accept(listener, &listening, &send);
            while let Ok((peer, socket)) = accepted.try_recv() {
                sockets[peer] = Some(socket);
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Takes in who is waiting, each in a thread of its own that ends within [`HELLO`].
    fn accept(
        &self,
        listener: &TcpListener,
        listening: &Arc<AtomicUsize>,
        accepted: &mpsc::Sender<(usize, TcpStream)>,
    ) {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    return;
                }
            };
            if listening.fetch_add(1, Ordering::Relaxed) >= STRANGERS {
                listening.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (mesh, listening, accepted) = (self.clone(), Arc::clone(listening), accepted.clone());
            let hear = move || {
                match mesh.hear(socket) {
                    // The mesh may be complete without this one.
                    Ok(peer) => drop(accepted.send(peer)),
                    Err(error) => tracing::debug!(%error, "a stranger was turned away"),
                }
                listening.fetch_sub(1, Ordering::Relaxed);
            };
            if let Err(error) = std::thread::Builder::new().name("hello".into()).spawn(hear) {
                tracing::warn!(%error, "no thread to listen to a connection");
                return;
            }
        }
    }

    /// Connects to a process before this one.
    fn reach(&self, peer: usize) -> std::io::Result<TcpStream> {
        let address = self.peers[peer].to_socket_addrs()?.next();
        let address = address.ok_or_else(|| std::io::Error::other("the name has no address"))?;
        let mut socket = TcpStream::connect_timeout(&address, HELLO)?;
        limit(&socket)?;
        let mut nonce = [0; 32];
        socket.read_exact(&mut nonce)?;
        let words = self.words(self.process);
        socket.write_all(MAGIC)?;
        socket.write_all(&words)?;
        socket.write_all(self.proof(&nonce, &words).as_ref())?;
        let mut welcome = [0; 32];
        socket.read_exact(&mut welcome)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        hmac::verify(&key, &[&nonce[..], b"welcome"].concat(), &welcome)
            .map_err(|_| std::io::Error::other("it does not know the secret of the cluster"))?;
        Ok(socket)
    }

    /// Listens to who connects: a process after this one, or a stranger.
    fn hear(&self, mut socket: TcpStream) -> std::io::Result<(usize, TcpStream)> {
        socket.set_nonblocking(false)?;
        limit(&socket)?;
        let nonce: [u8; 32] = rand::random();
        socket.write_all(&nonce)?;
        let mut hello = [0; 8 + 12 + 32];
        read_within(&mut socket, &mut hello, HELLO)?;
        let (magic, rest) = hello.split_at(8);
        let (words, proof) = rest.split_at(12);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        if magic != MAGIC || hmac::verify(&key, &[&nonce[..], words].concat(), proof).is_err() {
            return Err(std::io::Error::other("it is no process of this cluster"));
        }
        let peer = u32::from_le_bytes(words[..4].try_into().expect("4 bytes")) as usize;
        if peer <= self.process || peer >= self.peers.len() || words != self.words(peer) {
            let message = format!("process {peer} counts processes or workers otherwise than this one");
            tracing::warn!("{message}; are the settings of all processes the same?");
            return Err(std::io::Error::other(message));
        }
        socket.write_all(hmac::sign(&key, &[&nonce[..], b"welcome"].concat()).as_ref())?;
        Ok((peer, socket))
    }

    /// Who is speaking, and what it takes the cluster to be.
    fn words(&self, process: usize) -> [u8; 12] {
        let mut words = [0; 12];
        for (i, word) in [process, self.peers.len(), self.workers].into_iter().enumerate() {
            words[4 * i..4 * i + 4].copy_from_slice(&(word as u32).to_le_bytes());
        }
        words
    }

    fn proof(&self, nonce: &[u8; 32], words: &[u8; 12]) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        hmac::sign(&key, &[&nonce[..], &words[..]].concat())
    }

    /// Tells everybody that this process is complete, and hears it of everybody.
    fn agree(&self, mut sockets: Vec<Option<TcpStream>>) -> Result<Vec<Option<TcpStream>>, (usize, std::io::Error)> {
        for (peer, socket) in sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            socket.write_all(&[READY_BYTE]).map_err(|error| (peer, error))?;
        }
        for (peer, socket) in sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            let mut ready = [0];
            let heard = (|| {
                socket.set_read_timeout(Some(READY))?;
                socket.read_exact(&mut ready)?;
                socket.set_read_timeout(None)?;
                socket.set_write_timeout(None)?;
                socket.set_nodelay(true)?;
                notice_silence(socket)
            })();
            heard.map_err(|error| (peer, error))?;
            if ready[0] != READY_BYTE {
                return Err((peer, std::io::Error::other("it did not say that it is ready")));
            }
        }
        Ok(sockets)
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

/// Reads all of `buffer` within `limit`, however slowly it trickles in.
fn read_within(socket: &mut TcpStream, buffer: &mut [u8], limit: Duration) -> std::io::Result<()> {
    let end = Instant::now() + limit;
    let mut filled = 0;
    while filled < buffer.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer[filled..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_addresses(count: usize) -> Vec<String> {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    }

    fn mesh(peers: &[String], process: usize, secret: &str) -> Mesh {
        Mesh { peers: peers.to_vec(), process, workers: 2, secret: secret.to_string() }
    }

    #[test]
    fn strangers_neither_join_nor_hold_up() {
        let peers = free_addresses(3);
        let stop = Arc::new(AtomicBool::new(false));
        let first = {
            let (mesh, stop) = (mesh(&peers, 0, "s"), Arc::clone(&stop));
            std::thread::spawn(move || mesh.form(&stop))
        };
        std::thread::sleep(Duration::from_millis(200));
        // Silent, talkative, and one that does not know the secret.
        let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(&peers[0]).unwrap()).collect();
        let mut loud = TcpStream::connect(&peers[0]).unwrap();
        loud.write_all(&[b'x'; 4096]).unwrap();
        assert!(mesh(&peers, 1, "wrong").reach(0).is_err());
        let others: Vec<_> = [2, 1]
            .into_iter()
            .map(|process| {
                let (mesh, stop) = (mesh(&peers, process, "s"), Arc::clone(&stop));
                std::thread::spawn(move || mesh.form(&stop))
            })
            .collect();
        let begun = Instant::now();
        for (process, thread) in std::iter::once(first).chain(others).zip([0, 2, 1]).map(|(t, p)| (p, t)) {
            let sockets = thread.join().unwrap().unwrap().unwrap();
            for (i, socket) in sockets.iter().enumerate() {
                assert_eq!(socket.is_some(), i != process);
            }
        }
        assert!(begun.elapsed() < READY);
        drop(silent);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let peers = vec![taken.local_addr().unwrap().to_string(), "127.0.0.1:1".to_string()];
        let error = mesh(&peers, 0, "").form(&AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains(&peers[0]) && error.contains("another process"), "{error}");
    }

    #[test]
    fn a_process_stops_while_it_waits() {
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = {
            let (mesh, stop) = (mesh(&free_addresses(2), 0, ""), Arc::clone(&stop));
            std::thread::spawn(move || mesh.form(&stop))
        };
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
        assert!(waiting.join().unwrap().unwrap().is_none());
    }
}
