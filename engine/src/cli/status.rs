//! `velib status`: the cluster on one page.

use anyhow::Result;

use super::print::{self, Cell, Side, Stream, Table, Tone};
use super::{Api, Format, jobs};
use crate::server::api::Cluster;

/// Show the processes of the cluster and its jobs.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib status
  velib status --output json | jq .generation")]
pub struct Args {
    #[command(flatten)]
    api: Api,
}

/// Who has not been heard of for so long is marked.
const SILENT_MS: i64 = 2_000;

pub async fn run(args: Args, format: Format) -> Result<()> {
    let client = args.api.client()?;
    let cluster = client.status().await?;
    if format != Format::Table {
        return print::things(format, &cluster, |cluster| jobs::table(&cluster.jobs));
    }
    let out = Stream::Out;
    out.line(&headline(&cluster, client.address()));
    out.line("");
    out.text(&processes(&cluster).text(out.is_coloured()));
    out.line("");
    match cluster.jobs.is_empty() {
        true => out.line("no jobs yet: velib submit FILE.sql installs one"),
        false => out.text(&jobs::table(&cluster.jobs).text(out.is_coloured())),
    }
    Ok(())
}

fn headline(cluster: &Cluster, address: &str) -> String {
    let members = cluster.processes.iter().filter(|process| process.index.is_some());
    let workers: i32 = members.clone().map(|process| process.workers).sum();
    format!(
        "{}: generation {}, {}{}, {}, {}",
        Stream::Out.paint(Tone::Strong, address),
        cluster.generation,
        print::counted(members.count(), "process"),
        cluster.wanted.map(|wanted| format!(" ({wanted} wanted)")).unwrap_or_default(),
        print::counted(workers.max(0) as usize, "worker"),
        print::counted(cluster.jobs.len(), "job"),
    )
}

fn processes(cluster: &Cluster) -> Table {
    let Cluster { processes, generation, wanted, .. } = cluster;
    let (generation, wanted) = (*generation, *wanted);
    let members = processes.iter().filter(|process| process.index.is_some()).count();
    let mut table = Table::new([
        ("process", Side::Right),
        ("api", Side::Left),
        ("workers", Side::Right),
        ("generation", Side::Right),
        ("version", Side::Left),
        ("", Side::Left),
    ]);
    for process in processes {
        let current = process.generation.is_some_and(|of| u64::try_from(of).is_ok_and(|of| of == generation));
        let role = match process.index {
            _ if process.silent_ms > SILENT_MS => Cell::toned(Tone::Warn, "silent"),
            _ if process.leaving => Cell::toned(Tone::Warn, "leaves"),
            Some(0) if current => Cell::toned(Tone::Strong, "leader"),
            Some(_) if current => Cell::default(),
            Some(_) => Cell::toned(Tone::Warn, "forms a generation"),
            None if Some(members) == wanted => "standby".into(),
            None => Cell::toned(Tone::Warn, "waits"),
        };
        table.push(vec![
            process.index.map(|index| index.to_string()).unwrap_or_default().into(),
            process.address.as_str().into(),
            process.workers.to_string().into(),
            process.generation.map(|generation| generation.to_string()).unwrap_or_default().into(),
            process.version.as_str().into(),
            role,
        ]);
    }
    table
}
