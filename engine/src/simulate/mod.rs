//! A simulated city that serves its bike-share feed over HTTP.
//!
//! For the demo, for tests without the internet, and for measurements: the model ([`City`]) is determined
//! by a seed and the simulated time, and can be used without HTTP; the server adds a clock and, to order,
//! the faults that real feeds have.

mod city;
mod documents;
mod faults;
mod geometry;
mod map;
mod names;
mod rhythm;
mod server;
mod settings;
mod stations;

pub use city::{Bikes, City, Reading, Traffic};
pub use faults::{Fault, FaultSettings, Planned};
pub use server::{Running, serve};
pub use settings::{Settings, SimulateError};
pub use stations::Station;

#[cfg(test)]
mod tests;
