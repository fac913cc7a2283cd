//! The first step: the rows of a timestamp, folded into one state a group, column by column.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::SortOptions;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow_row::{RowConverter, SortField};

use super::cell::{Cell, State};
use super::{Accumulator, Function, Grouping, Part};
use crate::exact::Adder;
use crate::places::Places;
use crate::{Diff, Row, Time, Updates};

/// Groups that are being folded.
pub(super) struct Partial {
    grouping: Grouping,
    keys: Option<RowConverter>,
    /// Of `Min`, `Max`, `First`, `Last`: encodes what is compared, so that the least bytes win.
    firsts: Vec<Option<RowConverter>>,
    places: Places,
    /// Rows of each group, and when its time is past.
    groups: Vec<(i64, Time)>,
    /// By aggregate.
    sums: Vec<Sums>,
    /// The group of each row of the batch at hand.
    of_row: Vec<u32>,
}

/// One aggregate of all groups; what each is of, see [`Cell`].
enum Sums {
    Count(Vec<i64>),
    Integer(Vec<(i64, i128)>),
    Float(Vec<(i64, Adder)>),
    Moments(Vec<(i64, [Adder; 2])>),
    Bools(Vec<(i64, i64)>),
    Pairs(Vec<(i64, [Adder; 5])>),
    First(Vec<Option<Row>>),
}

impl Partial {
    pub(super) fn new(grouping: &Grouping) -> Self {
        let field = |i: &usize| SortField::new(grouping.input.field(*i).data_type().clone());
        let keys = (!grouping.group.is_empty()).then(|| {
            RowConverter::new(grouping.group.iter().map(field).collect()).expect("the planner checked the types")
        });
        let firsts = grouping.aggregates.iter().map(|aggregate| {
            let fields = compared(aggregate, grouping);
            fields.map(|fields| RowConverter::new(fields).expect("the planner checked the types"))
        });
        let sums = State::new(grouping).cells.iter().map(Sums::of).collect();
        Partial {
            keys,
            firsts: firsts.collect(),
            sums,
            places: Places::default(),
            groups: vec![],
            of_row: vec![],
            grouping: grouping.clone(),
        }
    }

    /// Folds the rows of `updates` in.
    pub(super) fn fold(&mut self, updates: &Updates) {
        self.assign(updates);
        let diffs = updates.diffs();
        for (group, diff) in self.of_row.iter().zip(diffs) {
            self.groups[*group as usize].0 += diff;
        }
        for (index, aggregate) in self.grouping.aggregates.iter().enumerate() {
            let column = |i: &usize| updates.rows.column(*i);
            let arguments: Vec<&ArrayRef> = aggregate.arguments.iter().map(column).collect();
            let filter = aggregate.filter.as_ref().map(|i| column(i).as_boolean());
            let rows = Chosen { of_row: &self.of_row, diffs, filter };
            self.sums[index].resize(self.groups.len());
            self.sums[index].fold(aggregate.function, &arguments, self.firsts[index].as_ref(), rows);
        }
    }

    /// The groups folded since the last call.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Part> + '_ {
        // Without group columns there is one group, and no key.
        let keys = if self.keys.is_some() { self.places.take() } else { vec![Row::default(); self.groups.len()] };
        let Partial { groups, sums, .. } = self;
        sums.iter_mut().for_each(|sums| sums.resize(groups.len()));
        let mut place = 0;
        keys.into_iter().zip(groups.drain(..)).map(move |(key, (rows, due))| {
            let cells = sums.iter_mut().map(|sums| sums.take(place)).collect();
            place += 1;
            Part { key, state: State { rows, cells }, due }
        })
    }

    /// Finds or makes the group of each row.
    fn assign(&mut self, updates: &Updates) {
        self.of_row.clear();
        let rows = &updates.rows;
        let columns: Vec<ArrayRef> = self.grouping.group.iter().map(|i| rows.column(*i).clone()).collect();
        let due_at = self.grouping.expiry.map(|age| (milliseconds(&columns[age.group]), age.after_ms));
        let due = |row: usize| due_at.as_ref().map_or(Time::MAX, |(times, after)| due(times, row, *after));
        let Some(keys) = &self.keys else {
            if self.groups.is_empty() && rows.num_rows() > 0 {
                self.groups.push((0, Time::MAX));
            }
            self.of_row.resize(rows.num_rows(), 0);
            return;
        };
        let encoded = keys.convert_columns(&columns).expect("columns of the grouping");
        for (row, key) in encoded.iter().enumerate() {
            let group = self.places.of(key.as_ref());
            if group as usize == self.groups.len() {
                self.groups.push((0, due(row)));
            }
            self.of_row.push(group);
        }
    }
}

