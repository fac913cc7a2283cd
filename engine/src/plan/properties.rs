//! What is known of the rows of a plan: whether they only ever come, in what order, what tells them
//! apart, and whether what an operator must hold of them has a bound.
//!
//! A collection *grows* when rows are added to it for ever and none leaves: an append-only relation of a
//! source that does not end. An operator that holds the rows of such a collection would hold all of
//! history, so [`check_bounded`] refuses it.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use velib_operators::{Expr, Row, RowCodec};

use super::expire::column_and_offset;
use super::show::length;
use super::{Accumulate, From, Input, Iterate, Join, JoinKind, Map, Node, Retain, Temporal, TopK};

/// What is known of the rows of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Rows are only ever added.
    pub append_only: bool,
    /// Rows are added without end, and none leaves.
    pub grows: bool,
    /// The column that never decreases from one timestamp to the next, equal within a timestamp.
    pub time: Option<usize>,
    /// Sets of columns, in ascending order, each of which tells all rows apart at any one time.
    pub keys: Vec<Vec<usize>>,
    /// What is not there for as long as the tables that it was read from say.
    pub leaving: Vec<Leaving>,
}

/// Rows of a view with `retain`, or what follows from them: they leave memory, and stay in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Leaving {
    pub view: String,
    /// The column that tells their age; none: what follows from them does not say it any more.
    pub column: Option<usize>,
    pub after_ms: u64,
}

/// The properties of what a plan reads, by index.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Collections {
    pub inputs: Vec<Properties>,
    pub views: Vec<Properties>,
}

/// Why state would have no bound, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Unbounded {
    pub reason: String,
    pub remedy: String,
}

/// Unique keys beyond this many are not kept.
const MAX_KEYS: usize = 4;

/// Constants of more rows are not searched for keys.
const MAX_KEYED_ROWS: usize = 4096;

impl Properties {
    /// The rows of a relation. A source that is `bounded` ends by itself, and what it appends with it.
    pub fn of_input(input: &Input, bounded: bool) -> Self {
        let keys = if input.key.is_empty() { vec![] } else { vec![sorted(input.key.clone())] };
        Properties {
            append_only: input.appended,
            grows: input.appended && !bounded,
            time: input.time_column.filter(|_| input.appended),
            keys,
            leaving: vec![],
        }
    }

    /// The key of the fewest columns.
    pub fn narrowest_key(&self) -> Option<Vec<usize>> {
        self.keys.iter().min_by_key(|k| k.len()).cloned()
    }

    /// The same rows read from the view `name`, with its primary key.
    pub fn as_view(mut self, name: &str, key: &[usize], retain: Option<Retain>) -> Self {
        let key = sorted(key.to_vec());
        if !key.is_empty() && !self.keys.contains(&key) {
            self.keys.push(key);
        }
        // Rows that are only ever added are held nowhere, and so do not leave.
        let leaving = retain.filter(|_| !self.append_only).map(|retain| Leaving {
            view: name.to_owned(),
            column: Some(retain.column),
            after_ms: retain.after_ms,
        });
        self.leaving = leaving.into_iter().collect();
        self
    }

    fn column_map(&self, place: impl Fn(usize) -> Option<usize>) -> Self {
        let keys = self.keys.iter().filter_map(|k| k.iter().map(|c| place(*c)).collect::<Option<Vec<_>>>());
        let keys = keys.map(sorted).collect();
        Properties { time: self.time.and_then(&place), keys, leaving: aged_by(&self.leaving, &place), ..self.clone() }
    }
}

/// `leaving`, of rows whose columns have other places or none.
fn aged_by(leaving: &[Leaving], place: impl Fn(usize) -> Option<usize>) -> Vec<Leaving> {
    leaving.iter().map(|l| Leaving { column: l.column.and_then(&place), ..l.clone() }).collect()
}

/// `leaving`, below what yields rows that change when theirs go, instead of going with them.
fn ageless(leaving: &[Leaving]) -> Vec<Leaving> {
    aged_by(leaving, |_| None)
}

/// Where `exprs` hold a column as it is.
fn place_in(exprs: &[Expr]) -> impl Fn(usize) -> Option<usize> + '_ {
    |c| exprs.iter().position(|e| column(e) == Some(c))
}

fn sorted(mut key: Vec<usize>) -> Vec<usize> {
    key.sort_unstable();
    key.dedup();
    key
}

