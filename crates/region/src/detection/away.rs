//! The gateway's side of credentials that are used away from their machine: what it knows of a call goes to the pure rule.

use std::net::IpAddr;

use inborn_credential::{Caller, Claims, Kind};
use inborn_detect::away::{AwayCall, Place, Policy, Use};
use inborn_identity::{IDENTITY_ROLE_NAME, InstanceId, UnixTime};

use crate::{RegionServer, RequestOrigin};

/// What the gateway knows of such a call when it is answered.
pub(crate) struct Away<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) claims: &'a Claims,
    pub(crate) place: Place,
    pub(crate) source: IpAddr,
    /// As in `sts`.
    pub(crate) service: &'a str,
    pub(crate) api: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) error_code: Option<&'a str>,
    pub(crate) at: UnixTime,
}

impl RegionServer {
    /// Where a machine's credentials are being used, as far as the source tells. `may_be_sent_on`: whether others may send this
    /// call for the machine.
    pub(crate) fn place_of_use(&self, claims: &Claims, origin: &RequestOrigin, may_be_sent_on: bool) -> Place {
        let Some(running) = self.detection.running.get() else { return Place::Untold };
        let Some(machine) = self.machines.packed(claims.instance) else { return Place::Untold };
        let used = Use {
            instance: machine.id(),
            private_address: machine.private_address(),
            ipv6_address: machine.ipv6_address(),
            listener: origin.machine,
            source: origin.peer.address.ip(),
            may_be_sent_on,
        };
        running.away.load().place(&used, |address| self.running_machine_at(claims, address))
    }

    /// A machine of the same account that runs at an address: the one whose credentials they are, if it is one of several.
    fn running_machine_at(&self, claims: &Claims, address: IpAddr) -> Option<InstanceId> {
        let there = self.machines.running_at(claims.account, address);
        let own = there.iter().find(|machine| machine.id() == claims.instance);
        own.or_else(|| there.first()).map(|machine| machine.id())
    }

    /// Whether a call from there is refused.
    pub(crate) fn refuses_away(&self, place: Place) -> bool {
        let refuses = self.detection.running.get().is_some_and(|running| running.away.load().policy == Policy::Enforce);
        let is_refused = refuses && place.is_away();
        if is_refused {
            self.detection.metrics.away_refused.inc();
        }
        is_refused
    }

    /// Finds a call that was made away. Never waits.
    pub(crate) fn found_away(&self, away: &Away<'_>) {
        let call = AwayCall {
            partition: self.identity.partition,
            account: away.claims.account,
            region: self.identity.region.clone(),
            instance: away.claims.instance,
            access_key_id: away.caller.access_key_id.to_string(),
            principal_id: away.caller.principal.user_id(),
            role: match &away.claims.kind {
                Kind::Identity => IDENTITY_ROLE_NAME.to_owned(),
                Kind::Management { role, .. } => role.to_string(),
            },
            service: format!("{}.amazonaws.com", away.service),
            api: away.api.to_owned(),
            user_agent: (!away.user_agent.is_empty()).then(|| away.user_agent.to_owned()),
            error_code: away.error_code.map(ToOwned::to_owned),
            source: away.source,
            place: away.place,
            at: away.at,
        };
        if let Some(finding) = call.finding() {
            self.detection.found(finding);
        }
    }
}