/// How what `First` cells hold is encoded: what orders, then the value.
pub(super) fn compared(aggregate: &Accumulator, grouping: &Grouping) -> Option<Vec<SortField>> {
    let kind = |i: usize| grouping.input.field(aggregate.arguments[i]).data_type().clone();
    let by = |descending: bool, nulls_first: bool| SortOptions { descending, nulls_first };
    let value = SortField::new;
    match aggregate.function {
        Function::Min => Some(vec![SortField::new_with_options(kind(0), by(false, false))]),
        Function::Max => Some(vec![SortField::new_with_options(kind(0), by(true, false))]),
        Function::First { descending, nulls_first } => {
            Some(vec![SortField::new_with_options(kind(1), by(descending, nulls_first)), value(kind(0))])
        }
        Function::Last { descending, nulls_first } => {
            Some(vec![SortField::new_with_options(kind(1), by(!descending, !nulls_first)), value(kind(0))])
        }
        _ => None,
    }
}

/// The rows of a batch that an aggregate takes.
struct Chosen<'a> {
    of_row: &'a [u32],
    diffs: &'a [Diff],
    filter: Option<&'a BooleanArray>,
}

impl Chosen<'_> {
    /// Calls `add(group, row, diff)` for each row for which the filter is true and none of `arguments` is null.
    #[inline]
    fn each<'a>(self, arguments: impl IntoIterator<Item = &'a ArrayRef>, mut add: impl FnMut(usize, usize, Diff)) {
        let arguments = arguments.into_iter().map(|column| column.logical_nulls());
        let valid = arguments.fold(None, |all, nulls| NullBuffer::union(all.as_ref(), nulls.as_ref()));
        let valid = valid.filter(|valid| valid.null_count() > 0).map(NullBuffer::into_inner);
        let chosen = self.filter.map(|filter| match filter.nulls() {
            None => filter.values().clone(),
            Some(known) => filter.values() & known.inner(),
        });
        let rows: Option<BooleanBuffer> = match (valid, chosen) {
            (Some(valid), Some(chosen)) => Some(&valid & &chosen),
            (valid, chosen) => valid.or(chosen),
        };
        let mut add = |row: usize| add(self.of_row[row] as usize, row, self.diffs[row]);
        match rows {
            None => (0..self.diffs.len()).for_each(add),
            Some(rows) => rows.set_indices().for_each(&mut add),
        }
    }
}

impl Sums {
    /// For what this cell is of; of no group.
    fn of(cell: &Cell) -> Self {
        match cell {
            Cell::Count(_) => Sums::Count(vec![]),
            Cell::Integer(..) => Sums::Integer(vec![]),
            Cell::Float(..) => Sums::Float(vec![]),
            Cell::Moments(_) => Sums::Moments(vec![]),
            Cell::Bools(..) => Sums::Bools(vec![]),
            Cell::Pairs(_) => Sums::Pairs(vec![]),
            Cell::First(_) => Sums::First(vec![]),
        }
    }

    /// Of so many groups: a new one has no rows.
    fn resize(&mut self, groups: usize) {
        match self {
            Sums::Count(sums) => sums.resize_with(groups, Default::default),
            Sums::Integer(sums) => sums.resize_with(groups, Default::default),
            Sums::Float(sums) => sums.resize_with(groups, Default::default),
            Sums::Moments(sums) => sums.resize_with(groups, Default::default),
            Sums::Bools(sums) => sums.resize_with(groups, Default::default),
            Sums::Pairs(sums) => sums.resize_with(groups, Default::default),
            Sums::First(sums) => sums.resize_with(groups, Default::default),
        }
    }

    /// What there is of a group, which begins anew.
    fn take(&mut self, group: usize) -> Cell {
        use std::mem::take;
        match self {
            Sums::Count(sums) => Cell::Count(take(&mut sums[group])),
            Sums::Integer(sums) => {
                let (count, sum) = take(&mut sums[group]);
                Cell::Integer(count, sum.into())
            }
            Sums::Float(sums) => {
                let (count, sum) = take(&mut sums[group]);
                Cell::Float(count, sum.sum())
            }
            Sums::Moments(sums) => {
                let (count, sums) = take(&mut sums[group]);
                Cell::Moments(Box::new((count, sums.map(Adder::sum))))
            }
            Sums::Bools(sums) => {
                let (trues, falses) = take(&mut sums[group]);
                Cell::Bools(trues, falses)
            }
            Sums::Pairs(sums) => {
                let (count, sums) = take(&mut sums[group]);
                Cell::Pairs(Box::new((count, sums.map(Adder::sum))))
            }
            Sums::First(sums) => Cell::First(take(&mut sums[group])),
        }
    }

