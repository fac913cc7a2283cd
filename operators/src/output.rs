//! The end of a job's dataflow: the changes of all its views, closed, in one place.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concatenate, Operator};
use timely::dataflow::{Scope, Stream};

use crate::accumulate::Age;
use crate::errors::Messages;
use crate::map::batch;
use crate::{Diff, Row, RowCodec, Rows, Steps, Time, Updates, row};

/// What a job yields: its views, by index, and their errors.
pub struct View<'scope> {
    /// The rows of the view.
    pub rows: Rows<'scope>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Rows that leave memory when their time is past stay in the view's table: that they leave is no change of
    /// the view. (It would cancel what was said of them last, if both fell into one step of the frontier.)
    pub retain: Option<Age>,
    /// The errors met on the way.
    pub errors: Vec<Stream<'scope, Time, Messages>>,
}

/// The net changes at all timestamps below `upper` that were not reported before.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Timestamps below this one are complete.
    pub upper: Time,
    /// By index of the view, those that changed: rows, each once, and their diffs, none zero.
    pub changes: Vec<(usize, RecordBatch, Int64Array)>,
    /// Errors that came or went: the view, the message, how many.
    pub errors: Vec<(usize, String, Diff)>,
}

/// A row or a message of a view.
type Change = (u32, Result<Row, String>, Diff);

/// Brings the changes of all `views` to worker `index`, which hands them to `sink` as time passes: at the ends of
/// steps, changed or not. On other workers `sink` is never called.
pub fn output<'scope>(
    scope: Scope<'scope, Time>,
    name: &str,
    views: Vec<View<'scope>>,
    index: usize,
    steps: &Steps,
    mut sink: impl FnMut(Closed) + 'static,
) {
    let codec = |schema: &SchemaRef| {
        RowCodec::new(schema.fields().iter().map(|f| f.data_type())).expect("the planner checked the types")
    };
    let mut streams = Vec::new();
    let mut decoders = Vec::new();
    for (i, view) in views.into_iter().enumerate() {
        let encoder = codec(&view.schema);
        let (retain, begun) = (view.retain, steps.clone());
        decoders.push((codec(&view.schema), view.schema.clone()));
        streams.push(view.rows.unary::<CapacityContainerBuilder<Vec<(Time, Change)>>, _, _, _>(
            Pipeline,
            "encode",
            move |_, _| {
                move |input, output| {
                    input.for_each(|capability, data| {
                        let mut session = output.session(&capability);
                        for updates in data.drain(..) {
                            let rows = encoder.encode(updates.rows.columns(), updates.rows.num_rows());
                            let rows = rows.expect("columns of the view").into_iter().zip(updates.diffs());
                            let past = retain.map(|retain| past(&updates, retain, begun.begin(updates.time)));
                            let stays = |at: usize, diff: Diff| diff < 0 && past.as_ref().is_some_and(|p| p[at]);
                            let rows = rows.enumerate().filter(|(at, (_, diff))| !stays(*at, **diff));
                            session
                                .give_iterator(rows.map(|(_, (row, diff))| (updates.time, (i as u32, Ok(row), *diff))));
                        }
                    });
                }
            },
        ));
        for errors in view.errors {
            streams.push(errors.unary::<CapacityContainerBuilder<Vec<(Time, Change)>>, _, _, _>(
                Pipeline,
                "encode",
                move |_, _| {
                    move |input, output| {
                        input.for_each(|capability, data| {
                            let all = data.drain(..).map(|(text, time, diff)| (time, (i as u32, Err(text), diff)));
                            output.session(&capability).give_iterator(all);
                        });
                    }
                },
            ));
        }
    }
    let all = scope.concatenate(streams);
    let mine = scope.worker().index() == index;
    let route = Exchange::new(move |_: &(Time, Change)| index as u64);
    let mut pending: std::collections::BTreeMap<Time, Vec<Change>> = Default::default();
    let mut reported = 0;
    let steps = steps.clone();
    all.sink(route, name, move |(input, frontier)| {
        input.for_each(|_, data| {
            for (time, change) in data.drain(..) {
                pending.entry(time).or_default().push(change);
            }
        });
        // An empty frontier is a job being dropped: what it would still send is of no interest.
        let Some(frontier) = frontier.frontier().first().copied() else { return };
        let upper = steps.over(frontier);
        if !mine || upper <= reported {
            return;
        }
        reported = upper;
        let open = pending.split_off(&upper);
        let closed: Vec<Change> = std::mem::replace(&mut pending, open).into_values().flatten().collect();
        sink(consolidate(upper, closed, &decoders));
    });
}

/// The rows that had had their time when the step began.
fn past(updates: &Updates, retain: Age, begin: Time) -> Vec<bool> {
    let times = cast(updates.rows.column(retain.group), &DataType::Timestamp(TimeUnit::Millisecond, None));
    let times = times.expect("the planner checked that it is a timestamp");
    let times = times.as_primitive::<TimestampMillisecondType>();
    let due = |time: i64| (time.max(0) as Time).saturating_add(retain.after_ms);
    times.iter().map(|time| time.is_some_and(|time| due(time) < begin)).collect()
}

fn consolidate(upper: Time, changes: Vec<Change>, decoders: &[(RowCodec, SchemaRef)]) -> Closed {
    let mut rows: Vec<Vec<(Row, Diff)>> = vec![vec![]; decoders.len()];
    let mut errors: Vec<((u32, String), Diff)> = Vec::new();
    for (view, change, diff) in changes {
        match change {
            Ok(row) => rows[view as usize].push((row, diff)),
            Err(text) => errors.push(((view, text), diff)),
        }
    }
    differential_dataflow::consolidation::consolidate(&mut errors);
    let mut changes = Vec::new();
    for (view, mut rows) in rows.into_iter().enumerate() {
        row::consolidate(&mut rows);
        if rows.is_empty() {
            continue;
        }
        let (codec, schema) = &decoders[view];
        let columns = codec.decode(rows.iter().map(|(row, _)| row)).expect("rows of this codec");
        let diffs = Int64Array::from_iter_values(rows.iter().map(|(_, diff)| *diff));
        changes.push((view, batch(schema, columns, rows.len()), diffs));
    }
    let errors = errors.into_iter().map(|((view, text), diff)| (view as usize, text, diff)).collect();
    Closed { upper, changes, errors }
}
