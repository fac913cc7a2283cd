//! VelibInsight: streaming SQL over bike-share feeds, maintained in PostgreSQL.

pub mod cluster;
pub mod command;
pub mod plan;
pub mod render;
pub mod postgres;
pub mod simulate;
pub mod postgres;
pub mod sink;
pub mod source;
pub mod worker;
pub mod sql;
