//! Telemetry's Parquet in S3, or in what speaks like it: a [`Bucket`] over `object_store`.
//!
//! Its HTTP is `http.rs`, over hyper and the TLS that everything here has. Requests go out of a small runtime of its own, so that
//! whoever waits may be any thread.
//!
//! Integrity: each request's signature covers the SHA-256 of its body (never `UNSIGNED-PAYLOAD`), which the store checks; what
//! comes back is checked by the digests that the lake's files have in them.
#![forbid(unsafe_code)]

mod address;
mod credentials;
mod failure;
mod http;

use core::fmt;
use core::future::Future;
use core::ops::Range;
use core::time::Duration;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use inborn_lake::Bucket;
use inborn_pki::tls::{TrustError, client_config};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, MultipartUpload, ObjectStoreExt as _, RetryConfig};
use tokio::runtime::{Builder, Runtime};

pub use address::{Address, AddressError, PREFIX_BYTES_MAX};
pub use credentials::{Credentials, CredentialsError};
use failure::describe;

/// A file of no more than this is put there in one request; a longer one in parts of so many bytes, of which one is in memory at
/// a time. S3 wants parts of at least 5 MiB, and at most 10,000.
pub const PART_BYTES: u64 = 8 << 20;

/// How often a request is tried again by itself, within [`RETRY_TIMEOUT`]. Beyond that, who asked decides.
const RETRIES_MAX: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A bucket of S3, and what stands before every key in it.
pub struct S3 {
    /// Kept until the end: there is nobody to wait for it then.
    runtime: Option<Runtime>,
    store: Arc<AmazonS3>,
    address: String,
    prefix: String,
}

/// Why there is no bucket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing to check certificates with.
    #[error("the telemetry store: {0}")]
    Trust(#[from] TrustError),
    /// What it is to be reached with cannot be put together.
    #[error("the telemetry store cannot be used: {0}")]
    Settings(String),
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("address", &self.address).finish_non_exhaustive()
    }
}

impl S3 {
    /// Makes ready to ask; asks nothing yet.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(address: &Address, credentials: Credentials) -> Result<Self, OpenError> {
        let settings = |error: &dyn fmt::Display| OpenError::Settings(error.to_string());
        let tls = if address.is_plain() { None } else { Some(client_config(address.ca.as_deref())?) };
        let backoff = BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 };
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&address.bucket)
            .with_region(&address.region)
            .with_virtual_hosted_style_request(address.is_virtual)
            // One object is deleted at a time, in the form that every store has.
            .with_disable_bulk_delete(true)
            .with_allow_http(address.is_plain())
            .with_credentials(Arc::new(credentials))
            .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT })
            .with_http_connector(http::Connector::new(tls));
        let builder = match address.bucket_endpoint() {
            Some(endpoint) => builder.with_endpoint(endpoint),
            None => builder,
        };
        let store = Arc::new(builder.build().map_err(|error| settings(&describe(&error)))?);
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("inborn-s3").enable_all().build();
        let runtime = Some(runtime.map_err(|error| settings(&error))?);
        Ok(Self { runtime, store, address: address.to_string(), prefix: address.prefix.clone() })
    }

    /// Writes, reads and removes a small object below the prefix: says of each whether it can be done.
    ///
    /// # Errors
    /// What cannot be done, and what the store said of it.
    pub fn probe(&self, name: &str) -> io::Result<()> {
        const CONTENT: &[u8] = b"inborn doctor was here; this may be removed\n";
        let path = self.path(name)?;
        let store = Arc::clone(&self.store);
        self.wait(async move {
            let said =
                |what: &str, error: &object_store::Error| io::Error::other(format!("{what}: {}", describe(error)));
            store.put(&path, CONTENT.into()).await.map_err(|error| said("cannot write", &error))?;
            let read = match store.get(&path).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            let removed = store.delete(&path).await.map_err(|error| said("cannot remove", &error));
            let read = read.map_err(|error| said("cannot read", &error))?;
            removed?;
            if read == CONTENT { Ok(()) } else { Err(io::Error::other("what is read is not what was written")) }
        })
    }

    fn path(&self, key: &str) -> io::Result<Path> {
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(whole).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    /// Waits for what the small runtime does.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T> {
        let gone = || io::Error::other("the client of the telemetry store has ended");
        let (answer, answered) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().ok_or_else(gone)?;
        runtime.spawn(async move { _ = answer.send(work.await) });
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket for S3 {
    fn address(&self) -> &str {
        &self.address
    }

    fn put(&self, key: &str, file: File) -> io::Result<()> {
        let path = self.path(key)?;
        let store = Arc::clone(&self.store);
        self.wait(async move {
            let length = file.metadata()?.len();
            if length <= PART_BYTES {
                let put = store.put(&path, part(&file, 0, length)?.into()).await;
                return put.map(drop).map_err(|error| failure::of(&error));
            }
            let mut upload = store.put_multipart(&path).await.map_err(|error| failure::of(&error))?;
            let put = put_parts(upload.as_mut(), &file, length).await;
            if put.is_err() {
                // As far as it goes: what is left costs money until a rule of the bucket removes it.
                let _ = upload.abort().await;
            }
            put
        })
    }

    fn get(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        let path = self.path(key)?;
        let store = Arc::clone(&self.store);
        self.wait(async move { store.get_range(&path, range).await.map_err(|error| failure::of(&error)) })
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key)?;
        let store = Arc::clone(&self.store);
        self.wait(async move {
            match store.delete(&path).await.map_err(|error| failure::of(&error)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            }
        })
    }
}

async fn put_parts(upload: &mut dyn MultipartUpload, file: &File, length: u64) -> io::Result<()> {
    let mut position = 0;
    while position < length {
        let bytes = part(file, position, PART_BYTES.min(length - position))?;
        position += bytes.len() as u64;
        upload.put_part(bytes.into()).await.map_err(|error| failure::of(&error))?;
    }
    upload.complete().await.map(drop).map_err(|error| failure::of(&error))
}

/// At most [`PART_BYTES`] of a local file, which nobody changes.
fn part(file: &File, position: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes.into())
}
