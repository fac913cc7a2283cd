//! The model by itself, its settings, and every fault over real HTTP.

mod http;
mod model;
mod settings;

/// A Tuesday, midnight in Paris.
const TUESDAY: i64 = 1_730_761_200;
const HOUR: i64 = 3_600;
