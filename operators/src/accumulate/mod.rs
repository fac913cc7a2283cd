//! Aggregates that accumulate: group by, where a group's state can be added to and subtracted from.
//!
//! Two steps. Where the rows arrive, each timestamp's rows are folded into one state a group, column by
//! column. Only these cross to the worker that holds the group, which adds them to what it has and sends
//! the group's old and new result. What is held is one state a group, however long the history.

mod cell;
mod finish;
mod groups;
mod partial;

use std::cell::RefCell;
use std::rc::Rc;

use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concat, Operator};

pub use cell::State;
use groups::Groups;
use partial::Partial;

use crate::checkpoint::{Keep, both};
use crate::errors::Outcome;
use crate::schedule::Schedule;
use crate::stash::Stash;
use crate::{Errors, Expr, Row, RowCodec, Rows, Steps, Time, Updates, held};

/// One aggregate of a grouping, as planned.
#[derive(Clone, Debug)]
pub struct Accumulation {
    /// What is computed.
    pub function: Function,
    /// On what: none for `count(*)`, two for regressions (y, x); for [`Function::First`] and
    /// [`Function::Last`] the value, then what orders it.
    pub arguments: Vec<Expr>,
    /// Rows for which this is not true are left out.
    pub filter: Option<Expr>,
    /// The type of the result, as DataFusion derives it.
    pub output: DataType,
}

/// One aggregate of a grouping, over columns.
#[derive(Clone, Debug)]
pub struct Accumulator {
    /// What is computed.
    pub function: Function,
    /// Columns of the input; see [`Accumulation::arguments`].
    pub arguments: Vec<usize>,
    /// A boolean column of the input.
    pub filter: Option<usize>,
    /// The type of the result.
    pub output: DataType,
}

/// The aggregates that accumulate.
///
/// All but the last four subtract as well as they add, exactly, floats included. The last four only
/// add: they are for input that never retracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Rows, or rows whose argument is not null.
    Count,
    /// Sum; null without input.
    Sum,
    /// Mean; null without input.
    Avg,
    /// Variance of a sample (n − 1) or of a population (n).
    Variance {
        /// Divide by n − 1.
        sample: bool,
        /// Its square root: the standard deviation.
        root: bool,
    },
    /// True where every value is.
    BoolAnd,
    /// True where any value is.
    BoolOr,
    /// Least squares over pairs (y, x) without nulls.
    Regression(Regression),
    /// The least value. Input must not retract.
    Min,
    /// The greatest value. Input must not retract.
    Max,
    /// The value that comes first by the order. Input must not retract.
    First {
        /// Descending order.
        descending: bool,
        /// Nulls of the ordering come first.
        nulls_first: bool,
    },
    /// The value that comes last by the order. Input must not retract.
    Last {
        /// Descending order.
        descending: bool,
        /// Nulls of the ordering come first.
        nulls_first: bool,
    },
}

impl Function {
    /// Input that retracts is taken as well.
    pub fn subtracts(self) -> bool {
        !matches!(self, Function::Min | Function::Max | Function::First { .. } | Function::Last { .. })
    }

    /// Whether arguments of these types accumulate.
    pub fn accepts(self, arguments: &[DataType]) -> bool {
        match self {
            Function::Count => arguments.len() <= 1,
            Function::Sum => {
                matches!(arguments, [t] if t.is_integer() || matches!(t, DataType::Float64 | DataType::Float32 | DataType::Decimal128(..)))
            }
            Function::Avg => {
                matches!(arguments, [t] if t.is_integer() || matches!(t, DataType::Float64 | DataType::Float32))
            }
            Function::Variance { .. } => {
                matches!(arguments, [t] if t.is_numeric() && !matches!(t, DataType::Decimal256(..)))
            }
            Function::BoolAnd | Function::BoolOr => matches!(arguments, [DataType::Boolean]),
            Function::Regression(_) => matches!(arguments, [y, x] if y.is_numeric() && x.is_numeric()),
            Function::Min | Function::Max => arguments.len() == 1,
            Function::First { .. } | Function::Last { .. } => arguments.len() == 2,
        }
    }
}

/// What a least-squares fit of y on x yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Regression {
    Slope,
    Intercept,
    R2,
    Count,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
}

/// A moment in the life of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Index of the group column, a timestamp.
    pub group: usize,
    /// Milliseconds after it.
    pub after_ms: u64,
}

/// A `GROUP BY` over columns.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// The columns of the input.
    pub input: SchemaRef,
    /// Columns of the group, by index.
    pub group: Vec<usize>,
    /// What is computed of each group.
    pub aggregates: Vec<Accumulator>,
    /// Without group columns: the one row is always there, input or not.
    pub global: bool,
    /// Groups leave memory when their time is past: one that was of this age when a step of time began is retracted
    /// in that step, and what comes for it from then on is of no account.
    pub expiry: Option<Age>,
    /// The group's columns, then the aggregates.
    pub output: SchemaRef,
}

/// What crosses to the worker that holds the group.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Part {
    key: Row,
    /// What is added.
    state: State,
    /// When its time is past.
    due: Time,
}

