//! Where a process is reached by the others: the addresses that it advertises.
//!
//! Written down, or taken from where it listens. Who listens on all addresses of a machine is reached under the
//! machine's name. In a written address `{}` stands for that name, so that all processes can have the same settings:
//! the pods of a StatefulSet are `{}.velib:7100`.

use std::net::SocketAddr;

/// What stands for the name of the machine.
const NAME: &str = "{}";

/// The address of a process on the machine `host` that listens on `listening`: as `advertise` says, whose port may be
/// left out.
pub fn advertised(advertise: &str, listening: SocketAddr, host: &str) -> String {
    if advertise.is_empty() {
        return match listening.ip().is_unspecified() {
            true => format!("{host}:{}", listening.port()),
            false => listening.to_string(),
        };
    }
    let named = advertise.replace(NAME, host);
    let port = named.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if port { named } else { format!("{named}:{}", listening.port()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_down_or_taken_from_where_it_listens() {
        for (advertise, listening, expected) in [
            ("", "127.0.0.1:7100", "127.0.0.1:7100"),
            ("", "0.0.0.0:7100", "velib-2:7100"),
            ("", "[::]:7100", "velib-2:7100"),
            ("{}.velib:7200", "0.0.0.0:7100", "velib-2.velib:7200"),
            ("{}.velib", "0.0.0.0:7100", "velib-2.velib:7100"),
            ("10.0.0.3", "0.0.0.0:7100", "10.0.0.3:7100"),
            ("10.0.0.3:1", "0.0.0.0:7100", "10.0.0.3:1"),
        ] {
            assert_eq!(advertised(advertise, listening.parse().unwrap(), "velib-2"), expected, "{advertise}");
        }
    }
}
