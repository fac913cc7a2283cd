//! Recursion: rows, what follows from them, what follows from that, and so on, kept up to date as any of it changes.
//!
//! In a scope of its own, a timestamp is a time and a round. A row that follows in the third round of a time is an
//! update of that time and round, and one that comes or goes later only touches the rounds that follow from it:
//! differential dataflow's iteration. The result is what all rounds come to.
//!
//! A [`Step`] makes the rows of the next round of those of one. It is linear: what it makes of two sets of rows is
//! what it makes of each.

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::physical_expr::expressions::{Column, IsNotNullExpr};
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::vec::Map as _;
use timely::dataflow::operators::{Concatenate, Leave, OkErr, Operator};
use timely::dataflow::{Scope, Stream};
use timely::order::Product;

use crate::arrange::{Layout, arrange};
use crate::errors::Outcome;
use crate::join::Side;
use crate::map::{Program, batch};
use crate::row::consolidate;
use crate::{Diff, Errors, Expr, Row, RowCodec, Rows, Time, Updates};

/// Rounds of one recursion. What would follow after these is an error.
pub const MAX_ROUNDS: u64 = 10_000;

/// A time and a round.
type Inner = Product<Time, u64>;

/// Rows of rounds.
type Rounds<'inner, D> = Stream<'inner, Inner, Vec<(D, Inner, Diff)>>;

/// A row of a round, or why there is none.
type Judged<D> = (Result<D, String>, Inner, Diff);

/// Messages of rounds.
type Faults<'inner> = Rounds<'inner, String>;

/// How the rows of the next round are made of those of one.
pub enum Step<'scope> {
    /// The rows of the round.
    Rounds,
    /// Filtered and computed.
    Map(Box<Step<'scope>>, Program),
    /// Joined with rows that do not depend on the round.
    Join(Box<JoinStep<'scope>>),
    /// Several.
    Union(Vec<Step<'scope>>),
    /// Rows that do not depend on the round.
    Fixed(Rows<'scope>),
}

/// An inner join of the rows of a round with others.
pub struct JoinStep<'scope> {
    /// The rows of the round.
    pub rounds: Step<'scope>,
    /// Their columns.
    pub schema: SchemaRef,
    /// What of them equals the key of the others.
    pub key: Vec<Expr>,
    /// The others.
    pub other: Side<'scope>,
    /// The columns of the round come first.
    pub rounds_first: bool,
    /// Null keys equal each other.
    pub null_equal: bool,
    /// Filters the pairs, by the columns of both; its schema is theirs.
    pub pairs: Program,
}

/// `base`, and what follows from it by `step`; `distinct`: each row once. `schema` is that of both.
pub fn iterate<'scope>(
    base: Rows<'scope>,
    name: &str,
    schema: &SchemaRef,
    distinct: bool,
    step: Step<'scope>,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let outer = base.scope();
    let encoded = encode(base, &format!("{name}.base"), codec(schema));
    let outcomes = outer.scoped::<Inner, _, _>(name, |inner| {
        let base = VecCollection::new(encoded).enter(inner);
        let (variable, rounds) = Variable::new_from(base.clone(), Product::new(0, 1));
        let mut build = Build {
            inner,
            name: name.to_owned(),
            rounds: rounds.inner,
            schema: schema.clone(),
            faults: vec![],
            parts: 0,
        };
        let next = build.rows(step);
        let next = build.bounded(next);
        let mut all = base.concat(VecCollection::new(next));
        if distinct {
            all = all.threshold_named::<Diff, _>(&format!("{name}.distinct"), |_, _| 1);
        }
        variable.set(all.clone());
        let rows = all.inner.map(|(row, time, diff)| (Ok(row), time, diff));
        let faults = build.faults.into_iter().map(|faults| faults.map(|(text, time, diff)| (Err(text), time, diff)));
        inner.concatenate(faults.chain([rows]).collect::<Vec<_>>()).leave(outer)
    });
    errors.split(settle(outcomes, &format!("{name}.rounds"), schema.clone()))
}

fn codec(schema: &SchemaRef) -> RowCodec {
    RowCodec::new(schema.fields().iter().map(|f| f.data_type())).expect("the planner checked the types")
}

fn encode<'scope>(rows: Rows<'scope>, name: &str, codec: RowCodec) -> Stream<'scope, Time, Vec<(Row, Time, Diff)>> {
    rows.unary::<CapacityContainerBuilder<Vec<(Row, Time, Diff)>>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for updates in data.drain(..) {
                    let rows = codec.encode(updates.rows.columns(), updates.rows.num_rows());
                    let rows = rows.expect("columns of the codec").into_iter().zip(updates.diffs());
                    session.give_iterator(rows.map(|(row, diff)| (row, updates.time, *diff)));
                }
            });
        }
    })
}

