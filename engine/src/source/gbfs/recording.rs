//! Recorded documents, in the order of their times, as if they came now; or what they said, in Parquet.
//!
//! A thread reads and decodes, one document ahead; the task paces. A document's time is the one that its
//! file is named after, else the document's own. Documents of the same time that say different things (a
//! status and an information) make one snapshot.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use velib_operators::Time;

use super::guard::{Guard, Standing};
use super::parquet::{Stop, Tables};
use super::{RecordedFeed, decode, document, relations};
use crate::source::files::conform::Refused;
use crate::source::{Context, Event, Rejection, local, local_time, poll};

/// Events that are decoded ahead of the reader.
const AHEAD: usize = 4;

/// Plays the recording until its end, or until nobody listens.
pub(super) async fn play(feed: Arc<RecordedFeed>, context: Context, out: mpsc::Sender<Event>) {
    let list = || async { local::files(&context.folder, &feed.path) }.boxed();
    let Some(files) = poll::until_there(&context, &out, list).await else { return };
    let (decoded, mut events) = mpsc::channel(AHEAD);
    let (speed, shown) = (feed.speed, context.shown);
    // The thread ends by itself when the channel is closed.
    tokio::task::spawn_blocking(move || read_all(&feed, files, &context, &decoded));
    let mut began: Option<(Instant, Time)> = None;
    while let Some(event) = events.recv().await {
        if let (Event::Snapshot(snapshot), Some(speed)) = (&event, speed)
            && snapshot.time >= shown
        {
            let (started, first) = *began.get_or_insert((Instant::now(), snapshot.time));
            let elapsed = Duration::from_millis(snapshot.time - first).div_f64(speed);
            tokio::select! {
                () = sleep_until(started + elapsed) => {}
                () = out.closed() => return,
            }
        }
        if out.send(event).await.is_err() {
            return;
        }
    }
}

/// Nobody listens any more.
struct Gone;

fn read_all(feed: &RecordedFeed, mut files: Vec<PathBuf>, context: &Context, out: &mpsc::Sender<Event>) {
    let mut playback = Playback::new(feed, (context.wall_clock_ms)());
    // Stable: files of the same time, and those that are not named after one, stay in the order of names.
    files.sort_by_key(|path| local_time::in_name(&local::name(path), feed.zone));
    let mut tables = Tables::new(feed.speed.is_some());
    for path in files {
        let read = match local::name(&path).ends_with(".parquet") {
            true => read_table(&path, &mut tables, out),
            false => read_file(&path, feed.max_bytes, &mut playback, out),
        };
        if read.is_err() {
            return;
        }
    }
    for last in tables.flush().map(Event::Snapshot).into_iter().chain(playback.flush()) {
        if out.blocking_send(last).is_err() {
            return;
        }
    }
}

fn read_table(path: &Path, tables: &mut Tables, out: &mpsc::Sender<Event>) -> Result<(), Gone> {
    let mut refused = Refused::new();
    let send = |snapshot| out.blocking_send(Event::Snapshot(snapshot)).map_err(|_| Gone);
    let unreadable = match tables.read(path, &mut refused, send) {
        Ok(()) => None,
        Err(Stop::Unreadable(error)) => Some(format!("it cannot be read on: {error}")),
        Err(Stop::Taken(gone)) => return Err(gone),
    };
    let (name, time) = (local::name(path), tables.now());
    let left_out = refused.into_iter().map(|(why, (rows, sample))| (format!("{rows} rows left out: {why}"), sample));
    let rejections = left_out.chain(unreadable.map(|why| (why, String::new()))).map(|(why, sample)| Rejection {
        time,
        relation: String::new(),
        reason: format!("{name}: {why}"),
        sample: Rejection::sample(&sample),
    });
    let rejections: Vec<_> = rejections.collect();
    if rejections.is_empty() {
        return Ok(());
    }
    out.blocking_send(Event::Rejected(rejections)).map_err(|_| Gone)
}

fn read_file(path: &Path, limit: usize, playback: &mut Playback, out: &mpsc::Sender<Event>) -> Result<(), Gone> {
    let name = local::name(path);
    let mut each = |name: &str, bytes: Result<Vec<u8>, String>| -> Result<(), Gone> {
        let events = match bytes {
            Ok(bytes) => playback.document(name, &bytes),
            Err(why) => vec![playback.refuse(name, &why, "")],
        };
        events.into_iter().try_for_each(|event| out.blocking_send(event).map_err(|_| Gone))
    };
    let archive = name.ends_with(".tgz") || name.contains(".tar");
    let opened = match archive {
        true => File::open(path).and_then(|file| local::unpack(&name, BufReader::with_capacity(1 << 16, file))),
        false => local::open(path),
    };
    match opened {
        Err(error) => each(&name, Err(error.to_string())),
        Ok(reader) if archive => read_archive(&name, reader, limit, &mut each),
        Ok(reader) => each(&name, local::read(reader, limit)),
    }
}

