//! A connection to another process of the generation, as timely is shown it: it never breaks.
//!
//! Timely panics in every thread when a connection does. Here the workers are told to leave, and timely's threads
//! see the end of the connection when they have; what is written until then is dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use timely::communication::allocator::zero_copy::stream::Stream;

use super::wire::Wire;
use crate::ending::Ending;

/// What timely sends last: a header of zeros.
const GOODBYE: usize = 48;

/// One direction, or both, of a connection.
pub struct Link {
    wire: Wire,
    /// The place of the other process in the generation.
    peer: usize,
    ending: Arc<Ending>,
    /// So many zeros were read last, or more.
    zeros: usize,
}

impl Link {
    /// To the process at place `peer`.
    pub fn new(wire: Wire, peer: usize, ending: Arc<Ending>) -> Link {
        Link { wire, peer, ending, zeros: 0 }
    }

    /// Of no interest once workers were told to stop: a process leaves when all have been, this one's among them.
    fn broken(&self, error: &io::Error) {
        if self.ending.stopping() {
            return;
        }
        self.ending.give_up(|| format!("the connection to process {} has ended: {error}", self.peer));
    }
}

impl Read for Link {
    /// At the end of the connection, waits until the workers have left; not if the peer has said goodbye as it should,
    /// as timely looks for the end before it hands on what came last, which the workers need to leave.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let error = loop {
            match self.wire.read(buffer) {
                Ok(0) => break io::Error::from(ErrorKind::UnexpectedEof),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error,
                Ok(read) => {
                    let zeros = buffer[..read].iter().rev().take(GOODBYE).take_while(|byte| **byte == 0).count();
                    self.zeros = if zeros == read { self.zeros + zeros } else { zeros };
                    return Ok(read);
                }
            }
        };
        if !(self.ending.stopping() && self.zeros >= GOODBYE) {
            self.broken(&error);
            self.ending.wait_until_left();
        }
        Ok(0)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.wire.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.broken(&error);
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Link { wire: self.wire.try_clone()?, peer: self.peer, ending: Arc::clone(&self.ending), zeros: 0 })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.wire.socket().set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // The other process may have closed it.
        let _ = self.wire.shutdown(how);
        Ok(())
    }
}
