//! What a job computes, as inert data: the tree that `render` builds and `EXPLAIN` prints.
//!
//! Invariants: a plan holds no SQL text but for display, opens nothing, and is the same in every process
//! that binds the same text against the same relations.

pub mod checkpoint;
pub mod expire;
pub mod explain;
pub mod names;
pub mod properties;
mod show;
mod tree;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::window::WindowExpr;
use velib_operators::Expr;
use velib_operators::accumulate::{Accumulation, Age};

/// A job, planned: what it reads and the views that it maintains, in the order of the text.
#[derive(Clone, Debug)]
pub struct Job {
    /// The name of the job, and of its schema in PostgreSQL.
    pub name: String,
    /// The relations that it reads. `Node::Get` names them by index.
    pub inputs: Vec<Input>,
    /// The materialized views. `Node::Get` names earlier ones by index.
    pub views: Vec<View>,
}

/// A relation that a job reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// The source, as the job names it.
    pub source: String,
    /// The relation of that source.
    pub relation: String,
    /// Its columns, all of them.
    pub schema: SchemaRef,
    /// Columns that identify a row at any one time; empty where nothing does.
    pub key: Vec<usize>,
    /// Rows are only ever added.
    pub appended: bool,
    /// The column that never decreases from one timestamp to the next.
    pub time_column: Option<usize>,
}

/// A maintained view: a table of the job's schema in PostgreSQL.
#[derive(Clone, Debug)]
pub struct View {
    /// The name of the view and its table.
    pub name: String,
    /// How its rows come about.
    pub plan: Node,
    /// The columns of the table.
    pub schema: SchemaRef,
    /// The primary key, derived or declared; empty: rows carry a multiplicity. Its columns may be null,
    /// and nulls equal each other.
    pub key: Vec<usize>,
    /// Columns of each further index.
    pub indexes: Vec<Vec<usize>>,
    /// `COMMENT ON` the view.
    pub comment: Option<String>,
    /// `COMMENT ON` its columns, as many as columns.
    pub column_comments: Vec<Option<String>>,
    /// Rows older than this leave memory and stay in PostgreSQL.
    pub retain: Option<Retain>,
    /// What of it is shown as metrics.
    pub metrics: Option<Metrics>,
}

/// `WITH (metrics = '…')`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Columns of the view: numbers, times and truth values.
    pub columns: Vec<usize>,
    /// The column that names a row for people.
    pub name: Option<usize>,
}

/// `WITH (retain = '…')`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retain {
    /// The column of the view, a timestamp, that tells a row's age.
    pub column: usize,
    /// Milliseconds.
    pub after_ms: u64,
}

/// An operator and its inputs. Expressions are bound to the columns of the input.
#[derive(Clone, Debug)]
pub enum Node {
    /// A relation that the job reads, or an earlier view.
    Get(Get),
    /// Rows that never change.
    Constant(RecordBatch),
    /// Keep the rows for which every predicate is true, then compute the outputs.
    Map(Box<Map>),
    /// Rows that are there only while the clock of the timeline is in their interval.
    Temporal(Box<Temporal>),
    /// Pairs of rows with equal keys.
    Join(Box<Join>),
    /// Groups whose aggregates add and subtract. Without aggregates: distinct.
    Accumulate(Box<Accumulate>),
    /// Groups whose aggregates are computed anew from the group's rows when one of them changes.
    Aggregate(Box<Aggregate>),
    /// The first rows of each partition by an order.
    TopK(Box<TopK>),
    /// Window functions, computed anew for the partitions that changed.
    Window(Box<Window>),
    /// Each row of an append-only input beside the row before it in its partition, in order of time.
    Previous(Box<Previous>),
    /// All the rows of all the inputs.
    Union(Union),
    /// A row for each item of lists.
    Unnest(Box<Unnest>),
    /// What follows from rows again and again, until nothing new does.
    Iterate(Box<Iterate>),
}

/// Reads a collection.
#[derive(Clone, Debug)]
pub struct Get {
    /// Which.
    pub from: From,
    /// Its name, for display.
    pub name: String,
    /// Columns to keep, in this order.
    pub columns: Vec<usize>,
    /// The columns that are kept.
    pub schema: SchemaRef,
}

/// A leaf of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Index into `Job::inputs`.
    Input(usize),
    /// Index into `Job::views`, less than the reader's own.
    View(usize),
    /// In the step of an [`Iterate`]: what it has so far.
    Rounds,
}

