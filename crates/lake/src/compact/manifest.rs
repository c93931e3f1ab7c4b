//! Which job was begun last, of which segments, and whether its files count.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::files;

const NAME: &str = "manifest";

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) job: u64,
    /// The files count, the segments do not any more.
    pub(crate) written: bool,
    pub(crate) segments: Vec<u64>,
    /// Those of them that are to be kept for a person to look at: not all of them could be read.
    pub(crate) damaged: Vec<u64>,
}

impl Manifest {
    /// Reads what the last job left. `None`: there was none.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(directory.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let value: Value = serde_json::from_slice(&bytes)?;
        let manifest = Self::parse(&value).ok_or_else(|| io::Error::other("the file manifest is not one"))?;
        Ok(Some(manifest))
    }

    /// Writes it, durably.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let value =
            json!({"job": self.job, "written": self.written, "segments": self.segments, "damaged": self.damaged});
        files::replace(&directory.join(NAME), value.to_string().as_bytes())
    }

    fn parse(value: &Value) -> Option<Self> {
        let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
        Some(Self {
            job: value.get("job")?.as_u64()?,
            written: value.get("written")?.as_bool()?,
            segments: numbers(value.get("segments")?)?,
            damaged: value.get("damaged").map_or(Some(Vec::new()), numbers)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(place.path()).unwrap(), None);
        for written in [false, true] {
            let manifest = Manifest { job: 7, written, segments: vec![1, u64::MAX], damaged: vec![1] };
            manifest.write(place.path()).unwrap();
            assert_eq!(Manifest::read(place.path()).unwrap(), Some(manifest));
        }
        fs::write(place.path().join(NAME), "{}").unwrap();
        assert!(Manifest::read(place.path()).is_err(), "what is destroyed is not taken for nothing");
    }
}
