//! Aggregates that accumulate: group by, where a group's state can be added to and subtracted from.

use arrow::datatypes::DataType;

use crate::Expr;

/// One aggregate of a grouping.
#[derive(Clone, Debug)]
pub struct Accumulation {
    /// What is computed.
    pub function: Function,
    /// On what: none for `count(*)`, two for regressions (y, x); for [`Function::First`] and
    /// [`Function::Last`] the value, then what orders it.
    pub arguments: Vec<Expr>,
    /// Rows for which this is not true are left out.
    pub filter: Option<Expr>,
    /// The type of the result, as DataFusion derives it.
    pub output: DataType,
}

/// The aggregates that accumulate.
///
/// All but the last four subtract as well as they add, exactly, floats included. The last four only
/// add: they are for input that never retracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Rows, or rows whose argument is not null.
    Count,
    /// Sum; null without input.
    Sum,
    /// Mean; null without input.
    Avg,
    /// Variance of a sample (n − 1) or of a population (n).
    Variance {
        /// Divide by n − 1.
        sample: bool,
        /// Its square root: the standard deviation.
        root: bool,
    },
    /// True where every value is.
    BoolAnd,
    /// True where any value is.
    BoolOr,
    /// Least squares over pairs (y, x) without nulls.
    Regression(Regression),
    /// The least value. Input must not retract.
    Min,
    /// The greatest value. Input must not retract.
    Max,
    /// The value that comes first by the order. Input must not retract.
    First {
        /// Descending order.
        descending: bool,
        /// Nulls of the ordering come first.
        nulls_first: bool,
    },
    /// The value that comes last by the order. Input must not retract.
    Last {
        /// Descending order.
        descending: bool,
        /// Nulls of the ordering come first.
        nulls_first: bool,
    },
}

/// What a least-squares fit of y on x yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Regression {
    Slope,
    Intercept,
    R2,
    Count,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
}

/// Groups leave memory when their time is past: the group whose column `group` holds a timestamp older
/// than the frontier by `after_ms` is retracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Index of the group column, a timestamp.
    pub group: usize,
    /// Milliseconds that a group outlives its time.
    pub after_ms: u64,
}
