//! Every type there and back, with nulls and extreme values.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;

use super::*;
use crate::postgres::throwaway::Server;

/// A column: its name, its values (the last one null), and what PostgreSQL says of them.
fn columns() -> Vec<(&'static str, ArrayRef, Vec<Option<&'static str>>)> {
    let utc: Arc<str> = "+00:00".into();
    let day_nano = |m, d, n| Some(IntervalMonthDayNano::new(m, d, n));
    let int32 = |values: Vec<Option<i32>>| Int32Array::from(values);
    let dictionary =
        DictionaryArray::new(int32(vec![Some(1), Some(0), None]), Arc::new(StringArray::from(vec!["a", "b"])));
    vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            vec![Some("true"), Some("false"), None],
        ),
        (
            "i8",
            Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None])),
            vec![Some("-128"), Some("127"), None],
        ),
        (
            "i16",
            Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None])),
            vec![Some("-32768"), Some("32767"), None],
        ),
        (
            "i32",
            Arc::new(int32(vec![Some(i32::MIN), Some(i32::MAX), None])),
            vec![Some("-2147483648"), Some("2147483647"), None],
        ),
        (
            "i64",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
            vec![Some("-9223372036854775808"), Some("9223372036854775807"), None],
        ),
        ("u8", Arc::new(UInt8Array::from(vec![Some(0), Some(u8::MAX), None])), vec![Some("0"), Some("255"), None]),
        ("u16", Arc::new(UInt16Array::from(vec![Some(0), Some(u16::MAX), None])), vec![Some("0"), Some("65535"), None]),
        (
            "u32",
            Arc::new(UInt32Array::from(vec![Some(0), Some(u32::MAX), None])),
            vec![Some("0"), Some("4294967295"), None],
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(0), Some(i64::MAX as u64), None])),
            vec![Some("0"), Some("9223372036854775807"), None],
        ),
        (
            "f32",
            Arc::new(Float32Array::from(vec![Some(f32::MIN_POSITIVE), Some(f32::NEG_INFINITY), None])),
            vec![Some("1.1754944e-38"), Some("-Infinity"), None],
        ),
        (
            "f64",
            Arc::new(Float64Array::from(vec![Some(f64::MAX), Some(f64::NAN), None])),
            vec![Some("1.7976931348623157e+308"), Some("NaN"), None],
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("Élysée 🚲"), Some(""), None])),
            vec![Some("Élysée 🚲"), Some(""), None],
        ),
        (
            "large text",
            Arc::new(LargeStringArray::from(vec![Some("a\"b"), Some("\\"), None])),
            vec![Some("a\"b"), Some("\\"), None],
        ),
        (
            "text view",
            Arc::new(StringViewArray::from(vec![Some("longer than twelve bytes"), Some("short"), None])),
            vec![Some("longer than twelve bytes"), Some("short"), None],
        ),
        ("dictionary", Arc::new(dictionary), vec![Some("b"), Some("a"), None]),
        ("nothing", Arc::new(NullArray::new(3)), vec![None, None, None]),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), Some(b""), None])),
            vec![Some("\\x00ff"), Some("\\x"), None],
        ),
        (
            "bytes view",
            Arc::new(BinaryViewArray::from(vec![Some(&b"a"[..]), Some(b"b"), None])),
            vec![Some("\\x61"), Some("\\x62"), None],
        ),
        (
            "date",
            Arc::new(Date32Array::from(vec![Some(-2_440_588), Some(0), None])),
            vec![Some("4714-11-24 BC"), Some("1970-01-01"), None],
        ),
        (
            "time",
            Arc::new(Time64NanosecondArray::from(vec![Some(0), Some(86_399_999_999_999), None])),
            vec![Some("00:00:00"), Some("23:59:59.999999"), None],
        ),
        (
            "time s",
            Arc::new(Time32SecondArray::from(vec![Some(1), Some(3_600), None])),
            vec![Some("00:00:01"), Some("01:00:00"), None],
        ),
        (
            "ts s",
            Arc::new(TimestampSecondArray::from(vec![Some(-1), Some(951_782_400), None])),
            vec![Some("1969-12-31 23:59:59"), Some("2000-02-29 00:00:00"), None],
        ),
        (
            "ts ms",
            Arc::new(TimestampMillisecondArray::from(vec![Some(1), Some(-1), None]).with_timezone(utc.clone())),
            vec![Some("1970-01-01 00:00:00.001+00"), Some("1969-12-31 23:59:59.999+00"), None],
        ),
        (
            "ts us",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-210_866_803_200_000_000), Some(i64::MAX), None])),
            vec![Some("4714-11-24 00:00:00 BC"), Some("294247-01-10 04:00:54.775807"), None],
        ),
        (
            "ts ns",
            Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(1_999), None])),
            vec![Some("1969-12-31 23:59:59.999999"), Some("1970-01-01 00:00:00.000001"), None],
        ),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), Some(5), None]).with_precision_and_scale(10, 2).unwrap(),
            ),
            vec![Some("-123.45"), Some("0.05"), None],
        ),
        (
            "wide decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(1 - 10_i128.pow(38)), None])
                    .with_precision_and_scale(38, 37)
                    .unwrap(),
            ),
            vec![
                Some("9.9999999999999999999999999999999999999"),
                Some("-9.9999999999999999999999999999999999999"),
                None,
            ],
        ),
        (
            "round decimal",
            Arc::new(Decimal128Array::from(vec![Some(7), Some(0), None]).with_precision_and_scale(5, -3).unwrap()),
            vec![Some("7000"), Some("0"), None],
        ),
        (
            "interval",
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                day_nano(14, -3, 1_500_000_000),
                day_nano(0, 0, -1_000),
                None,
            ])),
            vec![Some("1 year 2 mons -3 days +00:00:01.5"), Some("-00:00:00.000001"), None],
        ),
        (
            "duration",
            Arc::new(DurationMillisecondArray::from(vec![Some(90_000), Some(0), None])),
            vec![Some("00:01:30"), Some("00:00:00"), None],
        ),
    ]
}

