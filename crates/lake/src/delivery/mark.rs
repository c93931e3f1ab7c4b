//! Up to which job everything is in the bucket, and in which.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::files;

const NAME: &str = "delivered";

/// The mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The bucket's address.
    pub(crate) bucket: Box<str>,
    /// The last job of which all files are there.
    pub(crate) job: u64,
}

impl Mark {
    pub(crate) fn read(lake: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(lake.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let parse = || {
            let value: Value = serde_json::from_slice(&bytes).ok()?;
            Some(Self { bucket: value.get("bucket")?.as_str()?.into(), job: value.get("job")?.as_u64()? })
        };
        let damaged = || {
            let path = lake.join(NAME);
            io::Error::other(format!(
                "{} does not say what was delivered: put it back from a backup; or remove it, if the bucket is the same as ever",
                path.display()
            ))
        };
        parse().ok_or_else(damaged).map(Some)
    }

    pub(crate) fn write(&self, lake: &Path) -> io::Result<()> {
        files::replace(&lake.join(NAME), json!({"bucket": self.bucket, "job": self.job}).to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(place.path()).unwrap(), None);
        let mark = Mark { bucket: "s3://b/p".into(), job: 7 };
        mark.write(place.path()).unwrap();
        assert_eq!(Mark::read(place.path()).unwrap(), Some(mark));
        fs::write(place.path().join(NAME), "{}").unwrap();
        assert!(Mark::read(place.path()).is_err());
    }
}
