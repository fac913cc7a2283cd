//! Settings are refused by name, and are the same as flags and in files.

use chrono::{DateTime, Utc};

use super::super::{Fault, Planned, Settings};

#[test]
fn settings_are_checked_by_name() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    Settings::default().check().unwrap();
    assert!(refused(|s| s.stations = 0).contains("stations is 0"));
    assert!(refused(|s| s.speed = f64::NAN).contains("speed is NaN"));
    assert!(refused(|s| s.step = Some(0)).contains("step is 0"));
    assert!(refused(|s| s.changed_share = Some(1.5)).contains("changed_share is 1.5"));
    assert!(refused(|s| s.faults.fault_rate = Some(-1.0)).contains("fault_rate is -1"));
    assert!("12".parse::<Planned>().unwrap_err().contains("12=html"));
    assert!("12=fire".parse::<Planned>().unwrap_err().contains("missing-ids"));
    let json = r#"{"stations": 20, "faults": {"fault": ["403", "null-keys"], "fault_at": ["2-3=html"]}}"#;
    let settings: Settings = serde_json::from_str(json).unwrap();
    assert_eq!(settings.faults.fault, [Fault::Forbidden, Fault::NullKeys]);
    assert_eq!(settings.faults.fault_at, [Planned { first: 2, last: 3, fault: Fault::Html }]);
    assert_eq!(serde_json::from_value::<Settings>(serde_json::to_value(&settings).unwrap()).unwrap(), settings);
}

#[test]
fn settings_are_flags_as_well() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }
    let parsed = |line: &[&str]| {
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"simulate").chain(line));
        line.map(|line| line.settings).map_err(|error| error.to_string())
    };
    assert_eq!(parsed(&[]).unwrap(), Settings::default());
    let settings = parsed(&["--start", "2024-11-05T08:00:00Z", "--fault", "html,500", "--fault-at", "3=hang"]).unwrap();
    assert_eq!(settings.start, DateTime::<Utc>::from_timestamp(1_730_793_600, 0));
    assert_eq!(settings.faults.fault, [Fault::Html, Fault::ServerError]);
    assert!(parsed(&["--fault", "fire"]).is_err());
}
