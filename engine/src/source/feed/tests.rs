//! Sharing, joining late, leaving.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::*;
use crate::source::{Health, Resolved, SourceError, build_client, schema};

/// A source whose events the test sends.
#[derive(Debug)]
struct Scripted {
    bounded: bool,
    events: AsyncMutex<mpsc::Receiver<Event>>,
    started: AtomicUsize,
}

impl Source for Scripted {
    fn identity(&self) -> String {
        "scripted".to_owned()
    }

    fn bounded(&self) -> bool {
        self.bounded
    }

    fn resolve<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async { Ok(Resolved { relations: relations(), zones: None }) }.boxed()
    }

    fn run(self: Arc<Self>, _: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        async move {
            self.started.fetch_add(1, Ordering::SeqCst);
            let mut events = self.events.lock().await;
            while let Some(event) = events.recv().await {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

fn relations() -> Vec<Relation> {
    let relation = |appended| Relation {
        name: String::new(),
        schema: schema(vec![Field::new("n", DataType::Int64, false)]),
        key: vec![],
        appended,
        time_column: None,
    };
    vec![relation(false), relation(false), relation(true)]
}

fn context() -> Context {
    Context { http: build_client().unwrap(), wall_clock_ms: Arc::new(|| 0), folder: ".".into() }
}

fn source(bounded: bool) -> (mpsc::Sender<Event>, Arc<Scripted>) {
    let (send, events) = mpsc::channel(1);
    (send, Arc::new(Scripted { bounded, events: AsyncMutex::new(events), started: AtomicUsize::new(0) }))
}

/// A snapshot whose tables hold one number each.
fn snapshot(time: Time, tables: [Option<i64>; 3]) -> Event {
    let table = |n: i64| RecordBatch::try_new(relations()[0].schema.clone(), vec![Arc::new(Int64Array::from(vec![n]))]);
    Event::Snapshot(Snapshot { time, tables: tables.map(|n| n.map(|n| table(n).unwrap())).into() })
}

async fn next(subscription: &mut Subscription) -> String {
    let event = timeout(Duration::from_secs(5), subscription.next()).await.expect("an event in time");
    match event.as_deref() {
        None => "end".to_owned(),
        Some(Event::Health(_)) => "health".to_owned(),
        Some(Event::Rejected(_)) => "rejected".to_owned(),
        Some(Event::Snapshot(Snapshot { time, tables })) => {
            let number = |table: &Option<RecordBatch>| match table {
                Some(table) => table.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0).to_string(),
                None => "-".to_owned(),
            };
            format!("{time}: {}", tables.iter().map(number).collect::<Vec<_>>().join(" "))
        }
    }
}

#[tokio::test]
async fn who_joins_late_gets_all_that_is_known() {
    let (send, source) = source(false);
    let feeds = Feeds::default();
    let mut first = feeds.subscribe(source.clone(), &relations(), context());
    send.send(snapshot(1, [Some(1), Some(2), Some(3)])).await.unwrap();
    send.send(snapshot(2, [None, Some(4), Some(5)])).await.unwrap();
    let health = Health { time: 2, took: Duration::ZERO, new: false, error: None, next_poll: 3 };
    send.send(Event::Health(health)).await.unwrap();
    for expected in ["1: 1 2 3", "2: - 4 5", "health"] {
        assert_eq!(next(&mut first).await, expected);
    }
    let mut second = feeds.subscribe(source.clone(), &relations(), context());
    assert_eq!(next(&mut second).await, "2: 1 4 5");
    send.send(snapshot(3, [Some(6), None, None])).await.unwrap();
    assert_eq!((next(&mut first).await, next(&mut second).await), ("3: 6 - -".to_owned(), "3: 6 - -".to_owned()));
    // Appended rows stay at their own time.
    let mut third = feeds.subscribe(source.clone(), &relations(), context());
    assert_eq!((next(&mut third).await, next(&mut third).await), ("2: - - 5".to_owned(), "3: 6 4 -".to_owned()));
    assert_eq!(source.started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_source_is_let_go_with_its_last_subscriber() {
    let (send, source) = source(false);
    let feeds = Feeds::default();
    let first = feeds.subscribe(source.clone(), &relations(), context());
    let mut second = feeds.subscribe(source.clone(), &relations(), context());
    drop(first);
    send.send(snapshot(1, [Some(1), None, None])).await.unwrap();
    assert_eq!(next(&mut second).await, "1: 1 - -");
    drop(second);
    timeout(Duration::from_secs(5), async {
        while !feeds.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the feed ends");
    let mut again = feeds.subscribe(source.clone(), &relations(), context());
    send.send(snapshot(2, [Some(2), None, None])).await.unwrap();
    assert_eq!(next(&mut again).await, "2: 2 - -", "and nothing is known of before");
    assert_eq!(source.started.load(Ordering::SeqCst), 2);
    drop(send);
    assert_eq!(next(&mut again).await, "end");
}

#[tokio::test]
async fn who_does_not_read_delays_and_loses_nothing() {
    let (send, source) = source(false);
    let feeds = Feeds::default();
    let mut slow = feeds.subscribe(source, &relations(), context());
    let mut sent = 0;
    while timeout(Duration::from_millis(100), send.send(snapshot(sent + 1, [Some(1), None, None]))).await.is_ok() {
        sent += 1;
    }
    assert!(sent <= QUEUE as Time + 4, "{sent} events wait");
    for time in 1..=sent {
        assert_eq!(next(&mut slow).await, format!("{time}: 1 - -"));
    }
}

#[tokio::test]
async fn each_reads_a_recording_of_its_own() {
    let (send, source) = source(true);
    let mut only = Feeds::default().subscribe(source, &relations(), context());
    send.send(snapshot(1, [Some(1), None, None])).await.unwrap();
    assert_eq!(next(&mut only).await, "1: 1 - -");
    drop(send);
    assert_eq!(next(&mut only).await, "end");
}
