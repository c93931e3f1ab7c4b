//! The bucket where telemetry is kept: a URL.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use inborn_lake::Bucket;

/// A bucket, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
#[cfg(feature = "s3")]
pub(crate) struct TelemetryStore(inborn_lake_s3::Address);

/// There is none in this program.
#[derive(Clone, PartialEq, Eq)]
#[cfg(not(feature = "s3"))]
pub(crate) struct TelemetryStore(());

/// What is said then.
#[cfg(not(feature = "s3"))]
const MISSING: &str = "this program was built without the feature `s3`: use one that has it";

#[cfg(feature = "s3")]
impl fmt::Debug for TelemetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(feature = "s3")]
impl FromStr for TelemetryStore {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: inborn_lake_s3::AddressError| error.to_string())
    }
}

#[cfg(feature = "s3")]
impl TelemetryStore {
    /// Makes ready to ask it; asks nothing yet.
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn Bucket>> {
        Ok(Arc::new(self.client()?))
    }

    /// Writes, reads and removes a small object there. May take long: not for a thread that must not wait.
    pub(crate) fn probe(&self, name: &str) -> anyhow::Result<()> {
        Ok(self.client()?.probe(name)?)
    }

    /// Whether what is sent there can be read by everybody on the way, who is not this computer.
    pub(crate) fn is_open_to_listeners(&self) -> bool {
        let is_here = |endpoint: &String| {
            let host = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
            host.is_some_and(|host| {
                let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            })
        };
        self.0.is_plain() && !self.0.endpoint.as_ref().is_some_and(is_here)
    }

    fn client(&self) -> anyhow::Result<inborn_lake_s3::S3> {
        let environment = |name: &str| std::env::var(name).ok();
        let credentials = inborn_lake_s3::Credentials::find(self.0.credentials.as_deref(), environment)?;
        Ok(inborn_lake_s3::S3::open(&self.0, credentials)?)
    }
}

#[cfg(not(feature = "s3"))]
impl fmt::Debug for TelemetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TelemetryStore").field(&self.0).finish()
    }
}

#[cfg(not(feature = "s3"))]
impl FromStr for TelemetryStore {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Err(MISSING.to_owned())
    }
}

#[cfg(not(feature = "s3"))]
#[allow(clippy::unused_self, reason = "with the feature it says where")]
impl TelemetryStore {
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn Bucket>> {
        anyhow::bail!(MISSING)
    }

    pub(crate) fn probe(&self, _: &str) -> anyhow::Result<()> {
        anyhow::bail!(MISSING)
    }

    pub(crate) fn is_open_to_listeners(&self) -> bool {
        false
    }
}
