//! Random updates through single operators: what has come out up to any time is what a recomputation of
//! all that went in yields, on 1 and on 3 workers.

#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::{count::count_udaf, min_max::min_udaf, string_agg::string_agg_udaf};
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use velib_operators::accumulate::{Accumulator, Age, Function, Grouping, Regression, accumulate, distinct};
use velib_operators::aggregate::{Call, aggregate};
use velib_operators::arrange::Layout;
use velib_operators::join::{Kind, On, Side, join};
use velib_operators::map::{Program, map, project};
use velib_operators::previous::{self, previous};
use velib_operators::temporal::temporal;
use velib_operators::topk::topk;
use velib_operators::{Expr, Steps};

use crate::harness::{
    Bag, Random, Row, SEEDS, bag, builder, check, check_saved, keeper, run, run_saved, schema, script,
};

fn column(i: usize) -> Expr {
    Arc::new(Column::new(&format!("c{i}"), i))
}

fn literal(value: i64) -> Expr {
    Arc::new(Literal::new(ScalarValue::Int64(Some(value))))
}

fn binary(left: Expr, op: Op, right: Expr) -> Expr {
    Arc::new(BinaryExpr::new(left, op, right))
}

#[test]
fn map_filters_computes_and_reports() {
    let build = builder(|inputs, errors| {
        let quotient = binary(literal(12), Op::Divide, column(1));
        let predicates = vec![binary(column(0), Op::Gt, literal(-1))];
        let program = Program { predicates, outputs: Some(vec![column(0), quotient]), schema: schema(2) };
        map(inputs.into_iter().next().unwrap(), "map", program, errors)
    });
    check(&[2], false, build, |inputs, _| {
        bag(inputs[0].iter().filter(|row| row[0] > Some(-1)).map(|row| match row[1] {
            Some(0) => vec![None],
            divisor => vec![row[0], divisor.map(|d| 12 / d)],
        }))
    });
}

/// Pairs of rows of two columns, by the first; if there is a `condition`, those for which the sum of the others
/// is over 1.
fn pairs(left: &[Row], right: &[Row], null_equal: bool, condition: bool) -> Vec<(Row, Row)> {
    let meets = |l: &Row, r: &Row| {
        let equal = l[0] == r[0] && (null_equal || l[0].is_some());
        equal && (!condition || l[1].zip(r[1]).is_some_and(|(a, b)| a + b > 1))
    };
    let all = left.iter().flat_map(|l| right.iter().map(move |r| (l.clone(), r.clone())));
    all.filter(|(l, r)| meets(l, r)).collect()
}

#[test]
fn joins_of_every_kind() {
    let kinds = [Kind::Inner, Kind::Left, Kind::Full, Kind::Semi, Kind::Anti];
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    for (kind, (null_equal, condition)) in kinds.into_iter().flat_map(|kind| ways.map(|way| (kind, way))) {
        let build = builder(move |inputs, errors| {
            let mut sides = inputs.into_iter().map(|rows| Side::by(rows, schema(2), vec![0]));
            let (left, right) = (sides.next().unwrap(), sides.next().unwrap());
            let residual = condition.then(|| binary(binary(column(1), Op::Plus, column(3)), Op::Gt, literal(1)));
            let schema = schema(if matches!(kind, Kind::Semi | Kind::Anti) { 2 } else { 4 });
            join(&left, &right, "join", On { kind, null_equal, residual, schema }, errors)
        });
        check(&[2, 2], false, build, move |inputs, _| {
            let found = pairs(&inputs[0], &inputs[1], null_equal, condition);
            let nulls = vec![None, None];
            let left = inputs[0].iter().filter(|l| !found.iter().any(|(a, _)| a == *l));
            let right = inputs[1].iter().filter(|r| !found.iter().any(|(_, b)| b == *r));
            let together = |l: &Row, r: &Row| [l.clone(), r.clone()].concat();
            match kind {
                Kind::Semi => bag(inputs[0].iter().filter(|l| found.iter().any(|(a, _)| a == *l)).cloned()),
                Kind::Anti => bag(left.cloned()),
                _ => {
                    let mut rows: Vec<Row> = found.iter().map(|(l, r)| together(l, r)).collect();
                    if kind != Kind::Inner {
                        rows.extend(left.map(|l| together(l, &nulls)));
                    }
                    if kind == Kind::Full {
                        rows.extend(right.map(|r| together(&nulls, r)));
                    }
                    bag(rows)
                }
            }
        });
    }
}

