//! The HTTP server of a process: API, health, metrics.

pub mod api;
