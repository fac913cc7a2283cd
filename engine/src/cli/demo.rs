//! `velib demo`: all of it on this machine, to look at.
//!
//! A private PostgreSQL, a simulated city (or a recording), a cluster of processes of this very program, the
//! jobs of `jobs/bikeshare`, and a line for each snapshot that has arrived in the tables. All of it ends with
//! the demo, however that ends.

mod clock;
mod show;
mod watch;
mod workers;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use chrono::Utc;

use self::clock::Clock;
use self::show::{Look, Show, Summary};
use self::watch::Watch;
use self::workers::{Layout, Workers};
use super::print::counted;
use super::{Format, interrupted, submit};
use crate::client::Client;
use crate::postgres::private::{Durability, Private};
use crate::postgres::{Store, describe};
use crate::server::api::Submit;
use crate::simulate::{self, Running};

/// The jobs, with what else is to be known of each.
const JOBS: [(&str, &str); 3] = [
    ("occupancy", include_str!("../../../jobs/bikeshare/occupancy.sql")),
    ("critical", include_str!("../../../jobs/bikeshare/critical.sql")),
    ("trends", include_str!("../../../jobs/bikeshare/trends.sql")),
];

/// How long the workers may take to find each other.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a job may take to its first results.
const RESULTS_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at the tables.
const LOOK: Duration = Duration::from_millis(100);
/// A process that has been heard of within this time lives.
const SILENCE: Duration = Duration::from_secs(15);
/// Simulated seconds in a real one.
const SPEED: f64 = 60.0;

/// Show all of it on this machine: a city, a cluster, the jobs, the tables.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib demo
  velib demo --stations 300 --speed 10 --processes 3
  velib demo --replay recorded/2024-11-05.tar.zst --output json
  velib demo --seconds 60 --output json | tail -1 | jq .commit_p99_ms")]
pub struct Args {
    /// Play recorded documents instead of a city: a file, a folder, an archive.
    #[arg(long, value_name = "PATH")]
    replay: Option<PathBuf>,
    /// The areas of the replayed city, as GeoJSON: a path or a URL [default: those of the simulated city]
    #[arg(long, value_name = "PATH", requires = "replay")]
    quartiers: Option<String>,
    /// How many stations the city has.
    #[arg(long, default_value_t = simulate::Settings::default().stations, conflicts_with = "replay")]
    stations: usize,
    /// The same seed gives the same city with the same life.
    #[arg(long, default_value_t = simulate::Settings::default().seed, conflicts_with = "replay")]
    seed: u64,
    /// Times real time [default: 60; recordings as fast as they can be read]
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// How often the feed is asked.
    #[arg(long, default_value = "2 s", conflicts_with = "replay")]
    poll: String,
    /// Processes of the cluster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    processes: u16,
    /// Worker threads of each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// A database of yours for the results [default: a private one, gone with the demo]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// End by itself after so many seconds of results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let mut stage = Stage { show: Show::new(format), city: None, database: None, workers: None, watch: None };
    let played = tokio::select! {
        played = stage.play(&args) => played,
        () = interrupted() => Ok(()),
    };
    let summary = stage.summary().await;
    stage.clear().await;
    if let Some(summary) = summary.filter(|_| played.is_ok()) {
        stage.show.summary(&summary)?;
    }
    played
}

/// What runs, in the order in which it was started.
struct Stage {
    show: Show,
    database: Option<Private>,
    city: Option<Running>,
    workers: Option<Workers>,
    watch: Option<Watch>,
}

impl Stage {
    /// Sets everything up, and shows it until its end.
    async fn play(&mut self, args: &Args) -> Result<()> {
        let url = self.open_database(args).await?;
        let feed = self.open_feed(args).await?;
        let api = self.start_workers(args, &url, &feed).await?;
        self.submit(args, &api, &feed).await?;
        let workers = self.workers.as_ref().expect("just started");
        self.show.ready(&Look {
            psql: self.database.as_ref().map(Private::psql_line),
            api: api.address().to_string(),
            workers: workers.process_ids(),
        })?;
        let jobs = JOBS.map(|(name, _)| name.to_string()).to_vec();
        self.watch = Some(Watch::start(&url, api, jobs, feed.clock).await?);
        self.follow(args).await
    }

    async fn open_database(&mut self, args: &Args) -> Result<String> {
        if let Some(url) = &args.database_url {
            let store = Store::open(url).await?;
            let processes = store.heard_of(SILENCE).await?;
            let jobs: Vec<String> = store.jobs().await?.into_iter().map(|job| job.name).collect();
            ensure!(
                processes.is_empty() && jobs.is_empty(),
                "{} belongs to a cluster ({}, {}): give the demo a database of its own, or none for a private one",
                describe(url),
                counted(processes.len(), "process"),
                counted(jobs.len(), "job"),
            );
            return Ok(url.clone());
        }
        let step = self.show.begin("PostgreSQL");
        let server = Private::start(None, Durability::ThrowAway).await?;
        self.show.done(step, &format!("private, on port {}", server.port()));
        let url = server.url();
        self.database = Some(server);
        Ok(url)
    }

