//! How a generation ends in one process: told to stop, or given up for a reason.
//!
//! Timely ends by panics that go from thread to thread when a connection breaks, and a panic that meets another one
//! ends the process. So none begins: a connection that breaks is kept from timely ([`Link`](crate::cluster::link)),
//! workers are told here, let their dataflows go, and leave; then the threads of the connections may see the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

/// What the threads of a generation know about its end.
#[derive(Default)]
pub struct Ending {
    stopping: AtomicBool,
    reason: OnceLock<String>,
    left: Mutex<bool>,
    leaving: Condvar,
    /// The worker threads, to wake them.
    workers: Mutex<Vec<Thread>>,
}

impl Ending {
    /// The calling thread is a worker: it is woken for what happens.
    pub fn enter(&self) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
    }

    /// Wakes every worker of this process.
    pub fn wake(&self) {
        for thread in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            thread.unpark();
        }
    }

    /// A worker was told to stop. From now on peers that close their connections are as they should be.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether a worker was told to stop.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The workers are to leave at once. The first reason given is the reason.
    pub fn give_up(&self, reason: impl FnOnce() -> String) {
        self.reason.get_or_init(reason);
        self.wake();
    }

    /// Why the generation was given up, if it was.
    pub fn given_up(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// All workers of this process have left.
    pub fn left(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.leaving.notify_all();
    }

    /// Returns when all workers of this process have left.
    pub fn wait_until_left(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.leaving.wait_while(left, |left| !*left).unwrap_or_else(PoisonError::into_inner));
    }
}
