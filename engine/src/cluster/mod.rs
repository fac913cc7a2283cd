//! The cluster: which processes compute together, and how they find each other.

pub mod generation;
pub mod job;
pub mod leader;
pub mod mesh;
pub mod process;
pub mod queues;
