//! Random queries, typed, over relations with known columns.
//!
//! What depends on the order of rows is asked with an order that tells all different rows apart. Floats
//! are multiples of a quarter, so that their sums are exact in any order; what is only near in both
//! executions ([`Kind::Near`]) is never compared, grouped or joined by.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Float,
    Text,
    Bool,
    Time,
    Day,
    Money,
    /// A float with an error.
    Near,
}

impl Kind {
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Int => "BIGINT",
            Kind::Float | Kind::Near => "DOUBLE PRECISION",
            Kind::Text => "TEXT",
            Kind::Bool => "BOOLEAN",
            Kind::Time => "TIMESTAMP",
            Kind::Day => "DATE",
            Kind::Money => "NUMERIC(10,2)",
        }
    }

    /// A literal, of few different ones, that rows may meet; sometimes null.
    pub fn value(self, rng: &mut ChaCha8Rng) -> String {
        match rng.random_bool(0.15) {
            true => "NULL".into(),
            false => self.present(rng),
        }
    }

    fn present(self, rng: &mut ChaCha8Rng) -> String {
        match self {
            Kind::Int => rng.random_range(-2..6).to_string(),
            Kind::Float | Kind::Near => format!("{:.2}", f64::from(rng.random_range(-6..20)) / 4.0),
            Kind::Text => format!("'{}'", ["a", "b", "c", "ab", "", "é"][rng.random_range(0..6)]),
            Kind::Bool => ["true", "false"][rng.random_range(0..2)].into(),
            Kind::Time => crate::script::moment(rng.random_range(0..120)),
            Kind::Day => format!("DATE '2026-04-{:02}'", rng.random_range(27..31)),
            Kind::Money => format!("{}.{:02}", rng.random_range(0..20), rng.random_range(0..4) * 25),
        }
    }
}

/// Something that can be read.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// The column of time of an append-only table.
    pub time: Option<String>,
}

type Scope = Vec<(String, Kind)>;

/// Writes queries.
pub struct Query<'a> {
    rng: &'a mut ChaCha8Rng,
    relations: &'a [Relation],
    aliases: usize,
}

const ORDERED: [Kind; 6] = [Kind::Int, Kind::Float, Kind::Text, Kind::Time, Kind::Day, Kind::Money];

