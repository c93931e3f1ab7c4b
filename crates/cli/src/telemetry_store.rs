//! The bucket where telemetry is kept: a URL.

use core::fmt;
#[cfg(feature = "s3")]
use core::ops::Range;
use core::str::FromStr;
#[cfg(feature = "s3")]
use std::fs::File;
#[cfg(feature = "s3")]
use std::io;
use std::sync::Arc;
#[cfg(feature = "s3")]
use std::sync::OnceLock;

use inborn_lake::Bucket;

/// A bucket, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
#[cfg(feature = "s3")]
pub(crate) struct TelemetryStore(inborn_lake_s3::Address);

/// There is none in this program.
#[derive(Clone, PartialEq, Eq)]
#[cfg(not(feature = "s3"))]
pub(crate) struct TelemetryStore(core::convert::Infallible);

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
    /// Makes ready to ask it; asks nothing yet. What it lacks to be asked (credentials, certificates to trust) is said, and looked for
    /// again whenever it is to be asked: a region starts all the same, and telemetry waits.
    pub(crate) fn open(&self) -> Arc<dyn Bucket> {
        let client = OnceLock::new();
        match self.client() {
            Ok(found) => drop(client.set(found)),
            Err(error) => tracing::error!("telemetry is not delivered yet: {error:#}"),
        }
        Arc::new(Late { address: self.0.to_string(), store: self.clone(), client })
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

/// A bucket that may lack something to be asked with.
#[cfg(feature = "s3")]
struct Late {
    address: String,
    store: TelemetryStore,
    client: OnceLock<inborn_lake_s3::S3>,
}

#[cfg(feature = "s3")]
impl Late {
    fn client(&self) -> io::Result<&inborn_lake_s3::S3> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.store.client().map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(self.client.get_or_init(|| client))
    }
}

#[cfg(feature = "s3")]
impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(feature = "s3")]
impl Bucket for Late {
    fn address(&self) -> &str {
        &self.address
    }

    fn put(&self, key: &str, file: File) -> io::Result<()> {
        self.client()?.put(key, file)
    }

    fn get(&self, key: &str, range: Range<u64>) -> io::Result<bytes::Bytes> {
        self.client()?.get(key, range)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.client()?.delete(key)
    }
}

#[cfg(not(feature = "s3"))]
impl fmt::Debug for TelemetryStore {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
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
impl TelemetryStore {
    pub(crate) fn open(&self) -> Arc<dyn Bucket> {
        match self.0 {}
    }

    pub(crate) fn probe(&self, _: &str) -> anyhow::Result<()> {
        match self.0 {}
    }

    pub(crate) fn is_open_to_listeners(&self) -> bool {
        match self.0 {}
    }
}

#[cfg(all(test, feature = "s3"))]
mod tests {
    use super::*;

    #[test]
    fn what_it_lacks_is_looked_for_whenever_it_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let keys = place.path().join("keys");
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let url = format!("s3://telemetry/lake?endpoint=http://{address}&credentials={}", keys.display());
        let store: TelemetryStore = url.parse().unwrap();
        let bucket = store.open();
        assert_eq!(bucket.address(), format!("s3://telemetry/lake?endpoint=http://{address}"));
        let put = || bucket.put("ext/x", tempfile::tempfile().unwrap()).unwrap_err().to_string();
        assert!(put().contains("credentials of the telemetry store"), "{}", put());
        std::fs::write(&keys, "[default]\naws_access_key_id = A\naws_secret_access_key = S\n").unwrap();
        assert!(put().contains("cannot be connected to"), "{}", put());
    }
}