/// Filter, then project.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Map {
    pub input: Node,
    pub predicates: Vec<Expr>,
    /// None: the columns of the input.
    pub outputs: Option<Vec<Expr>>,
    pub schema: SchemaRef,
}

/// `WHERE … now() …`: a row is there from `from` (inclusive) until `until` (exclusive).
///
/// Both are timestamps in milliseconds, UTC, rounded so that the comparison with a clock of whole
/// milliseconds is exact; null means that the row is never there. Several filters stand one on another.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Temporal {
    pub input: Node,
    pub from: Option<Expr>,
    pub until: Option<Expr>,
}

/// Which rows a join yields. A right join is planned as a left join with its sides exchanged, then a `Map`.
pub use velib_operators::join::Kind as JoinKind;

/// An equi-join with a residual condition. Without keys: all pairs.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Join {
    pub left: Node,
    pub right: Node,
    pub kind: JoinKind,
    /// Over the left, as many as and of the same types as `right_keys`.
    pub left_keys: Vec<Expr>,
    /// Over the right.
    pub right_keys: Vec<Expr>,
    /// Null keys equal each other (`IS NOT DISTINCT FROM`); else they equal nothing.
    pub null_equal: bool,
    /// Over the columns of the left, then those of the right.
    pub residual: Option<Expr>,
    pub schema: SchemaRef,
}

/// Group by, with aggregates that add and subtract.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Accumulate {
    pub input: Node,
    pub group: Vec<Expr>,
    pub aggregates: Vec<Accumulation>,
    /// One row even without input (no `GROUP BY`).
    pub global: bool,
    pub expiry: Option<Age>,
    /// The group columns, then the aggregates.
    pub schema: SchemaRef,
}

/// Group by, with any aggregate of DataFusion.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Aggregate {
    pub input: Node,
    pub group: Vec<Expr>,
    /// With their arguments, filter, order and distinctness bound to the input.
    pub aggregates: Vec<AggregateCall>,
    pub global: bool,
    pub schema: SchemaRef,
}

/// An aggregate of DataFusion and its filter.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AggregateCall {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Expr>,
}

/// `ORDER BY … LIMIT` within each partition: rows `offset .. offset + limit`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct TopK {
    pub input: Node,
    pub partition: Vec<Expr>,
    pub order: Vec<PhysicalSortExpr>,
    pub offset: usize,
    pub limit: Option<usize>,
}

/// The columns of the input, then one column a window function.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Window {
    pub input: Node,
    pub partition: Vec<Expr>,
    pub order: Vec<PhysicalSortExpr>,
    pub functions: Vec<Arc<dyn WindowExpr>>,
    pub schema: SchemaRef,
}

/// `lag(e) OVER (PARTITION BY … ORDER BY time)` on append-only input: the columns of the input, then one
/// column a lag (null at the first row of a partition). Holds one row a partition.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Previous {
    pub input: Node,
    pub partition: Vec<Expr>,
    /// The column of time.
    pub order: usize,
    /// What is carried over from the row before.
    pub lags: Vec<Expr>,
    pub schema: SchemaRef,
}

/// `UNION ALL`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Union {
    pub inputs: Vec<Node>,
    pub schema: SchemaRef,
}

/// `unnest(list)`: as many rows as the longest list of a row has items, of shorter ones null.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Unnest {
    pub input: Node,
    /// The columns of the input that are lists to be taken apart.
    pub lists: Vec<usize>,
    /// The column of the input that each column comes from.
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

/// `WITH RECURSIVE`: the rows of `base`, those that `step` makes of them, those that it makes of these, and so on.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Iterate {
    pub base: Node,
    /// Reads [`From::Rounds`].
    pub step: Node,
    /// `UNION`: each row once, so that rounds end where nothing new is found.
    pub distinct: bool,
    pub schema: SchemaRef,
}

impl Node {
    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Node::Get(n) => n.schema.clone(),
            Node::Constant(rows) => rows.schema(),
            Node::Map(n) => n.schema.clone(),
            Node::Temporal(n) => n.input.schema(),
            Node::Join(n) => n.schema.clone(),
            Node::Accumulate(n) => n.schema.clone(),
            Node::Aggregate(n) => n.schema.clone(),
            Node::TopK(n) => n.input.schema(),
            Node::Window(n) => n.schema.clone(),
            Node::Previous(n) => n.schema.clone(),
            Node::Union(n) => n.schema.clone(),
            Node::Unnest(n) => n.schema.clone(),
            Node::Iterate(n) => n.schema.clone(),
        }
    }
}
