//! `velib scale`: how many processes compute.

use anyhow::Result;

use super::print::{self, Side, Table};
use super::{Api, Format};

/// Say how many processes are to compute; the others stand by.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib scale 3
  velib scale auto      all that there are")]
pub struct Args {
    /// How many, or `auto`.
    #[arg(value_parser = processes)]
    processes: Wanted,
    #[command(flatten)]
    api: Api,
}

#[derive(Clone, Copy, Debug)]
struct Wanted(Option<u16>);

fn processes(text: &str) -> Result<Wanted, String> {
    match text.parse() {
        Ok(0) | Err(_) if text != "auto" => Err("it is a number from 1 to 65535, or auto".to_string()),
        number => Ok(Wanted(number.ok())),
    }
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let scale = args.api.client()?.scale(args.processes.0).await?;
    print::things(format, &scale, |scale| {
        let mut table = Table::new([("wanted", Side::Right)]);
        let wanted = scale.processes.map_or_else(|| "auto".to_string(), |processes| processes.to_string());
        table.push(vec![wanted.into()]);
        table
    })
}
