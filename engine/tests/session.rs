//! One-off questions: the same meaning of `now()` as maintained views, to the millisecond.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::pretty::pretty_format_batches;
use velib_engine::shell::Shell;
use velib_engine::sql::{self, Session};

const HOUR_MS: i64 = 3_600_000;

fn observations() -> RecordBatch {
    // At a whole millisecond, a microsecond before one, a microsecond after one.
    let times = [10 * HOUR_MS * 1000, 10 * HOUR_MS * 1000 - 1, 10 * HOUR_MS * 1000 + 1];
    let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec!["on", "before", "after"]))),
        ("at", Arc::new(times)),
        ("bikes", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

async fn ask(now_ms: i64, text: &str) -> String {
    let rows = observations();
    let tables = vec![("o", rows.schema(), vec![rows])];
    match sql::query(tables, &[], now_ms as u64, text).await {
        Err(error) => error.to_string(),
        Ok(answer) => {
            let cell = |b: &RecordBatch, r: usize| {
                (0..b.num_columns())
                    .map(|c| arrow::util::display::array_value_to_string(b.column(c), r).expect("a value prints"))
                    .collect::<Vec<_>>()
                    .join("|")
            };
            let rows = answer.iter().flat_map(|b| (0..b.num_rows()).map(move |r| cell(b, r)));
            rows.collect::<Vec<_>>().join(" ")
        }
    }
}

#[tokio::test]
async fn bounds_are_exact() {
    let at = 11 * HOUR_MS;
    let cases = [
        ("at > now() - INTERVAL '1 hour'", [(at - 1, "on before after"), (at, "after"), (at + 1, "")]),
        ("at >= now() - INTERVAL '1 hour'", [(at - 1, "on before after"), (at, "on after"), (at + 1, "")]),
        ("now() - at > INTERVAL '1 hour'", [(at - 1, ""), (at, "before"), (at + 1, "on before after")]),
        ("now() - INTERVAL '1 hour' >= at", [(at - 1, ""), (at, "on before"), (at + 1, "on before after")]),
        ("NOT at > now() - INTERVAL '1 hour'", [(at - 1, ""), (at, "on before"), (at + 1, "on before after")]),
        ("at + INTERVAL '60 minutes' < now()", [(at - 1, ""), (at, "before"), (at + 1, "on before after")]),
        (
            "at BETWEEN now() - INTERVAL '1 hour' AND now()",
            [(at - 1, "on before after"), (at, "on after"), (at + 1, "")],
        ),
    ];
    for (predicate, expected) in cases {
        for (now, rows) in expected {
            let text = format!("SELECT id FROM o WHERE {predicate}");
            assert_eq!(ask(now, &text).await, rows, "{predicate} at {}", now - at);
        }
    }
}

#[tokio::test]
async fn questions_are_answered() {
    let cases = [
        ("SELECT count(*), sum(bikes) FROM o", "3|6"),
        ("SELECT now() AS now", "1970-01-01T11:00:00Z"),
        ("SELECT id, CASE WHEN at < now() THEN 'past' END FROM o WHERE bikes = 1", "on|past"),
        ("SELECT date_trunc('hour', at AT TIME ZONE 'Europe/Paris') FROM o WHERE id = 'on'", "1970-01-01T11:00:00"),
        ("SELECT extract(hour FROM at AT TIME ZONE 'Europe/Paris') FROM o WHERE id = 'on'", "11"),
        ("SELECT (at AT TIME ZONE 'Pacific/Pago_Pago')::date FROM o WHERE id = 'on'", "1969-12-31"),
        ("SELECT (SELECT max(bikes) FROM o)", "3"),
        ("SELECT id FROM o WHERE id NOT IN (SELECT NULL)", ""),
        ("SELECT id FROM o ORDER BY bikes DESC LIMIT 1", "after"),
        ("SELECT id FROM o WHERE bikes > 9", ""),
        ("SELECT (TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') > INTERVAL '1 day'", "true"),
        ("SELECT (TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') = INTERVAL '48 hours'", "true"),
        ("SELECT (TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') < INTERVAL '1 month'", "true"),
        (
            "SELECT (TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') BETWEEN INTERVAL '1 day' AND INTERVAL '2 days'",
            "true",
        ),
        ("SELECT INTERVAL '1 day' < INTERVAL '25 hours'", "true"),
        ("SELECT count(*) FROM o WHERE id IN (SELECT p.id FROM o p WHERE p.bikes = 1) OR bikes = 3", "2"),
        ("SELECT (TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') > '1 day'::interval", "true"),
        ("SELECT extract(epoch FROM at - TIMESTAMPTZ '1970-01-01T00:00:00Z') FROM o WHERE id = 'on'", "36000.0"),
        ("SELECT 7 / 2, 7 % 2, 7.0 / 2, round(2.5), -7 / 2", "3|1|3.5|3.0|-3"),
        ("SELECT NULL = NULL, 'a' || 'b', 'Été' < 'Z', upper('é')", "|ab|false|É"),
        ("SELECT bikes FROM o ORDER BY CASE WHEN bikes = 2 THEN NULL ELSE bikes END DESC LIMIT 1", "2"),
    ];
    for (text, expected) in cases {
        assert_eq!(ask(11 * HOUR_MS, text).await, expected, "{text}");
    }
}

#[tokio::test]
async fn views_and_changes() {
    let mut session = Session::new(&[], 0);
    let rows = observations();
    session.add_table("velib.o", rows.schema(), vec![rows]).unwrap();
    let text = "CREATE MATERIALIZED VIEW few AS SELECT id FROM velib.o WHERE bikes < 3; SELECT count(*) AS n FROM few;
                UPDATE velib.o SET bikes = bikes + 10 WHERE id = 'on';
                DELETE FROM velib.o WHERE bikes > 1;
                INSERT INTO velib.o (id, at, bikes) VALUES ('new', '2024-11-05T08:00:00Z', 7);
                INSERT INTO velib.o (id) VALUES ('new');
                INSERT INTO velib.o (id, bykes) VALUES ('new', 7)";
    let statements = sql::parse(text, &BTreeMap::new()).unwrap();
    session.add_view(&statements[0]).unwrap();
    let answer = session.query(&statements[1]).await.unwrap();
    assert_eq!(pretty_format_batches(&answer).unwrap().to_string(), "+---+\n| n |\n+---+\n| 2 |\n+---+");
    let mut seen = vec![];
    for statement in &statements[2..5] {
        for (rows, diff) in session.changes(statement).await.unwrap() {
            let cell = |c: usize, r: usize| arrow::util::display::array_value_to_string(rows.column(c), r).unwrap();
            seen.extend((0..rows.num_rows()).map(|r| format!("{diff:+} {} {}", cell(0, r), cell(2, r))));
        }
    }
    assert_eq!(seen, ["-1 on 1", "+1 on 11", "-1 before 2", "-1 after 3", "+1 new 7"]);
    let error = session.changes(&statements[5]).await.unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (5, "column at of a row is null, which it may not be"));
    let error = session.changes(&statements[6]).await.unwrap_err();
    assert_eq!((error.line, error.message.as_str()), (6, "no column bykes in velib.o"));
    assert_eq!(error.hint.as_deref(), Some("did you mean bikes?"));
}

