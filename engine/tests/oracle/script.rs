//! A random script: tables, views of them, and changes.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::query::{Kind, Query, Relation};

/// What is done to a shell.
#[derive(Clone, Debug)]
pub enum Step {
    /// A statement that changes no rows.
    Create(String),
    /// A view, to be compared from here on.
    View { name: String, query: String },
    /// Rows, to be left out one by one.
    Insert { table: String, rows: Vec<String> },
    /// Any other change, or the passing of time.
    Change(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create(text) | Step::Change(text) => f.write_str(text),
            Step::View { name, query } => write!(f, "CREATE MATERIALIZED VIEW {name} AS {query}"),
            Step::Insert { table, rows } => write!(f, "INSERT INTO {table} VALUES {}", rows.join(", ")),
        }
    }
}

/// Steps in order.
#[derive(Clone, Debug)]
pub struct Script {
    pub steps: Vec<Step>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step};"))
    }
}

/// Views of a script.
const VIEWS: usize = 7;
/// Changes after the views.
const CHANGES: usize = 9;

impl Script {
    /// The script of a seed.
    pub fn random(seed: u64) -> Self {
        let mut random = Random { rng: ChaCha8Rng::seed_from_u64(seed), tables: vec![], minute: 0, id: 0 };
        let mut steps = vec![Step::Change("SET now = '2026-05-01 12:00:00'".into())];
        for name in ["t", "u", "w"] {
            steps.push(random.table(name));
        }
        for table in 0..3 {
            steps.extend(random.insert(table));
        }
        let mut relations: Vec<Relation> = random.tables.iter().map(|table| table.relation.clone()).collect();
        for i in 0..VIEWS {
            let (query, columns) = Query::new(&mut random.rng, &relations).view();
            let name = format!("v{i}");
            steps.push(Step::View { name: name.clone(), query });
            // Later views may read this one, if it is not refused.
            relations.push(Relation { name, columns, time: None });
            if i == VIEWS / 2 {
                (0..2).for_each(|_| steps.extend(random.change()));
            }
        }
        (0..CHANGES).for_each(|_| steps.extend(random.change()));
        Script { steps }
    }
}

/// Views of [`Script::of_graph`].
const OF_GRAPH: [(&str, &str); 7] = [
    (
        "reach",
        "WITH RECURSIVE r AS (SELECT a, b FROM e UNION SELECT r.a, e.b FROM r JOIN e ON r.b = e.a) SELECT a, b FROM r",
    ),
    (
        "cheap",
        "WITH RECURSIVE p AS (SELECT 1 AS n, 0 AS cost UNION SELECT e.b, p.cost + e.w FROM e JOIN p ON e.a = p.n \
         WHERE p.cost + e.w < 12) SELECT n, min(cost) AS cost FROM p GROUP BY n",
    ),
    (
        "hops",
        "WITH RECURSIVE h AS (SELECT a, b, 1 AS n FROM e UNION ALL SELECT h.a, e.b, h.n + 1 FROM h, e \
         WHERE h.b = e.a AND h.n < 4) SELECT n, count(*) AS paths FROM h GROUP BY n",
    ),
    (
        "ranged",
        "WITH RECURSIVE g AS (SELECT a AS n FROM e WHERE w > 3 UNION SELECT e.b FROM g JOIN e ON e.a > g.n AND e.w < 3) \
         SELECT n, -n AS m FROM g",
    ),
    ("left_over", "SELECT a, w FROM e EXCEPT ALL SELECT b, w FROM e"),
    ("common", "SELECT a, w FROM e INTERSECT ALL SELECT b, w FROM e"),
    ("apart", "SELECT a, unnest(make_array(b, w, a)) AS x FROM e"),
];

impl Script {
    /// Edges that come and go, and views of what follows from them.
    pub fn of_graph(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut steps = vec![Step::Create("CREATE TABLE e (a BIGINT, b BIGINT, w BIGINT)".to_owned())];
        let node = |rng: &mut ChaCha8Rng| match rng.random_range(0..9) {
            0 => "NULL".to_owned(),
            node => node.to_string(),
        };
        let insert = |rng: &mut ChaCha8Rng| {
            let edge = |_| format!("({}, {}, {})", node(rng), node(rng), rng.random_range(1..6));
            Step::Insert { table: "e".to_owned(), rows: (0..6).map(edge).collect() }
        };
        steps.push(insert(&mut rng));
        steps.extend(OF_GRAPH.map(|(name, query)| Step::View { name: name.to_owned(), query: query.to_owned() }));
        for _ in 0..CHANGES {
            let (a, w) = (rng.random_range(1..9), rng.random_range(1..6));
            steps.push(match rng.random_range(0..5) {
                0 => Step::Change(format!("DELETE FROM e WHERE a = {a}")),
                1 => Step::Change(format!("DELETE FROM e WHERE w = {w} AND b > {a}")),
                2 => Step::Change(format!("UPDATE e SET b = {a} WHERE w = {w}")),
                _ => insert(&mut rng),
            });
        }
        Script { steps }
    }
}