/// What is known of the rows of `node`.
pub fn of(node: &Node, read: &Collections) -> Properties {
    match node {
        Node::Get(get) => {
            let whole = match get.from {
                From::Input(index) => &read.inputs[index],
                From::View(index) => &read.views[index],
                From::Rounds => &Properties::default(),
            };
            whole.column_map(|c| get.columns.iter().position(|kept| *kept == c))
        }
        Node::Constant(rows) => Properties { append_only: true, keys: keys_of_rows(rows), ..Properties::default() },
        Node::Map(map) => of_map(map, read),
        Node::Temporal(temporal) => {
            let input = of(&temporal.input, read);
            let leaves = temporal.until.is_some();
            let waits = temporal.from.is_some();
            Properties {
                append_only: input.append_only && !leaves,
                grows: input.grows && !leaves,
                time: input.time.filter(|_| !waits && !leaves),
                keys: input.keys,
                leaving: input.leaving.into_iter().filter(|l| !hides(temporal, l)).collect(),
            }
        }
        Node::Join(join) => of_join(join, read),
        Node::Accumulate(accumulate) => of_accumulate(accumulate, read),
        Node::Aggregate(aggregate) => Properties {
            keys: vec![(0..aggregate.group.len()).collect()],
            leaving: aged_by(&of(&aggregate.input, read).leaving, place_in(&aggregate.group)),
            ..Properties::default()
        },
        Node::TopK(top) => of_top(top, read),
        Node::Window(window) => {
            let input = of(&window.input, read);
            let leaving = aged_by(&input.leaving, within(&window.partition));
            Properties { keys: input.keys, leaving, ..Properties::default() }
        }
        Node::Previous(previous) => of(&previous.input, read),
        Node::Union(union) => {
            let inputs: Vec<Properties> = union.inputs.iter().map(|n| of(n, read)).collect();
            let time = inputs.first().and_then(|p| p.time);
            Properties {
                append_only: inputs.iter().all(|p| p.append_only),
                grows: inputs.iter().any(|p| p.grows),
                time: time.filter(|_| inputs.len() == 1),
                keys: if inputs.len() == 1 { inputs[0].keys.clone() } else { vec![] },
                leaving: inputs.into_iter().flat_map(|p| p.leaving).collect(),
            }
        }
        Node::Unnest(unnest) => {
            let kept = |c: usize| unnest.columns.iter().position(|from| *from == c && !unnest.lists.contains(&c));
            Properties { keys: vec![], ..of(&unnest.input, read).column_map(kept) }
        }
        Node::Iterate(iterate) => of_iterate(iterate, read),
    }
}

/// Rows that follow from others, of which no column tells when they go.
fn of_iterate(iterate: &Iterate, read: &Collections) -> Properties {
    let (base, step) = (of(&iterate.base, read), of(&iterate.step, read));
    let keys = if iterate.distinct { vec![(0..iterate.schema.fields().len()).collect()] } else { vec![] };
    Properties { keys, leaving: ageless(&[base.leaving, step.leaving].concat()), ..Properties::default() }
}

/// Whether rows are hidden before they leave.
fn hides(temporal: &Temporal, leaving: &Leaving) -> bool {
    let until = temporal.until.as_ref().and_then(column_and_offset);
    until.is_some_and(|(at, offset)| {
        leaving.column == Some(at) && u64::try_from(offset).unwrap_or(0) <= leaving.after_ms
    })
}

/// Columns by which rows are parted: those of a part go together.
fn within(partition: &[Expr]) -> impl Fn(usize) -> Option<usize> + '_ {
    move |c| place_in(partition)(c).map(|_| c)
}

/// The columns of which each alone tells constant rows apart.
fn keys_of_rows(rows: &RecordBatch) -> Vec<Vec<usize>> {
    match rows.num_rows() {
        0 | 1 => return vec![vec![]],
        2..=MAX_KEYED_ROWS => {}
        _ => return vec![],
    }
    let distinct = |column: &ArrayRef| {
        let codec = RowCodec::new([column.data_type()]).ok()?;
        let rows: HashSet<Row> = codec.encode(std::slice::from_ref(column), column.len()).ok()?.into_iter().collect();
        Some(rows.len() == column.len())
    };
    let found = rows.columns().iter().enumerate().filter(|(_, c)| distinct(c) == Some(true));
    found.map(|(at, _)| vec![at]).take(MAX_KEYS).collect()
}

