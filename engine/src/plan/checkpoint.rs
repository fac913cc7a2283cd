//! Which operators of a job save their state in a checkpoint, and which find it again by themselves.
//!
//! What a job reads is *listed* or *appended*. A table that a source lists enters again, whole, when the job is
//! restored; so does what follows from it. Rows that are appended come once: what an operator makes of them has to be
//! saved. Groups and rows with an end, once saved, are as good as listed: they enter again with the state.
//!
//! Other operators (joins, first rows, windows) compute their state from what enters again, and cannot when that is
//! appended; nor can what mixes the two be told apart afterwards. Jobs with such a part are not saved.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::properties::column;
use super::{From, Job, Node};

/// What of a job is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saving {
    /// The operators, by the number of their plan: see [`number`].
    pub operators: BTreeSet<u64>,
    /// Views whose rows are only ever added: those of before a checkpoint are in their tables alone.
    pub appended: BTreeSet<usize>,
}

/// The number of an operator: the same for the same plan over the same inputs.
pub fn number(node: &Node) -> u64 {
    let digest = Sha256::digest(format!("{node:?}"));
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// What of `job` is saved.
///
/// # Errors
/// It cannot be: why not.
pub fn saving(job: &Job) -> Result<Saving, String> {
    let mut visit = Visit { job, views: vec![], operators: BTreeSet::new() };
    let mut appended = BTreeSet::new();
    for (index, view) in job.views.iter().enumerate() {
        let kind = visit.kind(&view.plan)?;
        if kind == Kind::Appended {
            if !view.retain.is_some_and(|retain| is_time(job, &view.plan, retain.column)) {
                return Err(format!("view {} keeps every row ever appended: give it a retain on its time", view.name));
            }
            appended.insert(index);
        }
        visit.views.push(kind);
    }
    Ok(Saving { operators: visit.operators, appended })
}

/// Whether a column of appended rows is the time at which they came, or one before.
fn is_time(job: &Job, node: &Node, at: usize) -> bool {
    match node {
        Node::Get(get) => match get.from {
            From::Input(index) => job.inputs[index].time_column == Some(get.columns[at]),
            From::View(index) => is_time(job, &job.views[index].plan, get.columns[at]),
            From::Rounds => false,
        },
        Node::Map(map) => match &map.outputs {
            Some(outputs) => column(&outputs[at]).is_some_and(|at| is_time(job, &map.input, at)),
            None => is_time(job, &map.input, at),
        },
        Node::Previous(previous) => at < previous.input.schema().fields().len() && is_time(job, &previous.input, at),
        Node::Temporal(temporal) => is_time(job, &temporal.input, at),
        Node::Union(union) => union.inputs.iter().all(|input| is_time(job, input, at)),
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listed,
    Appended,
}

struct Visit<'a> {
    job: &'a Job,
    /// Of earlier views.
    views: Vec<Kind>,
    operators: BTreeSet<u64>,
}

impl Visit<'_> {
    fn kind(&mut self, node: &Node) -> Result<Kind, String> {
        let children = node.children().into_iter().map(|child| self.kind(child)).collect::<Result<Vec<_>, _>>()?;
        let appended = children.contains(&Kind::Appended);
        let stays = match node {
            Node::Get(get) => {
                return Ok(match get.from {
                    From::Input(index) if self.job.inputs[index].appended => Kind::Appended,
                    From::Input(_) => Kind::Listed,
                    From::View(index) => self.views[index],
                    From::Rounds => Kind::Listed,
                });
            }
            Node::Map(_) | Node::Unnest(_) => return Ok(children[0]),
            Node::Union(_) if children.iter().all(|kind| *kind == Kind::Appended) => return Ok(Kind::Appended),
            _ if !appended => return Ok(Kind::Listed),
            Node::Previous(_) => Kind::Appended,
            Node::Temporal(temporal) if temporal.until.is_none() => Kind::Appended,
            Node::Temporal(_) | Node::Accumulate(_) => Kind::Listed,
            Node::Union(_) => return Err("a union of appended rows and others".to_owned()),
            Node::Join(_) => return Err("a join with appended rows".to_owned()),
            Node::TopK(_) => return Err("the first rows by an order of appended rows".to_owned()),
            Node::Window(_) => return Err("window functions over appended rows".to_owned()),
            Node::Aggregate(_) => return Err("an aggregate that needs all rows of its group".to_owned()),
            Node::Iterate(_) => return Err("a recursion over appended rows".to_owned()),
            Node::Constant(_) => Kind::Listed,
        };
        self.operators.insert(number(node));
        Ok(stays)
    }
}
