//! `velib simulate`: a city that serves GBFS.

use anyhow::Result;
use serde_json::json;

use super::print::{Stream, Tone, count};
use super::{Format, interrupted};
use crate::simulate::{Settings, serve};

/// Serve the feed of a simulated city over HTTP, with faults to order.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib simulate --speed 60
  velib simulate --stations 300 --fault-at 12=html,20-25=500
  curl -X POST 127.0.0.1:8580/faults -H 'Content-Type: application/json' -d '{\"fault\": \"truncated\", \"count\": 3}'")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let stations = args.settings.stations;
    let city = serve(args.settings).await?;
    let faults = format!("http://{}/faults", city.address);
    match format {
        Format::Json => Stream::Out.line(
            &json!({"gbfs": city.gbfs_url, "quartiers": city.quartiers_url, "faults": faults, "stations": stations})
                .to_string(),
        ),
        Format::Csv => Stream::Out
            .text(&format!("what,url\ngbfs,{}\nquartiers,{}\nfaults,{faults}\n", city.gbfs_url, city.quartiers_url)),
        Format::Table => {
            let out = Stream::Out;
            out.line(&format!("a city of {} stations; Ctrl-C ends it", count(stations as u64)));
            for (what, url) in [("feed", &city.gbfs_url), ("quartiers", &city.quartiers_url), ("faults", &faults)] {
                out.line(&format!("  {what:<10} {}", out.paint(Tone::Code, url)));
            }
        }
    }
    interrupted().await;
    city.stop().await;
    Ok(())
}
