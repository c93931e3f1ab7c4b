//! The task that has findings kept and passed on.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use inborn_detect::finding::InstanceDetails;
use inborn_detect::{Finding, FindingKey};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::RegionServer;

/// How long occurrences of a finding are gathered before it is stored: one that comes a thousand times a second is stored
/// four times a second.
const GATHERING: Duration = Duration::from_millis(250);
/// The most findings that are gathered.
const GATHERED_MAX: usize = 4096;
/// How long it is waited after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Records until the region is gone.
pub(super) async fn run(region: Weak<RegionServer>, mut found: mpsc::Receiver<Vec<Finding>>) {
    let mut gathered: HashMap<FindingKey, Finding> = HashMap::new();
    loop {
        if gathered.is_empty() {
            match found.recv().await {
                Some(findings) => gather(&mut gathered, findings, &region),
                None => return,
            }
        }
        let until = Instant::now() + GATHERING;
        while let Ok(Some(findings)) = timeout_at(until, found.recv()).await {
            gather(&mut gathered, findings, &region);
        }
        let Some(region) = region.upgrade() else { return };
        if !record_all(&region, &mut gathered).await {
            sleep(PAUSE).await;
        }
    }
}

fn gather(gathered: &mut HashMap<FindingKey, Finding>, findings: Vec<Finding>, region: &Weak<RegionServer>) {
    for finding in findings {
        let (key, count) = (finding.key(), gathered.len());
        match gathered.get_mut(&key) {
            Some(earlier) => earlier.absorb(finding),
            None if count < GATHERED_MAX => drop(gathered.insert(key, finding)),
            None => {
                if let Some(region) = region.upgrade() {
                    region.detection.metrics.lost.inc();
                }
            }
        }
    }
}

/// Records what was gathered; what fails is kept for the next time.
async fn record_all(region: &RegionServer, gathered: &mut HashMap<FindingKey, Finding>) -> bool {
    let detection = &region.detection;
    let Some(sink) = detection.sink.get() else {
        detection.metrics.lost.inc_by(gathered.len() as u64);
        gathered.clear();
        return true;
    };
    let mut failed = HashMap::new();
    for (key, mut finding) in gathered.drain() {
        complete(region, &mut finding);
        let now = region.now();
        match sink.record(&finding, now).await {
            Ok(recorded) => {
                detection.metrics.findings.inc_by(u64::from(finding.count));
                if let Some(outputs) = detection.outputs.get().filter(|outputs| !outputs.is_empty()) {
                    let line: Arc<str> = finding.to_ocsf(&recorded).to_string().into();
                    outputs.iter().for_each(|output| output.recorded(&line));
                }
            }
            Err(error) => {
                tracing::error!(%error, kind = finding.kind.as_str(), "a finding could not be stored");
                failed.insert(key, finding);
            }
        }
    }
    let is_done = failed.is_empty();
    *gathered = failed;
    is_done
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
