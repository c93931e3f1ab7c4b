//! What machines are given: credentials of the instance role, and sessions of the role that Default Host Management passes; and what ends
//! all sessions of the latter, whatever moment they are dated.

use std::sync::Arc;

use inborn_credential::{AgentKey, Claims, Credential, Delivery, Kind, generation};
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_store::{PackedInstance, StoreError};

use crate::agents::Registered;
use crate::host_management::SettingError;
use crate::quarantine::CLOCKS_APART_SECONDS;
use crate::{MANAGEMENT_SESSION_SECONDS, RegionServer};

/// How long after an end servers still give what has ended, until the store has it and each has heard of it, or gives nothing any more.
const HEARD_AFTER_SECONDS: u64 = 10;

impl RegionServer {
    /// A machine that may be given something now, as far as this server knows: it runs, is not in quarantine, and not on a host
    /// that was cut off, nor of an account that was closed.
    fn entitled(&self, instance: InstanceId) -> Option<Arc<PackedInstance>> {
        // Who has not heard may not know of the epoch that seals, nor of an end of the machine.
        if self.is_stale() {
            return None;
        }
        let machine = self.machines.packed(instance).filter(|machine| machine.is_running())?;
        let is_ended = self.hosts.has_evicted(&machine) || self.accounts.is_closed(machine.account());
        (self.quarantines.of(&*machine).is_none() && !is_ended).then_some(machine)
    }

    /// The credential that `instance` holds at the moment `at`, fetched by `delivery`; `None` if it does not run, or is in
    /// quarantine.
    /// Pure but for the reading of the machine's record: any number of calls, on any server, give the same bytes.
    #[must_use]
    pub fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<Issued> {
        let machine = self.entitled(instance)?;
        let account = machine.account();
        let not_before = self.authenticator.issue_not_before(account, instance);
        // Nothing is older than the launch, which is asked of it: a clock that lags behind the one that dated the launch may date
        // a reboot before it.
        let begun = machine.boot_time().max(machine.launch_time());
        let generation = generation(instance, begun.max(not_before), at);
        let claims = Claims {
            kind: Kind::Identity,
            account,
            instance,
            region: self.identity.region.clone(),
            issued_at: generation.issued_at,
            expires_at: generation.expires_at,
            delivery,
            boot_generation: machine.boot_generation(),
            private_address: Some(machine.private_address().into()),
        };
        match self.authenticator.keyring().mint(&claims) {
            Ok(credential) => {
                self.metrics.issued.inc();
                Some(Issued { credential, next_at: generation.next_at })
            }
            Err(error) => {
                tracing::error!(%instance, %error, "cannot make a credential");
                None
            }
        }
    }

    /// A session of the role that Default Host Management passes to `instance`; `None` if it passes none, if the instance
    /// does not run, or if no agent has registered there. The agent asks for the next one half-way, and may keep this one to its end.
    #[must_use]
    pub fn issue_management(&self, instance: InstanceId, now: UnixTime) -> Option<Issued> {
        // Who has not heard may not know of the end of the role.
        if self.home().is_stale() {
            return None;
        }
        let machine = self.entitled(instance)?;
        let account = machine.account();
        let of_account = self.host_management.of(account);
        let role = self.roles.get(account, &of_account.setting().role()?)?;
        self.agents.since(instance)?;
        // A session that begins after all that has ended can never be taken for one of those.
        let issued_at = now.max(self.dated_from(&machine));
        of_account.has_issued(issued_at);
        let claims = Claims {
            kind: Kind::Management { role: role.name.clone(), role_id: role.role_id.as_str().into() },
            account,
            instance,
            region: self.identity.region.clone(),
            issued_at,
            expires_at: issued_at.plus(MANAGEMENT_SESSION_SECONDS),
            delivery: Delivery::V2,
            boot_generation: machine.boot_generation(),
            private_address: Some(machine.private_address().into()),
        };
        match self.authenticator.keyring().mint(&claims) {
            Ok(credential) => {
                self.metrics.issued.inc();
                Some(Issued { credential, next_at: issued_at.plus(MANAGEMENT_SESSION_SECONDS / 2) })
            }
            Err(error) => {
                tracing::error!(%instance, %error, "cannot make a management session");
                None
            }
        }
    }

    /// No session of the management role is dated before this moment, whenever it is asked for: it begins after all that has ended, as far as
    /// this server knows, and that may be ahead of every clock.
    pub(crate) fn dated_from(&self, machine: &PackedInstance) -> UnixTime {
        let setting = self.host_management.of(machine.account()).setting();
        let not_before = self.authenticator.issue_not_before(machine.account(), machine.id());
        let registered_at = self.agents.since(machine.id()).unwrap_or_default();
        setting.begins_after().max(machine.launch_time()).max(machine.boot_time()).max(not_before).max(registered_at)
    }

