//! Equi-joins of every kind: both sides held by key, matched as either changes.
//!
//! At a closed timestamp the rows that changed come together by key. Which pairs appear and disappear
//! follows from the changes and from what is held:
//!
//! ```text
//! Δ(L ⋈ R)  =  ΔL ⋈ R  +  (L + ΔL) ⋈ ΔR          or, where both sides of a key change,
//!           =  (L + ΔL) ⋈ (R + ΔR)  −  L ⋈ R
//! ```
//!
//! For outer, semi and anti joins each row also counts the pairs that it is in: one without any is *alone*,
//! and whether it has become so shows at once. (Joining the rows with those that were found, to know the
//! others, would hold each side three times.)

mod group;
mod matching;
mod output;

use std::cell::RefCell;
use std::rc::Rc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concatenate, Operator};

use crate::errors::Outcome;
use crate::stash::Stash;
use crate::{Diff, Errors, Expr, Row, RowCodec, Rows, Time, held};
use matching::Matching;

/// Which rows a join yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pairs.
    Inner,
    /// Pairs, and the left rows that are alone, with nulls on the right.
    Left,
    /// Pairs, and the rows of both sides that are alone.
    Full,
    /// Left rows that are in a pair; columns of the left only.
    Semi,
    /// Left rows that are alone; columns of the left only.
    Anti,
}

impl Kind {
    /// Its rows are pairs, with the columns of both sides.
    fn pairs(self) -> bool {
        !matches!(self, Kind::Semi | Kind::Anti)
    }
}

/// One side of a join.
#[derive(Clone)]
pub struct Side<'scope> {
    /// Its rows, with columns for the key after their own.
    pub rows: Rows<'scope>,
    /// The columns of `rows`.
    pub schema: SchemaRef,
    /// How many of them are its own.
    pub columns: usize,
    /// The columns of `rows` to match, by index.
    pub key: Vec<usize>,
}

/// How two sides are joined.
#[derive(Clone, Debug)]
pub struct On {
    /// Which rows it yields.
    pub kind: Kind,
    /// Null keys equal each other; else they equal nothing.
    pub null_equal: bool,
    /// What else makes a pair, over the columns of the left, then the right's.
    pub residual: Option<Expr>,
    /// The columns of the left, then (but for semi and anti joins) the right's.
    pub schema: SchemaRef,
}

/// A row that changes: its key (none: it equals nothing), whether it is of the right side, the row itself.
type Part = ((Option<Row>, bool, Row), Diff);

impl<'scope> Side<'scope> {
    /// A side that is matched by some of its own columns.
    pub fn by(rows: Rows<'scope>, schema: SchemaRef, key: Vec<usize>) -> Self {
        Side { rows, columns: schema.fields().len(), schema, key }
    }

    fn codec(&self) -> RowCodec {
        let own = &self.schema.fields()[..self.columns];
        RowCodec::new(own.iter().map(|field| field.data_type())).expect("the planner checked the types")
    }

    /// Its rows, ready for the workers that hold their keys.
    fn parts(&self, name: &str, right: bool, null_equal: bool) -> Stream<'scope, Time, Vec<Part>> {
        let types = self.key.iter().map(|i| self.schema.field(*i).data_type());
        let (keys, rows) = (RowCodec::new(types).expect("the planner checked the types"), self.codec());
        let (key, columns) = (self.key.clone(), self.columns);
        self.rows.clone().unary::<CapacityContainerBuilder<Vec<Part>>, _, _, _>(Pipeline, name, move |_, _| {
            move |input, output| {
                input.for_each(|capability, data| {
                    let mut session = output.session(&capability);
                    for updates in data.drain(..) {
                        let (len, own) = (updates.rows.num_rows(), &updates.rows.columns()[..columns]);
                        let key: Vec<_> = key.iter().map(|i| updates.rows.column(*i).clone()).collect();
                        let equals_nothing = |row: usize| !null_equal && key.iter().any(|column| column.is_null(row));
                        let keyed = keys.encode(&key, len).expect("columns of the codec");
                        let rows = rows.encode(own, len).expect("columns of the codec");
                        let parts = keyed.into_iter().zip(rows).zip(updates.diffs()).enumerate();
                        let parts = parts.map(|(at, ((key, row), diff))| {
                            (((!equals_nothing(at)).then_some(key), right, row), *diff)
                        });
                        session.give_iterator(parts);
                    }
                });
            }
        })
    }
}

/// The join of `left` and `right`.
///
/// What is held of a key is a sorted list of rows a side. A change costs as much as the pairs it makes and,
/// where a key has many rows, moving the list by one.
pub fn join<'scope>(
    left: &Side<'scope>,
    right: &Side<'scope>,
    name: &str,
    on: On,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    // That there is a partner does not depend on what it is: those of a key are one row without columns.
    let columns = if on.kind.pairs() || on.residual.is_some() { right.columns } else { 0 };
    let right = Side { columns, ..right.clone() };
    let parts = left.rows.scope().concatenate([
        left.parts(&format!("{name}.left"), false, on.null_equal),
        right.parts(&format!("{name}.right"), true, on.null_equal),
    ]);
    // What equals nothing may be anywhere.
    let route = Exchange::new(|part: &Part| part.0.0.as_ref().unwrap_or(&part.0.2).route());
    let matching = Rc::new(RefCell::new(Matching::new(left, &right, on)));
    held::register(name, &matching);
    let outcomes = parts.unary_frontier::<CapacityContainerBuilder<Vec<Outcome>>, _, _, _>(route, name, move |_, _| {
        let mut stash: Stash<Part> = Stash::default();
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                let time = *capability.least().expect("a message has a time");
                stash.put(time, data, || capability.retain_least(0).expect("a message has a time"));
            });
            while let Some((capability, mut parts)) = stash.next_closed(frontier) {
                differential_dataflow::consolidation::consolidate(&mut parts);
                let mut session = output.session(&capability);
                matching.borrow_mut().step(*capability.time(), &parts, &mut |outcome| session.give(outcome));
            }
        }
    });
    errors.split(outcomes)
}