fn of_map(map: &Map, read: &Collections) -> Properties {
    let input = of(&map.input, read);
    let Some(outputs) = &map.outputs else { return input };
    let place = |c: usize| outputs.iter().position(|o| column(o) == Some(c));
    let time = input.time.and_then(|t| outputs.iter().position(|o| ordered_column(o) == Some(t)));
    Properties { time, ..input.column_map(place) }
}

fn of_join(join: &Join, read: &Collections) -> Properties {
    let (left, right) = (of(&join.left, read), of(&join.right, read));
    let grows = left.grows || right.grows;
    if matches!(join.kind, JoinKind::Semi | JoinKind::Anti) {
        let append_only = join.kind == JoinKind::Semi && left.append_only && right.append_only;
        let leaving = [left.leaving, ageless(&right.leaving)].concat();
        return Properties { append_only, grows: left.grows, time: None, keys: left.keys, leaving };
    }
    let width = join.left.schema().fields().len();
    let unique = |side: &Properties, keys: &[Expr]| {
        let joined: Vec<usize> = keys.iter().filter_map(column).collect();
        side.keys.iter().any(|k| k.iter().all(|c| joined.contains(c)))
    };
    // A row of one side has at most one partner where the other side is unique by the join's keys.
    let one_right = unique(&right, &join.right_keys);
    let one_left = unique(&left, &join.left_keys);
    let shifted = |k: &Vec<usize>| -> Vec<usize> { k.iter().map(|c| c + width).collect() };
    let mut keys: Vec<Vec<usize>> = vec![];
    if one_right && join.kind != JoinKind::Full {
        keys.extend(left.keys.iter().cloned());
    }
    if one_left && join.kind == JoinKind::Inner {
        keys.extend(right.keys.iter().map(shifted));
    }
    // A full join fills either side with nulls, which a key must not have of its own.
    let never_null = |node: &Node, key: &[usize]| key.iter().all(|c| !node.schema().field(*c).is_nullable());
    let apart = |l: &[usize], r: &[usize]| {
        join.kind != JoinKind::Full || (never_null(&join.left, l) && never_null(&join.right, r))
    };
    for l in &left.keys {
        let right = right.keys.iter().filter(|r| apart(l, r));
        keys.extend(right.map(|r| l.iter().copied().chain(shifted(r)).collect()));
    }
    keys.truncate(MAX_KEYS);
    let append_only = join.kind == JoinKind::Inner && left.append_only && right.append_only;
    let (of_left, of_right) = (&left.leaving, &right.leaving);
    let leaving = match join.kind {
        JoinKind::Inner => [of_left.clone(), aged_by(of_right, |c| Some(c + width))].concat(),
        JoinKind::Left => [of_left.clone(), ageless(of_right)].concat(),
        _ => [ageless(of_left), ageless(of_right)].concat(),
    };
    Properties { append_only, grows, time: None, keys, leaving }
}

fn of_accumulate(accumulate: &Accumulate, read: &Collections) -> Properties {
    let input = of(&accumulate.input, read);
    let kept = accumulate.expiry.is_none();
    let time = input.time.and_then(|t| accumulate.group.iter().position(|g| ordered_column(g) == Some(t)));
    let distinct = accumulate.aggregates.is_empty() && !accumulate.global;
    let append_only = distinct && input.append_only && kept;
    Properties {
        append_only,
        // A group for every moment is as many groups as moments.
        grows: input.grows && kept && time.is_some(),
        time: time.filter(|_| append_only),
        keys: vec![(0..accumulate.group.len()).collect()],
        leaving: aged_by(&input.leaving, place_in(&accumulate.group)),
    }
}

fn of_top(top: &TopK, read: &Collections) -> Properties {
    let Properties { mut keys, leaving, .. } = of(&top.input, read);
    if top.limit == Some(1)
        && let Some(partition) = top.partition.iter().map(column).collect::<Option<Vec<usize>>>()
    {
        keys.insert(0, sorted(partition));
    }
    keys.truncate(MAX_KEYS);
    Properties { keys, leaving: aged_by(&leaving, within(&top.partition)), ..Properties::default() }
}

/// The column that `expr` is.
pub(crate) fn column(expr: &Expr) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The column of time that `expr` is, perhaps of another unit or time zone.
fn ordered_column(expr: &Expr) -> Option<usize> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) if matches!(cast.cast_type(), DataType::Timestamp(..)) => column(cast.expr()),
        Some(_) => None,
        None => column(expr),
    }
}