    /// The latest moment that any server can date a session of the management role of this machine, until it has heard of an end now.
    fn dated_up_to(&self, machine: &PackedInstance, now: UnixTime) -> UnixTime {
        self.dated_up_to_of(machine.account(), now).max(self.dated_from(machine))
    }

    /// What of that is the same for all machines of an account. Other servers' clocks may be ahead, and they hear of an end later.
    fn dated_up_to_of(&self, account: AccountId, now: UnixTime) -> UnixTime {
        let ahead = self.fleet().map_or(0, |_| CLOCKS_APART_SECONDS + HEARD_AFTER_SECONDS);
        now.plus(ahead).max(self.host_management.of(account).last_issue())
    }

    /// Passes a role to all machines of an account, or none; when this has answered, the sessions of any other role have ended, and with
    /// them their channels.
    pub(crate) async fn pass_role(
        &self,
        account: AccountId,
        role: Option<String>,
        by: String,
        now: UnixTime,
    ) -> Result<(), SettingError> {
        self.hear_of_ends().await.map_err(SettingError::Store)?;
        let last_issue = || {
            let of_machines = self.machines.of_account(account).map(|machine| self.dated_from(&machine));
            // The body of the call came later than its head.
            let now = now.max(self.now());
            // They are issued until the store has it.
            of_machines.fold(self.dated_up_to_of(account, now).max(now.plus(HEARD_AFTER_SECONDS)), UnixTime::max)
        };
        let set = self.host_management.of(account).set(role, by, now, last_issue).await;
        self.high_water.count_an_end();
        set?;
        self.end_what_no_longer_stands();
        Ok(())
    }

    /// Registers an agent with its key. Nothing that was issued for an earlier registration of the machine is good for this one.
    pub(crate) async fn register_agent(
        &self,
        instance: InstanceId,
        key: &AgentKey,
        now: UnixTime,
    ) -> Result<Registered, StoreError> {
        self.hear_of_ends().await?;
        let Some(machine) = self.machines.packed(instance) else { return Err(StoreError::NotFound(vec![instance])) };
        let dated = Some(self.dated_from(&machine)).filter(|from| *from > now);
        self.agents.register(machine.account(), instance, key, dated.map_or(now, |from| from.plus(1)), now).await
    }

    /// Forgets that an agent has registered; when this has answered, its sessions have ended.
    pub(crate) async fn forget_agent(&self, instance: InstanceId, now: UnixTime) -> Result<bool, StoreError> {
        let Some(machine) = self.machines.packed(instance) else { return Ok(false) };
        let last_issue = || self.dated_up_to(&machine, now.max(self.now()));
        let forgotten = self.agents.forget(machine.account(), instance, last_issue).await;
        self.high_water.count_end_by(&forgotten);
        let was_there = forgotten?;
        self.channels.keep(|claims| claims.instance != instance || self.holds(claims));
        self.sessions.keep(|claims| claims.instance != instance || self.stands(claims));
        Ok(was_there)
    }

    /// Hears of every end that has moved sessions ahead of the clocks, and that another server may have dated one by.
    async fn hear_of_ends(&self) -> Result<(), StoreError> {
        match self.fleet() {
            Some(fleet) if !fleet.catch_up().await => {
                Err(StoreError::Unavailable("what other servers have changed was not heard in time".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Follows the store about the registration of an agent, which another server may have changed.
    pub(crate) async fn hear_agent(&self, instance: InstanceId) -> Result<(), StoreError> {
        self.agents.hear(instance, self.last_issue_to(instance, self.now())).await
    }

    /// Follows the store about the registrations of all agents.
    pub(crate) async fn read_agents_again(&self) -> Result<(), StoreError> {
        let now = self.now();
        self.agents.read_again(|instance| self.last_issue_to(instance, now)).await
    }

    /// The latest moment that a session of the management role can be dated that this machine was given.
    fn last_issue_to(&self, instance: InstanceId, now: UnixTime) -> UnixTime {
        match self.machines.packed(instance) {
            Some(machine) => self.dated_up_to(&machine, now),
            // It is gone, and so is what it was given.
            None => now,
        }
    }
}

/// A credential and when the next one takes its place.
#[derive(Debug)]
pub struct Issued {
    /// The credential.
    pub credential: Credential,
    /// The start of the next window.
    pub next_at: UnixTime,
}
