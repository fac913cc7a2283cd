//! What kind of a city, how fast it lives, where it serves and what goes wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::city::{City, Traffic};
use super::faults::FaultSettings;

/// The settings of a simulated city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The same seed gives the same city with the same life
    #[arg(long, default_value_t = Settings::SEED)]
    pub seed: u64,
    /// How many stations the city has
    #[arg(long, default_value_t = Settings::STATIONS)]
    pub stations: usize,
    /// Simulated seconds in a real one
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// The simulated time at the start, as 2024-11-05T08:00:00Z [default: now]
    #[arg(long)]
    pub start: Option<DateTime<Utc>>,
    /// Instead of a clock: each request for station_status moves the time by so many seconds
    #[arg(long, conflicts_with = "speed")]
    pub step: Option<u32>,
    /// Instead of a city's rhythm: this share of the stations (0 to 1) changes in each step, or minute
    #[arg(long)]
    pub changed_share: Option<f64>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value_t = Settings::ADDRESS)]
    pub address: SocketAddr,
    /// What goes wrong with the feed.
    #[command(flatten)]
    pub faults: FaultSettings,
}

impl Settings {
    const SEED: u64 = 1;
    const STATIONS: usize = 1_500;
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8580);
    /// Beyond this, living takes longer than the time that passes.
    const SPEED_LIMIT: f64 = 10_000.0;
    /// A day.
    const STEP_LIMIT: u32 = 86_400;
    /// How often stations change by a forced share where no step says so.
    const FORCED_EVERY: i64 = 60;

    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of range, by name.
    pub fn check(&self) -> Result<(), SimulateError> {
        let refuse = |name, value: String, range: String| Err(SimulateError::Settings { name, value, range });
        if !(1..=City::STATIONS_LIMIT).contains(&self.stations) {
            return refuse("stations", self.stations.to_string(), format!("1 to {}", City::STATIONS_LIMIT));
        }
        if !(self.speed > 0.0 && self.speed <= Self::SPEED_LIMIT) {
            return refuse("speed", self.speed.to_string(), format!("more than 0, at most {}", Self::SPEED_LIMIT));
        }
        if let Some(step) = self.step.filter(|step| !(1..=Self::STEP_LIMIT).contains(step)) {
            return refuse("step", step.to_string(), format!("1 to {} seconds", Self::STEP_LIMIT));
        }
        let shares = [("changed_share", self.changed_share), ("fault_rate", self.faults.fault_rate)];
        for (name, share) in shares {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return refuse(name, share.to_string(), "0 to 1".to_owned());
            }
        }
        Ok(())
    }

    /// What moves the bikes.
    pub(super) fn traffic(&self) -> Traffic {
        let every = self.step.map_or(Self::FORCED_EVERY, i64::from);
        self.changed_share.map_or(Traffic::Rhythm, |share| Traffic::Forced { share, every })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: Self::SEED,
            stations: Self::STATIONS,
            speed: 1.0,
            start: None,
            step: None,
            changed_share: None,
            address: Self::ADDRESS,
            faults: FaultSettings::default(),
        }
    }
}

/// Why a city cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A value out of range.
    #[error("simulate: {name} is {value}, but must be {range}")]
    Settings {
        /// Which.
        name: &'static str,
        /// As it was given.
        value: String,
        /// What would do.
        range: String,
    },
    /// The address cannot be listened on.
    #[error("simulate: cannot listen on {address} ({source}): choose another with --address, or port 0 for a free one")]
    Listen {
        /// As it was given.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
}

impl SimulateError {
    /// Trying again later may help.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}
