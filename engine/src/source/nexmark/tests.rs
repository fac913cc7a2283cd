//! Counts, order, references, and that a seed determines all of it.

use std::collections::HashSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use velib_operators::Time;

use super::*;
use crate::source::build_client;

fn bind(options: &[(&str, &str)]) -> Result<Arc<dyn Source>, SourceError> {
    Nexmark.bind(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// The times of the snapshots, and each relation whole.
async fn read(options: &[(&str, &str)]) -> (Vec<Time>, Vec<RecordBatch>) {
    let source = bind(options).unwrap();
    let context = Context {
        http: build_client().unwrap(),
        wall_clock_ms: Arc::new(|| 0),
        folder: std::path::PathBuf::new(),
        shown: 0,
    };
    let relations = source.resolve(&context).await.unwrap().relations;
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context, out));
    let (mut times, mut tables) = (vec![], vec![vec![]; relations.len()]);
    while let Some(event) = events.recv().await {
        let Event::Snapshot(snapshot) = event else { panic!("nothing is refused: {event:?}") };
        for (rows, table) in tables.iter_mut().zip(snapshot.tables) {
            let table = table.into_iter();
            let of_time = table.inspect(|rows| assert!(moments(rows).all(|ms| ms <= snapshot.time)));
            rows.extend(of_time);
        }
        times.push(snapshot.time);
    }
    let whole = relations.iter().zip(&tables).map(|(relation, rows)| concat_batches(&relation.schema, rows).unwrap());
    (times, whole.collect())
}

fn integers<'a>(rows: &'a RecordBatch, name: &str) -> &'a [i64] {
    rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn moments(rows: &RecordBatch) -> impl Iterator<Item = Time> {
    let times = rows.column_by_name("date_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    times.values().iter().map(|us| (us / 1_000) as Time)
}

#[tokio::test]
async fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
    let (times, tables) = read(&[("events", "25007")]).await;
    let counts: Vec<usize> = tables.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(counts, [501, 1_503, 23_003]);
    let begin = 1_436_918_400_000;
    assert_eq!(times, [begin + 999, begin + 1_999, begin + 2_500], "10,000 a second, a snapshot each");
    for table in &tables {
        assert!(moments(table).is_sorted());
    }
    for table in &tables[..2] {
        let ids = integers(table, "id");
        assert!(ids.iter().copied().eq(1_000..1_000 + ids.len() as i64), "from 1000 on, one by one");
    }
    let (times, slowly) = read(&[("events", "4"), ("rate", "2"), ("snapshot", "100 ms")]).await;
    assert_eq!(times, [begin, begin + 500, begin + 1_000, begin + 1_500], "steps without events are passed over");
    assert_eq!(slowly[2].num_rows(), 0);
}

#[tokio::test]
async fn a_seed_determines_the_events_however_they_are_cut() {
    let (_, one) = read(&[("events", "30000"), ("seed", "7")]).await;
    let (times, again) = read(&[("events", "30000"), ("seed", "7"), ("snapshot", "250 ms")]).await;
    assert_eq!(times.len(), 12);
    assert_eq!(one, again);
    let (_, other) = read(&[("events", "30000"), ("seed", "8")]).await;
    for (one, other) in one.iter().zip(&other) {
        assert_ne!(one, other);
    }
}

#[tokio::test]
async fn references_are_to_what_is_there_or_comes_soon() {
    let (_, tables) = read(&[("events", "100000")]).await;
    let [people, auctions, bids] = &tables[..] else { panic!("three relations") };
    let bidders = integers(bids, "bidder");
    for (row, auction) in integers(bids, "auction").iter().enumerate() {
        // Before this bid, so many cycles of fifty events were over, and the auctions of the one that runs are there.
        let cycle = row as i64 / 46;
        let (last_auction, last_person) = (1_000 + 3 * cycle + 2, 1_000 + cycle);
        assert!((last_auction - 199..=last_auction + 10).contains(auction), "bid {row}: auction {auction}");
        assert!((last_person - 1_099..=last_person + 10).contains(&bidders[row]), "bid {row}: bidder {}", bidders[row]);
    }
    let known: HashSet<i64> = integers(auctions, "id").iter().copied().collect();
    let lost = integers(bids, "auction").iter().filter(|id| !known.contains(id)).count();
    assert!(lost < 50, "only the last bids refer to auctions that never came: {lost}");
    let known: HashSet<i64> = integers(people, "id").iter().copied().collect();
    let lost = integers(auctions, "seller").iter().filter(|id| !known.contains(id)).count();
    assert!(lost < 50, "only the last auctions are by people who never came: {lost}");
    assert!(integers(auctions, "category").iter().all(|category| (10..15).contains(category)));
}

#[tokio::test]
async fn what_is_hot_and_how_large_is_as_it_should_be() {
    let (_, tables) = read(&[("events", "100000")]).await;
    let share = |rows: &RecordBatch, column: &str, hot: &dyn Fn(i64) -> bool| {
        let values = integers(rows, column);
        values.iter().filter(|value| hot(**value)).count() as f64 / values.len() as f64
    };
    // A few of the others are hot by chance.
    for (rows, column, first, expected) in
        [(&tables[2], "auction", 0, 0.5), (&tables[2], "bidder", 1, 0.75), (&tables[1], "seller", 0, 0.75)]
    {
        let found = share(rows, column, &|id| id % 100 == first);
        assert!((expected..expected + 0.02).contains(&found), "{column}: {found}");
    }
    let mean = |rows: &RecordBatch, texts: &[&str]| {
        let bytes = |name: &&str| rows.column_by_name(name).unwrap().as_string::<i32>().value_data().len();
        texts.iter().map(bytes).sum::<usize>() / rows.num_rows()
    };
    let person = mean(&tables[0], &["name", "email_address", "credit_card", "city", "state", "extra"]);
    let auction = mean(&tables[1], &["item_name", "description", "extra"]);
    assert!((188..=194).contains(&person) && (446..=456).contains(&auction), "{person} {auction}");
    assert!((66..=69).contains(&mean(&tables[2], &["extra"])));
    let (channels, urls) = (tables[2].column(3).as_string::<i32>(), tables[2].column(4).as_string::<i32>());
    let hot = channels.iter().flatten().filter(|channel| ["Apple", "Baidu", "Facebook", "Google"].contains(channel));
    assert!((0.49..0.51).contains(&(hot.count() as f64 / channels.iter().count() as f64)));
    let told = urls.iter().flatten().filter(|url| url.contains("&channel_id=")).count() as f64;
    assert!((0.44..0.46).contains(&(told / urls.iter().count() as f64)), "nine in ten of the other half");
}

#[test]
fn what_cannot_be_generated_is_refused() {
    for (options, why) in [
        (&[("event", "10")][..], "NEXMARK has no setting 'event'; its settings are events, seed"),
        (&[("events", "many")], "setting 'events' cannot be 'many': write a whole number from 1 to 1000000000000"),
        (&[("events", "0")], "from 1 to"),
        (&[("seed", "-1")], "from 0 to"),
        (&[("rate", "1.5")], "from 1 to"),
        (&[("hot_auction_ratio", "0")], "from 1 to"),
        (&[("snapshot", "2 h")], "write a time from 1ms to 3600s"),
        (&[("rate", "10000000"), ("snapshot", "1 s")], "cannot be '1 s': at 10000000 events a second it has more"),
    ] {
        let error = bind(options).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
