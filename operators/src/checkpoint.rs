//! State that outlives its dataflow.
//!
//! Some operators can be shown their input again when a dataflow begins: a table that a source lists comes whole with
//! its next document, and what such an operator holds follows from it. Others cannot: each row of history comes once.
//! These *save* what they hold, as of the end of a step, and another dataflow is given it back: it *restores* them,
//! shared out anew among whatever workers there are.
//!
//! What is restored enters at timestamp 0, before anything else, and its results are sent at timestamp 0 like any
//! others: whatever is downstream finds its own state by computing from them. So only the operators next to history
//! have something to save.
//!
//! To be told to save is a message at the last timestamp of a step. An operator holds on to it until everything up to
//! that timestamp is in its state, and then writes: time does not pass for those downstream before. So where the end
//! of the dataflow sees the step closed, every operator on every worker has written what it held.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Capability, Concatenate, Operator};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;

use crate::{Rows, Time};

/// Some of what an operator holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Which operator, of those of a job.
    pub operator: u64,
    /// In its own writing: see [`pack`].
    pub bytes: Vec<u8>,
}

/// What a dataflow is told about the state of its operators.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    /// To write it out, as of this timestamp: the last one of a step.
    Save,
    /// To take it over. At timestamp 0, before anything else.
    Restore(Saved),
}

/// In pieces of about so many items state is written.
pub const PIECE: usize = 1 << 15;

/// Items of a state, in writing.
pub fn pack<T: Serialize>(items: &T) -> Vec<u8> {
    postcard::to_allocvec(items).expect("state can be written")
}

/// What [`pack`] has written.
///
/// # Errors
/// Bytes that it did not write, or that another version did.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

/// What one worker has saved: by the timestamp as of which it is.
type Written = Rc<RefCell<BTreeMap<Time, Vec<Saved>>>>;

/// The same for all operators of a worker.
type ToldHere<'scope> = Stream<'scope, Time, Vec<Rc<Told>>>;

/// The state of a job's operators, on its way in and out.
#[derive(Clone)]
pub struct Checkpoints<'scope> {
    told: Option<ToldHere<'scope>>,
    written: Written,
}

#[derive(Clone, Serialize, Deserialize)]
struct Message {
    worker: u64,
    told: Told,
}

impl<'scope> Checkpoints<'scope> {
    /// For a job that saves nothing.
    pub fn none() -> Self {
        Checkpoints { told: None, written: Written::default() }
    }

    /// `told` is said on one worker. All workers are told to save; what is to be restored is shared out.
    pub fn told(told: Stream<'scope, Time, Vec<Told>>) -> Self {
        let peers = told.scope().worker().peers() as u64;
        let mut next = 0;
        let messages = told.unary::<CapacityContainerBuilder<Vec<Message>>, _, _, _>(Pipeline, "tell", move |_, _| {
            move |input, output| {
                input.for_each(|capability, data| {
                    let mut session = output.session(&capability);
                    for told in data.drain(..) {
                        if matches!(told, Told::Save) {
                            session.give_iterator((0..peers).map(|worker| Message { worker, told: Told::Save }));
                        } else {
                            session.give(Message { worker: next % peers, told });
                            next += 1;
                        }
                    }
                });
            }
        });
        let route = Exchange::new(|message: &Message| message.worker);
        let told = messages.unary::<CapacityContainerBuilder<Vec<Rc<Told>>>, _, _, _>(route, "told", |_, _| {
            |input, output| {
                input.for_each(|capability, data| {
                    output.session(&capability).give_iterator(data.drain(..).map(|message| Rc::new(message.told)));
                });
            }
        });
        Checkpoints { told: Some(told), written: Written::default() }
    }

    /// For the operator of this number.
    pub fn of(&self, operator: u64) -> Keep<'scope> {
        Keep { operator, told: self.told.clone(), written: Rc::clone(&self.written) }
    }

    /// Brings what all workers have saved to worker `index`, which hands it to `sink` with the timestamp as of which
    /// it is; `ends` are all streams at the end of the dataflow. On other workers `sink` is never called.
    pub fn collect(
        self,
        scope: Scope<'scope, Time>,
        name: &str,
        ends: Vec<Rows<'scope>>,
        index: usize,
        mut sink: impl FnMut(Time, Vec<Saved>) + 'static,
    ) {
        let Some(told) = self.told else { return };
        let written = self.written;
        let all = scope.concatenate(ends);
        let saved = all.binary_frontier::<_, CapacityContainerBuilder<Vec<(Time, Option<Saved>)>>, _, _, _, _>(
            told,
            Pipeline,
            Pipeline,
            &format!("{name}.saved"),
            move |_, _| {
                let mut marks = VecDeque::<Capability<Time>>::new();
                move |(rows, rows_frontier), (told, told_frontier), output| {
                    rows.for_each(|_, data| data.clear());
                    told.for_each(|capability, data| {
                        if data.drain(..).any(|told| matches!(*told, Told::Save)) {
                            marks.push_back(capability.retain_least(0).expect("a message has a time"));
                        }
                    });
                    let frontier = both(rows_frontier, told_frontier);
                    while let Some(mark) = marks.pop_front_if(|mark| !frontier.less_equal(mark.time())) {
                        let time = *mark.time();
                        let saved = written.borrow_mut().remove(&time).unwrap_or_default();
                        // Every worker says something, so that a job without state is saved as well.
                        let said = saved.into_iter().map(Some).chain([None]);
                        output.session(&mark).give_iterator(said.map(|saved| (time, saved)));
                    }
                }
            },
        );
        let mine = scope.worker().index() == index;
        let mut pending: BTreeMap<Time, Vec<Saved>> = BTreeMap::new();
        let route = Exchange::new(move |_: &(Time, Option<Saved>)| index as u64);
        saved.sink(route, &format!("{name}.checkpoint"), move |(input, frontier)| {
            input.for_each(|_, data| {
                data.drain(..).for_each(|(time, saved)| pending.entry(time).or_default().extend(saved));
            });
            // An empty frontier is a job being dropped.
            let Some(frontier) = frontier.frontier().first().copied() else { return };
            while let Some(first) = pending.first_entry().filter(|first| mine && *first.key() < frontier) {
                let (time, saved) = first.remove_entry();
                sink(time, saved);
            }
        });
    }
}

