//! VelibInsight: streaming SQL over bike-share feeds, maintained in PostgreSQL.

pub mod catalog;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod ending;
pub mod lake;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod postgres;
pub mod render;
pub mod server;
pub mod shell;
pub mod simulate;
pub mod sink;
pub mod source;
pub mod sql;
pub mod timeline;
pub mod turns;
pub mod verify;
pub mod worker;
