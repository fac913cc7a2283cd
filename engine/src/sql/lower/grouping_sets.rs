//! `GROUPING SETS`, `ROLLUP` and `CUBE`: each set is a grouping of its own over the same input, and their
//! groups stand one below another.
//!
//! A set that leaves a column out has null there. Which columns those are is told by a number that
//! `GROUPING(…)` reads: a bit for each column, the last column the lowest, and above them how often the same
//! set came before.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::utils::enumerate_grouping_sets;
use datafusion::logical_expr::{Aggregate, Expr as LogicalExpr, GroupingSet};
use datafusion::physical_expr::expressions::Literal;
use velib_operators::Expr;

use super::map::{columns, map, renamed};
use super::{Lowering, bare};
use crate::plan::{Node, Union};
use crate::sql::error::refuse;

/// Sets beyond this many are refused: `CUBE` makes two to the power of its columns.
const MAX_SETS: usize = 64;

impl Lowering<'_> {
    pub(super) fn grouping_sets(&self, aggregate: &Aggregate) -> Result<Node> {
        let schema = bare(&aggregate.schema);
        let group = enumerate_grouping_sets(aggregate.group_expr.clone())?;
        let [LogicalExpr::GroupingSet(grouping)] = group.as_slice() else {
            return Err(refuse("GROUPING SETS beside other columns of GROUP BY", "write them into each set", "by"));
        };
        let all: Vec<&LogicalExpr> = grouping.distinct_expr();
        let sets = sets_of(grouping)?;
        let mut seen: Vec<u64> = vec![];
        let mut inputs = vec![];
        for set in sets {
            let absent = |(place, expr): (usize, &&LogicalExpr)| match set.contains(*expr) {
                true => 0,
                false => 1 << (all.len() - 1 - place),
            };
            let mask: u64 = all.iter().enumerate().map(absent).sum();
            let before = seen.iter().filter(|other| **other == mask).count() as u64;
            seen.push(mask);
            let group: Vec<LogicalExpr> = all.iter().filter(|e| set.contains(**e)).map(|e| (*e).clone()).collect();
            let id =
                ScalarValue::UInt64(Some(mask | before << all.len())).cast_to(schema.field(all.len()).data_type())?;
            let width = group.len();
            let branch = Aggregate::try_new(aggregate.input.clone(), group, aggregate.aggr_expr.clone())?;
            let branch = self.aggregate(&branch)?;
            let own = columns(&branch.schema());
            let mut outputs: Vec<Expr> = vec![];
            let mut next = 0;
            for (place, expr) in all.iter().enumerate() {
                if set.contains(*expr) {
                    outputs.push(own[next].clone());
                    next += 1;
                } else {
                    let null = ScalarValue::try_from(schema.field(place).data_type())?;
                    outputs.push(Arc::new(Literal::new(null)));
                }
            }
            outputs.push(Arc::new(Literal::new(id)));
            outputs.extend(own[width..].iter().cloned());
            inputs.push(renamed(map(branch, vec![], Some(outputs), schema.clone())?, schema.clone()));
        }
        Ok(Node::Union(Union { inputs, schema }))
    }
}

/// The sets, in the order in which they are written.
fn sets_of(grouping: &GroupingSet) -> Result<Vec<Vec<LogicalExpr>>> {
    let sets: Vec<Vec<LogicalExpr>> = match grouping {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|len| exprs[..len].to_vec()).collect(),
        GroupingSet::Cube(exprs) if exprs.len() > MAX_SETS.ilog2() as usize => return Err(too_many()),
        GroupingSet::Cube(exprs) => {
            let chosen = |mask: usize| (0..exprs.len()).filter(move |place| mask >> place & 1 == 1);
            (0..1usize << exprs.len())
                .rev()
                .map(|mask| chosen(mask).map(|place| exprs[place].clone()).collect())
                .collect()
        }
    };
    match sets.len() > MAX_SETS {
        true => Err(too_many()),
        false => Ok(sets),
    }
}

fn too_many() -> datafusion::error::DataFusionError {
    refuse(format!("more than {MAX_SETS} grouping sets"), "name those that are needed with GROUPING SETS", "by")
}