#[test]
fn a_key_with_more_pairs_than_a_batch() {
    for kind in [Kind::Inner, Kind::Left] {
        let build = builder(move |inputs, errors| {
            let mut sides = inputs.into_iter().map(|rows| Side::by(rows, schema(2), vec![]));
            let (left, right) = (sides.next().unwrap(), sides.next().unwrap());
            let residual = Some(binary(column(1), Op::Gt, column(3)));
            join(&left, &right, "join", On { kind, null_equal: false, residual, schema: schema(4) }, errors)
        });
        let rows = |range: std::ops::Range<i64>| range.map(|i| (vec![Some(i), Some(i)], 1)).collect::<Vec<_>>();
        let gone = vec![(vec![Some(149), Some(149)], -1)];
        let steps = [(1, 0, rows(0..150)), (1, 1, rows(0..150)), (2, 0, gone)];
        let changes = run(2, &[2, 2], &steps, 4, build);
        let alone = usize::from(kind == Kind::Left);
        assert_eq!(changes[&1].values().filter(|diff| **diff == 1).count(), 150 * 149 / 2 + alone, "{kind:?}");
        assert_eq!(changes[&2].values().filter(|diff| **diff == -1).count(), 149, "{kind:?}");
    }
}

fn grouping(group: Vec<usize>, aggregates: Vec<(Function, Vec<usize>, DataType)>, input: SchemaRef) -> Grouping {
    let fields = group.iter().map(|i| input.field(*i).clone());
    let results = aggregates.iter().map(|(_, _, kind)| Field::new("x", kind.clone(), true));
    let output = Arc::new(Schema::new(fields.chain(results).collect::<Vec<_>>()));
    let aggregates = aggregates.into_iter().map(|(function, arguments, output)| Accumulator {
        function,
        arguments,
        filter: None,
        output,
    });
    let (aggregates, global) = (aggregates.collect(), group.is_empty());
    Grouping { input, group, aggregates, global, expiry: None, output }
}

fn groups(rows: &[Row], global: bool) -> BTreeMap<Option<i64>, Vec<Row>> {
    let mut groups: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    if global {
        groups.insert(None, rows.to_vec());
        return groups;
    }
    rows.iter().for_each(|row| groups.entry(row[0]).or_default().push(row.clone()));
    groups
}

#[test]
fn accumulated_aggregates_subtract() {
    let (whole, float) = (DataType::Int64, DataType::Float64);
    let functions = vec![
        (Function::Count, vec![], whole.clone()),
        (Function::Count, vec![1], whole.clone()),
        (Function::Sum, vec![1], whole),
        (Function::Avg, vec![1], float.clone()),
        (Function::Variance { sample: true, root: false }, vec![1], float.clone()),
        (Function::Variance { sample: false, root: true }, vec![1], float.clone()),
        (Function::Regression(Regression::Sxy), vec![1, 2], float),
    ];
    for global in [false, true] {
        let functions = functions.clone();
        let build = keeper(move |inputs, keep, errors| {
            let group = if global { vec![] } else { vec![0] };
            let grouping = grouping(group, functions.clone(), schema(3));
            accumulate(inputs.into_iter().next().unwrap(), "accumulate", grouping, &Steps::default(), keep, errors)
        });
        check_saved(&[3], false, build, move |inputs, _| {
            bag(groups(&inputs[0], global).into_iter().map(|(key, rows)| {
                let values: Vec<f64> = rows.iter().filter_map(|row| row[1]).map(|v| v as f64).collect();
                let n = values.len() as f64;
                let sum: f64 = values.iter().sum();
                let spread: f64 = values.iter().map(|v| (v - sum / n).powi(2)).sum();
                let pairs: Vec<(f64, f64)> =
                    rows.iter().filter_map(|row| row[1].zip(row[2])).map(|(y, x)| (y as f64, x as f64)).collect();
                let m = pairs.len() as f64;
                let (ys, xs) = (pairs.iter().map(|p| p.0).sum::<f64>(), pairs.iter().map(|p| p.1).sum::<f64>());
                let sxy: f64 = pairs.iter().map(|(y, x)| (y - ys / m) * (x - xs / m)).sum();
                let thousandths = |there: bool, value: f64| there.then(|| (value * 1000.0).round() as i64);
                let mut row = if global { vec![] } else { vec![key] };
                row.extend([
                    Some(rows.len() as i64),
                    Some(values.len() as i64),
                    (n > 0.0).then_some(sum as i64),
                    thousandths(n > 0.0, sum / n),
                    thousandths(n > 1.0, spread / (n - 1.0)),
                    thousandths(n > 0.0, (spread / n).sqrt()),
                    thousandths(m > 0.0, sxy),
                ]);
                row
            }))
        });
    }
}

