//! The port of the mesh: it listens for as long as the process lives, and everybody may knock.
//!
//! While a mesh is formed, who comes is heard, each in a thread of its own that ends within
//! [`HELLO`]; else it is sent away at once, so that nothing piles up. There are at most [`STRANGERS`] such threads:
//! when one more comes, the one that has been there longest has to go. A process of the cluster needs milliseconds, so
//! a crowd of silent strangers does not keep it out.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

#[cfg(doc)]
use super::mesh::HELLO;
use super::mesh::Mesh;
use super::wire::Wire;

/// Connections that are being listened to at one time.
const STRANGERS: usize = 32;
/// After a connection could not be accepted: the system is short of something.
const SHORT: Duration = Duration::from_millis(100);

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The address cannot be listened on.
    #[error("the mesh cannot listen on {address} (cluster.listen, --listen): {error}; is another process using it?")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
}

impl PortError {
    /// Never: somebody has to do something about it.
    pub fn is_retriable(&self) -> bool {
        false
    }
}

/// The mesh that is being formed, and where those go who belong to it.
type Expected = (Mesh, mpsc::Sender<(usize, Wire)>);

#[derive(Default)]
struct Shared {
    expected: Mutex<Option<Expected>>,
    heard: Mutex<VecDeque<(u64, TcpStream)>>,
    next: AtomicU64,
    closed: AtomicBool,
}

/// The port.
pub struct Port {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// As long as this is held, a mesh is being formed.
pub struct Expecting(Arc<Shared>);

impl Port {
    /// Listens from now on.
    ///
    /// # Errors
    /// The address is taken, or is none.
    pub fn open(address: &str) -> Result<Port, PortError> {
        let failed = |error| PortError::Listen { address: address.to_string(), error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let (bound, shared) = (listener.local_addr().map_err(failed)?, Arc::new(Shared::default()));
        let accepting = Arc::clone(&shared);
        let accept = move || accept(&listener, &accepting);
        std::thread::Builder::new().name("mesh".into()).spawn(accept).map_err(failed)?;
        Ok(Port { address: bound, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hears who comes from now on; those that are of `mesh` are sent to `send`.
    pub fn expect(&self, mesh: Mesh, send: mpsc::Sender<(usize, Wire)>) -> Expecting {
        *self.shared.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some((mesh, send));
        Expecting(Arc::clone(&self.shared))
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        *self.0.expected.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        let mut to = self.address;
        if to.ip().is_unspecified() {
            to.set_ip(if to.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        // Wakes the thread that accepts; if it cannot be, it ends with the process.
        let _ = TcpStream::connect_timeout(&to, SHORT);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        match socket {
            Ok(socket) => hear(socket, shared),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                std::thread::sleep(SHORT);
            }
        }
    }
}

fn hear(socket: TcpStream, shared: &Arc<Shared>) {
    let expected = shared.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (Some((mesh, send)), Ok(held)) = (expected, socket.try_clone()) else { return };
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut heard = shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= STRANGERS
            && let Some((_, longest)) = heard.pop_front()
        {
            // It may have gone by itself.
            let _ = longest.shutdown(Shutdown::Both);
        }
        heard.push_back((number, held));
    }
    let done = Arc::clone(shared);
    let listen = move || {
        let peer = mesh.hear(socket);
        done.heard.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
        match peer {
            // The mesh may be complete without this one.
            Ok(peer) => drop(send.send(peer)),
            Err(error) => tracing::debug!(%error, "a stranger was turned away"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("hello".into()).spawn(listen) {
        shared.heard.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
        tracing::warn!(%error, "no thread to listen to a connection");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_is_not_expected_is_sent_away_at_once() {
        let port = Port::open("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            let mut stranger = TcpStream::connect(port.address()).unwrap();
            stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)));
        }
        assert!(port.shared.heard.lock().unwrap().is_empty());
    }

    #[test]
    fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _port = Port::open(&taken.to_string()).unwrap();
        let error = Port::open(&taken.to_string()).err().unwrap().to_string();
        assert!(error.contains(&taken.to_string()) && error.contains("another process"), "{error}");
    }
}