/// Whether what the operators of a view hold has a bound, and what they read is there for as long as they
/// need it. `retain`: how long the view's rows stay in memory.
///
/// # Errors
/// The operator that would hold all of history, or the view whose rows leave too early, and the remedy.
pub fn check_bounded(node: &Node, read: &Collections, retain: Option<Retain>) -> Result<(), Unbounded> {
    check_state(node, read)?;
    let properties = of(node, read);
    let covers = |l: &Leaving| retain.is_some_and(|r| l.column == Some(r.column) && r.after_ms <= l.after_ms);
    if let Some(Leaving { view, after_ms, .. }) = properties.leaving.iter().find(|l| !covers(l)) {
        let after = length(*after_ms);
        return Err(Unbounded {
            reason: format!("would lose what it has of {view} when rows of {view} leave memory after {after}"),
            remedy: format!(
                "filter {view} by its time to {after} or less, or say WITH (retain = '{after}') by the same column, \
                 or compute it from what {view} is computed from"
            ),
        });
    }
    if properties.grows && retain.is_none() {
        return Err(Unbounded {
            reason: "would keep every row that its append-only input ever had".to_owned(),
            remedy: "aggregate, or filter by time as in WHERE observed_at > now() - INTERVAL '1 day', or say \
                     WITH (retain = '2 days'): older rows then leave memory and stay in PostgreSQL"
                .to_owned(),
        });
    }
    Ok(())
}

fn check_state(node: &Node, read: &Collections) -> Result<(), Unbounded> {
    node.children().into_iter().try_for_each(|child| check_state(child, read))?;
    let grows = |input: &Node| of(input, read).grows;
    let by_time = "filter its input by time first, as in WHERE observed_at > now() - INTERVAL '1 hour'";
    let hold = |input: &Node, why: &str, remedy: &str| {
        let reason = format!("would hold every row of {} for ever{why}", sources_of(input));
        Err(Unbounded { reason, remedy: remedy.to_owned() })
    };
    match node {
        Node::Join(join) => match [&join.left, &join.right].into_iter().find(|side| grows(side)) {
            Some(side) => hold(side, ", to join it", &format!("{by_time}, or aggregate it before the join")),
            None => Ok(()),
        },
        Node::Iterate(n) if grows(&n.base) || reads_growing(&n.step, read) => hold(node, ", to go on from it", by_time),
        Node::Aggregate(n) if grows(&n.input) => {
            let names: Vec<&str> = n.aggregates.iter().map(|a| a.function.fun().name()).collect();
            hold(
                &n.input,
                &format!(", to compute {}", names.join(", ")),
                &format!(
                    "{by_time}, or use aggregates that accumulate (count, sum, avg, min, max, first_value, \
                          last_value, stddev, var, bool_and, bool_or, regr_…)"
                ),
            )
        }
        Node::TopK(n) if grows(&n.input) => hold(
            &n.input,
            ", to keep its first rows",
            &format!("{by_time}, or take first_value or last_value (… ORDER BY …) of each group"),
        ),
        Node::Window(n) if grows(&n.input) => hold(
            &n.input,
            ", to compute window functions",
            &format!(
                "{by_time}; lag(…) OVER (PARTITION BY … ORDER BY the time of the observation) needs none, on rows of \
                 one source: take it before UNION ALL"
            ),
        ),
        Node::Accumulate(n) if grows(node) => hold(
            &n.input,
            ", as each moment is a group of its own",
            "group by a length of time, as in date_trunc('hour', observed_at), or filter by time, or say \
             WITH (retain = '2 days')",
        ),
        _ => Ok(()),
    }
}

/// Whether rows that grow without end are read anywhere in `node`.
fn reads_growing(node: &Node, read: &Collections) -> bool {
    of(node, read).grows || node.children().into_iter().any(|child| reads_growing(child, read))
}

fn sources_of(node: &Node) -> String {
    fn collect(node: &Node, names: &mut Vec<String>) {
        if let Node::Get(get) = node
            && !names.contains(&get.name)
        {
            names.push(get.name.clone());
        }
        node.children().into_iter().for_each(|child| collect(child, names));
    }
    let mut names = vec![];
    collect(node, &mut names);
    names.join(" and ")
}
