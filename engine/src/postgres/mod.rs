//! PostgreSQL: where results and the engine's own records live.

pub mod private;
