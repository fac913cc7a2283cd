//! VelibInsight: streaming SQL over bike-share feeds, maintained in PostgreSQL.

pub mod plan;
pub mod sink;
pub mod source;
pub mod sql;
