//! How a metric is defined: its name, labels and meaning in one place, from which its series, its line in
//! `docs/metrics.md` and its forgetting come.

use std::collections::HashMap;

use prometheus::core::{Collector, GenericCounter, GenericGauge, MetricVec, MetricVecBuilder, Number};
use prometheus::{HistogramOpts, HistogramVec, Opts};

/// What holds for every definition.
const DEFINED: &str = "defined once, with a valid name";

/// A metric in words.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// `velib_<noun>_<unit>[_total]`.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

/// What differs between the kinds of metrics.
pub(super) trait Kind: Collector + Clone + Sized + 'static {
    /// What Prometheus calls it.
    const KIND: &'static str;

    fn create(definition: &Definition, buckets: &[f64]) -> prometheus::Result<Self>;

    /// Removes the series of a job.
    fn forget(&self, _job: &str) {}

    /// Defines it, for all the process.
    fn define(definition: &Definition, buckets: &[f64]) -> Self {
        let metric = Self::create(definition, buckets).expect(DEFINED);
        prometheus::register(Box::new(metric.clone())).expect(DEFINED);
        metric
    }
}

fn options(definition: &Definition) -> Opts {
    Opts::new(definition.name, definition.meaning)
}

impl<P: prometheus::core::Atomic + 'static> Kind for GenericCounter<P> {
    const KIND: &'static str = "counter";

    fn create(definition: &Definition, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(options(definition))
    }
}

impl<P: prometheus::core::Atomic + 'static> Kind for GenericGauge<P> {
    const KIND: &'static str = "gauge";

    fn create(definition: &Definition, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(options(definition))
    }
}

impl<P: prometheus::core::Atomic + 'static> Kind for prometheus::core::GenericCounterVec<P> {
    const KIND: &'static str = "counter";

    fn create(definition: &Definition, _: &[f64]) -> prometheus::Result<Self> {
        Self::new(options(definition), definition.labels)
    }

    fn forget(&self, job: &str) {
        forget(self, job);
    }
}

impl<P: prometheus::core::Atomic + 'static> Kind for prometheus::core::GenericGaugeVec<P> {
    const KIND: &'static str = "gauge";

    fn create(definition: &Definition, _: &[f64]) -> prometheus::Result<Self> {
        Self::new(options(definition), definition.labels)
    }

    fn forget(&self, job: &str) {
        forget(self, job);
    }
}

impl Kind for HistogramVec {
    const KIND: &'static str = "histogram";

    fn create(definition: &Definition, buckets: &[f64]) -> prometheus::Result<Self> {
        let options = HistogramOpts::from(options(definition)).buckets(buckets.to_vec());
        Self::new(options, definition.labels)
    }

    fn forget(&self, job: &str) {
        forget(self, job);
    }
}

fn forget<B: MetricVecBuilder>(series: &MetricVec<B>, job: &str) {
    for family in series.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("job") == Some(&job) {
                // Somebody else may have removed it in the meantime.
                let _ = series.remove(&labels);
            }
        }
    }
}

/// Counters that something else counts: made to show `total`.
pub(super) fn show<P>(counter: &GenericCounter<P>, total: P::T)
where
    P: prometheus::core::Atomic,
    P::T: Number,
{
    counter.reset();
    counter.inc_by(total);
}

/// Defines statics, the list of their [`Definition`]s, `define` and `forget`.
macro_rules! metrics {
    ($($group:literal { $($name:ident: $type:ty $([$($label:literal),+])? = $metric:literal, $meaning:literal $(, [$($bucket:literal),+])?;)+ })+) => {
        $($(
            #[doc = $meaning]
            pub static $name: std::sync::LazyLock<$type> = std::sync::LazyLock::new(|| {
                let definition = DEFINITIONS.iter().flat_map(|group| group.1).find(|d| d.name == $metric);
                <$type>::define(definition.expect("it is in the list"), &[$($($bucket),+)?])
            });
        )+)+

        /// Every metric, by what it is about.
        pub const DEFINITIONS: &[(&str, &[Definition])] = &[$(($group, &[$(Definition {
            name: $metric,
            kind: <$type as Kind>::KIND,
            labels: &[$($($label),+)?],
            meaning: $meaning,
        }),+])),+];

        /// Defines all of them, so that they are there before they first count.
        fn define() {
            $($(std::sync::LazyLock::force(&$name);)+)+
        }

        /// The series of a job go when it is dropped.
        pub fn forget(job: &str) {
            $($($name.forget(job);)+)+
        }
    };
}
pub(super) use metrics;
