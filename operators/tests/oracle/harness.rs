//! What a test of an operator is made of: a script of updates, a run of it on some workers, and the comparison with
//! what is expected at each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Concatenate, Input, Operator, Probe};
use velib_operators::{Checkpoints, Diff, Errors, Keep, Rows, Saved, Time, Told, Updates};

/// Values of a row; every column is a nullable integer.
pub type Row = Vec<Option<i64>>;
pub type Bag = BTreeMap<Row, Diff>;
/// An input's changes at a time.
pub type Step = (Time, usize, Vec<(Row, Diff)>);

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn value(&mut self) -> Option<i64> {
        let value = self.below(7) as i64;
        (value < 6).then_some(value - 2)
    }
}

/// What enters: rows of so many columns for each input, some of which leave again unless they only come.
pub fn script(random: &mut Random, inputs: &[usize], appended: bool) -> Vec<Step> {
    let mut held: Vec<Vec<Row>> = vec![vec![]; inputs.len()];
    let mut time = 0;
    let mut steps = vec![];
    for _ in 0..12 {
        time += 1 + random.below(3);
        for (input, width) in inputs.iter().enumerate() {
            let mut changes = vec![];
            for _ in 0..random.below(5) {
                if !appended && !held[input].is_empty() && random.below(5) < 2 {
                    let at = random.below(held[input].len() as u64) as usize;
                    changes.push((held[input].swap_remove(at), -1));
                } else {
                    let row: Row = (0..*width).map(|_| random.value()).collect();
                    held[input].push(row.clone());
                    changes.push((row, 1));
                }
            }
            if !appended && random.below(8) == 0 {
                changes.extend(held[input].drain(..).map(|row| (row, -1)));
            }
            steps.push((time, input, changes));
        }
    }
    steps
}

pub fn schema(width: usize) -> SchemaRef {
    Arc::new(Schema::new((0..width).map(|i| Field::new(format!("c{i}"), DataType::Int64, true)).collect::<Vec<_>>()))
}

fn batch(width: usize, rows: &[&Row]) -> RecordBatch {
    let column = |i: usize| -> ArrayRef { Arc::new(rows.iter().map(|row| row[i]).collect::<Int64Array>()) };
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema(width), (0..width).map(column).collect(), &options).unwrap()
}

type Handle = InputHandle<Time, CapacityContainerBuilder<Vec<Updates>>>;

/// Builds an operator over its inputs.
pub type Build = dyn for<'scope> Fn(Vec<Rows<'scope>>, Keep<'scope>, &mut Errors<'scope>) -> Rows<'scope> + Send + Sync;

/// Lets the closure be one for all scopes.
pub fn builder<F>(build: F) -> Arc<Build>
where
    F: for<'scope> Fn(Vec<Rows<'scope>>, &mut Errors<'scope>) -> Rows<'scope> + Send + Sync + 'static,
{
    Arc::new(move |inputs: Vec<_>, _: Keep, errors: &mut _| build(inputs, errors))
}

/// The same of an operator whose state can be saved.
pub fn keeper<F>(build: F) -> Arc<Build>
where
    F: for<'scope> Fn(Vec<Rows<'scope>>, Keep<'scope>, &mut Errors<'scope>) -> Rows<'scope> + Send + Sync + 'static,
{
    Arc::new(build)
}

/// Where a run begins and ends.
#[derive(Default)]
pub struct Part {
    /// With this state; none: with nothing.
    pub restored: Vec<Saved>,
    /// What it holds at the end is saved.
    pub save: bool,
}

/// The changes that come out, by time; errors come out as rows of one null.
pub fn run(workers: usize, widths: &[usize], steps: &[Step], end: Time, build: Arc<Build>) -> BTreeMap<Time, Bag> {
    run_part(workers, widths, steps, end, build, Part::default()).0
}