/// What has left the rounds, as batches of a time each.
fn settle<'scope>(
    leaving: Stream<'scope, Time, Vec<Judged<Row>>>,
    name: &str,
    schema: SchemaRef,
) -> Stream<'scope, Time, Vec<Outcome>> {
    let codec = codec(&schema);
    leaving.unary::<CapacityContainerBuilder<Vec<Outcome>>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                data.sort_by_key(|update| update.1.outer);
                for of_time in data.chunk_by(|a, b| a.1.outer == b.1.outer) {
                    let time = of_time[0].1.outer;
                    let capability = capability.delayed(&time, 0);
                    let mut session = output.session(&capability);
                    let mut rows = vec![];
                    for (found, _, diff) in of_time {
                        match found {
                            Ok(row) => rows.push((row.clone(), *diff)),
                            Err(text) => session.give(Outcome::Fault(text.clone(), time, *diff)),
                        }
                    }
                    consolidate(&mut rows);
                    if !rows.is_empty() {
                        let columns = codec.decode(rows.iter().map(|(row, _)| row)).expect("rows of this codec");
                        let diffs = Int64Array::from_iter_values(rows.iter().map(|(_, diff)| *diff));
                        let rows = batch(&schema, columns, rows.len());
                        session.give(Outcome::Rows(Updates::new(time, rows, diffs)));
                    }
                }
            });
        }
    })
}

/// A step under construction.
struct Build<'inner> {
    inner: Scope<'inner, Inner>,
    name: String,
    rounds: Rounds<'inner, Row>,
    schema: SchemaRef,
    faults: Vec<Faults<'inner>>,
    parts: usize,
}

impl<'inner> Build<'inner> {
    fn name(&mut self, part: &str) -> String {
        self.parts += 1;
        format!("{}.{part}.{}", self.name, self.parts)
    }

