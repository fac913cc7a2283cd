//! What is held of a group: how many rows it has, and one cell an aggregate.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Function, Grouping};
use crate::Row;
use crate::exact::{Float, Integer};

/// The state of a group, or what is to be added to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Rows of the group.
    pub rows: i64,
    pub(super) cells: SmallVec<[Cell; 3]>,
}

/// The state of one aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cell {
    Count(i64),
    /// How many, and their sum.
    Integer(i64, Integer),
    /// How many, and their sum.
    Float(i64, Float),
    /// How many, their sum, the sum of their squares.
    Moments(Box<(i64, [Float; 2])>),
    /// How many are true, how many false.
    Bools(i64, i64),
    /// How many pairs; sums of x, y, x², y², xy.
    Pairs(Box<(i64, [Float; 5])>),
    /// The row that sorts first.
    First(Option<Row>),
}

impl State {
    /// Of no rows.
    pub fn new(grouping: &Grouping) -> Self {
        let cells = grouping.aggregates.iter().map(|aggregate| match aggregate.function {
            Function::Count => Cell::Count(0),
            Function::Sum | Function::Avg => {
                if grouping.input.field(aggregate.arguments[0]).data_type().is_floating() {
                    Cell::Float(0, Float::default())
                } else {
                    Cell::Integer(0, Integer::default())
                }
            }
            Function::Variance { .. } => Cell::Moments(Box::default()),
            Function::BoolAnd | Function::BoolOr => Cell::Bools(0, 0),
            Function::Regression(_) => Cell::Pairs(Box::default()),
            Function::Min | Function::Max | Function::First { .. } | Function::Last { .. } => Cell::First(None),
        });
        State { rows: 0, cells: cells.collect() }
    }

    /// Bytes held outside of the value itself. Digits of sums are nearly always in it.
    pub fn heap_size(&self) -> usize {
        let cells = if self.cells.spilled() { self.cells.capacity() * size_of::<Cell>() } else { 0 };
        let beside = self.cells.iter().map(|cell| match cell {
            Cell::Count(_) | Cell::Integer(..) | Cell::Float(..) | Cell::Bools(..) => 0,
            Cell::Moments(held) => size_of_val(&**held),
            Cell::Pairs(held) => size_of_val(&**held),
            Cell::First(row) => row.as_ref().map_or(0, Row::heap_size),
        });
        cells + beside.sum::<usize>()
    }

    /// Adds what `other` holds, an addition of the same grouping.
    pub fn add(&mut self, other: &State) {
        self.rows += other.rows;
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            match (cell, other) {
                (Cell::Count(a), Cell::Count(b)) => *a += b,
                (Cell::Integer(n, sum), Cell::Integer(m, more)) => {
                    *n += m;
                    sum.add(more.get());
                }
                (Cell::Float(n, sum), Cell::Float(m, more)) => {
                    *n += m;
                    sum.add_sum(more);
                }
                (Cell::Moments(a), Cell::Moments(b)) => {
                    a.0 += b.0;
                    a.1.iter_mut().zip(&b.1).for_each(|(a, b)| a.add_sum(b));
                }
                (Cell::Bools(a, b), Cell::Bools(c, d)) => {
                    *a += c;
                    *b += d;
                }
                (Cell::Pairs(a), Cell::Pairs(b)) => {
                    a.0 += b.0;
                    a.1.iter_mut().zip(&b.1).for_each(|(a, b)| a.add_sum(b));
                }
                (Cell::First(a), Cell::First(b)) => {
                    if let Some(b) = b
                        && a.as_ref().is_none_or(|a| b < a)
                    {
                        *a = Some(b.clone());
                    }
                }
                _ => unreachable!("cells of one grouping are of one kind"),
            }
        }
    }
}