#[test]
fn accumulated_extremes_of_rows_that_only_come() {
    let ordered = |descending| Function::First { descending, nulls_first: false };
    let functions = vec![
        (Function::Min, vec![1], DataType::Int64),
        (Function::Max, vec![1], DataType::Int64),
        (ordered(false), vec![1, 1], DataType::Int64),
        (ordered(true), vec![1, 1], DataType::Int64),
        (Function::Last { descending: false, nulls_first: true }, vec![1, 1], DataType::Int64),
    ];
    let build = keeper(move |inputs, keep, errors| {
        let grouping = grouping(vec![0], functions.clone(), schema(2));
        accumulate(inputs.into_iter().next().unwrap(), "accumulate", grouping, &Steps::default(), keep, errors)
    });
    check_saved(&[2], true, build, |inputs, _| {
        bag(groups(&inputs[0], false).into_iter().map(|(key, rows)| {
            let values = || rows.iter().filter_map(|row| row[1]);
            vec![key, values().min(), values().max(), values().min(), values().max(), values().max()]
        }))
    });
}

/// A mean of decimals was a mean of their digits: 443 where it is 4.43.
#[test]
fn means_of_decimals_keep_their_scale() {
    let input = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("d", DataType::Decimal128(10, 2), true),
    ]));
    let functions = vec![
        (Function::Sum, vec![1], DataType::Decimal128(20, 2)),
        (Function::Avg, vec![1], DataType::Decimal128(14, 6)),
        (Function::Variance { sample: false, root: false }, vec![1], DataType::Float64),
    ];
    let build = keeper(move |inputs, keep, errors| {
        let digits = |kind| -> Expr { Arc::new(CastExpr::new(column(1), kind, None)) };
        let hundredths = Arc::new(Literal::new(ScalarValue::Decimal128(Some(25), 10, 2)));
        let decimal = binary(digits(DataType::Decimal128(19, 0)), Op::Multiply, hundredths);
        let outputs =
            Some(vec![column(0), Arc::new(CastExpr::new(decimal, DataType::Decimal128(10, 2), None)) as Expr]);
        let program = Program { predicates: vec![], outputs, schema: input.clone() };
        let rows = map(inputs.into_iter().next().unwrap(), "map", program, errors);
        accumulate(
            rows,
            "accumulate",
            grouping(vec![0], functions.clone(), input.clone()),
            &Steps::default(),
            keep,
            errors,
        )
    });
    check_saved(&[2], false, build, |inputs, _| {
        bag(groups(&inputs[0], false).into_iter().map(|(key, rows)| {
            let values: Vec<i64> = rows.iter().filter_map(|row| row[1]).map(|v| v * 25).collect();
            let (n, sum) = (values.len() as i64, values.iter().sum::<i64>());
            let mean = sum as f64 / n as f64;
            let spread: f64 = values.iter().map(|v| ((*v as f64 - mean) / 100.0).powi(2)).sum();
            vec![
                key,
                (n > 0).then_some(sum),
                (n > 0).then(|| sum * 10_000 / n),
                (n > 0).then(|| (spread / n as f64 * 1000.0).round() as i64),
            ]
        }))
    });
}

#[test]
fn distinct_rows() {
    let build = keeper(|inputs, keep, errors| {
        distinct(inputs.into_iter().next().unwrap(), "distinct", schema(2), &Steps::default(), keep, errors)
    });
    check_saved(&[2], false, build, |inputs, _| inputs[0].iter().map(|row| (row.clone(), 1)).collect());
}