/// The same, and what was saved as of the end.
pub fn run_part(
    workers: usize,
    widths: &[usize],
    steps: &[Step],
    end: Time,
    build: Arc<Build>,
    part: Part,
) -> (BTreeMap<Time, Bag>, Vec<Saved>) {
    let (save, collected) = channel();
    let save = std::sync::Mutex::new(save);
    let (send, receive) = channel();
    let send = std::sync::Mutex::new(send);
    let (widths, steps) = (widths.to_vec(), steps.to_vec());
    let part_saves = part.save;
    timely::execute(timely::Config::process(workers), move |worker| {
        let send = send.lock().unwrap().clone();
        let save = save.lock().unwrap().clone();
        let saved = std::rc::Rc::new(std::cell::Cell::new(false));
        let mut told: InputHandle<Time, CapacityContainerBuilder<Vec<Told>>> = InputHandle::new();
        let (index, peers) = (worker.index(), worker.peers());
        let mut handles: Vec<Handle> = widths.iter().map(|_| InputHandle::new()).collect();
        let probe = worker.dataflow::<Time, _, _>(|scope| {
            let inputs = handles.iter_mut().map(|handle| scope.input_from(handle)).collect();
            let mut errors = Errors::default();
            let checkpoints = Checkpoints::told(scope.input_from(&mut told));
            let rows = build(inputs, checkpoints.of(7), &mut errors);
            let faults = errors.take();
            let failed = send.clone();
            let faults = scope.concatenate(faults).unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(
                Pipeline,
                "faults",
                move |_, _| {
                    move |input, _| {
                        input.for_each(|_, data| {
                            data.drain(..).for_each(|(_, time, diff)| failed.send((time, vec![None], diff)).unwrap());
                        });
                    }
                },
            );
            let out = rows.unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, "out", move |_, _| {
                move |input, output| {
                    input.for_each(|capability, data| {
                        for updates in data.drain(..) {
                            assert_eq!(Some(&updates.time), capability.least(), "rows travel under their own time");
                            for (row, diff) in values(&updates.rows).into_iter().zip(updates.diffs()) {
                                send.send((updates.time, row, *diff)).unwrap();
                            }
                            output.session(&capability).give(updates);
                        }
                    });
                }
            });
            let is_saved = std::rc::Rc::clone(&saved);
            checkpoints.collect(scope, "operator", vec![out.clone(), faults.clone()], 0, move |time, pieces| {
                is_saved.set(true);
                save.send((time, pieces)).unwrap();
            });
            scope.concatenate([out, faults]).probe().0
        });
        let mut last = 0;
        if index == 0 {
            told.send_batch(&mut part.restored.iter().cloned().map(Told::Restore).collect());
        }
        for (time, input, changes) in &steps {
            // Several times are closed at once, now and then.
            if last != *time && time % 3 != 0 {
                handles.iter_mut().for_each(|handle| handle.advance_to(*time));
                told.advance_to(*time);
                while probe.less_than(&last) {
                    worker.step_or_park(Some(TURN));
                }
            }
            last = *time;
            let mine: Vec<&(Row, Diff)> = changes.iter().skip(index).step_by(peers).collect();
            handles[*input].advance_to(*time);
            if !mine.is_empty() {
                let rows = batch(widths[*input], &mine.iter().map(|change| &change.0).collect::<Vec<_>>());
                let diffs = Int64Array::from_iter_values(mine.iter().map(|change| change.1));
                handles[*input].send(Updates::new(*time, rows, diffs));
            }
        }
        handles.iter_mut().for_each(|handle| handle.advance_to(end));
        if part.save && index == 0 {
            told.advance_to(end - 1);
            told.send(Told::Save);
        }
        told.advance_to(end);
        while probe.less_than(&end) || part.save && index == 0 && !saved.get() {
            worker.step_or_park(Some(TURN));
        }
    })
    .unwrap()
    .join()
    .into_iter()
    .for_each(|result| result.unwrap());
    let mut changes: BTreeMap<Time, Bag> = BTreeMap::new();
    for (time, row, diff) in receive {
        *changes.entry(time).or_default().entry(row).or_default() += diff;
    }
    let saved: Vec<_> = collected.into_iter().collect();
    assert!(saved.iter().all(|(time, _)| *time == end - 1) && saved.len() == usize::from(part_saves));
    (changes, saved.into_iter().flat_map(|(_, pieces)| pieces).collect())
}