/// The documents of an archive, one at a time.
fn read_archive(
    name: &str,
    reader: Box<dyn Read + Send>,
    limit: usize,
    each: &mut impl FnMut(&str, Result<Vec<u8>, String>) -> Result<(), Gone>,
) -> Result<(), Gone> {
    let mut archive = tar::Archive::new(reader);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return each(name, Err(error.to_string())),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // What follows cannot be found any more.
            Err(error) => return each(name, Err(format!("the archive cannot be read on: {error}"))),
        };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inner = entry.path().map_or_else(|_| name.to_owned(), |path| local::name(&path));
        let mut bytes = local::read(entry, limit);
        if let Ok(packed) = &bytes
            && (inner.ends_with(".gz") || inner.ends_with(".zst"))
        {
            let unpacked =
                local::unpack(&inner, std::io::Cursor::new(packed.clone())).map_err(|error| error.to_string());
            bytes = unpacked.and_then(|reader| local::read(reader, limit));
        }
        each(&inner, bytes)?;
    }
    Ok(())
}

/// From documents to events. The last snapshot is kept back until it is known to be whole.
struct Playback {
    zone: chrono_tz::Tz,
    /// Now: no document is from much later.
    wall: i64,
    status: (Guard, Standing),
    stations: (Guard, Standing),
    types: decode::VehicleTypes,
    /// The time of the last document.
    document: Time,
    /// The time of the last snapshot.
    last: Time,
    pending: Option<Pending>,
}

struct Pending {
    time: Time,
    stations: Option<RecordBatch>,
    status: Option<RecordBatch>,
}

impl Playback {
    fn new(feed: &RecordedFeed, wall: Time) -> Self {
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        let part = || (Guard::new(feed.hold_back), Standing::default());
        let types = decode::VehicleTypes::default();
        Playback { zone: feed.zone, wall, status: part(), stations: part(), types, document: 0, last: 0, pending: None }
    }

    /// A document that is refused.
    fn refuse(&self, name: &str, why: &str, sample: &str) -> Event {
        let time = local_time::in_name(name, self.zone).unwrap_or(self.document);
        let (relation, sample) = (String::new(), Rejection::sample(sample));
        Event::Rejected(vec![Rejection { time, relation, reason: format!("{name}: {why}"), sample }])
    }

    /// What comes of a document.
    fn document(&mut self, name: &str, bytes: &[u8]) -> Vec<Event> {
        let start = &bytes[..bytes.len().min(Rejection::SAMPLE)];
        self.read(name, bytes).unwrap_or_else(|why| vec![self.refuse(name, &why, &String::from_utf8_lossy(start))])
    }

    fn read(&mut self, name: &str, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let text = document::text(bytes)?;
        let document = document::read(text)?;
        if let Some(listed) = &document.vehicle_types {
            self.types = decode::vehicle_types(listed);
            return Ok(vec![]);
        }
        if document.stations.is_none() && !document.feeds.is_empty() {
            // A discovery document, recorded with the feeds that it lists.
            return Ok(vec![]);
        }
        let own = || document.last_updated.instant(self.wall).and_then(|ms| Time::try_from(ms).ok());
        let time = local_time::in_name(name, self.zone).or_else(own);
        let time = time.ok_or("it has no time: neither is its file named after one, nor has it a last_updated")?;
        if time < self.document {
            return Err("older than the one before it: recordings are read in the order of time".to_owned());
        }
        self.document = time;
        let tables = decode::tables(&document, text, &self.types, time)?;
        if let Some(status) = &tables.status {
            self.status.0.check(status)?;
        }
        let mut stations = tables.stations;
        let mut rejections = tables.rejections;
        if let Some(why) = stations.as_ref().and_then(|listing| self.stations.0.check(listing).err()) {
            stations = None;
            let (relation, sample) = ("stations".to_owned(), String::new());
            rejections.push(Rejection { time, relation, reason: why, sample });
        }
        let standing = if tables.status.is_some() { &mut self.status.1 } else { &mut self.stations.1 };
        let rejections = standing.news(rejections);
        let mut events: Vec<_> =
            Some(rejections).filter(|list| !list.is_empty()).map(Event::Rejected).into_iter().collect();
        events.extend(self.add(time, stations, tables.status));
        Ok(events)
    }

    /// Adds to the pending snapshot, or begins the next one and yields it.
    fn add(&mut self, time: Time, stations: Option<RecordBatch>, status: Option<RecordBatch>) -> Option<Event> {
        if let Some(pending) = &mut self.pending
            && pending.time == time
            && !(pending.stations.is_some() && stations.is_some())
            && !(pending.status.is_some() && status.is_some())
        {
            pending.stations = pending.stations.take().or(stations);
            pending.status = pending.status.take().or(status);
            return None;
        }
        let done = self.flush();
        if stations.is_some() || status.is_some() {
            // Of two documents of one time that say the same, the second is a little later.
            let time = time.max(self.last + 1);
            self.last = time;
            self.pending = Some(Pending { time, stations, status });
        }
        done
    }

    fn flush(&mut self) -> Option<Event> {
        let Pending { time, stations, status } = self.pending.take()?;
        Some(Event::Snapshot(relations::snapshot(time, stations, status)))
    }
}