    fn rows(&mut self, step: Step<'_>) -> Rounds<'inner, Row> {
        match step {
            Step::Rounds => self.rounds.clone(),
            Step::Fixed(rows) => self.fixed(rows),
            Step::Union(steps) => {
                let all: Vec<_> = steps.into_iter().map(|step| self.rows(step)).collect();
                self.inner.concatenate(all)
            }
            Step::Map(input, program) => {
                let schema = self.schema_of(&input);
                let rows = self.rows(*input);
                let (decode, encode) = (codec(&schema), codec(&program.schema));
                let decode = move |rows: &[(Row, Inner, Diff)]| {
                    let columns = decode.decode(rows.iter().map(|row| &row.0)).expect("rows of this codec");
                    batch(&schema, columns, rows.len())
                };
                let encode = move |rows: &RecordBatch| {
                    encode.encode(rows.columns(), rows.num_rows()).expect("columns of the codec")
                };
                self.apply(rows, "map", decode, program, encode)
            }
            Step::Join(join) => self.join(*join),
        }
    }

    fn schema_of(&self, step: &Step<'_>) -> SchemaRef {
        match step {
            Step::Rounds | Step::Fixed(_) => self.schema.clone(),
            Step::Map(_, program) => program.schema.clone(),
            Step::Join(join) => join.pairs.schema.clone(),
            Step::Union(steps) => steps.first().map_or_else(|| self.schema.clone(), |step| self.schema_of(step)),
        }
    }

    fn fixed(&mut self, rows: Rows<'_>) -> Rounds<'inner, Row> {
        let name = self.name("fixed");
        VecCollection::new(encode(rows, &name, codec(&self.schema))).enter(self.inner).inner
    }

    fn join(&mut self, join: JoinStep<'_>) -> Rounds<'inner, Row> {
        let (own, width) = (codec(&join.schema), join.schema.fields().len());
        let rows = self.rows(join.rounds);
        // The columns of the round, then the key.
        let mut fields: Vec<Arc<Field>> = join.schema.fields().iter().cloned().collect();
        let mut outputs: Vec<Expr> =
            fields.iter().enumerate().map(|(at, field)| Arc::new(Column::new(field.name(), at)) as Expr).collect();
        for (at, key) in join.key.iter().enumerate() {
            let kind = key.data_type(&join.schema).expect("the planner typed it");
            fields.push(Arc::new(Field::new(format!("key {at}"), kind, true)));
            outputs.push(key.clone());
        }
        let is_there = |key: &Expr| Arc::new(IsNotNullExpr::new(key.clone())) as Expr;
        let predicates = if join.null_equal { vec![] } else { join.key.iter().map(is_there).collect() };
        let keyed = Arc::new(Schema::new(fields));
        let keys = RowCodec::new(keyed.fields()[width..].iter().map(|f| f.data_type()))
            .expect("the planner checked the types");
        let (decode, encode) = (codec(&join.schema), codec(&join.schema));
        let schema = join.schema.clone();
        let decode = move |rows: &[(Row, Inner, Diff)]| {
            batch(&schema, decode.decode(rows.iter().map(|row| &row.0)).expect("rows of this codec"), rows.len())
        };
        let encode = move |rows: &RecordBatch| {
            let (own, key) = rows.columns().split_at(width);
            let keys = keys.encode(key, rows.num_rows()).expect("columns of the codec");
            keys.into_iter().zip(encode.encode(own, rows.num_rows()).expect("columns of the codec")).collect()
        };
        let program = Program { predicates, outputs: Some(outputs), schema: keyed };
        let keyed: Rounds<'inner, (Row, Row)> = self.apply(rows, "keys", decode, program, encode);
        let name = self.name("arrange");
        let route = Exchange::new(|update: &((Row, Row), Inner, Diff)| update.0.0.route());
        let keyed: Arranged<'inner, TraceAgent<ValSpine<Row, Row, Inner, Diff>>> =
            arrange_core(keyed, route, &name, ValBatcher::new);
        let other = join.other;
        let layout = Layout { columns: other.columns, ..Layout::by(other.schema.clone(), other.key.clone()) };
        let name = self.name("other");
        let others = arrange(other.rows, &name, &layout).enter(self.inner);
        let pairs = keyed.join_core(others, |_, round: &Row, other: &Row| Some((round.clone(), other.clone())));
        let (others, rounds_first, schema) =
            (codec(&layout.value_schema()), join.rounds_first, join.pairs.schema.clone());
        let decode = move |pairs: &[((Row, Row), Inner, Diff)]| {
            let round = own.decode(pairs.iter().map(|pair| &pair.0.0)).expect("rows of this codec");
            let other = others.decode(pairs.iter().map(|pair| &pair.0.1)).expect("rows of this codec");
            batch(&schema, if rounds_first { [round, other].concat() } else { [other, round].concat() }, pairs.len())
        };
        let encode = codec(&join.pairs.schema);
        let encode =
            move |rows: &RecordBatch| encode.encode(rows.columns(), rows.num_rows()).expect("columns of the codec");
        self.apply(pairs.inner, "pairs", decode, join.pairs, encode)
    }

    /// Runs `program` over what `decode` makes of rows; its rows are what `encode` makes of them.
    fn apply<D: Clone + 'static, E: Clone + 'static>(
        &mut self,
        rows: Rounds<'inner, D>,
        part: &str,
        decode: impl Fn(&[(D, Inner, Diff)]) -> RecordBatch + 'static,
        program: Program,
        encode: impl Fn(&RecordBatch) -> Vec<E> + 'static,
    ) -> Rounds<'inner, E> {
        let name = self.name(part);
        let computed = rows.unary::<CapacityContainerBuilder<Vec<Judged<E>>>, _, _, _>(Pipeline, &name, move |_, _| {
            move |input, output| {
                input.for_each(|capability, data| {
                    let mut session = output.session(&capability);
                    data.sort_by_key(|update| update.1);
                    for of_time in data.chunk_by(|a, b| a.1 == b.1) {
                        let time = of_time[0].1;
                        let diffs = Int64Array::from_iter_values(of_time.iter().map(|update| update.2));
                        let (kept, faults) = program.run(Updates::new(time.outer, decode(of_time), diffs));
                        session.give_iterator(faults.into_iter().map(|(text, diff)| (Err(text), time, diff)));
                        if let Some(kept) = kept {
                            let rows = encode(&kept.rows).into_iter().zip(kept.diffs());
                            session.give_iterator(rows.map(|(row, diff)| (Ok(row), time, *diff)));
                        }
                    }
                });
            }
        });
        self.split(computed)
    }

    /// What follows in the rounds that there may be.
    fn bounded(&mut self, rows: Rounds<'inner, Row>) -> Rounds<'inner, Row> {
        let text = || format!("WITH RECURSIVE goes on after {MAX_ROUNDS} rounds: end it by a condition, or with UNION");
        let judged = rows
            .map(move |(row, time, diff)| (if time.inner < MAX_ROUNDS { Ok(row) } else { Err(text()) }, time, diff));
        self.split(judged)
    }

    fn split<E: Clone + 'static>(&mut self, rows: Rounds<'inner, Result<E, String>>) -> Rounds<'inner, E> {
        let (rows, faults) = rows.ok_err(|(found, time, diff)| match found {
            Ok(row) => Ok((row, time, diff)),
            Err(text) => Err((text, time, diff)),
        });
        self.faults.push(faults);
        rows
    }
}