/// As [`run`], but the state is saved on the way, and as many workers as are given go on from it; what was there
/// comes `again`, or does not.
pub fn run_saved(
    (before, after): (usize, usize),
    widths: &[usize],
    steps: &[Step],
    end: Time,
    build: &Arc<Build>,
    again: bool,
) -> BTreeMap<Time, Bag> {
    let cut = steps[steps.len() / 2].0;
    let (past, to_come): (Vec<_>, Vec<_>) = steps.iter().cloned().partition(|step| step.0 < cut);
    let save = Part { save: true, ..Part::default() };
    let (mut first, saved) = run_part(before, widths, &past, cut, Arc::clone(build), save);
    let restored = Part { restored: saved, save: false };
    let (second, _) = run_part(after, widths, &to_come, end, Arc::clone(build), restored);
    first.retain(|time, _| *time < cut);
    let mut held = Bag::new();
    for (row, diff) in first.values().flatten().filter(|_| again) {
        *held.entry(row.clone()).or_default() -= diff;
    }
    // What is restored comes before anything else: by then it takes the place of what was there.
    let (restored, rest): (Vec<_>, Vec<_>) = second.into_iter().partition(|(time, _)| *time < cut);
    for (row, diff) in restored.into_iter().flat_map(|(_, bag)| bag) {
        *held.entry(row).or_default() += diff;
    }
    held.retain(|_, diff| *diff != 0);
    assert!(held.is_empty(), "what is restored is not what was there: {held:?}");
    first.extend(rest);
    first
}

/// All columns as integers: floats in thousandths, decimals by their digits, texts by their length.
fn values(rows: &RecordBatch) -> Vec<Row> {
    let column = |column: &ArrayRef| -> Int64Array {
        match column.data_type() {
            DataType::Float64 => {
                let floats = column.as_primitive::<arrow::datatypes::Float64Type>();
                floats.iter().map(|v| v.map(|v| (v * 1000.0).round() as i64)).collect()
            }
            DataType::Decimal128(..) => {
                let digits = column.as_primitive::<arrow::datatypes::Decimal128Type>();
                digits.iter().map(|v| v.map(|v| v as i64)).collect()
            }
            DataType::Utf8 => column.as_string::<i32>().iter().map(|v| v.map(|v| v.len() as i64)).collect(),
            _ => cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().clone(),
        }
    };
    let columns: Vec<Int64Array> = rows.columns().iter().map(column).collect();
    (0..rows.num_rows()).map(|row| columns.iter().map(|c| c.is_valid(row).then(|| c.value(row))).collect()).collect()
}

/// The rows of an input, each as often as it is there, as of a time.
fn as_of(steps: &[Step], input: usize, time: Time) -> Vec<Row> {
    let mut bag = Bag::new();
    for (at, of, changes) in steps {
        if *at <= time && *of == input {
            changes.iter().for_each(|(row, diff)| *bag.entry(row.clone()).or_default() += diff);
        }
    }
    bag.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count as usize)).collect()
}

pub fn bag(rows: impl IntoIterator<Item = Row>) -> Bag {
    let mut bag = Bag::new();
    rows.into_iter().for_each(|row| *bag.entry(row).or_default() += 1);
    bag
}

/// Scripts an operator.
pub const SEEDS: u64 = 10;
/// How long a worker without work waits for the others.
const TURN: std::time::Duration = std::time::Duration::from_millis(1);

/// Compares an operator with `expected`, of the rows of each input at a time.
pub fn check(widths: &[usize], appended: bool, build: Arc<Build>, expected: impl Fn(&[Vec<Row>], Time) -> Bag) {
    compare(widths, appended, false, build, expected);
}

/// The same of an operator whose state is saved, on one number of workers, and restored on another.
pub fn check_saved(widths: &[usize], appended: bool, build: Arc<Build>, expected: impl Fn(&[Vec<Row>], Time) -> Bag) {
    compare(widths, appended, false, Arc::clone(&build), &expected);
    compare(widths, appended, true, build, expected);
}

fn compare(
    widths: &[usize],
    appended: bool,
    saved: bool,
    build: Arc<Build>,
    expected: impl Fn(&[Vec<Row>], Time) -> Bag,
) {
    for seed in 0..SEEDS {
        let steps = script(&mut Random(seed), widths, appended);
        let end = steps.iter().map(|step| step.0).max().unwrap_or_default() + 20;
        for workers in [1, 3] {
            let changes = match saved {
                true => run_saved((workers, 4 - workers), widths, &steps, end, &build, true),
                false => run(workers, widths, &steps, end, Arc::clone(&build)),
            };
            let mut held = Bag::new();
            for time in 0..end {
                for (row, diff) in changes.get(&time).into_iter().flatten() {
                    *held.entry(row.clone()).or_default() += diff;
                }
                held.retain(|_, count| *count != 0);
                let inputs: Vec<Vec<Row>> = (0..widths.len()).map(|input| as_of(&steps, input, time)).collect();
                let expected = expected(&inputs, time);
                assert!(
                    held == expected,
                    "seed {seed}, {workers} workers, time {time}: {held:?} is not {expected:?} of {inputs:?}"
                );
            }
        }
    }
}