#[test]
fn groups_leave_when_their_time_is_past() {
    let build = keeper(|inputs, keep, errors| {
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let input =
            Arc::new(Schema::new(vec![Field::new("t", time.clone(), true), Field::new("v", DataType::Int64, true)]));
        let moment = binary(column(0), Op::Plus, literal(2));
        let outputs = Some(vec![Arc::new(CastExpr::new(moment, time, None)) as Expr, column(1)]);
        let program = Program { predicates: vec![], outputs, schema: input.clone() };
        let rows = map(inputs.into_iter().next().unwrap(), "map", program, errors);
        let grouping = Grouping {
            expiry: Some(Age { group: 0, after_ms: 20 }),
            ..grouping(vec![0], vec![(Function::Count, vec![], DataType::Int64)], input)
        };
        accumulate(rows, "accumulate", grouping, &Steps::default(), keep, errors)
    });
    // Nothing comes later than the groups live: each leaves when its time and 20 ms are past.
    check_saved(&[2], false, build, |inputs, time| {
        let there = |key: Option<i64>| key.is_none_or(|at| at + 22 >= time as i64);
        let groups = groups(&inputs[0], false).into_iter().filter(|(key, _)| there(*key));
        bag(groups.map(|(key, rows)| vec![key.map(|at| at + 2), Some(rows.len() as i64)]))
    });
}

/// Over columns of integers; the last call over a constant.
fn recomputed(input: &SchemaRef) -> Vec<AggregateFunctionExpr> {
    let build = |builder: AggregateExprBuilder| builder.schema(input.clone()).alias("x").build().unwrap();
    let text = |text: &str| -> Expr { Arc::new(Literal::new(ScalarValue::Utf8(Some(text.into())))) };
    let order = vec![PhysicalSortExpr::new_default(text("c"))];
    vec![
        build(AggregateExprBuilder::new(min_udaf(), vec![column(1)])),
        build(AggregateExprBuilder::new(count_udaf(), vec![column(1)]).distinct()),
        build(AggregateExprBuilder::new(string_agg_udaf(), vec![text("c"), text("")]).order_by(order)),
    ]
}

#[test]
fn recomputed_aggregates() {
    let build = builder(|inputs, errors| {
        let layout = Layout::by(schema(2), vec![0]);
        let kinds = [DataType::Int64, DataType::Int64, DataType::Int64, DataType::Utf8];
        let output = Arc::new(Schema::new(kinds.map(|kind| Field::new("x", kind, true)).to_vec()));
        let filter = binary(column(1), Op::Gt, literal(0));
        let call = |(i, function)| Call { function: Arc::new(function), filter: (i == 1).then(|| filter.clone()) };
        let calls = recomputed(&schema(2)).into_iter().enumerate().map(call).collect();
        aggregate(inputs.into_iter().next().unwrap(), "aggregate", &layout, calls, false, output, errors)
    });
    check(&[2], false, build, |inputs, _| {
        bag(groups(&inputs[0], false).into_iter().map(|(key, rows)| {
            let mut positive: Vec<i64> = rows.iter().filter_map(|row| row[1]).filter(|v| *v > 0).collect();
            positive.sort_unstable();
            positive.dedup();
            let least = rows.iter().filter_map(|row| row[1]).min();
            vec![key, least, Some(positive.len() as i64), Some(rows.len() as i64)]
        }))
    });
}

/// Rows without columns lost their number on the way to an aggregate of constants.
#[test]
fn rows_without_columns_are_aggregated() {
    let build = builder(|inputs, errors| {
        let rows = project(inputs.into_iter().next().unwrap(), vec![], schema(0));
        let layout = Layout::by(schema(0), vec![]);
        let output = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, true)]));
        let function = recomputed(&schema(2)).pop().unwrap();
        let calls = vec![Call { function: Arc::new(function), filter: None }];
        aggregate(rows, "aggregate", &layout, calls, true, output, errors)
    });
    check(&[2], false, build, |inputs, _| {
        let n = inputs[0].len() as i64;
        bag([vec![(n > 0).then_some(n)]])
    });
}

#[test]
fn first_rows_of_each_partition() {
    for (offset, limit) in [(0, Some(1)), (0, Some(3)), (1, Some(2)), (2, None)] {
        let build = builder(move |inputs, errors| {
            let order = vec![(1, SortOptions { descending: true, nulls_first: false })];
            let layout = Layout { order, ..Layout::by(schema(3), vec![0]) };
            topk(inputs.into_iter().next().unwrap(), "topk", &layout, offset, limit, errors)
        });
        check(&[3], false, build, move |inputs, _| {
            let groups = groups(&inputs[0], false).into_values().flat_map(|mut rows| {
                rows.sort_by_key(|row| (row[1].is_none(), row[1].map(|v| -v), row.clone()));
                rows.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect::<Vec<_>>()
            });
            bag(groups)
        });
    }
}