    fn fold(&mut self, function: Function, arguments: &[&ArrayRef], first: Option<&RowConverter>, rows: Chosen<'_>) {
        let all = arguments.iter().copied();
        match self {
            Sums::Count(sums) => rows.each(all, |group, _, diff| sums[group] += diff),
            Sums::Integer(sums) => {
                let mut add = |group: usize, value: i128, diff: Diff| {
                    let (count, sum) = &mut sums[group];
                    *count += diff;
                    *sum += value * i128::from(diff);
                };
                match Integers::of(arguments[0]) {
                    Integers::Int(values) => {
                        rows.each(all, |group, row, diff| add(group, i128::from(values.value(row)), diff));
                    }
                    Integers::Wide(values) => rows.each(all, |group, row, diff| add(group, values[row], diff)),
                }
            }
            Sums::Float(sums) => {
                let values = floats(arguments[0]);
                rows.each(all, |group, row, diff| {
                    let (count, sum) = &mut sums[group];
                    *count += diff;
                    sum.add(values.value(row), diff);
                });
            }
            Sums::Moments(sums) => {
                let values = floats(arguments[0]);
                rows.each(all, |group, row, diff| {
                    let (count, [sum, squares]) = &mut sums[group];
                    let value = values.value(row);
                    *count += diff;
                    sum.add(value, diff);
                    squares.add_product(value, value, diff);
                });
            }
            Sums::Bools(sums) => {
                let values: &BooleanArray = arguments[0].as_boolean();
                rows.each(all, |group, row, diff| {
                    let (trues, falses) = &mut sums[group];
                    *if values.value(row) { trues } else { falses } += diff;
                });
            }
            Sums::Pairs(sums) => {
                let (y, x) = (floats(arguments[0]), floats(arguments[1]));
                rows.each(all, |group, row, diff| {
                    let (count, [sx, sy, sxx, syy, sxy]) = &mut sums[group];
                    let (x, y) = (x.value(row), y.value(row));
                    *count += diff;
                    sx.add(x, diff);
                    sy.add(y, diff);
                    sxx.add_product(x, x, diff);
                    syy.add_product(y, y, diff);
                    sxy.add_product(x, y, diff);
                });
            }
            Sums::First(sums) => {
                // Ordered first and last count nulls of the value; least and greatest do not.
                let skip_nulls = matches!(function, Function::Min | Function::Max);
                let compared: Vec<ArrayRef> = arguments.iter().rev().map(|column| (*column).clone()).collect();
                let encoded = first.expect("encodes what is compared").convert_columns(&compared).expect("its columns");
                // The row of this batch that comes first in each group.
                let mut best = vec![usize::MAX; sums.len()];
                rows.each(all.filter(|_| skip_nulls), |group, row, diff| {
                    debug_assert!(diff > 0, "input of min, max, first and last does not retract");
                    let best = &mut best[group];
                    if *best == usize::MAX || encoded.row(row) < encoded.row(*best) {
                        *best = row;
                    }
                });
                for (held, best) in sums.iter_mut().zip(best).filter(|(_, best)| *best != usize::MAX) {
                    let bytes = encoded.row(best);
                    if held.as_ref().is_none_or(|held| bytes.as_ref() < held.as_slice()) {
                        *held = Some(Row::new(bytes.as_ref()));
                    }
                }
            }
        }
    }
}

fn floats(column: &ArrayRef) -> arrow::array::Float64Array {
    cast(column, &DataType::Float64).expect("numbers become floats").as_primitive::<Float64Type>().clone()
}

/// When the time of the group with this row's time is past.
pub(super) fn due(times: &Int64Array, row: usize, after_ms: u64) -> Time {
    if times.is_null(row) {
        return Time::MAX;
    }
    (times.value(row).max(0) as Time).saturating_add(after_ms)
}

/// The timestamps of a column in whole milliseconds, rounded up.
pub(super) fn milliseconds(column: &ArrayRef) -> Int64Array {
    let DataType::Timestamp(unit, _) = column.data_type() else { panic!("the planner checked that it is a timestamp") };
    let values = cast(column, &DataType::Int64).expect("timestamps are integers").as_primitive::<Int64Type>().clone();
    match unit {
        TimeUnit::Second => values.unary(|value| value.saturating_mul(1_000)),
        TimeUnit::Millisecond => values,
        TimeUnit::Microsecond => values.unary(|value| -(-value).div_euclid(1_000)),
        TimeUnit::Nanosecond => values.unary(|value| -(-value).div_euclid(1_000_000)),
    }
}

/// A column of integers, in the width that sums take.
enum Integers {
    Int(Int64Array),
    Wide(Vec<i128>),
}

impl Integers {
    fn of(column: &ArrayRef) -> Self {
        match column.data_type() {
            DataType::UInt64 => {
                Integers::Wide(column.as_primitive::<UInt64Type>().values().iter().map(|v| i128::from(*v)).collect())
            }
            DataType::Decimal128(..) => Integers::Wide(column.as_primitive::<Decimal128Type>().values().to_vec()),
            _ => {
                let column = cast(column, &DataType::Int64).expect("integers of at most 64 bits");
                Integers::Int(column.as_primitive::<Int64Type>().clone())
            }
        }
    }
}
