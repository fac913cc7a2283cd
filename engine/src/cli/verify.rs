//! `velib verify`: views computed anew in batch, beside their tables.

use anyhow::Result;

use super::print::{self, Cell, Side, Stream, Table, Tone};
use super::{Format, Told};
use crate::verify::{Verified, VerifyError, verify};

/// Compute views of a job anew from the tables that they read, and compare them with their own; exit code 1 if one
/// differs. Views that read sources directly cannot be computed anew, and are named.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib verify occupancy
  velib verify occupancy area_now --output json

The rows of a difference: + is computed and not in the table, - is in the table and not computed.")]
pub struct Args {
    /// The job.
    job: String,
    /// This view only.
    view: Option<String>,
    /// The database with the tables; the role must see the texts of jobs.
    #[arg(long, env = "VELIB_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let verified = match verify(&args.database_url, &args.job, args.view.as_deref()).await {
        Err(VerifyError::Database(error)) => return Err(error.into()),
        verified => verified?,
    };
    print::things(format, &verified, table)?;
    let differ = verified.iter().filter(|view| view.differs()).count();
    let not_computed = verified.iter().filter(|view| view.not_computed.is_some()).count();
    if format == Format::Table {
        for view in &verified {
            let lines = |sign: char, rows: &[String]| {
                rows.iter().map(|row| format!("{sign} {}: {row}", view.view)).collect::<Vec<_>>()
            };
            for line in lines('+', &view.missing.first).into_iter().chain(lines('-', &view.surplus.first)) {
                Stream::Out.line(&line);
            }
        }
    }
    if differ > 0 || (args.view.is_some() && not_computed > 0) {
        let what = if differ > 0 { "differ from what is computed" } else { "cannot be computed anew" };
        print::error(&format!("{} {what}", print::counted(differ.max(not_computed), "view")));
        return Err(Told.into());
    }
    Ok(())
}

fn table(verified: &Vec<Verified>) -> Table {
    let mut table = Table::new([
        ("view", Side::Left),
        ("rows", Side::Right),
        ("missing", Side::Right),
        ("surplus", Side::Right),
        ("", Side::Left),
    ]);
    for view in verified {
        let result = match &view.not_computed {
            Some(reason) => Cell::toned(Tone::Faint, format!("not computed: {reason}")),
            None if view.differs() => Cell::toned(Tone::Bad, "differs"),
            None => Cell::toned(Tone::Good, "the same"),
        };
        let count = |number: usize| Cell::count(number as u64);
        let (missing, surplus) = (count(view.missing.count), count(view.surplus.count));
        table.push(vec![view.view.as_str().into(), count(view.rows), missing, surplus, result]);
    }
    table
}
