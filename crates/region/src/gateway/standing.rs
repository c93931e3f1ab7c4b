//! Whether a session that was let in still stands: with its machine, its role, and what has been cut off since.

use inborn_credential::{Claims, Kind, Verdict};
use inborn_store::InstanceState;
use inborn_wire::error::Problem;

use crate::RegionServer;

impl RegionServer {
    /// Whether a session that was let in is still good.
    pub(crate) fn holds(&self, claims: &Claims) -> bool {
        self.now() < claims.expires_at && self.stands(claims)
    }

    /// Whether nothing has cut off a session that was let in, as far as this server can know. It may have expired since.
    pub(crate) fn stands(&self, claims: &Claims) -> bool {
        self.keeps_channels() && self.check_alive(claims).is_ok() && self.check_passed(claims).is_ok()
    }

    /// Whether a session stands of which somebody has proved that it is theirs. Its machine may have been launched or started, and its agent
    /// may have registered, at another server a moment ago: nobody is refused before what is new is heard, and who cannot tell says no such
    /// thing. All who wait are answered by the same rounds, of which there are so many a second at most, however many ask.
    pub(super) async fn check_stands(&self, claims: &Claims) -> Result<(), Problem> {
        let check = || self.check_alive(claims).and_then(|()| self.check_passed(claims));
        let is_unheard = match (check(), self.fleet()) {
            (Err(_), Some(fleet)) => !fleet.catch_up().await,
            (known, _) => return known,
        };
        check().map_err(|problem| if is_unheard { Problem::Unavailable } else { problem })
    }

    /// A session of the management role ends with the setting that passed the role, with the role, and with the registration
    /// of its agent: at once.
    fn check_passed(&self, claims: &Claims) -> Result<(), Problem> {
        let Kind::Management { role, role_id } = &claims.kind else { return Ok(()) };
        let is_role = self.roles().get(claims.account, role).is_some_and(|found| found.role_id == **role_id);
        if !is_role {
            return Err(Problem::UnknownKey);
        }
        let setting = self.host_management().of(claims.account).setting();
        let is_passed = setting.role().as_ref() == Some(role) && setting.spares(claims.issued_at);
        let is_registered = self.agents().spares(claims.instance, claims.issued_at);
        if is_passed && is_registered { Ok(()) } else { Err(Problem::ExpiredToken) }
    }

    /// Cut-offs are forgotten by the clock, which may have been wrong. A machine that is gone is unknown, one that is off
    /// has no credentials, and what it was given before it was off stays ended, whatever the clock says or said.
    fn check_alive(&self, claims: &Claims) -> Result<(), Problem> {
        let machine = self.machines.packed(claims.instance).ok_or(Problem::UnknownKey)?;
        // It learns nothing of why.
        if self.quarantines().of(&*machine).is_some() {
            return Err(Problem::UnknownKey);
        }
        // After that: whoever is released meanwhile is cut off first, and what was good a moment ago may not be now.
        match self.authenticator.verdict(claims) {
            Verdict::Alive => {}
            Verdict::Expired => return Err(Problem::ExpiredToken),
            Verdict::Dead => return Err(Problem::UnknownKey),
        }
        if self.accounts().is_closed(machine.account()) {
            return Err(Problem::UnknownKey);
        }
        // Whatever was given to its host may be in other hands, and its end is only a matter of time.
        if self.hosts().has_evicted(&machine) {
            return Err(Problem::UnknownKey);
        }
        match machine.state() {
            // A start is a new launch time, a reboot is not; what is issued is never older than the boot it belongs to.
            InstanceState::Running if claims.issued_at >= machine.launch_time() => Ok(()),
            InstanceState::Running | InstanceState::Stopped => Err(Problem::ExpiredToken),
            InstanceState::Terminated => Err(Problem::UnknownKey),
        }
    }
}