impl<'a> Query<'a> {
    pub fn new(rng: &'a mut ChaCha8Rng, relations: &'a [Relation]) -> Self {
        Query { rng, relations, aliases: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn chance(&mut self, of: f64) -> bool {
        self.rng.random_bool(of)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len());
        of[at].clone()
    }

    /// A query for a view.
    pub fn view(&mut self) -> (String, Scope) {
        self.query(2, true)
    }

    /// A query, `last` if nothing reads its columns but the reader.
    fn query(&mut self, depth: usize, last: bool) -> (String, Scope) {
        match self.below(13) {
            0..3 => self.select(depth),
            3..7 => self.grouped(depth, last),
            7 => self.set_operation(depth),
            8 => self.first_rows(depth),
            9 => self.ranked(depth),
            10 => self.windowed(depth),
            11 if self.relations.iter().any(|r| r.time.is_some()) => self.of_time(),
            _ => {
                let (from, scope) = self.from(depth);
                let (list, columns) = self.some(&scope);
                let filter = self.filter(&scope);
                (format!("SELECT DISTINCT {list} FROM {from}{filter}"), columns)
            }
        }
    }

    /// `FROM …`: a relation, a subquery or a join, and the columns in it.
    fn from(&mut self, depth: usize) -> (String, Scope) {
        if depth > 0 && self.chance(0.45) {
            return self.join(depth - 1);
        }
        self.one(depth)
    }

    /// A relation or a subquery under an alias.
    fn one(&mut self, depth: usize) -> (String, Scope) {
        self.aliases += 1;
        let alias = format!("a{}", self.aliases);
        if depth > 0 && self.chance(0.3) {
            let (query, columns) = self.query(depth - 1, false);
            let columns = columns.into_iter().map(|(name, kind)| (format!("{alias}.{name}"), kind)).collect();
            return (format!("({query}) {alias}"), columns);
        }
        let relation = self.pick(self.relations);
        let columns = relation.columns.iter().map(|(name, kind)| (format!("{alias}.{name}"), *kind)).collect();
        (format!("{} {alias}", relation.name), columns)
    }

    fn join(&mut self, depth: usize) -> (String, Scope) {
        let (left, left_scope) = self.from(depth);
        let (right, right_scope) = self.one(depth);
        let both: Scope = left_scope.iter().chain(&right_scope).cloned().collect();
        let kind = self.pick(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let mut on = vec![];
        let keys = if kind != "FULL JOIN" && self.chance(0.08) { 0 } else { 1 + usize::from(self.chance(0.2)) };
        for _ in 0..keys {
            let (name, kind) = self.pick(&left_scope);
            let partners: Vec<String> = right_scope.iter().filter(|c| c.1 == kind).map(|c| c.0.clone()).collect();
            if kind == Kind::Near || partners.is_empty() {
                continue;
            }
            let equal = if self.chance(0.12) { "IS NOT DISTINCT FROM" } else { "=" };
            on.push(format!("{name} {equal} {}", self.pick(&partners)));
        }
        if on.is_empty() {
            let (l, r) = (self.expression(Kind::Int, &left_scope, 0), self.expression(Kind::Int, &right_scope, 0));
            on.push(format!("{l} = {r}"));
        }
        if self.chance(0.35) {
            on.push(self.condition(&both, 1));
        }
        (format!("{left} {kind} {right} ON {}", on.join(" AND ")), both)
    }

    /// ` WHERE …`, or nothing.
    fn filter(&mut self, scope: &Scope) -> String {
        let mut all = vec![];
        if self.chance(0.5) {
            all.push(self.condition(scope, 2));
        }
        if self.chance(0.3) {
            all.extend(self.subquery(scope));
        }
        let times: Vec<String> = scope.iter().filter(|c| c.1 == Kind::Time).map(|c| c.0.clone()).collect();
        if !times.is_empty() && self.chance(0.15) {
            let (time, minutes) = (self.pick(&times), 10 * (1 + self.below(6)));
            all.push(match self.below(3) {
                0 => format!("{time} > now() - INTERVAL '{minutes} minutes'"),
                1 => format!("now() - {time} <= INTERVAL '{minutes} minutes' AND {time} <= now()"),
                _ => format!("{time} + INTERVAL '{minutes} minutes' < now()"),
            });
        }
        match all.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", all.join(" AND ")),
        }
    }

    /// A condition that asks another relation.
    fn subquery(&mut self, scope: &Scope) -> Option<String> {
        let (name, kind) = self.pick(scope);
        let (inner, inner_scope) = self.one(0);
        let partners: Vec<String> = inner_scope.iter().filter(|c| c.1 == kind).map(|c| c.0.clone()).collect();
        if kind == Kind::Near || partners.is_empty() {
            return None;
        }
        let partner = self.pick(&partners);
        let extra = |query: &mut Self| match query.chance(0.4) {
            true => format!(" AND {}", query.condition(&inner_scope, 1)),
            false => String::new(),
        };
        let not = if self.chance(0.45) { "NOT " } else { "" };
        Some(match self.below(5) {
            0 | 1 => format!("{not}EXISTS (SELECT 1 FROM {inner} WHERE {partner} = {name}{})", extra(self)),
            2 | 3 => format!("{name} {not}IN (SELECT {partner} FROM {inner} WHERE true{})", extra(self)),
            _ if kind == Kind::Bool => return None,
            _ => {
                let (compare, which) = (self.pick(&["<", ">=", "="]), self.pick(&["max", "min"]));
                format!("{name} {compare} (SELECT {which}({partner}) FROM {inner})")
            }
        })
    }

    fn select(&mut self, depth: usize) -> (String, Scope) {
        let (from, scope) = self.from(depth);
        let count = 1 + self.below(4);
        let mut columns = vec![];
        let mut list = vec![];
        for i in 0..count {
            let kind = self.pick(&scope).1;
            let value = if kind == Kind::Near { self.pick(&near(&scope)) } else { self.expression(kind, &scope, 2) };
            list.push(format!("{value} AS x{i}"));
            columns.push((format!("x{i}"), kind));
        }
        if self.chance(0.15) {
            let (name, kind) = self.pick(&scope);
            let (inner, inner_scope) = self.one(0);
            let partners: Vec<String> = inner_scope.iter().filter(|c| c.1 == kind).map(|c| c.0.clone()).collect();
            if kind != Kind::Near && !partners.is_empty() {
                let partner = self.pick(&partners);
                let what = self.pick(&["count(*)".to_owned(), format!("count({partner})")]);
                list.push(format!("(SELECT {what} FROM {inner} WHERE {partner} = {name}) AS y"));
                columns.push(("y".into(), Kind::Int));
            }
        }
        let filter = self.filter(&scope);
        (format!("SELECT {} FROM {from}{filter}", list.join(", ")), columns)
    }

    /// Some columns under new names, none of them near.
    fn some(&mut self, scope: &Scope) -> (String, Scope) {
        let mut exact: Scope = scope.iter().filter(|c| c.1 != Kind::Near).cloned().collect();
        if exact.is_empty() {
            exact.push(("CAST(1 AS BIGINT)".into(), Kind::Int));
        }
        let count = 1 + self.below(3);
        let picked: Scope = (0..count).map(|_| self.pick(&exact)).collect();
        let list: Vec<String> = picked.iter().enumerate().map(|(i, (name, _))| format!("{name} AS x{i}")).collect();
        (list.join(", "), picked.iter().enumerate().map(|(i, (_, kind))| (format!("x{i}"), *kind)).collect())
    }

    fn grouped(&mut self, depth: usize, last: bool) -> (String, Scope) {
        let (from, scope) = self.from(depth);
        let (mut list, mut columns, mut group) = (vec![], vec![], vec![]);
        for i in 0..self.below(3) {
            let kind = self.pick(&[Kind::Int, Kind::Int, Kind::Text, Kind::Bool, Kind::Time, Kind::Day, Kind::Money]);
            let by = self.expression(kind, &scope, 1);
            // A constant would be the place of a column.
            if !by.contains('.') || by.parse::<f64>().is_ok() || group.contains(&by) {
                continue;
            }
            list.push(format!("{by} AS g{i}"));
            columns.push((format!("g{i}"), kind));
            group.push(by);
        }
        for i in 0..1 + self.below(3) {
            let (call, kind) = self.aggregate(&scope, last);
            let filter = match self.chance(0.2) {
                true => format!(" FILTER (WHERE {})", self.condition(&scope, 1)),
                false => String::new(),
            };
            list.push(format!("{call}{filter} AS x{i}"));
            columns.push((format!("x{i}"), kind));
        }
        let filter = self.filter(&scope);
        let group_by = if group.is_empty() { String::new() } else { format!(" GROUP BY {}", group.join(", ")) };
        let having = match self.chance(0.15) && !group.is_empty() {
            true => format!(" HAVING count(*) > {}", self.below(3)),
            false => String::new(),
        };
        (format!("SELECT {} FROM {from}{filter}{group_by}{having}", list.join(", ")), columns)
    }

    fn aggregate(&mut self, scope: &Scope, last: bool) -> (String, Kind) {
        let number = self.pick(&[Kind::Int, Kind::Int, Kind::Float, Kind::Money]);
        let any = self.pick(&ORDERED);
        let (n, x) = (self.expression(number, scope, 1), self.expression(any, scope, 1));
        match self.below(15) {
            0 | 1 => ("count(*)".into(), Kind::Int),
            2 => (format!("count({x})"), Kind::Int),
            3..6 => (format!("sum({n})"), number),
            6 => match number {
                Kind::Money => (format!("avg({n})"), Kind::Money),
                _ if last => (format!("avg({n})"), Kind::Near),
                _ => (format!("sum({n})"), number),
            },
            7 => (format!("min({x})"), any),
            8 => (format!("max({x})"), any),
            9 => (format!("count(DISTINCT {x})"), Kind::Int),
            10 => {
                let whole = self.expression(Kind::Int, scope, 1);
                (format!("sum(DISTINCT {whole})"), Kind::Int)
            }
            11 => {
                let which = self.pick(&["bool_and", "bool_or"]);
                (format!("{which}({})", self.condition(scope, 1)), Kind::Bool)
            }
            12 => {
                let text = self.expression(Kind::Text, scope, 1);
                (format!("string_agg({text}, ',' ORDER BY {text})"), Kind::Text)
            }
            _ if last => {
                let which = self.pick(&["stddev", "stddev_pop", "var_samp", "var_pop"]);
                let kind = self.pick(&[Kind::Int, Kind::Float]);
                (format!("{which}({})", self.expression(kind, scope, 1)), Kind::Near)
            }
            _ => (format!("max({n})"), number),
        }
    }

    fn set_operation(&mut self, depth: usize) -> (String, Scope) {
        let kinds: Vec<Kind> = (0..1 + self.below(2)).map(|_| self.pick(&ORDERED)).collect();
        let side = |query: &mut Self| {
            let (from, scope) = query.from(depth.saturating_sub(1));
            let list: Vec<String> = kinds
                .iter()
                .enumerate()
                .map(|(i, kind)| format!("{} AS x{i}", query.expression(*kind, &scope, 1)))
                .collect();
            let filter = query.filter(&scope);
            format!("SELECT {} FROM {from}{filter}", list.join(", "))
        };
        let (left, right) = (side(self), side(self));
        let operation = self.pick(&["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        let columns = kinds.iter().enumerate().map(|(i, kind)| (format!("x{i}"), *kind)).collect();
        (format!("{left} {operation} {right}"), columns)
    }

    /// Columns in an order that tells different rows apart.
    fn total_order(&mut self, columns: &Scope) -> String {
        let mut order = vec![];
        let mut left: Vec<String> = columns.iter().map(|c| c.0.clone()).collect();
        while !left.is_empty() {
            let at = self.below(left.len());
            let (way, nulls) = (self.pick(&["", " DESC"]), self.pick(&["", " NULLS FIRST", " NULLS LAST"]));
            order.push(format!("{}{way}{nulls}", left.swap_remove(at)));
        }
        order.join(", ")
    }

    fn inner(&mut self, depth: usize) -> (String, Scope) {
        let (from, scope) = self.from(depth.saturating_sub(1));
        let (list, columns) = self.some(&scope);
        let filter = self.filter(&scope);
        (format!("(SELECT {list} FROM {from}{filter}) o"), columns)
    }

    fn first_rows(&mut self, depth: usize) -> (String, Scope) {
        let (inner, columns) = self.inner(depth);
        let (order, limit) = (self.total_order(&columns), 1 + self.below(4));
        let offset = if self.chance(0.3) { format!(" OFFSET {}", 1 + self.below(3)) } else { String::new() };
        (format!("SELECT * FROM {inner} ORDER BY {order} LIMIT {limit}{offset}"), columns)
    }

    fn over(&mut self, columns: &Scope) -> (String, String) {
        let partition = match self.chance(0.7) {
            true => format!("PARTITION BY {} ", self.pick(columns).0),
            false => String::new(),
        };
        (partition, self.total_order(columns))
    }

    fn ranked(&mut self, depth: usize) -> (String, Scope) {
        let (inner, mut columns) = self.inner(depth);
        let (partition, order) = self.over(&columns);
        let names: Vec<String> = columns.iter().map(|c| c.0.clone()).collect();
        let (names, limit) = (names.join(", "), 1 + self.below(3));
        let compare = self.pick(&["<=", "<=", "=", "<"]);
        let shown = if self.chance(0.4) { ", n" } else { "" };
        if !shown.is_empty() {
            columns.push(("n".into(), Kind::Int));
        }
        let numbered = format!("SELECT {names}, row_number() OVER ({partition}ORDER BY {order}) AS n FROM {inner}");
        (format!("SELECT {names}{shown} FROM ({numbered}) q WHERE n {compare} {limit}"), columns)
    }

    fn windowed(&mut self, depth: usize) -> (String, Scope) {
        let (inner, mut columns) = self.inner(depth);
        let mut list: Vec<String> = columns.iter().map(|c| c.0.clone()).collect();
        let plain = columns.clone();
        // In one order: which of equal rows comes first is the same for all.
        let (partition, order) = self.over(&plain);
        for i in 0..1 + self.below(2) {
            let (name, kind) = self.pick(&plain);
            let whole: Vec<String> =
                plain.iter().filter(|c| matches!(c.1, Kind::Int | Kind::Money)).map(|c| c.0.clone()).collect();
            let (call, kind) = match self.below(8) {
                0 => (format!("lag({name}) OVER ({partition}ORDER BY {order})"), kind),
                1 => (format!("lead({name}) OVER ({partition}ORDER BY {order})"), kind),
                2 => (format!("rank() OVER ({partition}ORDER BY {name})"), Kind::Int),
                3 => (format!("dense_rank() OVER ({partition}ORDER BY {name} DESC)"), Kind::Int),
                4 => (format!("count(*) OVER ({partition}ORDER BY {name})"), Kind::Int),
                5 if !whole.is_empty() => {
                    let summed = self.pick(&whole);
                    let kind = plain.iter().find(|c| c.0 == summed).unwrap().1;
                    let frame = "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING";
                    (format!("sum({summed}) OVER ({partition}ORDER BY {order} {frame})"), kind)
                }
                6 if kind != Kind::Bool => (format!("max({name}) OVER ({})", partition.trim_end()), kind),
                _ => (format!("row_number() OVER ({partition}ORDER BY {order})"), Kind::Int),
            };
            list.push(format!("{call} AS w{i}"));
            columns.push((format!("w{i}"), kind));
        }
        (format!("SELECT {} FROM {inner}", list.join(", ")), columns)
    }

    /// What only append-only tables can be asked: one row a `k` and moment.
    fn of_time(&mut self) -> (String, Scope) {
        let timed: Vec<Relation> = self.relations.iter().filter(|r| r.time.is_some()).cloned().collect();
        let relation = self.pick(&timed);
        let (name, kind) = self.pick(&relation.columns);
        let from = &relation.name;
        match self.below(4) {
            0 => {
                let list = format!("k, at, {name} AS x, lag({name}) OVER (PARTITION BY k ORDER BY at) AS p");
                let columns = [("k", Kind::Int), ("at", Kind::Time), ("x", kind), ("p", kind)];
                (format!("SELECT {list} FROM {from}"), named(&columns))
            }
            1 => {
                let list = format!(
                    "k, first_value({name} ORDER BY at) AS f, last_value({name} ORDER BY at) AS l, max(at) AS at"
                );
                let columns = [("k", Kind::Int), ("f", kind), ("l", kind), ("at", Kind::Time)];
                (format!("SELECT {list} FROM {from} GROUP BY k"), named(&columns))
            }
            2 => {
                let minutes = self.pick(&["'minute'", "'hour'"]);
                let columns = [("h", Kind::Time), ("n", Kind::Int), ("l", Kind::Time)];
                (
                    format!(
                        "SELECT date_trunc({minutes}, at) AS h, count(*) AS n, min(at) AS l FROM {from} GROUP BY 1"
                    ),
                    named(&columns),
                )
            }
            _ => {
                let minutes = 10 * (1 + self.below(5));
                let columns = [("k", Kind::Int), ("n", Kind::Int), ("h", Kind::Time)];
                (
                    format!(
                        "SELECT k, count(*) AS n, max(at) AS h FROM {from} \
                         WHERE at > now() - INTERVAL '{minutes} minutes' GROUP BY k"
                    ),
                    named(&columns),
                )
            }
        }
    }

    /// An expression of a kind.
    pub fn expression(&mut self, kind: Kind, scope: &Scope, depth: usize) -> String {
        let columns: Vec<String> = scope.iter().filter(|c| c.1 == kind).map(|c| c.0.clone()).collect();
        if depth == 0 || self.chance(0.5) {
            return match columns.is_empty() {
                false => self.pick(&columns),
                true => format!("CAST({} AS {})", kind.value(self.rng), kind.sql()),
            };
        }
        let part = |query: &mut Self, kind: Kind| query.expression(kind, scope, depth - 1);
        let same = part(self, kind);
        let other = part(self, kind);
        if self.chance(0.2) {
            let condition = self.condition(scope, depth - 1);
            return format!("CASE WHEN {condition} THEN {same} ELSE {other} END");
        }
        if self.chance(0.15) {
            return format!("COALESCE({same}, {other})");
        }
        match kind {
            Kind::Int => match self.below(7) {
                0 => format!("({same} + {other})"),
                1 => format!("({same} - {other})"),
                2 => format!("abs({same})"),
                3 => format!("({same} % 3)"),
                4 => format!("length({})", part(self, Kind::Text)),
                5 => format!("({same} / NULLIF({other}, 0))"),
                _ => format!("greatest({same}, {other})"),
            },
            Kind::Float | Kind::Near => match self.below(4) {
                0 => format!("({same} + {other})"),
                1 => format!("({same} - {other})"),
                2 => format!("abs({same})"),
                _ => format!("CAST({} AS DOUBLE PRECISION)", part(self, Kind::Int)),
            },
            Kind::Text => match self.below(4) {
                0 => format!("upper({same})"),
                1 => format!("({same} || {other})"),
                2 => format!("substr({same}, 1, 1)"),
                _ => format!("CAST({} AS TEXT)", part(self, Kind::Int)),
            },
            Kind::Bool => self.condition(scope, depth - 1),
            Kind::Time => match self.below(2) {
                0 => format!("date_trunc('hour', {same})"),
                _ => format!("({same} + INTERVAL '20 minutes')"),
            },
            Kind::Day => format!("CAST({} AS DATE)", part(self, Kind::Time)),
            Kind::Money => format!("CAST(({same} + {other}) AS NUMERIC(10,2))"),
        }
    }

    /// A condition on the columns of `scope`.
    pub fn condition(&mut self, scope: &Scope, depth: usize) -> String {
        if depth > 0 && self.chance(0.35) {
            let (a, b) = (self.condition(scope, depth - 1), self.condition(scope, depth - 1));
            return match self.below(3) {
                0 => format!("({a} AND {b})"),
                1 => format!("({a} OR {b})"),
                _ => format!("NOT ({a})"),
            };
        }
        let exact: Scope = scope.iter().filter(|c| c.1 != Kind::Near).cloned().collect();
        if exact.is_empty() {
            return "true".into();
        }
        let (name, kind) = self.pick(&exact);
        let compare = self.pick(&["=", "<>", "<", ">", "<=", ">="]);
        match (self.below(8), kind) {
            (0, _) => format!("{name} IS NULL"),
            (1, _) => format!("{name} IS NOT NULL"),
            (2, Kind::Text) => format!("{name} LIKE 'a%'"),
            (_, Kind::Bool) => name,
            (2, _) => {
                let (low, high) = (kind.present(self.rng), kind.present(self.rng));
                format!("{name} BETWEEN {low} AND {high}")
            }
            (3, _) => format!("{name} IN ({}, {})", kind.present(self.rng), kind.present(self.rng)),
            (4 | 5, _) => format!("{name} {compare} {}", self.expression(kind, scope, depth)),
            _ => format!("{name} {compare} {}", kind.present(self.rng)),
        }
    }
}

fn near(scope: &Scope) -> Vec<String> {
    scope.iter().filter(|c| c.1 == Kind::Near).map(|c| c.0.clone()).collect()
}

fn named(columns: &[(&str, Kind)]) -> Scope {
    columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
}