/// A table and how it may change.
struct Table {
    relation: Relation,
    keyed: bool,
}

struct Random {
    rng: ChaCha8Rng,
    tables: Vec<Table>,
    minute: u64,
    id: u64,
}

impl Random {
    fn table(&mut self, name: &str) -> Step {
        let style = self.rng.random_range(0..10);
        let (keyed, timed) = (style < 4, style >= 8);
        let mut columns: Vec<(String, Kind)> = vec![];
        if keyed {
            columns.push(("id".into(), Kind::Int));
        }
        columns.push(("k".into(), Kind::Int));
        let pool = [Kind::Int, Kind::Float, Kind::Text, Kind::Bool, Kind::Time, Kind::Day, Kind::Money];
        for i in 0..self.rng.random_range(2..5) {
            columns.push((format!("c{i}"), pool[self.rng.random_range(0..pool.len())]));
        }
        if timed {
            columns.push(("at".into(), Kind::Time));
        }
        let written = |(name, kind): &(String, Kind)| match name.as_str() {
            "id" => "id BIGINT PRIMARY KEY".to_owned(),
            _ => format!("{name} {}", kind.sql()),
        };
        let list: Vec<String> = columns.iter().map(written).collect();
        let options = if timed { " WITH (time = 'at')" } else { "" };
        let statement = format!("CREATE TABLE {name} ({}){options}", list.join(", "));
        let time = timed.then(|| "at".to_owned());
        let relation = Relation { name: name.into(), columns, time };
        self.tables.push(Table { relation, keyed });
        Step::Create(statement)
    }

    /// Rows of a table.
    fn insert(&mut self, table: usize) -> Vec<Step> {
        let columns = self.tables[table].relation.columns.clone();
        let timed = self.tables[table].relation.time.is_some();
        let name = self.tables[table].relation.name.clone();
        let mut steps = vec![];
        // What is appended has a moment a statement, and a row a `k`.
        let statements = if timed { self.rng.random_range(1..4) } else { 1 };
        for _ in 0..statements {
            self.minute += self.rng.random_range(0..3);
            if timed {
                self.minute += 1;
            }
            let count = self.rng.random_range(1..if timed { 4 } else { 9 });
            let rows = (0..count).map(|row| {
                let cells = columns.iter().map(|(column, kind)| match column.as_str() {
                    "id" => {
                        self.id += 1;
                        self.id.to_string()
                    }
                    "k" if timed => row.to_string(),
                    "at" if timed => moment(self.minute),
                    _ => kind.value(&mut self.rng),
                });
                format!("({})", cells.collect::<Vec<_>>().join(", "))
            });
            let rows = rows.collect();
            steps.push(Step::Insert { table: name.clone(), rows });
        }
        steps
    }

    fn change(&mut self) -> Vec<Step> {
        let table = self.rng.random_range(0..self.tables.len());
        let relation = self.tables[table].relation.clone();
        let appended = relation.time.is_some();
        let scope: Vec<(String, Kind)> = relation.columns.clone();
        match self.rng.random_range(0..12) {
            0..5 => self.insert(table),
            5 => {
                self.minute += self.rng.random_range(5..40);
                vec![Step::Change(format!("SET now = {}", moment(self.minute).trim_start_matches("TIMESTAMP ")))]
            }
            _ if appended => self.insert(table),
            6 => {
                let key = if self.tables[table].keyed { "id + 1000, " } else { "" };
                let others: Vec<&str> =
                    scope.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "id").collect();
                vec![Step::Change(format!(
                    "INSERT INTO {0} SELECT {key}{1} FROM {0}",
                    relation.name,
                    others.join(", ")
                ))]
            }
            7 | 8 => {
                let condition = Query::new(&mut self.rng, &[]).condition(&scope, 1);
                vec![Step::Change(format!("DELETE FROM {} WHERE {condition}", relation.name))]
            }
            9 if self.rng.random_bool(0.3) => vec![Step::Change(format!("DELETE FROM {}", relation.name))],
            _ => {
                let free: Vec<&(String, Kind)> = scope.iter().filter(|(name, _)| name != "id").collect();
                let (name, kind) = free[self.rng.random_range(0..free.len())].clone();
                let mut query = Query::new(&mut self.rng, &[]);
                let (value, condition) = (query.expression(kind, &scope, 1), query.condition(&scope, 1));
                vec![Step::Change(format!("UPDATE {} SET {name} = {value} WHERE {condition}", relation.name))]
            }
        }
    }
}

/// A minute of the day that everything happens on, from noon on.
pub fn moment(minute: u64) -> String {
    format!("TIMESTAMP '2026-05-01 {:02}:{:02}:00'", 12 + minute / 60, minute % 60)
}