#[test]
fn chains_of_views_have_an_end() {
    let bind = |count: usize| {
        let link = |i: usize| format!("CREATE VIEW v{} AS SELECT id, x + 1 AS x FROM v{i};", i + 1);
        let links = chain(count, "", link);
        let text = format!(
            "CREATE TABLE t (id BIGINT, x BIGINT); CREATE VIEW v0 AS SELECT id, x FROM t; {links}
             CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, max(x) AS x FROM v{count} WHERE x > 1"
        );
        sql::bind_job("job", &sql::parse(&text, &BTreeMap::new()).unwrap(), &sql::Binding::default())
    };
    assert!(bind(50).is_ok());
    let error = bind(420).unwrap_err();
    assert_eq!(error.message, "view m is nested too deeply, with the views that it is made of");
}

#[test]
fn parameters_are_overridden_by_values_of_their_kind() {
    let text = "SET PARAMETER low = 0.1; SET PARAMETER who = 'a'; SET PARAMETER on = TRUE; SELECT $low, $who, $on";
    let asked = |name: &str, value: &str| {
        let overrides = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        sql::parse(text, &overrides).map(|s| match &s[3].kind {
            sql::Kind::Select(query) => query.to_string(),
            other => format!("{other:?}"),
        })
    };
    let message = |name: &str, value: &str| asked(name, value).unwrap_err().message;
    assert_eq!(asked("low", "-2").unwrap(), "SELECT (-2), 'a', true");
    assert_eq!(asked("who", "b'; DROP TABLE x").unwrap(), "SELECT 0.1, 'b''; DROP TABLE x', true");
    assert_eq!(asked("on", "false").unwrap(), "SELECT 0.1, 'a', false");
    assert_eq!(message("low", "much"), "parameter low is a number, and \"much\" is none");
    assert_eq!(message("on", "1"), "parameter on is a boolean, and \"1\" is none");
    assert_eq!(message("lo", "1"), "the text sets no parameter lo");
}

