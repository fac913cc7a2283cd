//! Equi-joins: both sides held by key, matched as either changes.
//!
//! An outer, semi or anti join is made of the inner one: the left rows that found a partner, and the left
//! rows less those.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::Arranged;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Concatenate, Operator};

use crate::accumulate::distinct;
use crate::arrange::{Layout, Trace, Values, arrange};
use crate::map::{Program, batch, map};
use crate::{Diff, Errors, Expr, Row, Rows, Updates};

/// One side of a join.
#[derive(Clone)]
pub struct Side<'scope> {
    /// Its rows.
    pub rows: Rows<'scope>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows again, with columns for the key after their own.
    pub keyed: Rows<'scope>,
    /// The columns of `keyed`.
    pub keyed_schema: SchemaRef,
    /// The columns of `keyed` to match, by index.
    pub key: Vec<usize>,
}

impl<'scope> Side<'scope> {
    /// A side that is matched by some of its own columns.
    pub fn by(rows: Rows<'scope>, schema: SchemaRef, key: Vec<usize>) -> Self {
        Side { keyed: rows.clone(), keyed_schema: schema.clone(), rows, schema, key }
    }

    fn arrange(&self, name: &str, skip_null_keys: bool) -> (Arranged<'scope, Trace>, Values) {
        let columns = self.schema.fields().len();
        let layout = Layout { skip_null_keys, columns, ..Layout::by(self.keyed_schema.clone(), self.key.clone()) };
        (arrange(self.keyed.clone(), name, &layout), Values::of(&layout))
    }
}

/// Pairs of rows with equal keys for which `residual` is true: the columns of the left, then the right's.
/// Null keys equal each other if `null_equal`, else nothing.
pub fn inner<'scope>(
    left: &Side<'scope>,
    right: &Side<'scope>,
    name: &str,
    null_equal: bool,
    residual: Option<Expr>,
    schema: &SchemaRef,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let (left_rows, left_values) = left.arrange(&format!("{name}.left"), !null_equal);
    let (right_rows, right_values) = right.arrange(&format!("{name}.right"), !null_equal);
    let pairs = left_rows.join_core(right_rows, |_, l: &Row, r: &Row| Some((l.clone(), r.clone())));
    let rows = decode(pairs, name, left_values, right_values, schema.clone());
    match residual {
        None => rows,
        Some(condition) => {
            let program = Program { predicates: vec![condition], outputs: None, schema: schema.clone() };
            map(rows, &format!("{name}.residual"), program, errors)
        }
    }
}

/// Rows of `left` that are among `matched`, whole rows of the left, however often.
fn semi<'scope>(left: &Side<'scope>, matched: Rows<'scope>, name: &str, errors: &mut Errors<'scope>) -> Rows<'scope> {
    let all: Vec<usize> = (0..left.schema.fields().len()).collect();
    let matched = distinct(matched, &format!("{name}.matched"), left.schema.clone(), errors);
    let left = Side::by(left.rows.clone(), left.schema.clone(), all.clone());
    let matched = Side::by(matched, left.schema.clone(), all);
    let (left_rows, left_values) = left.arrange(&format!("{name}.rows"), false);
    let (matched_rows, _) = matched.arrange(&format!("{name}.found"), false);
    let pairs = left_rows.join_core(matched_rows, |_, l: &Row, _: &Row| Some((l.clone(), Row::default())));
    let nothing = Values::of(&Layout::by(Arc::new(Schema::empty()), vec![]));
    decode(pairs, name, left_values, nothing, left.schema.clone())
}

/// The left rows of `pairs`, and those of `left` that are not among them: (with a partner, without).
pub fn divide<'scope>(
    left: &Side<'scope>,
    pairs: Rows<'scope>,
    columns: std::ops::Range<usize>,
    name: &str,
    errors: &mut Errors<'scope>,
) -> (Rows<'scope>, Rows<'scope>) {
    let matched = project(pairs, columns.collect(), left.schema.clone());
    let with = semi(left, matched, name, errors);
    let without = left.rows.scope().concatenate([left.rows.clone(), negate(with.clone())]);
    (with, without)
}

/// Keeps the columns of these indices.
pub fn project<'scope>(input: Rows<'scope>, columns: Vec<usize>, schema: SchemaRef) -> Rows<'scope> {
    each(input, "project", move |mut updates| {
        let kept = columns.iter().map(|i| updates.rows.column(*i).clone()).collect();
        updates.rows = batch(&schema, kept, updates.rows.num_rows());
        updates
    })
}

/// Every row disappears as often as it appeared.
pub fn negate(input: Rows<'_>) -> Rows<'_> {
    each(input, "negate", |mut updates| {
        updates.diffs = updates.diffs.unary(|diff: Diff| -diff);
        updates
    })
}

/// Adds columns of nulls before or after the columns of the input, to make it fit `schema`.
pub fn pad<'scope>(input: Rows<'scope>, schema: SchemaRef, before: bool) -> Rows<'scope> {
    each(input, "pad", move |mut updates| {
        let (len, have) = (updates.rows.num_rows(), updates.rows.num_columns());
        let missing = schema.fields().len() - have;
        let fields = if before { &schema.fields()[..missing] } else { &schema.fields()[have..] };
        let mut nulls: Vec<_> = fields.iter().map(|field| new_null_array(field.data_type(), len)).collect();
        let own = updates.rows.columns().iter().cloned();
        let columns = if before {
            nulls.into_iter().chain(own).collect()
        } else {
            nulls.splice(0..0, own);
            nulls
        };
        updates.rows = batch(&schema, columns, len);
        updates
    })
}

fn each<'scope>(input: Rows<'scope>, name: &str, mut f: impl FnMut(Updates) -> Updates + 'static) -> Rows<'scope> {
    input.unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                output.session(&capability).give_iterator(data.drain(..).map(&mut f));
            });
        }
    })
}

/// Pairs of encoded rows as batches, one a timestamp.
fn decode<'scope>(
    pairs: VecCollection<'scope, crate::Time, (Row, Row), Diff>,
    name: &str,
    left: Values,
    right: Values,
    schema: SchemaRef,
) -> Rows<'scope> {
    let name = format!("{name}.decode");
    pairs.inner.unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, &name, move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, data| {
                let mut updates: Vec<((Row, Row), crate::Time, Diff)> = data.flat_map(std::mem::take).collect();
                updates.sort_unstable_by_key(|update| update.1);
                for same_time in updates.chunk_by(|a, b| a.1 == b.1) {
                    let capability = capability.delayed(&same_time[0].1, 0);
                    let mut session = output.session(&capability);
                    for chunk in same_time.chunks(BATCH) {
                        let rows = pair_batch(chunk, &left, &right, &schema);
                        let diffs = Int64Array::from_iter_values(chunk.iter().map(|update| update.2));
                        session.give(Updates::new(chunk[0].1, rows, diffs));
                    }
                }
            });
        }
    })
}

/// The most rows of a batch that a join sends.
const BATCH: usize = 8192;

fn pair_batch(
    updates: &[((Row, Row), crate::Time, Diff)],
    left: &Values,
    right: &Values,
    schema: &SchemaRef,
) -> RecordBatch {
    let mut columns = left.decode(updates.iter().map(|u| &u.0.0), updates.len()).columns().to_vec();
    columns.extend_from_slice(right.decode(updates.iter().map(|u| &u.0.1), updates.len()).columns());
    batch(schema, columns, updates.len())
}
