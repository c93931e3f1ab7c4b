//! The regions that are to be served beside the home.

use std::collections::BTreeMap;

use anyhow::bail;
use inborn_identity::{Partition, Region};
use inborn_region::{REGIONS_MAX, RegionIdentity};

use super::{FileSettings, keep};
use crate::arguments::Up;
use crate::store_url::StoreUrl;

/// A region beside its home: what is not said of it here is as the home has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MoreRegion {
    pub(crate) region: Region,
    /// Its store; `None`: the one in its data directory, or in memory.
    pub(crate) store: Option<StoreUrl>,
    /// Where its hosts ask; `None`: nowhere.
    pub(crate) hosts_port: Option<u16>,
}

/// What was said of the regions beside the home, as it was said.
#[derive(Debug, Default)]
pub(super) struct More {
    names: Vec<String>,
    /// With the name of a region each.
    hosts_ports: BTreeMap<String, u16>,
    stores: BTreeMap<String, StoreUrl>,
}

impl More {
    /// Of flags and file; what a flag names wins.
    pub(super) fn gather(up: &Up, file: &mut FileSettings, mistakes: &mut Vec<String>) -> Self {
        let named = file.more_regions.take().unwrap_or_default();
        let names = if up.more_regions.is_empty() { named } else { up.more_regions.clone() };
        let mut hosts_ports = file.region_hosts_ports.take().unwrap_or_default();
        for pair in &up.region_hosts_ports {
            let read = pair.split_once('=').and_then(|(name, port)| Some((name.to_owned(), port.parse().ok()?)));
            match read {
                Some((name, port)) => _ = hosts_ports.insert(name, port),
                None => mistakes.push(format!("region hosts port `{pair}`: not REGION=PORT, as in eu-west-1=4544")),
            }
        }
        Self { names, hosts_ports, stores: BTreeMap::new() }
    }

    /// The stores of a fleet, of flags and file.
    pub(super) fn gather_stores(
        &mut self,
        flags: &[String],
        of_file: Option<BTreeMap<String, String>>,
        mistakes: &mut Vec<String>,
    ) {
        let of_flags = flags.iter().map(|pair| match pair.split_once('=') {
            // Not shown otherwise: it may be a URL with a password.
            Some((region, url)) if region.parse::<Region>().is_ok() => (region.to_owned(), url.to_owned()),
            _ => (String::new(), String::new()),
        });
        for (region, url) in of_file.unwrap_or_default().into_iter().chain(of_flags) {
            if region.is_empty() {
                mistakes.push("region store: it is REGION=URL".to_owned());
                continue;
            }
            match url.parse() {
                Ok(url) => _ = self.stores.insert(region, url),
                Err(error) => mistakes.push(format!("region store `{region}`: {error}")),
            }
        }
        // Who names a store means its region.
        let unnamed: Vec<String> = self.stores.keys().filter(|name| !self.names.contains(name)).cloned().collect();
        self.names.extend(unnamed);
        for name in self.names.iter().filter(|name| !self.stores.contains_key(*name)) {
            mistakes.push(format!("more region `{name}`: it has no store: say which with --region-store {name}=URL"));
        }
    }

    /// The regions that are to be served beside `home`, whose partition was `chosen` if somebody did so.
    pub(super) fn check(self, home: &RegionIdentity, is_chosen: bool, mistakes: &mut Vec<String>) -> Vec<MoreRegion> {
        let Self { names, mut hosts_ports, mut stores } = self;
        let mut more: Vec<MoreRegion> = Vec::new();
        for text in &names {
            let Some(region) = keep::<Region>(text, "more region", mistakes) else { continue };
            let own = Partition::of_region(&region).unwrap_or(home.partition);
            if own != home.partition && !is_chosen {
                mistakes.push(format!(
                    "more region `{region}`: it belongs to the partition {own}, and {} to {}: the regions of a deployment have one \
                     partition, and one domain. Serve it by a deployment of its own, or say with --partition which one all are to \
                     have",
                    home.region, home.partition
                ));
            }
            if region == home.region || more.iter().any(|one| one.region == region) {
                mistakes.push(format!("more region `{region}`: it is named twice"));
                continue;
            }
            let (store, hosts_port) = (stores.remove(text), hosts_ports.remove(text));
            more.push(MoreRegion { region, store, hosts_port });
        }
        if more.len() + 1 > REGIONS_MAX {
            mistakes.push(format!("more regions: a deployment has at most {REGIONS_MAX} regions, the home among them"));
        }
        for name in hosts_ports.into_keys().chain(stores.into_keys()) {
            mistakes.push(format!(
                "region `{name}`: it is not among the regions to be served: name it with --more-regions"
            ));
        }
        more
    }
}

