//! The tasks that have findings kept and passed on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use inborn_detect::finding::InstanceDetails;
use inborn_detect::{AddressList, Finding, is_trusted};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::pending::{Pending, Taken};
use super::unjudged::{Counted, Reading};
use crate::RegionServer;

/// How long occurrences of a finding are gathered before it is stored: one that comes a thousand times a second is stored
/// four times a second.
const GATHERING: Duration = Duration::from_millis(250);
/// How long it is waited after the store has failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Records what waits, until the region is gone. `reading`: of the lake from whose events it was found, if there is one.
pub(super) async fn run(
    region: Weak<RegionServer>,
    pending: Weak<Pending>,
    mut woken: mpsc::Receiver<()>,
    reading: Option<Arc<Reading>>,
) {
    while woken.recv().await.is_some() {
        sleep(GATHERING).await;
        let (Some(region), Some(pending)) = (region.upgrade(), pending.upgrade()) else { return };
        let Taken { findings, judged } = pending.take();
        let counted = reading.as_ref().zip(judged).map(|(reading, place)| reading.counted(place));
        let failed = record_all(&region, findings, counted).await;
        let has_failed = !failed.is_empty();
        let lost = pending.recorded(judged, failed);
        if has_failed {
            region.detection.metrics.lost.inc_by(lost);
            drop((region, pending));
            sleep(PAUSE).await;
        }
    }
}

/// Records findings, of events in a part of a log; gives back those that could not be stored.
pub(super) async fn record_all(
    region: &RegionServer,
    findings: Vec<Finding>,
    counted: Option<Counted>,
) -> Vec<Finding> {
    let detection = &region.detection;
    let Some(sink) = detection.sink.get() else {
        detection.metrics.lost.inc_by(findings.iter().map(|finding| u64::from(finding.count)).sum());
        return Vec::new();
    };
    let mut failed = Vec::new();
    for mut finding in findings {
        if is_about_trusted(region, &finding) {
            detection.metrics.trusted.inc_by(u64::from(finding.count));
            continue;
        }
        complete(region, &mut finding);
        match sink.record(&finding, counted, region.now()).await {
            // Nobody wants to know of it, or somebody does already.
            Ok(None) => {}
            Ok(Some(recorded)) => {
                detection.metrics.findings.inc_by(u64::from(finding.count));
                if let Some(outputs) = detection.outputs.get().filter(|outputs| !outputs.is_empty()) {
                    let line: Arc<str> = finding.to_ocsf(&recorded).to_string().into();
                    outputs.iter().for_each(|output| output.recorded(&line));
                }
            }
            Err(error) => {
                tracing::error!(%error, kind = finding.kind.as_str(), "a finding could not be stored");
                failed.push(finding);
            }
        }
    }
    failed
}

/// Whether the other side of what was found is trusted by the account.
fn is_about_trusted(region: &RegionServer, finding: &Finding) -> bool {
    let lists = region.trusted_addresses(finding.account);
    let lists: Vec<&dyn AddressList> = lists.iter().map(|list| &**list as &dyn AddressList).collect();
    is_trusted(finding, &lists)
}

/// Adds what the region knows of the machine.
fn complete(region: &RegionServer, finding: &mut Finding) {
    let Some(details) = &mut finding.resource.instance else { return };
    let Some(machine) = region.machines.get(details.instance) else { return };
    *details = InstanceDetails {
        instance: machine.id,
        zone: Some(machine.zone.to_string()),
        image: Some(machine.image_id.clone()),
        instance_type: Some(machine.instance_type.clone()),
        state: Some(machine.state.to_string()),
        launched_at: Some(machine.launch_time),
        private_address: Some(machine.private_address.to_string()),
        tags: machine.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    };
}
