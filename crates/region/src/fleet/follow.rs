//! What is done about what others have changed.

use std::collections::BTreeSet;

use inborn_credential::{CutOff, Scope};
use inborn_identity::InstanceId;
use inborn_store::{InstanceQuery, QuarantineScope, StoreError, Topic};

use crate::{RegionServer, secrets, sessions};

impl RegionServer {
    /// Acts upon what others have changed.
    ///
    /// One record that cannot be read must not make a server deaf for good. Nor may it be passed over if its end, or what it says, could
    /// end somebody's access: then the whole round fails, and is tried again, until this server is stale and does what its policies say.
    ///
    /// So it is with epochs and cut-offs (what no longer verifies), accounts and operators (who signs), roles and the setting that passes
    /// one (whose sessions stand), registrations (the same of an agent), hosts (which are evicted), machines (which are gone) and
    /// quarantines.
    ///
    /// Passed over, by those who read them (see [`crate::unreadable`]), are what agents said of themselves, documents and detectors, and
    /// sessions that others carry. Commands are not read here: the engine tries again those that it cannot read.
    pub(super) async fn follow(&self, topics: impl Iterator<Item = &Topic>) -> Result<(), StoreError> {
        let mut instances = BTreeSet::new();
        let (mut roles, mut documents, mut host_management, mut sessions) = (false, false, false, false);
        let (mut quarantines, mut epochs, mut ended, mut carried) = (false, false, Vec::new(), Vec::new());
        let (mut hosts, mut accounts, mut operators) = (false, false, false);
        let (mut nodes, mut commands, mut detectors) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        for topic in topics {
            match topic {
                Topic::Instances(ids) => instances.extend(ids.iter().copied()),
                Topic::CutOff(recorded) => {
                    let cut_off = secrets::cut_off(recorded.cut_off);
                    self.machines.end(cut_off, recorded.at);
                    if let CutOff::IssuedBefore { scope, .. } = cut_off {
                        ended.push(scope);
                    }
                    sessions = true;
                }
                Topic::Roles => roles = true,
                Topic::Documents => documents = true,
                Topic::Hosts => hosts = true,
                Topic::Registration(instance) => {
                    self.hear_agent(*instance).await?;
                    sessions = true;
                }
                Topic::Quarantines => quarantines = true,
                Topic::Setting(name) => host_management |= self.host_management.is_named(name),
                Topic::Epochs => epochs = true,
                Topic::Accounts => accounts = true,
                Topic::Operators => operators = true,
                Topic::Detector(account) => _ = detectors.insert(*account),
                Topic::SessionCarried(id) => carried.push(id.as_str()),
                Topic::SessionEnded(id) => self.sessions.ended_elsewhere(id),
                Topic::Node(instance) => _ = nodes.insert(*instance),
                Topic::Command { id, instances } => commands.push((id.as_str(), instances.as_slice())),
                _ => {}
            }
        }
        // First of all: what comes next may be sealed with a new one.
        if epochs {
            self.hear_epochs().await?;
        }
        if accounts {
            self.hear_accounts().await?;
            sessions = true;
        } else if operators {
            self.hear_operators().await?;
        }
        // Before the machines: what ends with a host ends now, however many of them there are.
        if hosts {
            self.hosts.refresh().await?;
            sessions = true;
        }
        let instances: Vec<InstanceId> = instances.into_iter().collect();
        for ids in instances.chunks(InstanceQuery::LIMIT_MAX as usize) {
            self.machines.hear(ids, self.now()).await?;
        }
        let nodes: Vec<InstanceId> = nodes.into_iter().collect();
        for ids in nodes.chunks(InstanceQuery::LIMIT_MAX as usize) {
            self.nodes.hear(ids.to_vec()).await?;
        }
        // After the machines, so that none of them is taken for one that is gone.
        if !commands.is_empty() {
            self.run_command.hear(commands.into_iter());
        }
        if roles && self.is_home() {
            self.roles.hear().await?;
        }
        if documents {
            self.documents.hear().await?;
        }
        if host_management {
            self.host_management.hear().await?;
        }
        if !detectors.is_empty() {
            self.guardduty.hear(&detectors).await?;
        }
        if quarantines {
            self.hear_quarantines().await?;
            self.hand_on_quarantines();
        }
        if self.is_home() && (accounts || roles) {
            self.end_everywhere_what_no_longer_stands();
        } else if roles || host_management || sessions {
            self.end_what_no_longer_stands();
        }
        for scope in ended {
            self.credentials_ended(match scope {
                Scope::Instance(id) => QuarantineScope::Instance(id),
                Scope::Account(id) => QuarantineScope::Account(id),
                Scope::All => QuarantineScope::All,
            });
        }
        // After all that ends access: it keeps none of that waiting.
        sessions::hear_carried(self, &carried).await
    }
}
