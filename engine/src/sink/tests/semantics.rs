//! What readers of the tables may rely on.

use super::*;
use crate::postgres::throwaway::Server;
use crate::sink::SinkError;

#[tokio::test]
async fn tables_say_what_they_are() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let mut odd = simple("odd \"name\"", &[0]);
    odd.indexes = vec![vec![1], vec![2, 1], vec![1]];
    odd.column_comments[1] = Some("how l'on compte".into());
    let nullable =
        view("nullable", vec![Field::new("k", DataType::Int64, true), Field::new("f", DataType::Float64, false)], &[0]);
    let job = job("Job \"1\"", vec![odd, nullable, simple("counted", &[])]);
    sink(&url, &job, 1).await.hydrate(&settled(&job, 10, vec![])).await.unwrap();
    let sql = "SELECT indexname FROM pg_indexes WHERE schemaname = 'Job \"1\"'";
    assert_eq!(
        table(&client, sql).await,
        [
            "(\"odd \"\"name\"\"_pkey\")",
            "(\"odd \"\"name\"\"_s_v_idx\")",
            "(\"odd \"\"name\"\"_v_idx\")",
            "(counted_pkey)",
            "(nullable_k_idx)",
            "(nullable_pkey)"
        ]
    );
    let uncommented = "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
        WHERE relkind = 'r' AND attnum > 0 AND relnamespace = '\"Job \"\"1\"\"\"'::regnamespace
          AND col_description(c.oid, attnum) IS NOT NULL";
    assert_eq!(
        table(&client, uncommented).await,
        ["(\"odd \"\"name\"\"\",v)", "(counted,velib_multiplicity)", "(counted,velib_row)", "(nullable,velib_row)"]
    );
    client.batch_execute("SET ROLE velib_reader").await.unwrap();
    assert!(table(&client, "SELECT * FROM \"Job \"\"1\"\"\".counted").await.is_empty());
    assert!(client.execute("DELETE FROM \"Job \"\"1\"\"\".counted", &[]).await.is_err());
}

#[tokio::test]
async fn rows_come_change_and_go_in_one_transaction_with_the_frontier() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("steps", vec![simple("keyed", &[0]), simple("counted", &[])]);
    let mut sink = sink(&url, &job, 7).await;
    let same = |changes: &[(i64, Option<i64>, Option<&str>, i64)]| vec![rows(0, changes), rows(1, changes)];
    sink.hydrate(&settled(&job, 100, same(&[(1, Some(1), None, 1), (2, None, Some("b"), 1)]))).await.unwrap();
    let step =
        same(&[(1, Some(1), None, -1), (1, Some(5), Some("e"), 1), (2, None, Some("b"), -1), (3, None, None, 1)]);
    let done = sink.commit(&settled(&job, 200, step)).await.unwrap();
    assert_eq!((done.rows, done.missing), (3 + 4, 0));
    let expected = ["(1,5,e)", "(3,,)"];
    assert_eq!(table(&client, "SELECT k, v, s FROM steps.keyed").await, expected);
    assert_eq!(table(&client, "SELECT k, v, s FROM steps.counted").await, expected);

    sink.commit(&settled(&job, 300, vec![rows(1, &[(3, None, None, 4), (1, Some(5), Some("e"), -1)])])).await.unwrap();
    sink.commit(&settled(&job, 400, vec![rows(1, &[(3, None, None, -2)])])).await.unwrap();
    assert_eq!(table(&client, "SELECT k, velib_multiplicity FROM steps.counted").await, ["(3,3)"]);
    let frontier = Store::open(&url).await.unwrap().frontier("steps").await.unwrap().unwrap();
    assert_eq!((frontier.generation, frontier.upper, frontier.as_of.timestamp_millis()), (7, 400, 399));

    client.batch_execute("DELETE FROM steps.keyed WHERE k = 3").await.unwrap();
    let done = sink.commit(&settled(&job, 500, vec![rows(0, &[(3, None, None, -1)])])).await.unwrap();
    assert_eq!((done.rows, done.missing), (0, 1), "somebody else wrote, and that is told");
}