/// Each region has a store of its own.
pub(super) fn check_stores(home: Option<&StoreUrl>, more: &[MoreRegion]) -> anyhow::Result<()> {
    let mut all: Vec<&StoreUrl> = home.into_iter().collect();
    for MoreRegion { region, store, .. } in more {
        let Some(store) = store else { continue };
        if all.contains(&store) {
            bail!("region store `{region}`: it is another region's store already: each needs one of its own");
        }
        all.push(store);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::tests::{serve, up};
    use super::*;

    #[test]
    fn regions_beside_the_home_are_like_it() {
        let more = |arguments: &[&str], file: &str| {
            let settings = Settings::merge(&up(arguments), toml::from_str(file).unwrap());
            settings.map(|settings| settings.more).map_err(|error| error.to_string())
        };
        let of = |region: &str, hosts_port| MoreRegion { region: region.parse().unwrap(), store: None, hosts_port };
        assert_eq!(more(&[], "").unwrap(), []);
        let two = ["--more-regions", "eu-west-1,lab", "--region-hosts-port", "lab=0"];
        assert_eq!(more(&two, "").unwrap(), [of("eu-west-1", None), of("lab", Some(0))]);
        let file = "more_regions = [\"lab\"]\n[region_hosts_ports]\nlab = 7";
        assert_eq!(more(&[], file).unwrap(), [of("lab", Some(7))]);
        let china = ["--region", "cn-north-1", "--more-regions", "cn-northwest-1"];
        assert_eq!(more(&china, "").unwrap(), [of("cn-northwest-1", None)]);
        let mixed = ["--more-regions", "cn-north-1,us-gov-west-1,us-east-1,lab,lab,U S"];
        let text = more(&mixed, "").unwrap_err();
        for word in [
            "`cn-north-1`: it belongs to the partition aws-cn",
            "`us-gov-west-1`: it belongs to the partition aws-us-gov",
            "`us-east-1`: it is named twice",
            "`lab`: it is named twice",
            "more region `U S`:",
        ] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(more(&["--partition", "aws", "--more-regions", "cn-north-1"], "").is_ok(), "who chooses one means it");
        assert!(more(&["--region-hosts-port", "lab=1"], "").unwrap_err().contains("--more-regions"));
        assert!(more(&["--region-hosts-port", "lab"], "").unwrap_err().contains("REGION=PORT"));
        let many = |count: usize| (0..count).map(|number| format!("lab-{number}")).collect::<Vec<_>>().join(",");
        for (count, is_good) in [(REGIONS_MAX - 2, true), (REGIONS_MAX - 1, true), (REGIONS_MAX, false)] {
            assert_eq!(more(&["--more-regions", &many(count)], "").is_ok(), is_good, "{count}");
        }
    }

    #[test]
    fn each_region_of_a_fleet_has_a_store_of_its_own() {
        let merge = |arguments: &[&str], file: &str| {
            let settings = Settings::merge_region(&serve(arguments), toml::from_str(file).unwrap());
            settings.map_err(|error| error.to_string())
        };
        let two = ["--store", "sqlite:/a", "--region-store", "lab=postgres://u:secret@h1,h2/d"];
        let settings = merge(&two, "").unwrap();
        assert_eq!(settings.more.len(), 1);
        assert!(matches!(settings.more[0].store, Some(StoreUrl::Postgres(_))));
        assert!(!format!("{settings:?}").contains("secret"));
        let file = "store = \"sqlite:/a\"\n[region_stores]\nlab = \"sqlite:/b\"";
        assert_eq!(merge(&[], file).unwrap().more[0].store, Some(StoreUrl::Sqlite("/b".into())));
        for (arguments, word) in [
            (&["--store", "sqlite:/a", "--more-regions", "lab"][..], "--region-store lab=URL"),
            (&["--store", "sqlite:/a", "--region-store", "lab=sqlite:/a"], "another region's store"),
            (&["--store", "sqlite:/a", "--region-store", "postgres://u:secret@h/d"], "region store"),
            (&["--store", "sqlite:/a", "--region-store", "lab=mysql://u:secret@h/d"], "region store `lab`"),
        ] {
            let text = merge(arguments, "").unwrap_err();
            assert!(text.contains(word) && !text.contains("secret"), "{word} in {text}");
        }
    }
}
