//! What the leader tells the workers, in one order for all of them.
//!
//! Every worker must build the same dataflows in the same order. So commands go through a dataflow of
//! their own, built first: worker 0 sends them, every worker receives all of them, first in first out.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Input, Operator};
use timely::worker::Worker;

use crate::source::Resolved;

/// Names a dataflow within a generation.
pub type JobId = u64;

/// What workers do beside computing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Build the dataflow of a job.
    Install {
        /// Not used before in this generation.
        id: JobId,
        /// The worker on which its output comes together.
        gather: usize,
        /// Its state can be saved and restored.
        saves: bool,
        /// What to build.
        spec: Spec,
    },
    /// Let it go.
    Drop {
        /// Of an installed job.
        id: JobId,
    },
    /// Leave the generation.
    Stop,
}

/// A job in writing: all that another process needs to plan it the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Parameters given with it, over the text's own.
    pub parameters: BTreeMap<String, String>,
    /// What its sources turned out to offer, by name.
    pub resolved: BTreeMap<String, Resolved>,
    /// The plan in writing, which every process must arrive at.
    pub explain: String,
}

/// The ordered log, as one worker sees it.
pub struct CommandLog {
    /// Only worker 0 uses it. The others hold it, so that no process sees the end of the log before all have left.
    input: InputHandle<u64, CapacityContainerBuilder<Vec<Command>>>,
    received: Rc<RefCell<VecDeque<Command>>>,
    sent: u64,
    sends: bool,
}

impl CommandLog {
    /// Builds the log's dataflow: the first of every worker.
    pub fn new(worker: &mut Worker) -> Self {
        let received = Rc::new(RefCell::new(VecDeque::new()));
        let queue = Rc::clone(&received);
        let mut input: InputHandle<u64, CapacityContainerBuilder<Vec<Command>>> = InputHandle::new();
        worker.dataflow_named::<u64, _, _>("commands", |scope| {
            scope.input_from(&mut input).broadcast().sink(Pipeline, "receive", move |(input, _)| {
                input.for_each(|_, commands| queue.borrow_mut().extend(commands.drain(..)));
            });
        });
        CommandLog { input, received, sent: 0, sends: worker.index() == 0 }
    }

    /// Appends a command, on worker 0.
    ///
    /// # Panics
    /// On any other worker.
    pub fn push(&mut self, command: Command) {
        assert!(self.sends, "only worker 0 sends commands");
        self.input.send(command);
        self.sent += 1;
        self.input.advance_to(self.sent);
        self.input.flush();
    }

    /// The next command that this worker has not seen.
    pub fn receive(&mut self) -> Option<Command> {
        self.received.borrow_mut().pop_front()
    }
}
