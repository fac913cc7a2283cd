//! Transfers between accounts: whatever is taken from one is given to another, so that the sum of all balances is zero
//! at every timestamp that comes out, at full speed and on several workers. A view that showed half a transfer, or one
//! transfer and not the next of the same time, would show another sum.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use velib_engine::cluster::generation::Generation;
use velib_engine::command::Spec;
use velib_engine::source::{Relation, Resolved};
use velib_engine::sql::{self, Binding};
use velib_operators::output::Closed;
use velib_operators::{Time, Updates};

const ACCOUNTS: u64 = 50;
const TIMES: Time = 1_500;
const TRANSFERS: u64 = 20;

const JOB: &str = "
CREATE VIEW moves AS
SELECT receiver AS account, amount FROM transfers UNION ALL SELECT sender, -amount FROM transfers;
CREATE MATERIALIZED VIEW balances AS SELECT account, sum(amount) AS balance FROM moves GROUP BY account;
CREATE MATERIALIZED VIEW total AS SELECT sum(balance) AS total FROM balances;
CREATE MATERIALIZED VIEW again AS
SELECT sum(b.balance) AS total, count(DISTINCT m.account) AS n
FROM balances b JOIN (SELECT DISTINCT account FROM moves) m ON m.account = b.account;
CREATE MATERIALIZED VIEW halves AS
SELECT sum(balance) FILTER (WHERE balance > 0) AS plus, sum(balance) FILTER (WHERE balance <= 0) AS minus FROM balances;
";

/// What the views hold, by view and by row.
#[derive(Default)]
struct Held {
    rows: BTreeMap<(usize, Vec<Option<i64>>), i64>,
    timestamps: u64,
    wrong: Vec<String>,
}

impl Held {
    fn take_in(&mut self, closed: Closed) {
        for (view, rows, diffs) in &closed.changes {
            let columns: Vec<&Int64Array> = rows.columns().iter().map(|c| c.as_primitive::<Int64Type>()).collect();
            for (at, diff) in diffs.values().iter().enumerate() {
                let row = columns.iter().map(|c| (!arrow::array::Array::is_null(c, at)).then(|| c.value(at))).collect();
                *self.rows.entry((*view, row)).or_default() += diff;
            }
        }
        self.rows.retain(|_, count| *count != 0);
        if closed.changes.is_empty() {
            return;
        }
        self.timestamps += 1;
        let of = |view: usize| self.rows.iter().filter(move |((of, _), _)| *of == view);
        let sum: i64 = of(0).map(|((_, row), count)| row[1].unwrap_or(0) * count).sum();
        let totals: BTreeSet<i64> = of(1).chain(of(2)).filter_map(|((_, row), _)| row[0]).collect();
        let halves: i64 = of(3).map(|((_, row), _)| row[0].unwrap_or(0) + row[1].unwrap_or(0)).sum();
        let single = (1..4).all(|view| of(view).map(|(_, count)| *count).sum::<i64>() == 1);
        if sum != 0 || totals.iter().any(|total| *total != 0) || halves != 0 || !single || !closed.errors.is_empty() {
            self.wrong.push(format!("below {}: sum {sum}, totals {totals:?}, halves {halves}, {single}", closed.upper));
        }
    }
}

/// Transfers of one time: some new, some of before taken back.
fn updates(time: Time, random: &mut u64, before: &mut Vec<[i64; 3]>, schema: &Arc<Schema>) -> Updates {
    let mut next = |below: u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % below
    };
    let mut changes: Vec<([i64; 3], i64)> = vec![];
    for _ in 0..TRANSFERS {
        if next(3) == 0 && !before.is_empty() {
            let at = next(before.len() as u64) as usize;
            changes.push((before.swap_remove(at), -1));
        } else {
            let transfer = [next(ACCOUNTS) as i64, next(ACCOUNTS) as i64, next(1_000) as i64 - 200];
            before.push(transfer);
            changes.push((transfer, 1));
        }
    }
    let column = |of: usize| Arc::new(changes.iter().map(|(row, _)| row[of]).collect::<Int64Array>()) as _;
    let rows = RecordBatch::try_new(schema.clone(), (0..3).map(column).collect()).unwrap();
    Updates::new(time, rows, changes.iter().map(|(_, diff)| *diff).collect())
}

async fn run(workers: usize) {
    let fields = ["sender", "receiver", "amount"].map(|name| Field::new(name, DataType::Int64, false));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let (name, appended, time_column) = (String::new(), false, None);
    let relation = Relation { name, schema: schema.clone(), key: vec![], appended, time_column };
    let resolved = Resolved { relations: vec![relation], zones: None };
    let binding = Binding { resolved: BTreeMap::from([("transfers".to_owned(), resolved)]), ..Binding::default() };
    let job = Arc::new(sql::bind_job("bank", &sql::parse(JOB, &BTreeMap::new()).unwrap(), &binding).unwrap());
    let generation = Generation::local(workers).unwrap();
    let held = Arc::new(Mutex::new(Held::default()));
    let (ended, mut done) = tokio::sync::mpsc::unbounded_channel();
    let filling = Arc::clone(&held);
    let output = Box::new(move |closed: Closed| {
        let upper = closed.upper;
        filling.lock().unwrap().take_in(closed);
        if upper > TIMES {
            let _ = ended.send(());
        }
    });
    let spec = Spec { name: "bank".to_owned(), ..Spec::default() };
    let id = generation.install(job, spec, output, None).await.unwrap();
    let (mut random, mut before) = (workers as u64 * 7_919, vec![]);
    for time in 1..=TIMES {
        let updates = updates(time, &mut random, &mut before, &schema);
        generation.feed(id, 0, updates).await.unwrap();
        // Often several timestamps close at once.
        if random % 3 == 0 || time == TIMES {
            generation.advance(id, time + 1).await.unwrap();
        }
    }
    done.recv().await.unwrap();
    generation.stop().await.unwrap();
    generation.ended().await;
    let held = held.lock().unwrap();
    assert_eq!(held.wrong, Vec::<String>::new(), "on {workers} workers");
    assert!(held.timestamps > 10, "{} timestamps came out", held.timestamps);
    assert_eq!(held.rows.keys().filter(|(view, _)| *view == 0).count() as u64, ACCOUNTS);
    println!("{workers} workers: zero at each of {} timestamps that came out", held.timestamps);
}

#[test]
fn balances_sum_to_zero_at_every_timestamp() {
    for workers in [1, 2, 4] {
        tokio::runtime::Runtime::new().unwrap().block_on(run(workers));
    }
}
