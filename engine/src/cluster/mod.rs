//! The cluster: which processes compute together, and how they find each other.

pub mod address;
pub mod checkpoints;
pub mod decide;
pub mod generation;
pub mod job;
pub mod leader;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod port;
pub mod process;
pub mod queues;
pub mod tls;
pub mod wire;
