//! VelibInsight: streaming SQL over bike-share feeds, maintained in PostgreSQL.

pub mod plan;
pub mod postgres;
pub mod sink;
pub mod source;