#[test]
fn lengths_of_time() {
    let cases = [("2 days", Some(172_800_000)), ("90min", Some(5_400_000)), ("1 hour 30 minutes", Some(5_400_000))];
    for (text, ms) in cases.into_iter().chain([("1.5 s", Some(1_500)), ("1 month", None), ("days", None), ("", None)]) {
        assert_eq!(sql::duration_ms(text), ms, "{text}");
    }
}

/// What `of` makes of each number below `count`, joined.
fn chain(count: usize, joint: &str, of: impl Fn(usize) -> String) -> String {
    (0..count).map(of).collect::<Vec<_>>().join(joint)
}

#[tokio::test]
async fn what_is_nested_too_deeply_is_refused() {
    let mut shell = Shell::new(1, Arc::new(|| 0)).unwrap();
    shell.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x BIGINT)").await.unwrap();
    shell.execute("INSERT INTO t VALUES (1, 2)").await.unwrap();
    let is_other = |i: usize| format!("id <> {}", i + 2);
    let joins = |count: usize| chain(count, " ", |i| format!("JOIN t t{} ON t{}.id = t{i}.id", i + 1, i + 1));
    let parentheses = |count: usize| format!("SELECT {}x{} AS x FROM t", "(".repeat(count), ")".repeat(count));
    let mut fine = vec![
        format!("SELECT id FROM t WHERE {}", chain(120, " AND ", is_other)),
        format!("SELECT {} AS s FROM t", chain(200, " + ", |_| "x".to_owned())),
        format!("SELECT {} AS s FROM t", chain(200, " || ", |i| format!("'{i}'"))),
        format!("SELECT x IN ({}) AS s FROM t", chain(5_000, ", ", |i| i.to_string())),
        format!("SELECT CASE {} END AS s FROM t", chain(200, " ", |i| format!("WHEN x = {i} THEN {i}"))),
        chain(200, " UNION ALL ", |i| format!("SELECT {i} + x AS i FROM t")),
        format!("SELECT t0.id FROM t t0 {}", joins(40)),
        parentheses(20),
    ];
    for (at, query) in fine.drain(..).enumerate() {
        shell.execute(&query).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        shell.execute(&format!("CREATE MATERIALIZED VIEW v{at} AS {query}")).await.unwrap();
        shell.execute(&format!("SELECT * FROM v{at}")).await.unwrap();
    }
    let refused = [
        parentheses(10_000),
        format!("SELECT id FROM t WHERE {}", chain(5_000, " AND ", is_other)),
        format!("SELECT {} AS s FROM t", chain(5_000, " + ", |_| "x".to_owned())),
        format!("SELECT {} AS s FROM t", chain(5_000, " + ", |i| format!("CASE WHEN x = {i} THEN 1 ELSE 2 END"))),
        chain(5_000, " UNION ALL ", |i| format!("SELECT {i} AS i FROM t")),
        format!("SELECT count(*) FROM {}", chain(5_000, ", ", |i| format!("t t{i}"))),
        format!("SELECT t0.id FROM t t0 {}", joins(1_000)),
        format!("SELECT {}x{} FROM t", "abs(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT {}true AS t", "NOT ".repeat(5_000)),
        format!("SELECT {}x FROM t", "- ".repeat(5_000)),
        format!("SELECT {}1{} AS c", "CASE WHEN true THEN ".repeat(5_000), " END".repeat(5_000)),
        format!(
            "WITH c0 AS (SELECT 1 AS i), {} SELECT 1",
            chain(5_000, ", ", |i| format!("c{} AS (SELECT * FROM c{i})", i + 1))
        ),
    ];
    for query in refused {
        for text in [query.clone(), format!("CREATE MATERIALIZED VIEW v AS {query}")] {
            let error = shell.execute(&text).await.unwrap_err().to_string();
            assert!(error.contains("nested too deeply"), "{}: {error}", &query[..40]);
        }
    }
    let answer = shell.execute("SELECT x FROM t").await.unwrap();
    assert_eq!(answer.texts(), [[Some("2".to_owned())]]);
    shell.stop().await;
}
