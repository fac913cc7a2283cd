//! The first rows of each partition by an order: `ORDER BY … LIMIT k`, `row_number() <= k`.

use arrow::array::RecordBatch;

use crate::arrange::{Layout, Values, arrange};
use crate::recompute::{Group, Ordered, recompute};
use crate::{Diff, Errors, Row, Rows};

/// Keeps rows `offset .. offset + limit` of each partition. `layout` partitions by its key and sorts by
/// its order, rows that are equal by it by all their columns.
pub fn topk<'scope>(
    input: Rows<'scope>,
    name: &str,
    layout: &Layout,
    offset: usize,
    limit: Option<usize>,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let group = TopK {
        values: Values::of(layout),
        offset: offset as Diff,
        limit: limit.map_or(Diff::MAX, |limit| limit as Diff),
    };
    recompute(arrange(input, name, layout), name, group, errors)
}

struct TopK {
    values: Values,
    offset: Diff,
    limit: Diff,
}

impl Group for TopK {
    fn compute(&mut self, _: &Row, values: &mut Ordered<'_>, out: &mut Vec<(Row, Diff)>) -> Result<(), String> {
        let (mut skip, mut left) = (self.offset, self.limit);
        while left > 0 {
            let Some((value, count)) = values.next() else { break };
            let skipped = count.min(skip);
            skip -= skipped;
            let kept = (count - skipped).min(left);
            if kept > 0 {
                out.push((value.clone(), kept));
                left -= kept;
            }
        }
        Ok(())
    }

    fn decode(&self, rows: &[Row]) -> RecordBatch {
        self.values.decode(rows, rows.len())
    }
}