    /// A replay needs the simulated city for its areas only.
    async fn open_feed(&mut self, args: &Args) -> Result<Feed> {
        let mut feed = Feed { url: String::new(), quartiers: String::new(), speed: None, clock: None };
        if args.replay.is_none() || args.quartiers.is_none() {
            let step = args.replay.is_none().then(|| self.show.begin("city"));
            let clock = Clock::new(Utc::now(), args.speed.unwrap_or(SPEED));
            let settings = simulate::Settings {
                seed: args.seed,
                stations: args.stations,
                speed: clock.speed,
                start: Some(clock.city_time(Utc::now())),
                address: (Ipv4Addr::LOCALHOST, 0).into(),
                ..Default::default()
            };
            let city = simulate::serve(settings).await?;
            (feed.url, feed.quartiers) = (city.gbfs_url.clone(), city.quartiers_url.clone());
            if let Some(step) = step {
                let stations = counted(args.stations, "station");
                self.show.done(step, &format!("{stations} at {} times real time, {}", clock.speed, feed.url));
                feed.clock = Some(clock);
            }
            self.city = Some(city);
        }
        if let Some(path) = &args.replay {
            ensure!(path.exists(), "the recording {} is not there: --replay takes a file or a folder", path.display());
            feed.url = recorded(path)?;
            feed.speed = args.speed;
        }
        match &args.quartiers {
            Some(url) if url.contains("://") => feed.quartiers.clone_from(url),
            Some(path) => feed.quartiers = std::path::absolute(path)?.display().to_string(),
            None => {}
        }
        Ok(feed)
    }

    async fn start_workers(&mut self, args: &Args, url: &str, feed: &Feed) -> Result<Client> {
        let step = self.show.begin("workers");
        let layout = Layout {
            processes: usize::from(args.processes),
            workers: usize::from(args.workers),
            database: url.to_string(),
            clock: feed.clock,
        };
        let workers = self.workers.insert(Workers::start(layout).await?);
        let api = Client::new(&format!("http://{}", workers.api()))?;
        let began = Instant::now();
        while let Err(error) = api.ready().await {
            workers.check()?;
            if began.elapsed() > READY_LIMIT {
                bail!("the workers did not find each other within {} s: {error}", READY_LIMIT.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        let processes = counted(workers.process_ids().len(), "process");
        self.show.done(step, &format!("{processes} of {} threads, API {}", args.workers, api.address()));
        Ok(api)
    }

    async fn submit(&mut self, args: &Args, api: &Client, feed: &Feed) -> Result<()> {
        let step = self.show.begin("jobs");
        let mut before = vec![];
        for (name, text) in JOBS {
            before.push(api.job(name).await.ok().and_then(|job| job.frontier));
            let mut parameters = vec![("feed", feed.url.clone()), ("quartiers", feed.quartiers.clone())];
            parameters.push(("poll", args.poll.clone()));
            parameters.extend(feed.speed.map(|speed| ("speed", speed.to_string())));
            let parameters = parameters.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            api.submit(&Submit { name: name.into(), text: text.into(), parameters, replace: true }).await?;
        }
        let names = JOBS.map(|(name, _)| name).join(", ");
        if args.replay.is_some() {
            // What there is of a recording is shown as it comes.
            self.show.done(step, &format!("{names}: installed"));
            return Ok(());
        }
        for ((name, _), before) in JOBS.into_iter().zip(before) {
            submit::first_results(api, name, before, RESULTS_LIMIT, |_| {}).await?;
        }
        self.show.done(step, &format!("{names}: first results are there"));
        Ok(())
    }

    /// A line for each snapshot, and for what happens to the workers.
    async fn follow(&mut self, args: &Args) -> Result<()> {
        let (Some(watch), Some(workers)) = (&mut self.watch, &mut self.workers) else { return Ok(()) };
        let end = args.seconds.map(Duration::from_secs);
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut away = false;
        while end.is_none_or(|end| watch.elapsed() < end) && !watch.is_over() {
            tick.tick().await;
            for notice in workers.tend().await? {
                self.show.notice(&notice);
            }
            match watch.look().await {
                Ok(lines) => {
                    away = false;
                    for line in lines {
                        self.show.snapshot(&line)?;
                    }
                }
                Err(error) if !away => {
                    away = true;
                    self.show.notice(&format!("the database cannot be looked at: {error:#}"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn summary(&mut self) -> Option<Summary> {
        let (watch, workers) = (self.watch.as_mut()?, self.workers.as_ref()?);
        Some(watch.summary(workers.memory_mb(), workers.restarts()).await)
    }

    /// Ends everything, the last first.
    async fn clear(&mut self) {
        self.watch = None;
        self.show.stopping();
        if let Some(workers) = self.workers.take() {
            workers.stop().await;
        }
        if let Some(city) = self.city.take() {
            city.stop().await;
        }
        if let Some(mut server) = self.database.take()
            && let Err(error) = server.stop().await
        {
            self.show.notice(&error.to_string());
        }
    }
}

/// What the jobs read.
struct Feed {
    url: String,
    quartiers: String,
    /// Of a recording; none: as fast as it can be read.
    speed: Option<f64>,
    /// Of a simulated city.
    clock: Option<Clock>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| *speed > 0.0 && *speed <= 10_000.0);
    speed.ok_or_else(|| "write how many times real time, more than 0 and at most 10000".to_string())
}

/// A path as the source takes it, from wherever the workers run.
fn recorded(path: &std::path::Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    let inside = if path.is_dir() { path.join("*") } else { path };
    Ok(inside.display().to_string())
}
