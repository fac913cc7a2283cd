//! Generations of two processes, over sockets that are cut while much is exchanged. Whatever the threads are at, each
//! process's part ends by itself with its reason, and no worker panics: a panic that meets another ends the process.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use tokio::sync::Mutex;
use velib_engine::cluster::generation::Generation;
use velib_engine::cluster::wire::Wire;
use velib_engine::command::Spec;
use velib_engine::plan::Job;
use velib_engine::source::{Relation, Resolved};
use velib_engine::sql::{self, Binding};
use velib_operators::{Time, Updates};

const WORKERS: usize = 2;
const ROWS: i64 = 2_000;
const ROUNDS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(20);

/// Every row goes to another worker, twice.
const JOB: &str = "
CREATE MATERIALIZED VIEW pairs AS
SELECT a.key, sum(a.value + b.value) AS sum FROM rows a JOIN rows b ON a.key = b.value GROUP BY a.key;
";

static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Panics of all workers are counted: one test at a time.
static ONE: Mutex<()> = Mutex::const_new(());

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            match thread.name() {
                Some(name) if name.starts_with("timely:work-") => {
                    PANICS.fetch_add(1, Ordering::SeqCst);
                    before(info);
                }
                // Nobody depends on them any more.
                Some(name) if name.starts_with("timely:") || name == "generation" => {}
                _ => before(info),
            }
        }));
    });
    PANICS.store(0, Ordering::SeqCst);
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(["key", "value"].map(|name| Field::new(name, DataType::Int64, false)).to_vec()))
}

fn job() -> Job {
    let (name, appended, time_column) = (String::new(), false, None);
    let relation = Relation { name, schema: schema(), key: vec![], appended, time_column };
    let resolved = Resolved { relations: vec![relation], zones: None };
    let binding = Binding { resolved: BTreeMap::from([("rows".to_owned(), resolved)]), ..Binding::default() };
    sql::bind_job("pairs", &sql::parse(JOB, &BTreeMap::new()).unwrap(), &binding).unwrap()
}

fn updates(time: Time) -> Updates {
    let column = |factor: i64| {
        let values = (0..ROWS).map(|row| (row * factor + time as i64) % 1_000);
        Arc::new(values.collect::<Int64Array>()) as _
    };
    let rows = RecordBatch::try_new(schema(), vec![column(7), column(11)]).unwrap();
    Updates::new(time, rows, vec![1; ROWS as usize].into())
}

/// Both processes of a generation, and one end of the connection between them.
fn pair(second_knows_the_job: bool) -> ([Arc<Generation>; 2], TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    let cut = one.try_clone().unwrap();
    let bind =
        move |known: bool| Box::new(move |_: &Spec| if known { Ok(job()) } else { Err("nobody knows it".to_string()) });
    let first = Generation::start(vec![None, Some(Wire::plain(one))], 0, WORKERS, bind(true)).unwrap();
    let second =
        Generation::start(vec![Some(Wire::plain(other)), None], 1, WORKERS, bind(second_knows_the_job)).unwrap();
    ([Arc::new(first), Arc::new(second)], cut)
}

async fn ended(generation: &Generation) -> String {
    tokio::time::timeout(PATIENCE, generation.ended()).await.expect("a generation that ends")
}

/// Feeds rows of so many times as fast as they go in, until the generation is over.
async fn feed(generation: Arc<Generation>, times: Time) -> Time {
    let spec = Spec { name: "pairs".to_owned(), ..Spec::default() };
    let Ok(id) = generation.install(Arc::new(job()), spec, Box::new(drop), None).await else { return 0 };
    for time in 1..=times {
        let fed = generation.feed(id, 0, updates(time)).await;
        if fed.is_err() || generation.advance(id, time + 1).await.is_err() {
            return time;
        }
    }
    generation.ended().await;
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_ends_both_parts_and_nothing_else() {
    let _one = ONE.lock().await;
    count_panics();
    let mut fed = 0;
    for round in 0..ROUNDS {
        let ([first, second], cut) = pair(true);
        let feeding = tokio::spawn(feed(Arc::clone(&first), Time::MAX));
        tokio::time::sleep(Duration::from_millis(round * 7 % 150)).await;
        cut.shutdown(if round % 2 == 0 { Shutdown::Both } else { Shutdown::Write }).unwrap();
        for (generation, peer) in [(&first, 1), (&second, 0)] {
            let reason = ended(generation).await;
            assert!(reason.starts_with(&format!("the connection to process {peer} has ended")), "{reason}");
        }
        fed += feeding.await.unwrap();
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    assert!(fed > ROUNDS, "{fed} times in {ROUNDS} rounds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_panics_ends_both_parts_and_nothing_else() {
    let _one = ONE.lock().await;
    count_panics();
    let ([first, second], _cut) = pair(false);
    let feeding = tokio::spawn(feed(Arc::clone(&first), Time::MAX));
    let reason = ended(&second).await;
    assert!(reason.contains("a worker panicked") && reason.contains("nobody knows it"), "{reason}");
    let reason = ended(&first).await;
    assert!(reason.starts_with("the connection to process 1 has ended"), "{reason}");
    assert!((1..=WORKERS).contains(&PANICS.load(Ordering::SeqCst)));
    feeding.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_told_to_stop_end_without_a_reason() {
    let _one = ONE.lock().await;
    count_panics();
    for _ in 0..10 {
        let ([first, second], _cut) = pair(true);
        // What has entered is computed before they end.
        let feeding = tokio::spawn(feed(Arc::clone(&first), 3));
        tokio::time::sleep(Duration::from_millis(30)).await;
        first.stop().await.unwrap();
        assert_eq!((ended(&first).await, ended(&second).await), (String::new(), String::new()));
        feeding.await.unwrap();
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
