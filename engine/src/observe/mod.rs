//! What happens, told to the metrics: each place where it happens has one line that calls one of these.
//!
//! [`source`] is told by the timeline, [`lake`] by feeds, [`table`] by the sink, [`job`] by the leader; [`dataflow`] reads timely's
//! log.

pub mod dataflow;
pub mod job;
pub mod lake;
pub mod source;
pub mod table;
