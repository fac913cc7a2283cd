//! GEOJSON: places that stay where they are, with their outlines for the function `<source>_at(lon, lat)`.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use geojson::{Feature, FeatureCollection, GeoJson};
use hashbrown::HashSet;
use reqwest::Url;
use serde_json::Value;
use tokio::sync::mpsc;

use super::fetch::{Fetched, Manners, Validators, address, fetch};
use super::settings::Settings;
use super::{
    Connector, Context, Event, Options, Rejection, Relation, Resolved, Snapshot, Source, SourceError, local, poll,
    schema, zones,
};

/// `CREATE SOURCE … FROM GEOJSON (path = '…', id = '…')`.
pub struct Geojson;

#[derive(Clone, Debug)]
struct Places {
    from: Origin,
    /// The property that identifies a feature.
    id: String,
    /// The property that names it.
    name: Option<String>,
    manners: Manners,
}

#[derive(Clone, Debug)]
enum Origin {
    Path(String),
    Address(Url),
}

impl Connector for Geojson {
    fn kind(&self) -> &'static str {
        "GEOJSON"
    }

    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError> {
        let known: Vec<_> = ["path", "url", "id", "name", "key"].into_iter().chain(Manners::SETTINGS).collect();
        let settings = Settings::new(self.kind(), options, &known)?;
        let from = match (settings.text("path"), settings.text("url")) {
            (Some(path), None) => Origin::Path(path.to_owned()),
            (None, Some(url)) => match address(url) {
                Some(url) => Origin::Address(url),
                None if url.contains("://") => {
                    return Err(settings.wrong("url", "write an http or https address, or a path"));
                }
                // So that a job's parameter may be either, as with GBFS.
                None => Origin::Path(url.to_owned()),
            },
            (None, None) => return Err(settings.missing("path")),
            (Some(_), Some(_)) => return Err(settings.wrong("url", "give either a path or a url")),
        };
        if settings.text("key").is_some_and(|key| key != "id") {
            return Err(settings.wrong("key", "features are identified by the column id"));
        }
        let id = settings.required("id")?.to_owned();
        let name = settings.text("name").map(str::to_owned);
        Ok(Arc::new(Places { from, id, name, manners: Manners::bind(&settings)? }))
    }
}

/// What a document holds.
struct Read {
    rows: RecordBatch,
    zones: String,
    rejections: Vec<Rejection>,
}

impl Places {
    async fn text(&self, context: &Context) -> Result<String, SourceError> {
        let bytes = match &self.from {
            Origin::Path(path) => {
                let (path, limit) = (context.folder.join(path), self.manners.max_bytes);
                let read = move || {
                    let bytes = local::open(&path).map_err(|error| error.to_string());
                    let bytes = bytes.and_then(|reader| local::read(reader, limit));
                    bytes.map_err(|why| SourceError::Unavailable(format!("{}: {why}", path.display())))
                };
                tokio::task::spawn_blocking(read).await.expect("reading a file does not panic")?
            }
            Origin::Address(url) => {
                let now = (context.wall_clock_ms)();
                match fetch(&context.http, url, &self.manners, &Validators::default(), now).await {
                    Ok(Fetched::Body(bytes, _)) => bytes,
                    Ok(Fetched::Unchanged) => unreachable!("nothing was known"),
                    Err(error) => return Err(SourceError::Unavailable(error.message)),
                }
            }
        };
        String::from_utf8(bytes).map_err(|_| self.unavailable("not UTF-8"))
    }

    fn unavailable(&self, why: &str) -> SourceError {
        let from = match &self.from {
            Origin::Path(path) => path.clone(),
            Origin::Address(url) => super::fetch::plain(url).to_string(),
        };
        SourceError::Unavailable(format!("{from}: {why}"))
    }

    async fn read(&self, context: &Context) -> Result<Read, SourceError> {
        let text = self.text(context).await?;
        let json: GeoJson = text
            .trim_start_matches('\u{feff}')
            .parse()
            .map_err(|error: geojson::Error| self.unavailable(&error.to_string()))?;
        match json {
            GeoJson::FeatureCollection(collection) => Ok(self.rows(collection.features)),
            _ => Err(self.unavailable("not a feature collection")),
        }
    }

    fn rows(&self, features: Vec<Feature>) -> Read {
        let mut columns = [StringBuilder::new(), StringBuilder::new(), StringBuilder::new()];
        let mut seen = HashSet::new();
        let mut outlines = vec![];
        let mut rejections = vec![];
        let mut refuse = |reason: String, properties: &Value| {
            let sample = Rejection::sample(&properties.to_string());
            rejections.push(Rejection { time: 0, relation: String::new(), reason, sample });
        };
        for (index, mut feature) in features.into_iter().enumerate() {
            let mut rest = feature.properties.take().unwrap_or_default();
            let id = match rest.remove(&self.id).as_ref().map(plain) {
                Some(Some(id)) if seen.insert(id.clone()) => id,
                Some(Some(id)) => {
                    refuse(format!("feature {id} is there twice; the first one counts"), &rest.into());
                    continue;
                }
                _ => {
                    refuse(format!("feature {index} has no property {} that could be its id", self.id), &rest.into());
                    continue;
                }
            };
            let name = self.name.as_ref().and_then(|name| rest.remove(name));
            if feature.geometry.as_ref().is_none_or(|geometry| zones::polygons(&geometry.value).is_none()) {
                refuse(format!("feature {id} is no polygon, and around no point"), &Value::Null);
            } else {
                feature.id = Some(geojson::feature::Id::String(id.clone()));
                (feature.bbox, feature.foreign_members) = (None, None);
                outlines.push(feature);
            }
            columns[0].append_value(id);
            columns[1].append_option(name.as_ref().and_then(plain));
            columns[2].append_value(Value::from(rest).to_string());
        }
        let columns = columns.map(|mut column| Arc::new(column.finish()) as _);
        let rows = RecordBatch::try_new(relation_schema(), columns.to_vec()).expect("the columns of the schema");
        let outlines = FeatureCollection { features: outlines, bbox: None, foreign_members: None };
        Read { rows, zones: GeoJson::from(outlines).to_string(), rejections }
    }
}

/// Text or a number, as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.replace('\0', "\u{fffd}")).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn relation_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    schema(vec![text("id", false), text("name", true), text("properties", false)])
}

impl Source for Places {
    fn identity(&self) -> String {
        format!("{self:?}")
    }

    fn bounded(&self) -> bool {
        true
    }

    fn resolve<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async {
            let read = self.read(context).await?;
            let places = Relation {
                name: String::new(),
                schema: relation_schema(),
                key: vec![0],
                appended: false,
                time_column: None,
            };
            Ok(Resolved { relations: vec![places], zones: Some(read.zones) })
        }
        .boxed()
    }

    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        async move {
            let read = poll::until_there(&context, &out, || self.read(&context).boxed()).await;
            let Some(Read { rows, rejections, .. }) = read else { return };
            let refused = Some(rejections).filter(|list| !list.is_empty()).map(Event::Rejected);
            let snapshot = Event::Snapshot(Snapshot { time: 0, tables: vec![Some(rows)] });
            for event in refused.into_iter().chain([snapshot]) {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