#[test]
fn rows_are_there_for_their_interval() {
    let build = keeper(|inputs, keep, errors| {
        let kind = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let instant = |i: usize, factor: i64, offset: i64| -> Expr {
            let moment = binary(binary(column(i), Op::Multiply, literal(factor)), Op::Plus, literal(offset));
            Arc::new(CastExpr::new(moment, kind.clone(), None))
        };
        let mut fields: Vec<Field> = schema(3).fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend([Field::new("from", kind.clone(), true), Field::new("until", kind.clone(), true)]);
        // From 4 · c1 ms on, until 5 · c2 + 7 ms.
        let outputs = vec![column(0), column(1), column(2), instant(1, 4, 0), instant(2, 5, 7)];
        let program = Program { predicates: vec![], outputs: Some(outputs), schema: Arc::new(Schema::new(fields)) };
        let rows = map(inputs.into_iter().next().unwrap(), "map", program, errors);
        temporal(rows, "temporal", schema(3), Some(3), Some(4), &Steps::default(), keep)
    });
    check_saved(&[3], false, build, |inputs, time| {
        let time = time as i64;
        let there = |row: &&Row| row[1].zip(row[2]).is_some_and(|(a, b)| 4 * a <= time && time < 5 * b + 7);
        bag(inputs[0].iter().filter(there).cloned())
    });
}

#[test]
fn each_row_beside_the_one_before() {
    let build = keeper(|inputs, keep, _| {
        let layout = previous::Layout { schema: schema(2), columns: 2, partition: vec![0], order: 1, lags: vec![1] };
        previous(inputs.into_iter().next().unwrap(), "previous", layout, schema(3), keep)
    });
    for seed in 0..SEEDS {
        let steps = script(&mut Random(seed), &[2], true);
        let end = steps.iter().map(|step| step.0).max().unwrap_or_default() + 1;
        let (mut last, mut expected): (BTreeMap<Option<i64>, Option<i64>>, Bag) = Default::default();
        for (_, _, changes) in &steps {
            let mut rows: Vec<&Row> = changes.iter().map(|change| &change.0).collect();
            rows.sort();
            for row in rows {
                let before = last.insert(row[0], row[1]).flatten();
                *expected.entry(vec![row[0], row[1], before]).or_default() += 1;
            }
        }
        let runs = [1, 3].map(|workers| run(workers, &[2], &steps, end, Arc::clone(&build)));
        let saved = [(1, 3), (3, 1)].map(|workers| run_saved(workers, &[2], &steps, end, &build, false));
        for changes in runs.into_iter().chain(saved) {
            let mut held = Bag::new();
            changes.into_values().flatten().for_each(|(row, diff)| *held.entry(row).or_default() += diff);
            assert_eq!(held, expected, "seed {seed}");
        }
    }
}

/// Floats are summed exactly, so what is subtracted is gone.
#[test]
fn sums_of_floats_come_back_to_nothing() {
    let build = keeper(|inputs, keep, errors| {
        let input = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
        ]));
        let tenth: Expr = Arc::new(Literal::new(ScalarValue::Float64(Some(0.1))));
        let float: Expr = Arc::new(CastExpr::new(column(1), DataType::Float64, None));
        let outputs = Some(vec![column(0), binary(float, Op::Multiply, tenth)]);
        let program = Program { predicates: vec![], outputs, schema: input.clone() };
        let rows = map(inputs.into_iter().next().unwrap(), "map", program, errors);
        accumulate(
            rows,
            "sum",
            grouping(vec![0], vec![(Function::Sum, vec![1], DataType::Float64)], input),
            &Steps::default(),
            keep,
            errors,
        )
    });
    check_saved(&[2], false, build, |inputs, _| {
        bag(groups(&inputs[0], false).into_iter().map(|(key, rows)| {
            let values: Vec<i64> = rows.iter().filter_map(|row| row[1]).collect();
            vec![key, (!values.is_empty()).then(|| values.iter().sum::<i64>() * 100)]
        }))
    });
}
