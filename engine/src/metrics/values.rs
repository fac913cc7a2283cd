//! Rows of small views as gauges: `WITH (metrics = 'column, …')`.
//!
//! What a city wants to be told of (an area short of bikes, a station empty for hours) is a row of a view.
//! The views that say so are shown here, as of their last commit, so that alerts are written on them as on
//! everything else. Each row and column is a series, of which Prometheus wants few: a view shows [`ROWS`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::define::{Definition, Kind};

/// The most rows of a view that are shown; of the rest, it is told how many there are.
pub const ROWS: usize = 250;

/// A row, as it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// A column for people to read.
    pub name: String,
    /// A value a column; none: null.
    pub values: Vec<Option<f64>>,
}

/// Views by job and name.
#[derive(Clone, Debug)]
pub struct Values {
    family: Definition,
    desc: Desc,
    views: Arc<Mutex<BTreeMap<(String, String), View>>>,
}

#[derive(Debug, Default)]
struct View {
    columns: Vec<String>,
    rows: BTreeMap<String, Row>,
    /// Of the view, shown or not.
    total: usize,
}

impl Values {
    /// Shows a view of these columns, without rows yet.
    pub fn show(&self, job: &str, view: &str, columns: Vec<String>) {
        self.lock().insert((job.to_owned(), view.to_owned()), View { columns, ..View::default() });
    }

    /// Rows of a view go, by their keys, and then rows come. Tells how many are not shown now.
    pub fn change(&self, job: &str, view: &str, gone: Vec<String>, come: Vec<(String, Row)>) -> usize {
        let mut views = self.lock();
        let view = views.entry((job.to_owned(), view.to_owned())).or_default();
        view.total = (view.total + come.len()).saturating_sub(gone.len());
        for key in gone {
            view.rows.remove(&key);
        }
        for (key, row) in come {
            if view.rows.len() < ROWS {
                view.rows.insert(key, row);
            }
        }
        view.total.saturating_sub(view.rows.len())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind for Values {
    const KIND: &'static str = "gauge";

    fn create(definition: &Definition, _: &[f64]) -> prometheus::Result<Self> {
        let labels = definition.labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(definition.name.into(), definition.meaning.into(), labels, Default::default())?;
        Ok(Values { family: *definition, desc, views: Arc::default() })
    }

    fn forget(&self, job: &str) {
        self.lock().retain(|(of, _), _| of != job);
    }
}

impl Collector for Values {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics = vec![];
        for ((job, view), shown) in self.lock().iter() {
            for (key, row) in &shown.rows {
                for (column, value) in shown.columns.iter().zip(&row.values) {
                    let Some(value) = value else { continue };
                    let labels = self.family.labels.iter().zip([job, view, column, key, &row.name]);
                    let mut gauge = Gauge::default();
                    gauge.set_value(*value);
                    metrics.push(Metric::from_label(labels.map(|(name, value)| pair(name, value)).collect()));
                    metrics.last_mut().expect("it was pushed").set_gauge(gauge);
                }
            }
        }
        let mut family = MetricFamily::default();
        family.set_name(self.family.name.into());
        family.set_help(self.family.meaning.into());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics);
        vec![family]
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &Values) -> Vec<String> {
        let metrics = values.collect()[0].get_metric().to_vec();
        let text = |metric: &Metric| {
            let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::value).collect();
            format!("{} {}", labels.join(" "), metric.get_gauge().get_value())
        };
        metrics.iter().map(text).collect()
    }

    fn row(key: usize, name: &str, values: &[Option<f64>]) -> (String, Row) {
        (format!("{key:03}"), Row { name: name.to_owned(), values: values.to_vec() })
    }

    #[test]
    fn rows_come_and_go_within_the_limit() {
        let labels = &["job", "view", "column", "key", "name"];
        let family = Definition { name: "velib_test_value", kind: "gauge", labels, meaning: "A test." };
        let values = Values::create(&family, &[]).unwrap();
        values.show("j", "v", vec!["a".into(), "b".into()]);
        assert_eq!(values.change("j", "v", vec![], vec![row(1, "x", &[Some(1.0), None]), row(2, "y", &[None; 2])]), 0);
        assert_eq!(shown(&values), ["j v a 001 x 1"]);
        assert_eq!(values.change("j", "v", vec!["001".into()], vec![row(1, "x", &[Some(2.0), Some(0.5)])]), 0);
        assert_eq!(shown(&values), ["j v a 001 x 2", "j v b 001 x 0.5"]);
        let many = (3..=ROWS + 5).map(|key| row(key, "z", &[Some(0.0), None])).collect();
        assert_eq!(values.change("j", "v", vec![], many), 5);
        assert_eq!(shown(&values).len(), ROWS);
        // One of those that are not shown, and one that is.
        assert_eq!(values.change("j", "v", vec![format!("{}", ROWS + 5), "001".into()], vec![]), 4);
        values.show("j", "v", vec!["a".into()]);
        assert!(shown(&values).is_empty(), "another definition");
        values.change("j", "v", vec![], vec![row(1, "x", &[Some(1.0)])]);
        values.forget("other");
        assert_eq!(shown(&values).len(), 1);
        values.forget("j");
        assert!(shown(&values).is_empty());
    }
}
