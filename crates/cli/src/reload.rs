//! SIGHUP: settings are read again, and what can change while a region runs does.

use std::path::PathBuf;
use std::sync::Arc;

use inborn_region::{Changeable, ReadAgain, RegionServer};

use crate::notify::Supervisor;
use crate::settings::Settings;

/// Serves until it is asked to stop. Whenever it is asked to read its settings again, `gather` does that.
pub(crate) async fn until_stopped(
    stop: &mut crate::signals::StopSignals,
    region: &Arc<RegionServer>,
    supervisor: &Supervisor,
    settings: &Settings,
    gather: impl Fn() -> anyhow::Result<Settings>,
) {
    let mut running = Running::of(settings);
    while stop.next_wish().await == crate::signals::Wanted::Reload {
        supervisor.reloading();
        // Each start of an ephemeral region has a directory of its own: its settings are those of its start.
        let wanted = if settings.ephemeral { Ok(None) } else { gather().map(Some) };
        match wanted {
            // Lists of addresses may be long, and a disk may hang: whoever wants an end does not wait for that.
            Ok(wanted) => tokio::select! {
                () = running.follow(wanted.as_ref(), region) => {}
                () = stop.next_stop() => return,
            },
            Err(error) => tracing::error!("the settings were not read again, and stay as they were: {error:#}"),
        }
        supervisor.ready(&format!("region {}, account {}", region.identity().region, region.identity().account));
    }
}

/// The settings that a region runs with.
struct Running {
    changeable: Changeable,
    fixed: Fixed,
}

/// What a start alone takes over, as far as it is compared: a word for each, and how it is said.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fixed(Vec<(&'static str, String)>);

impl Running {
    fn of(settings: &Settings) -> Self {
        Self { changeable: changeable(settings), fixed: Fixed::of(settings) }
    }

    /// Does what is wanted now, and says what has changed, what could not be read, and what waits for a start.
    async fn follow(&mut self, wanted: Option<&Settings>, region: &RegionServer) {
        if let Some(wanted) = wanted {
            let mut now = changeable(wanted);
            let changes = changes(&self.changeable, &now);
            if now.detection.is_some() != self.changeable.detection.is_some() {
                tracing::warn!("detection.enabled is another now: it is taken over by the next start");
                now.detection.clone_from(&self.changeable.detection);
            }
            let waiting = self.fixed.differences(&Fixed::of(wanted));
            if !waiting.is_empty() {
                let waiting = waiting.join(", ");
                tracing::warn!("settings that are other now are taken over by the next start: {waiting}");
            }
            let changes = if changes.is_empty() { "none".to_owned() } else { changes.join(", ") };
            tracing::info!("settings were read again; changed: {changes}");
            self.changeable = now;
        }
        let ReadAgain { lists, lists_failed } = region.reload_all(&self.changeable).await;
        tracing::info!(lists, lists_failed, "rules and lists of addresses are read again");
    }
}

fn changeable(settings: &Settings) -> Changeable {
    Changeable {
        rates: settings.rates,
        stale: settings.fleet.as_ref().map(|fleet| fleet.stale.clone()).unwrap_or_default(),
        detection: settings.detection.settings.clone(),
    }
}

/// What is other than it was, by the names that it has in the file of settings.
fn changes(before: &Changeable, now: &Changeable) -> Vec<&'static str> {
    let of_detection = match (&before.detection, &now.detection) {
        (Some(before), Some(now)) => before != now,
        _ => false,
    };
    let all = [
        ("source_rate", before.rates.source != now.rates.source),
        ("principal_rate", before.rates.principal != now.rates.principal),
        ("stale", before.stale != now.stale),
        ("detection", of_detection),
    ];
    all.into_iter().filter(|(_, is_other)| *is_other).map(|(name, _)| name).collect()
}

impl Fixed {
    fn of(settings: &Settings) -> Self {
        // Each is named, so that a setting that is added is not forgotten here.
        let Settings {
            data,
            ephemeral,
            identity,
            bind,
            port,
            tls_port,
            operations_port,
            hosts_port,
            balancers,
            drain,
            ready_file,
            rates: _,
            metadata,
            key,
            epochs,
            accept_older_store: _,
            detection,
            telemetry,
            lake,
            telemetry_store,
            store,
            more,
            fleet,
            advertise,
        } = settings;
        let path = |path: &PathBuf| path.display().to_string();
        Self(vec![
            ("data", path(data)),
            ("ephemeral", ephemeral.to_string()),
            ("region, account, partition or domain", format!("{identity:?}")),
            ("bind", bind.to_string()),
            ("port", port.to_string()),
            ("tls_port", tls_port.to_string()),
            ("operations_port", operations_port.to_string()),
            ("hosts_port", format!("{hosts_port:?}")),
            ("proxy_protocol_from", format!("{balancers:?}")),
            ("drain", format!("{drain:?}")),
            ("ready_file", format!("{ready_file:?}")),
            ("metadata_rate", format!("{metadata:?}")),
            ("key_credential or key_command", format!("{key:?}")),
            ("epoch_days", format!("{epochs:?}")),
            ("detection.outputs", format!("{:?}", detection.outputs)),
            ("telemetry", format!("{telemetry:?} {lake:?}")),
            ("telemetry_store", format!("{telemetry_store:?}")),
            // Never as a text: a URL may have a password. `Debug` leaves it out, so that another password alone is not noticed.
            ("store", format!("{store:?}")),
            ("more_regions, region_stores or region_hosts_ports", format!("{more:?}")),
            ("node", format!("{:?}", fleet.as_ref().map(|fleet| &fleet.name))),
            ("advertise", format!("{advertise:?}")),
        ])
    }

    /// The names of those that are other.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(before, now)| before.1 != now.1).map(|(before, _)| before.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_region::{FleetSettings, Rate, Rates, StalePolicy};

    #[test]
    fn what_is_other_is_named() {
        let before = Settings::in_memory(None).unwrap();
        let _ = std::fs::remove_dir(&before.data);
        let other = |change: fn(&mut Settings)| {
            let mut now = Settings::in_memory(None).unwrap();
            let _ = std::fs::remove_dir(&now.data);
            now.data.clone_from(&before.data);
            change(&mut now);
            (changes(&changeable(&before), &changeable(&now)), Fixed::of(&before).differences(&Fixed::of(&now)))
        };
        assert_eq!(other(|_| ()), (vec![], vec![]));
        let rates = Rates { source: Rate { per_second: 1, burst: 2 }, ..Rates::default() };
        assert_eq!(rates.principal, before.rates.principal);
        assert_eq!(other(|now| now.rates.source = Rate { per_second: 1, burst: 2 }), (vec!["source_rate"], vec![]));
        assert_eq!(other(|now| now.port = 7), (vec![], vec!["port"]));
        let balancer = |now: &mut Settings| now.balancers = vec!["10.0.0.8/32".parse().unwrap()];
        assert_eq!(other(balancer), (vec![], vec!["proxy_protocol_from"]));
        assert_eq!(other(|now| now.detection.settings = None), (vec![], vec![]), "said by its own name");
        let stale = |now: &mut Settings| {
            let stale = [("ec2".to_owned(), StalePolicy::RefuseAll)].into();
            now.fleet = Some(FleetSettings { name: String::new(), stale });
        };
        assert_eq!(other(stale), (vec!["stale"], vec!["node"]));
        let rules = |now: &mut Settings| now.detection.settings.as_mut().unwrap().own_rules = false;
        assert_eq!(other(rules), (vec!["detection"], vec![]));
    }
}