/// Keeps the aggregates of every group up to date. The groups can be saved and restored: see [`Keep`].
pub fn accumulate<'scope>(
    input: Rows<'scope>,
    name: &str,
    grouping: Grouping,
    steps: &Steps,
    keep: Keep<'scope>,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let scope = input.scope();
    let (index, peers) = (scope.worker().index() as u64, scope.worker().peers() as u64);
    let folded = grouping.clone();
    let parts = input.unary_frontier::<CapacityContainerBuilder<Vec<Part>>, _, _, _>(
        Pipeline,
        &format!("{name}.fold"),
        move |_, _| {
            let mut stash: Stash<Updates> = Stash::default();
            let mut partial = Partial::new(&folded);
            move |(input, frontier), output| {
                input.for_each(|capability, data| {
                    let time = *capability.least().expect("a message has a time");
                    stash.put(time, data, || capability.retain_least(0).expect("a message has a time"));
                });
                while let Some((capability, updates)) = stash.next_closed(frontier) {
                    for updates in &updates {
                        partial.fold(updates);
                    }
                    output.session(&capability).give_iterator(partial.drain());
                }
            }
        },
    );
    // What was saved is added like anything else: to nothing, on the worker that holds the group now.
    let parts = match keep.restored(&format!("{name}.restore")) {
        Some(restored) => parts.concat(restored),
        None => parts,
    };
    let (told, mut marks) = keep.split(scope);
    let (route, named, steps) = (Exchange::new(|part: &Part| part.key.route()), name.to_owned(), steps.clone());
    let outcomes = parts.binary_frontier::<_, CapacityContainerBuilder<Vec<Outcome>>, _, _, _, _>(
        told,
        route,
        Pipeline,
        name,
        move |first, _| {
            let groups = Rc::new(RefCell::new(Groups::new(&grouping)));
            held::register(&named, &groups);
            let mut start = (grouping.global && Row::default().route() % peers == index).then_some(first);
            let mut stash: Stash<Part> = Stash::default();
            // By when their time is past, then by the beginning of the step after.
            let (mut expiring, mut leaving) = (Schedule::<Vec<Row>>::default(), Schedule::<Vec<Row>>::default());
            move |(input, frontier), (told, told_frontier), output| {
                let mut groups = groups.borrow_mut();
                if let Some(capability) = start.take() {
                    let mut session = output.session(&capability);
                    groups.pin(*capability.time(), |outcome| session.give(outcome));
                }
                input.for_each(|capability, data| {
                    let time = *capability.least().expect("a message has a time");
                    stash.put(time, data, || capability.retain_least(0).expect("a message has a time"));
                });
                told.for_each(|capability, data| {
                    marks.hear(data, || capability.retain_least(0).expect("a message has a time"));
                });
                let frontier = &both(frontier, told_frontier);
                if frontier.is_empty() {
                    // The job is being dropped: what is yet to come does not come.
                    expiring.clear();
                    leaving.clear();
                    marks.clear();
                }
                loop {
                    while let Some((capability, keys)) = expiring.next_closed(frontier) {
                        leaving.at(steps.end(*capability.time()) + 1, &capability).extend(keys);
                    }
                    let (begin, time) = (leaving.first(), stash.first());
                    while marks.due(begin.into_iter().chain(time).min(), frontier) {
                        marks.keep(groups.save());
                    }
                    let first = match (begin, time) {
                        (Some(begin), Some(time)) => begin <= time,
                        (begin, _) => begin.is_some(),
                    };
                    if first {
                        let Some((capability, keys)) = leaving.next_closed(frontier) else { break };
                        let capability = capability.delayed(&steps.end(*capability.time()));
                        let mut session = output.session(&capability);
                        groups.remove(*capability.time(), &keys, |outcome| session.give(outcome));
                    } else {
                        let Some((capability, mut parts)) = stash.next_closed(frontier) else { break };
                        let time = *capability.time();
                        // What comes for a group that is past is of no account: it has left as it was.
                        parts.retain(|part| part.due >= steps.begin(time));
                        let created = |part: &Part| {
                            if part.due != Time::MAX {
                                expiring.at(part.due.max(time), &capability).push(part.key.clone());
                            }
                        };
                        let mut session = output.session(&capability);
                        groups.add(time, parts, created, |outcome| session.give(outcome));
                    }
                }
            }
        },
    );
    errors.split(outcomes)
}

/// The rows of `input`, each once.
pub fn distinct<'scope>(
    input: Rows<'scope>,
    name: &str,
    schema: SchemaRef,
    steps: &Steps,
    keep: Keep<'scope>,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let group = (0..schema.fields().len()).collect();
    let grouping =
        Grouping { input: schema.clone(), group, aggregates: vec![], global: false, expiry: None, output: schema };
    accumulate(input, name, grouping, steps, keep, errors)
}

/// Encodes the group's columns.
fn key_codec(grouping: &Grouping) -> RowCodec {
    let types = grouping.group.iter().map(|i| grouping.input.field(*i).data_type());
    RowCodec::new(types).expect("the planner checked the types")
}
