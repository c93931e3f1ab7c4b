//! `inborn store backup`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use inborn_identity::Clock;
use inborn_store::dump::{Summary, dump};

use super::{Backup, rows};
use crate::clock::SystemClock;

pub(super) async fn backup(arguments: &Backup) -> anyhow::Result<()> {
    let url = arguments.which.url()?;
    let place = &arguments.file;
    if !arguments.force && place.exists() {
        bail!("there is {} already: name another file, or replace it with --force", place.display());
    }
    let mut snapshot = url.snapshot().await?;
    let beside = Beside::create(place)?;
    let write = async {
        let mut out = BufWriter::new(&beside.file);
        let summary = dump(&mut *snapshot, env!("CARGO_PKG_VERSION"), SystemClock.now(), &mut out).await?;
        out.flush()?;
        drop(out);
        anyhow::Ok(summary)
    };
    let summary: Summary = write.await?;
    let bytes = beside.file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    beside.put(place, arguments.force)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} of {} are in {} ({bytes} bytes)", rows(summary.rows()), url.shown(), place.display())?;
    writeln!(
        out,
        "Secrets in it are sealed, and the key is not in it: keep a copy of the key (epoch.key) in another place"
    )?;
    Ok(())
}

/// The file under another name in the same directory, until it is whole. Removed if it does not come so far.
struct Beside {
    file: File,
    path: Option<PathBuf>,
}

impl Beside {
    fn create(place: &Path) -> anyhow::Result<Self> {
        let mut name = OsString::from(place);
        name.push(format!(".new-{}", std::process::id()));
        let path = PathBuf::from(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = made.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: Some(path) })
    }

    /// On disk first, then at its place. A link, unlike a rename, never replaces what is there.
    fn put(mut self, place: &Path, replace: bool) -> anyhow::Result<()> {
        let Some(path) = self.path.take() else { return Ok(()) };
        let put = self.file.sync_all().and_then(|()| match replace {
            true => fs::rename(&path, place),
            false => fs::hard_link(&path, place).and_then(|()| fs::remove_file(&path)),
        });
        if put.is_err() {
            self.path = Some(path);
        }
        put.with_context(|| format!("cannot write {}", place.display()))?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("cannot write {}", parent.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
