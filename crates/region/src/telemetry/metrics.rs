//! Counters of telemetry: each request of it has a count instead of an audit line.

use core::fmt;

use inborn_lake::Lake;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What became of an event.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RecordLabels {
    outcome: &'static str,
}

/// Why a batch was put off.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PutOffLabels {
    reason: &'static str,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct TelemetryMetrics {
    records: Family<RecordLabels, Counter>,
    put_off: Family<PutOffLabels, Counter>,
    /// Bytes that came, uncompressed.
    pub(crate) bytes: Counter,
    /// Resources that named another machine as theirs.
    pub(crate) foreign_hosts: Counter,
    /// Events whose clock was too far off.
    pub(crate) times_off: Counter,
}

impl TelemetryMetrics {
    pub(crate) fn records(&self, outcome: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.records.get_or_create(&RecordLabels { outcome }).inc_by(count);
    }

    pub(crate) fn put_off(&self, reason: &'static str) {
        self.put_off.get_or_create(&PutOffLabels { reason }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("inborn_telemetry_records", "Events of machines, by outcome", self.records.clone());
        registry.register(
            "inborn_telemetry_put_off",
            "Requests with events that were told to come again, by reason",
            self.put_off.clone(),
        );
        registry.register("inborn_telemetry_bytes", "Bytes of telemetry, uncompressed", self.bytes.clone());
        registry.register(
            "inborn_telemetry_foreign_hosts",
            "Resources in telemetry whose host.id was not the machine that signed",
            self.foreign_hosts.clone(),
        );
        registry.register(
            "inborn_telemetry_times_off",
            "Events whose time was too far off and was replaced",
            self.times_off.clone(),
        );
    }
}

/// What a lake counts, asked when somebody looks at the metrics.
pub(super) struct LakeCounts(pub(super) Lake);

impl fmt::Debug for LakeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LakeCounts").field(&self.0.counts()).finish()
    }
}

impl Collector for LakeCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        for (name, help, count) in [
            (
                "inborn_telemetry_log_damaged_places",
                "Places in the log of telemetry that could not be read; their segments are kept as log/*.damaged",
                counts.damaged_places,
            ),
            ("inborn_telemetry_log_damaged_bytes", "Bytes of such places", counts.damaged_bytes),
            (
                "inborn_telemetry_not_ocsf",
                "Events that were no JSON object when they became Parquet, and are kept whole in raw_data",
                counts.not_ocsf,
            ),
            (
                "inborn_telemetry_unreadable_files",
                "Files of telemetry of which a question could not read everything",
                counts.unreadable_files,
            ),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        // Without a bucket nothing waits, and alerts find what they look for.
        let waiting = self.0.waiting().unwrap_or_default();
        for (name, help, count) in [
            (
                "inborn_telemetry_delivered_files",
                "Files of telemetry that were put into the bucket",
                counts.delivered_files,
            ),
            ("inborn_telemetry_delivered_bytes", "Bytes of such files", counts.delivered_bytes),
            (
                "inborn_telemetry_delivery_failures",
                "Times that the bucket was away or refused, and was to be tried again",
                counts.delivery_failures,
            ),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, now) in [
            ("inborn_telemetry_waiting_files", "Files of telemetry that are not in the bucket yet", waiting.files),
            ("inborn_telemetry_waiting_bytes", "Bytes of such files", waiting.bytes),
        ] {
            let gauge = ConstGauge::new(i64::try_from(now).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
