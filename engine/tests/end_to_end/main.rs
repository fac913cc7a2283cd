//! The whole engine from outside: real processes, a real PostgreSQL, feeds over HTTP and from files.
//!
//! The feed is the simulated city, whose every document the tests know ([`feed::Life`]); so what the tables
//! hold can be compared with what the feed said, to the row. Processes and servers end with the test,
//! however it ends.
#![allow(missing_docs, clippy::unwrap_used)]

mod checkpoints;
mod cities;
mod cluster;
mod commands;
mod dashboards;
mod feed;
mod https;
mod input;
mod jobs;
mod lake;
mod membership;
mod outages;
mod prometheus;
mod replay;
