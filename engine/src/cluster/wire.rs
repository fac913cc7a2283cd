//! A connection between two processes, encrypted or not. One thread may read while another one writes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::Connection;

/// Read from the socket at once: a record of TLS.
const READ: usize = 16 * 1024;

/// The state of an encrypted connection, with what has come and is not decrypted yet.
struct Tls {
    connection: Connection,
    incoming: Vec<u8>,
}

/// One direction, or both, of a connection.
pub struct Wire {
    socket: TcpStream,
    tls: Option<Arc<Mutex<Tls>>>,
    /// Encrypted, to be sent. Not under the lock: while one thread waits to send, the other one goes on reading, or two
    /// processes could wait for each other.
    outgoing: Vec<u8>,
}

impl Wire {
    /// Not encrypted.
    pub fn plain(socket: TcpStream) -> Wire {
        Wire { socket, tls: None, outgoing: vec![] }
    }

    /// Encrypted, once both have shown their certificates, which they may take until `end` for.
    ///
    /// # Errors
    /// The certificates do not do, or it takes too long.
    pub fn encrypted(mut socket: TcpStream, mut connection: Connection, end: Instant) -> io::Result<Wire> {
        while connection.is_handshaking() || connection.wants_write() {
            while connection.wants_write() {
                connection.write_tls(&mut socket)?;
            }
            if connection.is_handshaking() {
                socket.set_read_timeout(Some(left(end)?))?;
                if connection.read_tls(&mut socket)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                if let Err(error) = connection.process_new_packets() {
                    // It is told why, if it still listens.
                    let _ = connection.write_tls(&mut socket);
                    return Err(io::Error::other(error));
                }
            }
        }
        connection.set_buffer_limit(Some(64 * READ));
        let tls = Tls { connection, incoming: vec![] };
        Ok(Wire { socket, tls: Some(Arc::new(Mutex::new(tls))), outgoing: vec![] })
    }

    /// For timeouts and options.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Another handle to it, to read while this one writes.
    ///
    /// # Errors
    /// The system is short of handles.
    pub fn try_clone(&self) -> io::Result<Wire> {
        Ok(Wire { socket: self.socket.try_clone()?, tls: self.tls.clone(), outgoing: vec![] })
    }

    /// No more is sent, or read. A peer that reads sees the end.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// Reads all of `buffer` within `limit`, however slowly it trickles in.
    ///
    /// # Errors
    /// It ends before, or takes longer.
    pub fn read_within(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<()> {
        let (end, mut filled) = (Instant::now() + limit, 0);
        while filled < buffer.len() {
            self.socket.set_read_timeout(Some(left(end)?))?;
            match self.read(&mut buffer[filled..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn lock(tls: &Mutex<Tls>) -> MutexGuard<'_, Tls> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tls {
    /// Decrypts until there is something to read; false: more has to come.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
            if self.incoming.is_empty() {
                return Ok(None);
            }
            let taken = self.connection.read_tls(&mut &self.incoming[..])?;
            self.incoming.drain(..taken);
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.read(buffer) };
        let mut encrypted = [0; READ];
        loop {
            if let Some(read) = lock(tls).read(buffer)? {
                return Ok(read);
            }
            match self.socket.read(&mut encrypted)? {
                // The socket is shut down without a goodbye, as one that is not encrypted is.
                0 => return Ok(0),
                read => lock(tls).incoming.extend_from_slice(&encrypted[..read]),
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.write(bytes) };
        let written = {
            let mut tls = lock(tls);
            let written = tls.connection.writer().write(bytes)?;
            while tls.connection.wants_write() {
                tls.connection.write_tls(&mut self.outgoing)?;
            }
            written
        };
        self.socket.write_all(&self.outgoing)?;
        self.outgoing.clear();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
