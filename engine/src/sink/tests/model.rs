//! Random changes: after each step the tables are what the model says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::postgres::throwaway::Server;
use crate::sink::MemorySink;

type Values = (i64, Option<i64>, Option<String>);

/// What happens to a row: its key, its new values; none: it goes.
type Edit = (i64, Option<(Option<i64>, Option<String>)>);

#[derive(Clone, Debug)]
enum Step {
    /// Changes, as one transaction.
    Commit(Vec<Edit>),
    /// Changes of several steps, merged into one transaction.
    Merged(Vec<Vec<Edit>>),
    /// A new incarnation with the full contents; true: the second view changes its definition.
    Hydrate(Vec<Edit>, bool),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let values = (proptest::option::of(-2..3_i64), proptest::option::of("[a-b]{0,2}"));
    proptest::collection::vec((0..12_i64, proptest::option::of(values)), 0..8)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => edits().prop_map(Step::Commit),
        2 => proptest::collection::vec(edits(), 1..4).prop_map(Step::Merged),
        1 => (edits(), any::<bool>()).prop_map(|(edits, change)| Step::Hydrate(edits, change)),
    ];
    proptest::collection::vec(step, 1..8)
}

/// A key, its values, and what becomes of them.
type Diff = (i64, (Option<i64>, Option<String>), i64);

/// The keyed rows, and their changes for a keyed view and one that counts (where keys are dropped, so that
/// equal rows meet).
#[derive(Default)]
struct Model {
    rows: BTreeMap<i64, (Option<i64>, Option<String>)>,
}

impl Model {
    fn edit(&mut self, edits: &[Edit]) -> Vec<Changes> {
        let before = self.rows.clone();
        for (key, values) in edits {
            match values {
                Some(values) => self.rows.insert(*key, values.clone()),
                None => self.rows.remove(key),
            };
        }
        let gone = before.iter().filter(|(key, values)| self.rows.get(key) != Some(values));
        let come = self.rows.iter().filter(|(key, values)| before.get(key) != Some(values));
        let diffs = gone.map(|(k, v)| (*k, v.clone(), -1)).chain(come.map(|(k, v)| (*k, v.clone(), 1)));
        changes(diffs.collect())
    }

    fn full(&self) -> Vec<Changes> {
        changes(self.rows.iter().map(|(k, v)| (*k, v.clone(), 1)).collect())
    }
}

fn changes(diffs: Vec<Diff>) -> Vec<Changes> {
    let mut counted: BTreeMap<Values, i64> = BTreeMap::new();
    for (key, (v, s), diff) in &diffs {
        *counted.entry((key % 2, *v, s.clone())).or_default() += diff;
    }
    let keyed: Vec<_> = diffs.iter().map(|(k, (v, s), diff)| (*k, *v, s.as_deref(), *diff)).collect();
    let counted: Vec<_> =
        counted.iter().filter(|(_, n)| **n != 0).map(|((k, v, s), n)| (*k, *v, s.as_deref(), *n)).collect();
    vec![rows(0, &keyed), rows(1, &counted)]
}

/// The rows of both views as the memory sink has them, as PostgreSQL writes them.
fn expected(memory: &MemorySink, view: usize) -> Vec<String> {
    let batch = memory.contents(view).unwrap();
    let mut lines: Vec<String> = (0..batch.num_rows())
        .map(|row| {
            let text = |c: usize| {
                let column = batch.column(c);
                let value = arrow::util::display::array_value_to_string(column, row).unwrap();
                match arrow::array::Array::is_null(column, row) {
                    true => String::new(),
                    false if value.is_empty() => "\"\"".into(),
                    false => value,
                }
            };
            format!("({},{},{})", text(0), text(1), text(2))
        })
        .collect();
    lines.sort();
    lines
}

async fn check(url: &str, name: &str, script: Vec<Step>) {
    let client = connect(url, "test").await.unwrap();
    let job_of = |keyless_index: bool| {
        let mut counted = simple("counted", &[]);
        if keyless_index {
            // Another type of a column that nobody reads: the table is made anew.
            counted.schema = Arc::new(Schema::new(vec![
                Field::new("k", DataType::Int64, false),
                Field::new("v", DataType::Int64, true),
                Field::new("t", DataType::Utf8, true),
            ]));
        }
        job(name, vec![simple("keyed", &[0]), counted])
    };
    let mut model = Model::default();
    let mut memory = MemorySink::new(&job_of(false)).unwrap();
    let mut job = job_of(false);
    let mut sink = sink(url, &job, 1).await;
    sink.hydrate(&settled(&job, 1, vec![])).await.unwrap();
    let mut upper = 1;
    for step in script {
        let mut merge = Merge::new(job.clone());
        let list = match &step {
            Step::Commit(edits) | Step::Hydrate(edits, _) => std::slice::from_ref(edits),
            Step::Merged(list) => list,
        };
        for edits in list {
            upper += 1;
            let closed = closed(upper, model.edit(edits));
            memory.apply(&closed).unwrap();
            merge.add(closed).unwrap();
        }
        if let Step::Hydrate(_, change) = step {
            job = job_of(change);
            sink = super::sink(url, &job, upper).await;
            sink.hydrate(&settled(&job, upper, model.full())).await.unwrap();
        } else {
            let done = sink.commit(&merge.take().unwrap().unwrap()).await.unwrap();
            assert_eq!(done.missing, 0);
        }
        let keyed = table(&client, &format!("SELECT * FROM {name}.keyed")).await;
        assert_eq!(keyed, expected(&memory, 0));
        let columns = if job.views[1].schema.field(2).name() == "t" { "k, v, t" } else { "k, v, s" };
        let sql = format!("SELECT {columns} FROM {name}.counted, generate_series(1, velib_multiplicity)");
        assert_eq!(table(&client, &sql).await, expected(&memory, 1));
    }
}

#[test]
fn tables_follow_their_views() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { Store::open(&url).await.unwrap() });
    let case = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() };
    proptest!(config, |(script in steps())| {
        case.set(case.get() + 1);
        runtime.block_on(check(&url, &format!("model{}", case.get()), script));
    });
}
