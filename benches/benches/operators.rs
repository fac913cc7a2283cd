//! `cargo bench -p velib-benches`: what an operator does with an hour of a feed, on one worker.
//!
//! Sixty snapshots of 1,500 stations, all at one timestamp (`replay`) or each at its own (`live`); the dataflow is
//! built, fed and closed in every round. Items are rows that enter.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use divan::Bencher;
use divan::counter::ItemsCount;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Probe};
use velib_operators::accumulate::{Accumulator, Function, Grouping, Regression, accumulate};
use velib_operators::join::{Kind, On, Side, join};
use velib_operators::previous::{self, previous};
use velib_operators::temporal::temporal;
use velib_operators::{Errors, Keep, RowCodec, Rows, Steps, Time, Updates};

const STATIONS: usize = 1_500;
const SNAPSHOTS: usize = 60;
const MINUTE: i64 = 60_000;

fn main() {
    divan::main();
}

/// Whether an hour is one timestamp or sixty.
const MODES: [&str; 2] = ["replay", "live"];

const KIND: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// `station_id, hour, observed_at, bikes, rate, until`.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("station_id", DataType::Utf8, true),
        Field::new("hour", KIND, true),
        Field::new("observed_at", KIND, true),
        Field::new("bikes", DataType::Int64, true),
        Field::new("rate", DataType::Float64, true),
        Field::new("until", KIND, true),
    ]))
}

fn snapshot(minute: usize) -> RecordBatch {
    let at = minute as i64 * MINUTE;
    let stations = || 0..STATIONS;
    let bikes = |station: usize| ((station * 7 + minute / (1 + station % 4)) % 31) as i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(stations().map(|station| (213_688_169 + station).to_string()))),
        Arc::new(TimestampMillisecondArray::from_value(at - at % (60 * MINUTE), STATIONS)),
        Arc::new(TimestampMillisecondArray::from_value(at, STATIONS)),
        Arc::new(Int64Array::from_iter_values(stations().map(bikes))),
        Arc::new(Float64Array::from_iter_values(stations().map(|station| bikes(station) as f64 / 31.0))),
        Arc::new(TimestampMillisecondArray::from_value(at + 15 * MINUTE, STATIONS)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The hour, as it enters.
fn hour(mode: &str) -> Vec<Updates> {
    let last = (SNAPSHOTS as i64 * MINUTE) as Time;
    let time = |minute: usize| if mode == "live" { (minute as i64 * MINUTE) as Time } else { last };
    (0..SNAPSHOTS).map(|minute| Updates::insert(time(minute), snapshot(minute))).collect()
}

/// Runs an operator over the hour.
fn run(bencher: Bencher<'_, '_>, mode: &str, build: for<'scope> fn(Rows<'scope>) -> Rows<'scope>) {
    let input = hour(mode);
    bencher.counter(ItemsCount::new(STATIONS * SNAPSHOTS)).bench(|| {
        let input = input.clone();
        timely::execute_directly(move |worker| {
            let mut rows: InputHandle<Time, CapacityContainerBuilder<Vec<Updates>>> = InputHandle::new();
            let probe = worker.dataflow::<Time, _, _>(|scope| build(scope.input_from(&mut rows)).probe().0);
            for updates in input {
                let time = updates.time;
                rows.advance_to(time);
                rows.send(updates);
                rows.flush();
                worker.step_while(|| probe.less_than(&time));
            }
        });
    });
}

fn grouped<'scope>(rows: Rows<'scope>, aggregates: &[(Function, &[usize])]) -> Rows<'scope> {
    let aggregates = aggregates.iter().map(|(function, arguments)| Accumulator {
        function: *function,
        arguments: arguments.to_vec(),
        filter: None,
        output: if *function == Function::Count { DataType::Int64 } else { DataType::Float64 },
    });
    let aggregates: Vec<_> = aggregates.collect();
    let fields = [0, 1].map(|i| schema().field(i).clone());
    let results = aggregates.iter().map(|aggregate| Field::new("result", aggregate.output.clone(), true));
    let output = Arc::new(Schema::new(fields.into_iter().chain(results).collect::<Vec<_>>()));
    let grouping = Grouping { input: schema(), group: vec![0, 1], aggregates, global: false, expiry: None, output };
    accumulate(rows, "groups", grouping, &Steps::default(), Keep::nothing(), &mut Errors::default())
}

#[divan::bench(args = MODES)]
fn counts_and_means(bencher: Bencher<'_, '_>, mode: &str) {
    run(bencher, mode, |rows| grouped(rows, &[(Function::Count, &[]), (Function::Avg, &[3]), (Function::Avg, &[4])]));
}

#[divan::bench(args = MODES)]
fn regression(bencher: Bencher<'_, '_>, mode: &str) {
    run(bencher, mode, |rows| grouped(rows, &[(Function::Regression(Regression::Slope), &[4, 3])]));
}

#[divan::bench(args = MODES)]
fn lag(bencher: Bencher<'_, '_>, mode: &str) {
    run(bencher, mode, |rows| {
        let layout =
            previous::Layout { schema: schema(), columns: 6, partition: vec![0], order: 2, lags: vec![2, 3, 4] };
        let lags = [2, 3, 4].map(|i| schema().field(i).clone());
        let fields = schema().fields().iter().map(|f| f.as_ref().clone()).chain(lags).collect::<Vec<_>>();
        previous(rows, "lag", layout, Arc::new(Schema::new(fields)), Keep::nothing())
    });
}

#[divan::bench(args = MODES)]
fn quarter_of_an_hour(bencher: Bencher<'_, '_>, mode: &str) {
    run(bencher, mode, |rows| {
        let kept = Arc::new(schema().project(&[0, 1, 2, 3, 4]).unwrap());
        temporal(rows, "temporal", kept, None, Some(5), &Steps::default(), Keep::nothing())
    });
}

#[divan::bench(args = MODES)]
fn left_join_with_itself(bencher: Bencher<'_, '_>, mode: &str) {
    run(bencher, mode, |rows| {
        let fields = schema().fields().iter().chain(schema().fields()).cloned().collect::<Vec<_>>();
        let on = On { kind: Kind::Left, null_equal: false, residual: None, schema: Arc::new(Schema::new(fields)) };
        let side = || Side::by(rows.clone(), schema(), vec![0, 2]);
        join(&side(), &side(), "join", on, &mut Errors::default())
    });
}

#[divan::bench]
fn encode_and_decode(bencher: Bencher<'_, '_>) {
    let rows = snapshot(0);
    let codec = RowCodec::new(rows.schema().fields().iter().map(|field| field.data_type())).unwrap();
    bencher.counter(ItemsCount::new(STATIONS)).bench(|| {
        let encoded = codec.encode(rows.columns(), STATIONS).unwrap();
        codec.decode(&encoded).unwrap()
    });
}
