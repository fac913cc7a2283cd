//! The algebra of VelibInsight: rows, differences, expressions on batches, and every dataflow operator.
//!
//! A *collection* is a multiset of rows that changes with logical time. Between operators it travels as
//! [`Updates`]: an Arrow batch of rows, each with a *diff* (how many copies appear or disappear), all at
//! one timestamp. Where rows are held and compared (arrangements, group tables, the sink) they are
//! [`Row`]s: bytes that sort as the values do.
//!
//! Invariants: nothing here reads a clock, does I/O, knows SQL text, or waits.

pub mod accumulate;
pub mod row;
pub mod updates;

pub use row::{Row, RowCodec};
pub use updates::Updates;

/// A logical timestamp: milliseconds, totally ordered.
pub type Time = u64;

/// How many copies of a row appear (positive) or disappear (negative).
pub type Diff = i64;

/// A vectorised scalar expression, evaluated on the rows of a batch.
pub type Expr = std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>;
