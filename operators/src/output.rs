//! The end of a job's dataflow: the changes of all its views, closed, in one place.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, filter, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Concatenate, Operator};
use timely::dataflow::{Scope, Stream};

use crate::accumulate::Age;
use crate::errors::Messages;
use crate::exchange::Piece;
use crate::map::batch;
use crate::updates::consolidate;
use crate::{Diff, Rows, Steps, Time, Updates};

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

/// What changes in a view, by its index.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Change {
    time: Time,
    view: usize,
    what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    Rows(Piece),
    Fault(String, Diff),
}

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
    let mut streams = Vec::new();
    for (i, view) in views.into_iter().enumerate() {
        let (schema, retain, begun) = (view.schema, view.retain, steps.clone());
        streams.push(view.rows.unary::<CapacityContainerBuilder<Vec<Change>>, _, _, _>(
            Pipeline,
            "changes",
            move |_, _| {
                move |input, output| {
                    input.for_each(|capability, data| {
                        let changes = data.drain(..).filter_map(|updates| {
                            let time = updates.time;
                            let Updates { rows, diffs, .. } = match retain {
                                Some(retain) => without_past(updates, retain, begun.begin(time)),
                                None => updates,
                            };
                            let rows = batch(&schema, rows.columns().to_vec(), rows.num_rows());
                            let piece = Piece { worker: index as u64, rows, diffs };
                            (!piece.diffs.is_empty()).then_some(Change { time, view: i, what: What::Rows(piece) })
                        });
                        output.session(&capability).give_iterator(changes);
                    });
                }
            },
        ));
        for errors in view.errors {
            streams.push(errors.unary::<CapacityContainerBuilder<Vec<Change>>, _, _, _>(
                Pipeline,
                "changes",
                move |_, _| {
                    move |input, output| {
                        input.for_each(|capability, data| {
                            let fault = |(text, time, diff)| Change { time, view: i, what: What::Fault(text, diff) };
                            output.session(&capability).give_iterator(data.drain(..).map(fault));
                        });
                    }
                },
            ));
        }
    }
    let all = scope.concatenate(streams);
    let mine = scope.worker().index() == index;
    let route = Exchange::new(move |_: &Change| index as u64);
    let mut pending: BTreeMap<Time, Vec<Change>> = BTreeMap::new();
    let mut reported = 0;
    let steps = steps.clone();
    all.sink(route, name, move |(input, frontier)| {
        input.for_each(|_, data| {
            for change in data.drain(..) {
                pending.entry(change.time).or_default().push(change);
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
        let closed = std::mem::replace(&mut pending, open);
        sink(close(upper, closed.into_values().flatten()));
    });
}

/// The changes without the rows that leave because they had had their time when the step began.
fn without_past(updates: Updates, retain: Age, begin: Time) -> Updates {
    let times = cast(updates.rows.column(retain.group), &DataType::Timestamp(TimeUnit::Millisecond, None));
    let times = times.expect("the planner checked that it is a timestamp");
    let times = times.as_primitive::<TimestampMillisecondType>();
    let due = |time: i64| (time.max(0) as Time).saturating_add(retain.after_ms);
    let stays = times.iter().zip(updates.diffs()).map(|(time, diff)| *diff < 0 && time.is_some_and(|t| due(t) < begin));
    let kept: BooleanArray = stays.map(|stays| Some(!stays)).collect();
    if kept.true_count() == kept.len() {
        return updates;
    }
    let rows = filter_record_batch(&updates.rows, &kept).expect("as many as rows");
    let diffs = filter(&updates.diffs, &kept).expect("as many as rows");
    Updates::new(updates.time, rows, Int64Array::from(diffs.to_data()))
}

/// The net changes.
fn close(upper: Time, all: impl Iterator<Item = Change>) -> Closed {
    let mut views: BTreeMap<usize, Vec<(RecordBatch, Int64Array)>> = BTreeMap::new();
    let mut errors: Vec<((usize, String), Diff)> = Vec::new();
    for Change { view, what, .. } in all {
        match what {
            What::Rows(piece) => views.entry(view).or_default().push((piece.rows, piece.diffs)),
            What::Fault(text, diff) => errors.push(((view, text), diff)),
        }
    }
    differential_dataflow::consolidation::consolidate(&mut errors);
    let net = |(view, pieces): (usize, Vec<_>)| consolidate(&pieces).map(|(rows, diffs)| (view, rows, diffs));
    let errors = errors.into_iter().map(|((view, text), diff)| (view, text, diff)).collect();
    Closed { upper, changes: views.into_iter().filter_map(net).collect(), errors }
}
