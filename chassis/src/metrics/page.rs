//! The page that tells metrics: what each room says, in the text format that Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::{BOUNDS, Histogram};

/// What a room says of its metrics.
pub type Tell = fn(&mut Page<'_>) -> fmt::Result;

/// Labels: names and values. The values are few and known: a name that callers choose is none.
pub type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// A page being written. Names are without the suffix that their kind has (`_total`, `_bucket` …).
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    /// A counter without labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        count(&mut metric, value)
    }

    /// A counter for each of some labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn counters<'b, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'b, N>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(labels, value)| count(&mut metric.encode_family(&labels)?, value))
    }

    /// A gauge without labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// A gauge for each of some labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn gauges<'b, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'b, N>, i64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    /// A counter that counts parts of a whole, such as seconds.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn counter_of_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, f64, f64>(&value, None::<&Exemplar<_, _>>)
    }

    /// A histogram of seconds without labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        spread(&mut metric, histogram)
    }

    /// A histogram of seconds for each of some labels.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn histograms<'b, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'b, N>, &'b Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        rows.into_iter()
            .try_for_each(|(labels, histogram)| spread(&mut metric.encode_family(&labels)?, histogram))
    }
}

fn count(metric: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

fn spread(metric: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let (counts, seconds) = histogram.read();
    let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(counts).collect();
    metric.encode_histogram::<NoLabelSet>(seconds, counts.iter().sum(), &buckets, None)
}

/// A room on the page.
#[derive(Debug)]
struct Room(Tell);

impl Collector for Room {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Page { encoder })
    }
}

/// The page of these rooms.
///
/// # Errors
/// It cannot be written.
pub(super) fn written(rooms: &[Tell]) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    for room in rooms {
        registry.register_collector(Box::new(Room(*room)));
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_page_tells_each_kind_as_prometheus_reads_it() {
        let text = written(&[|page| {
            page.counter("postern_things", "Things", 3)?;
            page.counters("postern_ends", "Ends", [([("code", "OK")], 1), ([("code", "a\"b")], 2)])?;
            page.gauge("postern_share", "A share", 0.5)?;
            let histogram = Histogram::new();
            histogram.record(Duration::from_millis(3));
            page.histogram("postern_took_seconds", "It took", &histogram)
        }])
        .unwrap();
        for line in [
            "# HELP postern_things Things",
            "# TYPE postern_things counter",
            "postern_things_total 3",
            "postern_ends_total{code=\"OK\"} 1",
            "postern_ends_total{code=\"a\\\"b\"} 2",
            "postern_share 0.5",
            "postern_took_seconds_bucket{le=\"0.0025\"} 0",
            "postern_took_seconds_bucket{le=\"0.005\"} 1",
            "postern_took_seconds_bucket{le=\"+Inf\"} 1",
            "postern_took_seconds_count 1",
            "postern_took_seconds_sum 0.003",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
