//! Lists taken apart: a row for each item.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array, UInt32Builder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::Result;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::map::batch;
use crate::{Rows, Updates};

/// The columns of `input` that `columns` names, those of `lists` item by item: as many rows as the longest list of a
/// row has items, null where another is shorter. A row whose lists are empty or null has none.
pub fn unnest<'scope>(
    input: Rows<'scope>,
    name: &str,
    lists: Vec<usize>,
    columns: Vec<usize>,
    schema: SchemaRef,
) -> Rows<'scope> {
    input.unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                let apart = data.drain(..).filter_map(|updates| {
                    let apart = take_apart(&updates, &lists, &columns, &schema).expect("the planner typed the lists");
                    (apart.rows.num_rows() > 0).then_some(apart)
                });
                output.session(&capability).give_iterator(apart);
            });
        }
    })
}

fn take_apart(updates: &Updates, lists: &[usize], columns: &[usize], schema: &SchemaRef) -> Result<Updates> {
    let rows = &updates.rows;
    let items = lists.iter().map(|at| as_list(rows.column(*at))).collect::<Result<Vec<_>>>()?;
    let lists_of: Vec<_> = items.iter().map(|items| items.as_list::<i32>()).collect();
    let length = |list: usize, row: usize| match lists_of[list].is_null(row) {
        true => 0,
        false => lists_of[list].value_length(row) as u32,
    };
    let mut from = UInt32Builder::new();
    let mut places: Vec<UInt32Builder> = lists.iter().map(|_| UInt32Builder::new()).collect();
    for row in 0..rows.num_rows() {
        let longest = (0..lists.len()).map(|list| length(list, row)).max().unwrap_or(0);
        from.append_value_n(row as u32, longest as usize);
        for (list, places) in places.iter_mut().enumerate() {
            let (begin, own) = (lists_of[list].value_offsets()[row] as u32, length(list, row));
            (0..longest).for_each(|at| places.append_option((at < own).then_some(begin + at)));
        }
    }
    let from = from.finish();
    let places: Vec<UInt32Array> = places.into_iter().map(|mut places| places.finish()).collect();
    let column = |at: &usize| -> Result<ArrayRef> {
        Ok(match lists.iter().position(|list| list == at) {
            Some(list) => take(lists_of[list].values(), &places[list], None)?,
            None => take(rows.column(*at), &from, None)?,
        })
    };
    let kept = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
    let diffs = Int64Array::from(take(&updates.diffs, &from, None)?.to_data());
    Ok(Updates::new(updates.time, batch(schema, kept, from.len()), diffs))
}

/// Lists of any kind with offsets of 32 bits.
fn as_list(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => cast(column, &DataType::List(item.clone()))?,
        _ => column.clone(),
    })
}
