//! `velib demo`: all of it on this machine, to look at.
//!
//! A private PostgreSQL, a simulated city (or a recording), a cluster of processes of this very program, the
//! jobs of `jobs/bikeshare`, and a line for each snapshot that has arrived in the tables. All of it ends with
//! the demo, however that ends.

mod show;
mod watch;
mod workers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Europe::Paris;

use self::show::{Look, Show, Summary};
use self::watch::{Clock, Watch};
use self::workers::{Layout, Workers};
use super::{Format, interrupted, submit};
use crate::client::Client;
use crate::postgres::Store;
use crate::postgres::private::{Durability, Private};
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
/// When the day of the simulated city begins: shortly before the rush.
const MORNING: (u32, u32) = (7, 30);
/// How long a station of the real city is short of bikes or docks before that is an alarm.
const ALARM_SECONDS: f64 = 300.0;

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
    #[arg(long)]
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
        let api = self.start_workers(args, &url).await?;
        self.submit(args, &api, &feed).await?;
        let workers = self.workers.as_ref().expect("just started");
        self.show.ready(&Look {
            psql: self.database.as_ref().map(Private::psql_line),
            api: api.address().to_string(),
            kill: workers.process_ids().last().copied(),
        })?;
        let jobs = JOBS.map(|(name, _)| name.to_string()).to_vec();
        self.watch = Some(Watch::start(&url, api, jobs, feed.clock).await?);
        self.follow(args).await
    }

    async fn open_database(&mut self, args: &Args) -> Result<String> {
        if let Some(url) = &args.database_url {
            let store = Store::open(url).await?;
            let processes = store.processes(SILENCE).await?;
            ensure!(
                processes.is_empty(),
                "a cluster of {} processes works on {}: give the demo another database, or none for a private one",
                processes.len(),
                crate::postgres::describe(url)
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
        let speed = args.speed.unwrap_or(60.0);
        let start = morning();
        let needed = args.replay.is_none() || args.quartiers.is_none();
        if needed {
            let step = args.replay.is_none().then(|| self.show.begin("city"));
            let settings = simulate::Settings {
                seed: args.seed,
                stations: args.stations,
                speed: if args.replay.is_some() { 1.0 } else { speed },
                start: Some(start),
                address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
                ..Default::default()
            };
            let city = simulate::serve(settings).await?;
            if let Some(step) = step {
                let stations = super::print::count(args.stations as u64);
                self.show.done(step, &format!("{stations} stations at {speed} times real time, {}", city.gbfs_url));
            }
            self.city = Some(city);
        }
        let simulated = self.city.as_ref().map(|city| (city.gbfs_url.clone(), city.quartiers_url.clone()));
        let (url, areas) = simulated.unwrap_or_default();
        let Some(path) = &args.replay else {
            let clock = Clock::Live { began: Utc::now(), start, speed };
            return Ok(Feed { url, quartiers: areas, speed: None, alarm: Some(ALARM_SECONDS / speed), clock });
        };
        ensure!(path.exists(), "the recording {} is not there: --replay takes a file or a folder", path.display());
        let quartiers = match &args.quartiers {
            Some(path) if !path.contains("://") => std::path::absolute(path)?.display().to_string(),
            Some(url) => url.clone(),
            None => areas,
        };
        let url = recorded(path)?;
        Ok(Feed { url, quartiers, speed: args.speed, alarm: None, clock: Clock::Recorded })
    }

    async fn start_workers(&mut self, args: &Args, url: &str) -> Result<Client> {
        let step = self.show.begin("workers");
        let layout =
            Layout { processes: usize::from(args.processes), workers: usize::from(args.workers), database: url.into() };
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
        let processes = super::print::counted(workers.process_ids().len(), "process");
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
            if let Some(seconds) = feed.alarm.filter(|_| name == "critical") {
                parameters.push(("min_duration", format!("{} milliseconds", (seconds * 1_000.0).ceil())));
            }
            let parameters = parameters.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            api.submit(&Submit { name: name.into(), text: text.into(), parameters, replace: true }).await?;
        }
        for ((name, _), before) in JOBS.into_iter().zip(before) {
            submit::first_results(api, name, before, RESULTS_LIMIT, |_| {}).await?;
        }
        let names = JOBS.map(|(name, _)| name).join(", ");
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
    /// How many real seconds make an alarm, where that is not the job's own default.
    alarm: Option<f64>,
    clock: Clock,
}

/// The last weekday's morning, in the city's time.
fn morning() -> DateTime<Utc> {
    let mut day = Utc::now().with_timezone(&Paris).date_naive();
    while matches!(day.weekday(), Weekday::Sat | Weekday::Sun) {
        day -= TimeDelta::days(1);
    }
    let (hour, minute) = MORNING;
    let morning = day.and_hms_opt(hour, minute, 0).expect("a time of the day");
    Paris.from_local_datetime(&morning).earliest().map_or_else(Utc::now, |time| time.to_utc())
}

/// A path as the source takes it, from wherever the workers run.
fn recorded(path: &std::path::Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    let inside = if path.is_dir() { path.join("*") } else { path };
    Ok(inside.display().to_string())
}
