//! The first step: the rows of a timestamp, folded into one state a group, column by column.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::SortOptions;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow_row::{RowConverter, SortField};
use hashbrown::HashTable;

use super::cell::{Cell, State};
use super::{Accumulator, Function, Grouping, Part};
use crate::row::hash;
use crate::{Diff, Row, Time, Updates};

/// Groups that are being folded.
pub(super) struct Partial {
    grouping: Grouping,
    keys: Option<RowConverter>,
    /// Of `Min`, `Max`, `First`, `Last`: encodes what is compared, so that the least bytes win.
    firsts: Vec<Option<RowConverter>>,
    table: HashTable<u32>,
    groups: Vec<Part>,
    /// The group of each row of the batch at hand.
    of_row: Vec<u32>,
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
        let firsts = firsts.collect();
        Partial { grouping: grouping.clone(), keys, firsts, table: HashTable::new(), groups: vec![], of_row: vec![] }
    }

    /// Folds the rows of `updates` in.
    pub(super) fn fold(&mut self, updates: &Updates) {
        self.assign(updates);
        let diffs = updates.diffs();
        for (row, group) in self.of_row.iter().enumerate() {
            self.groups[*group as usize].state.rows += diffs[row];
        }
        for (index, aggregate) in self.grouping.aggregates.iter().enumerate() {
            let filter = aggregate.filter.map(|i| updates.rows.column(i).as_boolean());
            let kept = |row: usize| filter.is_none_or(|mask| mask.is_valid(row) && mask.value(row));
            let arguments: Vec<ArrayRef> =
                aggregate.arguments.iter().map(|i| updates.rows.column(*i).clone()).collect();
            let target = Target { groups: &mut self.groups, of_row: &self.of_row, diffs, index };
            target.fold(aggregate.function, &arguments, self.firsts[index].as_ref(), kept);
        }
    }

    /// The groups folded since the last call.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Part> + '_ {
        self.table.clear();
        self.groups.drain(..)
    }

    /// Finds or makes the group of each row.
    fn assign(&mut self, updates: &Updates) {
        self.of_row.clear();
        let rows = &updates.rows;
        let columns: Vec<ArrayRef> = self.grouping.group.iter().map(|i| rows.column(*i).clone()).collect();
        let due = self.grouping.expiry.map(|age| (milliseconds(&columns[age.group]), age.after_ms));
        let due = |row: usize| match &due {
            Some((times, after)) if times.is_valid(row) => (times.value(row).max(0) as Time).saturating_add(*after),
            _ => Time::MAX,
        };
        let new = |key: Row, row: usize| Part { key, state: State::new(&self.grouping), due: due(row) };
        let Some(keys) = &self.keys else {
            if self.groups.is_empty() && rows.num_rows() > 0 {
                self.groups.push(new(Row::default(), 0));
            }
            self.of_row.resize(rows.num_rows(), 0);
            return;
        };
        let encoded = keys.convert_columns(&columns).expect("columns of the grouping");
        for row in 0..rows.num_rows() {
            let bytes = encoded.row(row);
            let bytes = bytes.as_ref();
            let hashed = hash(bytes);
            let groups = &mut self.groups;
            let entry = self.table.entry(
                hashed,
                |group| groups[*group as usize].key.as_slice() == bytes,
                |group| groups[*group as usize].key.route(),
            );
            let group = match entry {
                hashbrown::hash_table::Entry::Occupied(held) => *held.get(),
                hashbrown::hash_table::Entry::Vacant(free) => {
                    let group = groups.len() as u32;
                    free.insert(group);
                    groups.push(new(Row::new(bytes), row));
                    group
                }
            };
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

/// The cells of one aggregate in all groups.
struct Target<'a> {
    groups: &'a mut [Part],
    of_row: &'a [u32],
    diffs: &'a [Diff],
    index: usize,
}

impl Target<'_> {
    /// Calls `add(cell, row, diff)` for each row of `rows`.
    fn each(self, rows: impl Iterator<Item = usize>, mut add: impl FnMut(&mut Cell, usize, Diff)) {
        for row in rows {
            let cell = &mut self.groups[self.of_row[row] as usize].state.cells[self.index];
            add(cell, row, self.diffs[row]);
        }
    }

    fn fold(
        self,
        function: Function,
        arguments: &[ArrayRef],
        first: Option<&RowConverter>,
        kept: impl Fn(usize) -> bool,
    ) {
        let all = 0..self.diffs.len();
        let valid = |row: &usize| arguments.iter().all(|column| column.is_valid(*row)) && kept(*row);
        match function {
            Function::Count => self.each(all.filter(valid), |cell, _, diff| {
                let Cell::Count(count) = cell else { unreachable!("a count") };
                *count += diff;
            }),
            Function::Sum | Function::Avg => match Numbers::of(&arguments[0]) {
                Numbers::Float(values) => self.each(all.filter(valid), |cell, row, diff| {
                    let Cell::Float(count, sum) = cell else { unreachable!("a sum of floats") };
                    *count += diff;
                    sum.add(values.value(row), diff);
                }),
                Numbers::Int(values) => self
                    .each(all.filter(valid), |cell, row, diff| add_integer(cell, i128::from(values.value(row)), diff)),
                Numbers::Wide(values) => {
                    self.each(all.filter(valid), |cell, row, diff| add_integer(cell, values[row], diff))
                }
            },
            Function::Variance { .. } => {
                let values = floats(&arguments[0]);
                self.each(all.filter(valid), |cell, row, diff| {
                    let Cell::Moments(moments) = cell else { unreachable!("moments") };
                    let value = values.value(row);
                    moments.0 += diff;
                    moments.1[0].add(value, diff);
                    moments.1[1].add_product(value, value, diff);
                });
            }
            Function::BoolAnd | Function::BoolOr => {
                let values: &BooleanArray = arguments[0].as_boolean();
                self.each(all.filter(valid), |cell, row, diff| {
                    let Cell::Bools(trues, falses) = cell else { unreachable!("booleans") };
                    *if values.value(row) { trues } else { falses } += diff;
                });
            }
            Function::Regression(_) => {
                let (y, x) = (floats(&arguments[0]), floats(&arguments[1]));
                self.each(all.filter(valid), |cell, row, diff| {
                    let Cell::Pairs(pairs) = cell else { unreachable!("pairs") };
                    let (x, y) = (x.value(row), y.value(row));
                    pairs.0 += diff;
                    let [sx, sy, sxx, syy, sxy] = &mut pairs.1;
                    sx.add(x, diff);
                    sy.add(y, diff);
                    sxx.add_product(x, x, diff);
                    syy.add_product(y, y, diff);
                    sxy.add_product(x, y, diff);
                });
            }
            Function::Min | Function::Max | Function::First { .. } | Function::Last { .. } => {
                // Ordered first and last count nulls of the value; least and greatest do not.
                let skip_nulls = matches!(function, Function::Min | Function::Max);
                let columns: Vec<ArrayRef> =
                    if skip_nulls { arguments.to_vec() } else { vec![arguments[1].clone(), arguments[0].clone()] };
                let encoded = first.expect("encodes what is compared").convert_columns(&columns).expect("its columns");
                let rows = all.filter(|row| kept(*row) && (!skip_nulls || arguments[0].is_valid(*row)));
                self.each(rows, |cell, row, diff| {
                    let Cell::First(held) = cell else { unreachable!("a first row") };
                    debug_assert!(diff > 0, "input of min, max, first and last does not retract");
                    let bytes = encoded.row(row);
                    if held.as_ref().is_none_or(|held| bytes.as_ref() < held.as_slice()) {
                        *held = Some(Row::new(bytes.as_ref()));
                    }
                });
            }
        }
    }
}