#[tokio::test]
async fn a_key_that_is_not_one_is_named() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("keys", vec![simple("a", &[0])]);
    let mut sink = sink(&url, &job, 1).await;
    let twice = [(7, Some(1), None, 1), (7, Some(2), None, 1)];
    let violated = |error: &SinkError| matches!(error, SinkError::KeyViolated { .. }) && !error.is_retriable();
    let error = sink.hydrate(&settled(&job, 10, vec![rows(0, &twice)])).await.unwrap_err();
    assert!(violated(&error) && error.to_string().contains("several rows have k = 7"), "{error}");
    sink.hydrate(&settled(&job, 10, vec![rows(0, &twice[..1])])).await.unwrap();
    let error = sink.commit(&settled(&job, 20, vec![rows(0, &[(8, None, None, 2)])])).await.unwrap_err();
    assert!(violated(&error) && error.to_string().contains("k = 8"), "{error}");
    // One row now, the other one long ago: only the table knows.
    let error = sink.commit(&settled(&job, 20, vec![rows(0, &twice[1..])])).await.unwrap_err();
    assert!(violated(&error) && error.to_string().contains("(k)=(7)"), "{error}");
    assert_eq!(table(&client, "SELECT k, v FROM keys.a").await, ["(7,1)"]);
    sink.commit(&settled(&job, 30, vec![rows(0, &[(9, None, None, 1)])])).await.unwrap();
}

#[tokio::test]
async fn nulls_and_floats_in_a_key_find_their_rows() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let fields = vec![Field::new("area", DataType::Utf8, true), Field::new("n", DataType::Int64, false)];
    let job = job("nulls", vec![view("areas", fields, &[0])]);
    let batch = |rows: &[(Option<&str>, i64, i64)]| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        ];
        let rows_ = RecordBatch::try_new(job.views[0].schema.clone(), columns).unwrap();
        vec![Changes { view: 0, rows: rows_, diffs: rows.iter().map(|row| Some(row.2)).collect() }]
    };
    let mut sink = sink(&url, &job, 1).await;
    sink.hydrate(&settled(&job, 10, batch(&[(None, 1, 1), (Some("a"), 2, 1)]))).await.unwrap();
    sink.commit(&settled(&job, 20, batch(&[(None, 1, -1), (None, 5, 1)]))).await.unwrap();
    assert_eq!(table(&client, "SELECT area, n FROM nulls.areas").await, ["(,5)", "(a,2)"]);
    let again = sink.hydrate(&settled(&job, 30, batch(&[(None, 5, 1)]))).await.unwrap();
    assert_eq!(again.rows, 1);
    sink.commit(&settled(&job, 40, batch(&[(None, 5, -1)]))).await.unwrap();
    assert!(table(&client, "SELECT * FROM nulls.areas").await.is_empty());
}

