//! The regions that one process serves: the home in the data directory, each of the others in a directory of its own below it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use inborn_identity::{Clock, Region};
use inborn_region::RegionServer;
use prometheus_client::registry::Registry;

use crate::arguments;
use crate::directory::{self, DataDirectory, Ready};
use crate::serving;
use crate::settings::Settings;

/// In the home's data directory: those of the other regions, by their names.
const REGIONS_DIRECTORY: &str = "regions";

/// A region beside the home, and where it keeps what is its own.
pub(crate) struct Member {
    pub(crate) region: Arc<RegionServer>,
    pub(crate) directory: DataDirectory,
}

/// The data directory of another region of the deployment whose home has `data`.
pub(crate) fn directory_of(data: &Path, region: &str) -> PathBuf {
    data.join(REGIONS_DIRECTORY).join(region)
}

/// Opens the home, then the others beside it.
pub(crate) async fn open(
    settings: &Settings,
    directory: &DataDirectory,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Arc<RegionServer>, Vec<Member>)> {
    let home = serving::open_region(settings, directory, None, Arc::clone(&clock)).await?;
    serving::prepare(&home, directory)?;
    let mut members = Vec::new();
    for more in &settings.more {
        let name = &more.region;
        let opening = async {
            let directory = DataDirectory::hold(&directory_of(directory.path(), name.as_str()), false)?;
            let beside = serving::Beside { home: &home, more };
            let region = serving::open_region(settings, &directory, Some(beside), Arc::clone(&clock)).await?;
            serving::prepare(&region, &directory)?;
            anyhow::Ok(Member { region, directory })
        };
        members.push(opening.await.with_context(|| format!("region {name} cannot be served"))?);
    }
    for left_out in left_out(directory.path(), &home.region_names())? {
        tracing::warn!(
            region = %left_out,
            "a region of this deployment is not served: name it with --more-regions, or move its directory away"
        );
    }
    Ok((home, members))
}

/// The regions that have a directory there and are not among `served`.
fn left_out(data: &Path, served: &[Region]) -> anyhow::Result<Vec<String>> {
    let regions = data.join(REGIONS_DIRECTORY);
    let entries = match std::fs::read_dir(&regions) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", regions.display())),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|name| !served.iter().any(|region| region.as_str() == name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The counters of all regions, of several each with its name.
pub(crate) fn register(home: &RegionServer, registry: &mut Registry) {
    let regions = home.regions();
    for region in &regions {
        let registry = if regions.len() > 1 {
            registry.sub_registry_with_label(("region".into(), region.identity().region.to_string().into()))
        } else {
            &mut *registry
        };
        region.metrics().register(registry);
        region.telemetry().register(registry);
    }
}

/// Announces the other regions, so that commands find each by its directory: what is the deployment's is the home's.
pub(crate) fn announce(members: &[Member], home: &Ready) -> anyhow::Result<()> {
    for Member { region, directory } in members {
        let ready = Ready {
            region: region.identity().region.to_string(),
            data: directory.path().to_owned(),
            regions: Vec::new(),
            ..home.clone()
        };
        directory.announce(&ready, None)?;
    }
    Ok(())
}

/// The announcement of the region of this name, of the deployment whose home is announced by `home`.
pub(crate) fn find(home: Ready, name: &str) -> anyhow::Result<Ready> {
    if name == home.region {
        return Ok(home);
    }
    // A name that is none of them is never made a path of.
    let found = if home.regions.iter().any(|known| known == name) {
        directory::running_on(&directory_of(&home.data, name))?
    } else {
        None
    };
    let Some(found) = found else {
        let served = if home.regions.is_empty() { home.region } else { home.regions.join(", ") };
        bail!(
            "the `inborn up` on {} serves {served}, not {name}: leave --region away, or name another",
            home.data.display()
        )
    };
    Ok(found)
}

/// The data directory that is named, or that of the named region below it, whether it is served or not; `None`: none is named.
pub(crate) fn named_directory(region: &arguments::Region) -> anyhow::Result<Option<PathBuf>> {
    let data = arguments::named(region.data.as_ref());
    let Some(name) = &region.region_name else { return Ok(data.map(Path::to_owned)) };
    let base = data.map_or_else(directory::default_path, |data| Ok(data.to_owned()))?;
    if let Ok(Some(ready)) = directory::running_on(&base) {
        return Ok(Some(find(ready, name)?.data));
    }
    let name: Region = name.parse().with_context(|| format!("region `{name}`"))?;
    let below = directory_of(&base, name.as_str());
    if !below.is_dir() {
        bail!(
            "{} has no region {name} beside its home: leave --region away for the home, or name another",
            base.display()
        );
    }
    Ok(Some(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_is_not_served_is_found_by_its_name() {
        let base = tempfile::tempdir().unwrap();
        let ask = |name: Option<&str>| {
            let region = arguments::Region { data: Some(base.path().to_owned()), region_name: name.map(str::to_owned) };
            named_directory(&region)
        };
        std::fs::create_dir_all(directory_of(base.path(), "lab")).unwrap();
        assert_eq!(ask(None).unwrap(), Some(base.path().to_owned()));
        assert_eq!(ask(Some("lab")).unwrap(), Some(base.path().join("regions/lab")));
        for name in ["mars-1", "../regions/lab", ""] {
            assert!(ask(Some(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn regions_that_are_not_served_are_found() {
        let base = tempfile::tempdir().unwrap();
        let served: Vec<Region> = vec!["us-east-1".parse().unwrap(), "lab".parse().unwrap()];
        assert_eq!(left_out(base.path(), &served).unwrap(), Vec::<String>::new());
        for name in ["lab", "mars-1", "eu-west-1"] {
            std::fs::create_dir_all(directory_of(base.path(), name)).unwrap();
        }
        assert_eq!(left_out(base.path(), &served).unwrap(), ["eu-west-1", "mars-1"]);
    }
}