fn add_integer(cell: &mut Cell, value: i128, diff: Diff) {
    let Cell::Integer(count, sum) = cell else { unreachable!("a sum of integers") };
    *count += diff;
    sum.add(value * i128::from(diff));
}

fn floats(column: &ArrayRef) -> arrow::array::Float64Array {
    cast(column, &DataType::Float64).expect("numbers become floats").as_primitive::<Float64Type>().clone()
}

/// The timestamps of a column in whole milliseconds, rounded up.
fn milliseconds(column: &ArrayRef) -> Int64Array {
    let DataType::Timestamp(unit, _) = column.data_type() else { panic!("the planner checked that it is a timestamp") };
    let values = cast(column, &DataType::Int64).expect("timestamps are integers").as_primitive::<Int64Type>().clone();
    match unit {
        TimeUnit::Second => values.unary(|value| value.saturating_mul(1_000)),
        TimeUnit::Millisecond => values,
        TimeUnit::Microsecond => values.unary(|value| -(-value).div_euclid(1_000)),
        TimeUnit::Nanosecond => values.unary(|value| -(-value).div_euclid(1_000_000)),
    }
}

/// A column of numbers, in the width that sums take.
enum Numbers {
    Int(Int64Array),
    Wide(Vec<i128>),
    Float(arrow::array::Float64Array),
}

impl Numbers {
    fn of(column: &ArrayRef) -> Self {
        match column.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Numbers::Float(floats(column)),
            DataType::UInt64 => {
                Numbers::Wide(column.as_primitive::<UInt64Type>().values().iter().map(|v| i128::from(*v)).collect())
            }
            DataType::Decimal128(..) => Numbers::Wide(column.as_primitive::<Decimal128Type>().values().to_vec()),
            _ => {
                let column = cast(column, &DataType::Int64).expect("integers of at most 64 bits");
                Numbers::Int(column.as_primitive::<Int64Type>().clone())
            }
        }
    }
}
