//! The algebra of VelibInsight: rows, differences, expressions on batches, and every dataflow operator.
//!
//! A *collection* is a multiset of rows that changes with logical time. Between operators it travels as
//! [`Updates`]: an Arrow batch of rows, each with a *diff* (how many copies appear or disappear), all at
//! one timestamp. Where rows are held and compared (arrangements, group tables, the sink) they are
//! [`Row`]s: bytes that sort as the values do.
//!
//! An operator is a free function over [`Rows`], one file each. Stateless ones work on whole columns;
//! stateful ones wait until a timestamp is *closed* (no more input can come at it), then move their state
//! and send what changed, so that every output is as exact as the input, timestamp by timestamp. Time passes in
//! [`Steps`], and what it brings about by itself happens at the end of one.
//!
//! Invariants: nothing here reads a clock, does I/O, knows SQL text, or waits.

use timely::dataflow::Stream;

pub mod accumulate;
pub mod aggregate;
pub mod arrange;
pub mod checkpoint;
pub mod errors;
pub mod exact;
pub mod exchange;
pub mod held;
pub mod iterate;
pub mod join;
pub mod map;
pub mod output;
pub mod places;
pub mod previous;
pub mod recompute;
pub mod row;
pub mod runs;
pub mod schedule;
pub mod stash;
pub mod steps;
pub mod temporal;
pub mod topk;
pub mod unnest;
pub mod updates;
pub mod window;

pub use checkpoint::{Checkpoints, Keep, Saved, Told};
pub use errors::Errors;
pub use row::{Row, RowCodec};
pub use steps::Steps;
pub use updates::Updates;

/// A logical timestamp: milliseconds, totally ordered.
pub type Time = u64;

/// How many copies of a row appear (positive) or disappear (negative).
pub type Diff = i64;

/// A vectorised scalar expression, evaluated on the rows of a batch.
pub type Expr = std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>;

/// A collection, as it flows from operator to operator.
pub type Rows<'scope> = Stream<'scope, Time, Vec<Updates>>;
