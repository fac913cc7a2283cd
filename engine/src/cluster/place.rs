//! The place of a process in its cluster: who the others are, and which of them it is.
//!
//! It is written down (`peers`, `process`) or counted. A StatefulSet calls its pods `velib-0`, `velib-1` and
//! so on: then a pattern and their number give every address, and the number at the end of the machine's
//! name says which one this is, so that all processes can have the same settings.

use crate::config::{Cluster, ConfigError};

/// What stands for the number of a process in a pattern.
const NUMBER: &str = "{}";

/// Which of the processes this one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub process: usize,
    /// Where each process is reached, in their order; empty: there is only this one.
    pub peers: Vec<String>,
}

impl Place {
    /// As the settings say, on the machine of this name.
    ///
    /// # Errors
    /// They contradict each other, or the name.
    pub fn of(cluster: &Cluster, host: &str) -> Result<Place, ConfigError> {
        let place = match cluster.peer.as_str() {
            "" => Place { process: cluster.process, peers: cluster.peers.clone() },
            pattern => counted(cluster, pattern, host)?,
        };
        if place.process >= place.peers.len().max(1) {
            return Err(wrong(
                "cluster.process",
                format!("it is {}, but there are {} peers, counted from 0", place.process, place.peers.len()),
            ));
        }
        Ok(place)
    }

    /// An address of this process: `{}` in it stands for its number.
    pub fn named(&self, pattern: &str) -> String {
        named(pattern, self.process)
    }
}

fn counted(cluster: &Cluster, pattern: &str, host: &str) -> Result<Place, ConfigError> {
    if !cluster.peers.is_empty() || cluster.process != 0 {
        let reason = "processes are counted by it: leave cluster.peers and cluster.process out".to_string();
        return Err(wrong("cluster.peer", reason));
    }
    if !pattern.contains(NUMBER) {
        let reason = format!("{pattern:?} has no {NUMBER} where the number of a process belongs");
        return Err(wrong("cluster.peer", reason));
    }
    let count = cluster.processes;
    let process = ordinal(host).ok_or_else(|| {
        let reason = format!("the name of this machine is to end in the number of the process, and is {host:?}");
        wrong("cluster.peer", reason)
    })?;
    if process >= count {
        let reason = format!(
            "there are {count} processes, counted from 0, and this machine is {host}; when their number \
             changes, all of them are to be started again with the new one"
        );
        return Err(wrong("cluster.processes", reason));
    }
    Ok(Place { process, peers: (0..count).map(|process| named(pattern, process)).collect() })
}

fn named(pattern: &str, process: usize) -> String {
    pattern.replace(NUMBER, &process.to_string())
}

/// The number behind the last `-` of the first label of a name.
fn ordinal(host: &str) -> Option<usize> {
    let (_, number) = host.split('.').next()?.rsplit_once('-')?;
    number.parse().ok()
}

fn wrong(setting: &str, reason: String) -> ConfigError {
    ConfigError::Setting { origin: setting.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn place(settings: &[(&str, &str)], host: &str) -> Result<Place, String> {
        let variables = settings.iter().map(|(name, value)| (format!("VELIB_CLUSTER__{name}"), value.to_string()));
        let settings = Settings::load(None, variables).unwrap();
        Place::of(&settings.cluster, host).map_err(|error| error.to_string())
    }

    fn addresses(peers: &[&str]) -> Vec<String> {
        peers.iter().map(|peer| peer.to_string()).collect()
    }

    #[test]
    fn written_down_or_counted() {
        for (settings, host, process, peers) in [
            (vec![], "anywhere", 0, vec![]),
            (vec![("PEERS", "a:1,b:1"), ("PROCESS", "1")], "velib-0", 1, vec!["a:1", "b:1"]),
            (vec![("PEER", "v-{}.v:1"), ("PROCESSES", "2")], "v-1", 1, vec!["v-0.v:1", "v-1.v:1"]),
            (vec![("PEER", "v-{}:1"), ("PROCESSES", "1")], "bike-share-0.v.svc.cluster.local", 0, vec!["v-0:1"]),
        ] {
            assert_eq!(place(&settings, host), Ok(Place { process, peers: addresses(&peers) }), "{settings:?}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let counted = |more: &[(&'static str, &'static str)]| [&[("PEER", "v-{}:1")][..], more].concat();
        for (settings, host, says) in [
            (vec![("PEERS", "a:1,b:1"), ("PROCESS", "2")], "v-0", "cluster.process: it is 2, but there are 2 peers"),
            (vec![("PROCESS", "1")], "v-0", "cluster.process: it is 1, but there are 0 peers"),
            (counted(&[("PROCESSES", "2")]), "v", "is to end in the number of the process, and is \"v\""),
            (counted(&[("PROCESSES", "2")]), "v-2", "there are 2 processes, counted from 0, and this machine is v-2"),
            (counted(&[]), "v-0", "there are 0 processes"),
            (counted(&[("PROCESSES", "2"), ("PEERS", "a:1,b:1")]), "v-0", "leave cluster.peers"),
            (counted(&[("PROCESSES", "2"), ("PROCESS", "1")]), "v-0", "leave cluster.peers"),
            (vec![("PEER", "v:1"), ("PROCESSES", "2")], "v-0", "\"v:1\" has no {}"),
        ] {
            let error = place(&settings, host).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_pattern_stands_for_an_address_of_this_process() {
        let place = Place { process: 2, peers: vec![] };
        assert_eq!(["v-{}.v:7070", "10.0.0.1:7070"].map(|p| place.named(p)), ["v-2.v:7070", "10.0.0.1:7070"]);
    }
}
