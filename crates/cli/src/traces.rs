//! Traces of requests, to a collector: by a program that was built with the feature `otel`.

use tracing_subscriber::{Layer, Registry};

/// Who is told what the program says.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How long a stop waits for what is still to be sent.
#[cfg(feature = "otel")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// What sends traces, if they go anywhere.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    #[cfg(feature = "otel")]
    exporter: Option<inborn_traces::Exporter>,
}

impl Traces {
    /// Starts sending, if the flag or the environment says where.
    #[cfg(feature = "otel")]
    pub(crate) fn start(flag: Option<&str>) -> anyhow::Result<(Self, Option<BoxedLayer>)> {
        let environment = |name: &str| std::env::var(name).ok();
        let Some(settings) = inborn_traces::Settings::gather(flag, environment)? else {
            return Ok((Self::default(), None));
        };
        let (exporter, spans) = inborn_traces::Exporter::start(settings, crate::clock::now_ns)?;
        let layer = spans.with_filter(inborn_traces::Spans::filter());
        Ok((Self { exporter: Some(exporter) }, Some(Box::new(layer))))
    }

    /// There is nothing here that could. (Variables that others of OpenTelemetry's programs are told by are not for this one.)
    #[cfg(not(feature = "otel"))]
    pub(crate) fn start(flag: Option<&str>) -> anyhow::Result<(Self, Option<BoxedLayer>)> {
        if flag.is_some_and(|url| !url.is_empty()) {
            anyhow::bail!(
                "--otlp-traces-endpoint: this program was built without the feature `otel`: use one that has it"
            );
        }
        Ok((Self::default(), None))
    }

    /// Sends what waits.
    #[cfg(feature = "otel")]
    pub(crate) async fn stop(self) {
        if let Some(exporter) = self.exporter {
            exporter.stop(PATIENCE).await;
        }
    }

    /// Nothing waits.
    #[cfg(not(feature = "otel"))]
    #[allow(clippy::unused_self, clippy::unused_async, reason = "with the feature it sends what waits")]
    pub(crate) async fn stop(self) {}
}