/// By `COPY` (hydrate), by arrays (commit), and once more by difference: the same each time.
#[tokio::test]
async fn values_come_out_as_they_went_in() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    client.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let columns = columns();
    let mut fields = vec![Field::new("id", DataType::Int64, false)];
    fields.extend(columns.iter().map(|(name, array, _)| Field::new(*name, array.data_type().clone(), true)));
    let batch = |first: i64, schema: &SchemaRef| {
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(first..first + 3))];
        arrays.extend(columns.iter().map(|(_, array, _)| array.clone()));
        RecordBatch::try_new(schema.clone(), arrays).unwrap()
    };
    let job = job("types", vec![view("keyed", fields.clone(), &[0]), view("counted", fields, &[])]);
    let changes = |first: i64| {
        let change = |view: usize| {
            let rows = batch(first, &job.views[view].schema);
            Changes { view, rows, diffs: Int64Array::from(vec![1, 1, 1]) }
        };
        vec![change(0), change(1)]
    };
    let mut sink = sink(&url, &job, 1).await;
    sink.hydrate(&settled(&job, 10, changes(0))).await.unwrap();
    assert_eq!(sink.commit(&settled(&job, 20, changes(3))).await.unwrap().rows, 6);

    for view in ["keyed", "counted"] {
        for (name, _, expected) in &columns {
            let sql = format!("SELECT \"{name}\"::text FROM types.{view} ORDER BY id");
            let found: Vec<Option<String>> =
                client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            let found: Vec<_> = found.iter().map(Option::as_deref).collect();
            assert_eq!(found[..3], expected[..], "{view}.{name}, by COPY");
            assert_eq!(found[3..], expected[..], "{view}.{name}, by arrays");
        }
    }
    // The same contents once more: nothing differs.
    let mut both = Merge::new(job.clone());
    both.add(closed(30, changes(0))).unwrap();
    both.add(closed(31, changes(3))).unwrap();
    let again = sink.hydrate(&both.take().unwrap().unwrap()).await.unwrap();
    assert_eq!(again.rows, 0);
}

#[tokio::test]
async fn rows_that_cannot_be_kept_are_errors_while_they_last() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("unfit", vec![simple("a", &[0])]);
    let mut sink = sink(&url, &job, 1).await;
    let first = settled(&job, 10, vec![rows(0, &[(1, None, Some("nul \0"), 1), (2, None, Some("good"), 1)])]);
    sink.hydrate(&first).await.unwrap();
    assert_eq!(table(&client, "SELECT k FROM unfit.a").await, ["(2)"]);
    assert_eq!(table(&client, "SELECT view, count FROM velib.errors").await, ["(a,1)"]);

    let mut more =
        closed(20, vec![rows(0, &[(1, None, Some("nul \0"), -1), (3, None, Some("\0"), 1), (4, None, None, 1)])]);
    more.errors = vec![(0, "division by zero".into(), 2)];
    sink.commit(&Settled::one(&job, more).unwrap()).await.unwrap();
    assert_eq!(table(&client, "SELECT k FROM unfit.a").await, ["(2)", "(4)"]);
    assert_eq!(table(&client, "SELECT count FROM velib.errors").await, ["(1)", "(2)"]);

    let mut last = closed(30, vec![rows(0, &[(3, None, Some("\0"), -1)])]);
    last.errors = vec![(0, "division by zero".into(), -2)];
    sink.commit(&Settled::one(&job, last).unwrap()).await.unwrap();
    assert!(table(&client, "SELECT * FROM velib.errors").await.is_empty());
}

#[test]
fn what_cannot_be_a_table_is_refused_by_name() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    for (job, words) in [
        (
            job("j", vec![view("v", vec![Field::new("stations", list, true)], &[])]),
            ["column stations of view v", "array_to_string"],
        ),
        (job("pg_x", vec![]), ["pg_x", "belongs to another"]),
        (job("velib", vec![]), ["velib", "belongs to another"]),
        (job("j", vec![simple(&"x".repeat(64), &[])]), ["63 bytes", "another name"]),
        (
            job("j", vec![view("v", vec![Field::new("velib_row", DataType::Int64, true)], &[])]),
            ["velib_row", "the engine adds"],
        ),
    ] {
        let error = crate::sink::check(&job).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