/// The state of one operator, on its way in and out.
pub struct Keep<'scope> {
    operator: u64,
    told: Option<ToldHere<'scope>>,
    written: Written,
}

impl<'scope> Keep<'scope> {
    /// Of an operator that finds its state again by itself.
    pub fn nothing() -> Self {
        Checkpoints::none().of(0)
    }

    /// What was saved of the operator, item by item, at timestamp 0; none: nothing is ever saved.
    pub(crate) fn restored<T>(&self, name: &str) -> Option<Stream<'scope, Time, Vec<T>>>
    where
        T: DeserializeOwned + Clone + 'static,
    {
        let (told, operator) = (self.told.clone()?, self.operator);
        let restored = told.unary::<CapacityContainerBuilder<Vec<T>>, _, _, _>(Pipeline, name, move |_, _| {
            move |input, output| {
                input.for_each(|capability, data| {
                    let mut session = output.session(&capability);
                    for told in data.drain(..) {
                        if let Told::Restore(saved) = &*told
                            && saved.operator == operator
                        {
                            let items: Vec<T> = unpack(&saved.bytes).expect("this version wrote it");
                            session.give_iterator(items.into_iter());
                        }
                    }
                });
            }
        });
        Some(restored)
    }

    /// What it is told, for its second input, and what is to be done about it.
    pub(crate) fn split(self, scope: Scope<'scope, Time>) -> (ToldHere<'scope>, Marks) {
        let marks = Marks { operator: self.operator, written: self.written, due: VecDeque::new() };
        (self.told.unwrap_or_else(|| empty(scope)), marks)
    }
}

/// When an operator is to save, as far as it knows.
pub(crate) struct Marks {
    operator: u64,
    written: Written,
    due: VecDeque<Capability<Time>>,
}

impl Marks {
    /// Takes in what is told.
    pub(crate) fn hear(&mut self, told: &mut Vec<Rc<Told>>, capability: impl FnOnce() -> Capability<Time>) {
        if told.drain(..).any(|told| matches!(*told, Told::Save)) {
            self.due.push_back(capability());
        }
    }

    /// Whether the state is to be saved before what is `next` (the earliest timestamp at which the operator has
    /// something to do): then it is to be [written](Marks::keep).
    pub(crate) fn due(&self, next: Option<Time>, frontier: &MutableAntichain<Time>) -> bool {
        let closed = |mark: &Capability<Time>| !frontier.less_equal(mark.time());
        self.due.front().is_some_and(|mark| closed(mark) && next.is_none_or(|next| next > *mark.time()))
    }

    /// Whether nothing is, nor will be, to be saved as of a timestamp before `time`: what comes then may enter the
    /// state. `told` is the frontier of what is told.
    pub(crate) fn none_before(&self, time: Time, told: &MutableAntichain<Time>) -> bool {
        !told.less_than(&time) && self.due.front().is_none_or(|mark| *mark.time() >= time)
    }

    /// Writes the state that is due, in pieces.
    pub(crate) fn keep(&mut self, pieces: impl IntoIterator<Item = Vec<u8>>) {
        let mark = self.due.pop_front().expect("it is due");
        let saved = pieces.into_iter().map(|bytes| Saved { operator: self.operator, bytes });
        self.written.borrow_mut().entry(*mark.time()).or_default().extend(saved);
    }

    /// The job is being dropped: nobody waits for anything.
    pub(crate) fn clear(&mut self) {
        self.due.clear();
    }
}

/// The lesser of two frontiers.
pub(crate) fn both(one: &MutableAntichain<Time>, other: &MutableAntichain<Time>) -> MutableAntichain<Time> {
    match (one.frontier().first(), other.frontier().first()) {
        (Some(a), Some(b)) => MutableAntichain::from_elem(*a.min(b)),
        (Some(only), None) | (None, Some(only)) => MutableAntichain::from_elem(*only),
        (None, None) => MutableAntichain::new(),
    }
}