#[tokio::test]
async fn rows_that_only_leave_memory_stay_in_the_table() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("history", vec![retained("hours", 1_000)]);
    let mut first = sink(&url, &job, 1).await;
    first.hydrate(&settled(&job, 5_000, vec![times(0, &[(4_100, 1, 1), (4_500, 2, 1), (4_900, 3, 1)])])).await.unwrap();
    // 4_100 is older than 5_600 - 1_000 and has left memory; 4_900 is not, and is gone.
    first.commit(&settled(&job, 5_600, vec![times(0, &[(4_100, 1, -1), (4_900, 3, -1)])])).await.unwrap();
    assert_eq!(table(&client, "SELECT v FROM history.hours").await, ["(1)", "(2)"]);
    // A late row brings the group of 4_100 back.
    first.commit(&settled(&job, 5_700, vec![times(0, &[(4_100, 9, 1)])])).await.unwrap();
    assert_eq!(table(&client, "SELECT v FROM history.hours").await, ["(2)", "(9)"]);
    // The next incarnation holds only what is younger than 8_000 - 1_000.
    let mut second = sink(&url, &job, 2).await;
    second.hydrate(&settled(&job, 8_000, vec![times(0, &[(7_900, 4, 1)])])).await.unwrap();
    assert_eq!(table(&client, "SELECT v FROM history.hours").await, ["(2)", "(4)", "(9)"]);

    // A further column: the old rows have nothing in it.
    let mut wider = retained("hours", 1_000);
    let mut fields: Vec<Field> = wider.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("w", DataType::Int64, true));
    wider.schema = Arc::new(Schema::new(fields));
    wider.column_comments.push(None);
    let job = super::job("history", vec![wider]);
    let mut third = sink(&url, &job, 3).await;
    third.hydrate(&settled(&job, 8_000, vec![])).await.unwrap();
    assert_eq!(table(&client, "SELECT v, w FROM history.hours").await, ["(2,)", "(9,)"]);
}

#[test]
fn what_waits_is_bounded_by_the_view_and_keeps_what_left_memory() {
    let job = job("waiting", vec![simple("a", &[0]), retained("b", 1_000)]);
    let mut merge = Merge::new(job.clone());
    merge.add(closed(1_000, vec![rows(0, &[(1, Some(0), None, 1)]), times(1, &[(900, 1, 1)])])).unwrap();
    for i in 0..30_000_i64 {
        merge
            .add(closed(1_001 + i as u64, vec![rows(0, &[(1, Some(i), None, -1), (1, Some(i + 1), None, 1)])]))
            .unwrap();
        assert!(merge.rows() < 10_000);
    }
    // The group leaves memory, comes back with another row, and leaves again.
    merge.add(closed(40_000, vec![times(1, &[(900, 1, -1)])])).unwrap();
    merge.add(closed(40_001, vec![times(1, &[(900, 2, 1)])])).unwrap();
    merge.add(closed(40_002, vec![times(1, &[(900, 2, -1)])])).unwrap();
    let settled = merge.take().unwrap().unwrap();
    assert_eq!((settled.horizon, settled.closed.upper, settled.closed.as_of), (1_000, 40_002, 40_001));
    let [a, b] = &settled.closed.changes[..] else { panic!() };
    assert_eq!((&a.rows, &a.diffs), (&rows(0, &[(1, Some(30_000), None, 1)]).rows, &Int64Array::from(vec![1])));
    assert_eq!((&b.rows, &b.diffs), (&times(1, &[(900, 2, 1)]).rows, &Int64Array::from(vec![1])));
}

#[tokio::test]
async fn a_changed_definition_moves_its_table_and_nothing_else() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let old = job("defs", vec![simple("a", &[0]), simple("gone", &[0])]);
    sink(&url, &old, 1).await.hydrate(&settled(&old, 10, vec![rows(0, &[(1, Some(1), None, 1)])])).await.unwrap();
    client.batch_execute("CREATE TABLE defs.theirs (x int); CREATE INDEX theirs_on_a ON defs.a (v)").await.unwrap();

    // An index more: the table stays, with the indexes of others.
    let oid = "SELECT 'defs.a'::regclass::oid";
    let before = table(&client, oid).await;
    let mut indexed = simple("a", &[0]);
    indexed.indexes = vec![vec![2]];
    let new = job("defs", vec![indexed]);
    sink(&url, &new, 2).await.hydrate(&settled(&new, 10, vec![rows(0, &[(1, Some(1), None, 1)])])).await.unwrap();
    assert_eq!(table(&client, oid).await, before);
    let names = "SELECT indexname FROM pg_indexes WHERE schemaname = 'defs'";
    assert_eq!(table(&client, names).await, ["(a_pkey)", "(a_s_idx)", "(theirs_on_a)"]);
    assert_eq!(table(&client, "SELECT view FROM velib.views").await, ["(a)"]);

    // Another key: a new table under the old name.
    let mut rekeyed = simple("a", &[]);
    rekeyed.indexes = vec![vec![2]];
    let new = job("defs", vec![rekeyed]);
    sink(&url, &new, 3).await.hydrate(&settled(&new, 20, vec![rows(0, &[(1, Some(1), None, 2)])])).await.unwrap();
    assert_eq!(table(&client, "SELECT k, velib_multiplicity FROM defs.a").await, ["(1,2)"]);
    assert_eq!(table(&client, names).await, ["(a_pkey)", "(a_s_idx)"]);

    let taken = job("defs", vec![simple("theirs", &[0])]);
    let error = sink(&url, &taken, 4).await.hydrate(&settled(&taken, 30, vec![])).await.unwrap_err();
    assert!(matches!(error, SinkError::Occupied { .. }), "{error}");
    assert_eq!(table(&client, "SELECT k FROM defs.a").await, ["(1)"], "nothing happened");

    let store = Store::open(&url).await.unwrap();
    store.drop_job("defs").await.unwrap();
    assert_eq!(table(&client, "SELECT tablename FROM pg_tables WHERE schemaname = 'defs'").await, ["(theirs)"]);
}

