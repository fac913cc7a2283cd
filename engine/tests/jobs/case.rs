//! A golden case: a feed in writing, and tables.
//!
//! ```text
//! What it shows.
//!
//! [parameters]
//! low = 2
//!
//! [stations]
//! station_id,lon,lat,capacity,region
//! A,2.25,48.85,20,
//!
//! [snapshots]
//! at,A,B
//! 2024-11-05 08:00,5/15,-
//! 08:05,4/16,1+2/7 closed
//!
//! [station_now]
//! station_id,bikes
//! A,4
//! B,3
//! ```
//!
//! Times are UTC; a time without a date is of the date above. A cell of a snapshot is what a station
//! says: `bikes/docks` or `mechanical+ebikes/docks`, then perhaps `closed` (neither renting nor returning),
//! `removed` (not installed) or `silent N` (last reported N minutes before). `-`: the station is not listed;
//! an empty cell: as in the line above. Each section that follows is a view: the columns that its first line
//! names, its rows in order.

use crate::table::Table;

/// The sections that are no view.
const INPUTS: [&str; 3] = ["parameters", "stations", "snapshots"];

/// A case, read.
pub struct Case {
    /// Everything before the first view.
    head: String,
    /// Parameters of the job.
    pub parameters: Vec<(String, String)>,
    /// What the stations are.
    pub stations: Table,
    /// What they say, by time.
    pub snapshots: Table,
    /// Views and what is in them.
    pub expected: Vec<(String, Table)>,
}

impl Case {
    /// # Panics
    /// If `text` is no case.
    pub fn parse(text: &str) -> Case {
        let mut sections: Vec<(String, String)> = vec![];
        let mut head = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                sections.push((name.to_owned(), String::new()));
            } else if let Some((_, body)) = sections.last_mut() {
                body.push_str(line);
                body.push('\n');
            }
            if sections.last().is_none_or(|(name, _)| INPUTS.contains(&name.as_str())) {
                head.push_str(line);
                head.push('\n');
            }
        }
        let section = |wanted: &str| sections.iter().find(|(name, _)| name == wanted).map_or("", |(_, body)| body);
        let parameters = section("parameters").lines().filter_map(|line| line.split_once('='));
        let views = sections.iter().filter(|(name, _)| !INPUTS.contains(&name.as_str()));
        Case {
            head: head.trim_end().to_owned(),
            parameters: parameters.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect(),
            stations: Table::parse(section("stations")),
            snapshots: Table::parse(section("snapshots")),
            expected: views.map(|(name, body)| (name.clone(), Table::parse(body))).collect(),
        }
    }

    /// The case with other tables.
    pub fn with(&self, tables: &[(String, Table)]) -> String {
        let tables = tables.iter().map(|(view, table)| format!("\n\n[{view}]\n{table}"));
        format!("{}{}\n", self.head, tables.collect::<String>())
    }
}