/// Writes 150 steps, each thirtieth as a new incarnation, whose definition differs in an index, or in a key
/// so that a table is swapped. The sum over both tables is the same at all times.
async fn write(url: String, swap: bool) {
    let job = job("torn", vec![simple("a", &[0]), simple("b", &[])]);
    let mut writer = sink(&url, &job, 1).await;
    for i in 1..150_i64 {
        if i % 30 == 0 {
            let key: &[usize] = if swap && i % 60 == 0 { &[0] } else { &[] };
            let views = vec![View { indexes: vec![vec![1 + i as usize % 2]], ..simple("a", &[0]) }, simple("b", key)];
            let job = super::job("torn", views);
            writer = sink(&url, &job, 1 + i as u64).await;
        }
        if i == 1 || i % 30 == 0 {
            let full = vec![rows(0, &[(1, Some(1_000 - i), None, 1)]), rows(1, &[(1, Some(i), None, 1)])];
            writer.hydrate(&settled(&job, i as u64, full)).await.unwrap();
        } else {
            let a = rows(0, &[(1, Some(1_001 - i), None, -1), (1, Some(1_000 - i), None, 1)]);
            let b = rows(1, &[(1, Some(i - 1), None, -1), (1, Some(i), None, 1)]);
            writer.commit(&settled(&job, i as u64, vec![a, b])).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_see_one_state_while_tables_are_swapped() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let writing = tokio::spawn(write(url, true));
    let mut states = std::collections::BTreeSet::new();
    while !writing.is_finished() {
        let sql = "SELECT a.v, b.v, upper FROM torn.a, torn.b, velib.frontier";
        // Before the first hydration there is no table.
        let Ok(row) = client.query_one(sql, &[]).await else {
            assert!(states.is_empty());
            continue;
        };
        let (a, b, upper): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((a + b, upper), (1_000, b));
        states.insert(b);
    }
    writing.await.unwrap();
    assert!(states.len() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_see_one_state() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let writing = tokio::spawn(write(url, false));
    let mut states = std::collections::BTreeSet::new();
    while !writing.is_finished() {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.unwrap();
        let upper = client.query_opt("SELECT upper FROM velib.frontier", &[]).await.unwrap();
        if let Some(upper) = upper.map(|row| row.get::<_, i64>(0)) {
            let a: i64 = client.query_one("SELECT v FROM torn.a", &[]).await.unwrap().get(0);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let b: i64 = client.query_one("SELECT v FROM torn.b", &[]).await.unwrap().get(0);
            assert_eq!((a + b, upper), (1_000, b));
            states.insert(b);
        }
        client.batch_execute("COMMIT").await.unwrap();
    }
    writing.await.unwrap();
    assert!(states.len() > 1);
}
