//! Host certificates: whether an account has them, and what one says.

use std::net::IpAddr;

use inborn_identity::AccountId;
use inborn_ssh::{HostClaims, HostKeySet, PublicKey};
use inborn_store::Instance;
use inborn_wire::error::Problem;

use super::{refusal, setting};
use crate::RegionServer;
use crate::operation::JsonCall;

pub(super) const CERTIFICATES: &str = "Certificates";
const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

fn name(account: AccountId) -> String {
    format!("host-certificates {account}")
}

/// Whether machines of the account are given certificates. Not unless somebody wants it: a certificate is believed until its
/// end, whatever becomes of its machine.
pub(super) async fn are_enabled(region: &RegionServer, account: AccountId) -> Result<bool, Problem> {
    Ok(setting::read(region, &name(account)).await?.as_deref() == Some(ENABLED))
}

pub(super) const fn word(are_enabled: bool) -> &'static str {
    if are_enabled { ENABLED } else { DISABLED }
}

pub(super) async fn set(call: &JsonCall<'_>, text: &str) -> Result<(), Problem> {
    if text != ENABLED && text != DISABLED {
        return Err(refusal::invalid(format!("{CERTIFICATES} is {ENABLED} or {DISABLED}")));
    }
    setting::write(call.region, &name(call.caller.principal.account()), text).await
}

/// Certificates of a machine's keys, one for each.
pub(super) fn of(call: &JsonCall<'_>, machine: &Instance, keys: &HostKeySet) -> Result<Vec<String>, Problem> {
    let principals = principals(call.region, machine);
    let certify = |key: &PublicKey| {
        let (mut nonce, mut serial) = ([0; 32], [0; 8]);
        for bytes in [&mut nonce[..], &mut serial[..]] {
            aws_lc_rs::rand::fill(bytes).map_err(|_| Problem::Internal)?;
        }
        let claims = HostClaims {
            key_id: format!("{} of {}", machine.id, machine.account),
            principals: principals.clone(),
            serial: u64::from_be_bytes(serial),
            now: call.now,
            nonce,
        };
        call.region.ssh_authority().certify(key, &claims).map_err(|error| {
            tracing::error!(instance = %machine.id, %error, "cannot make a host certificate");
            Problem::Internal
        })
    };
    keys.iter().map(certify).collect()
}

/// The names that the region has given the machine. Those that follow from an address, which whoever launches may choose, only
/// while no other machine has the same: it would be believed under the name of that one.
fn principals(region: &RegionServer, machine: &Instance) -> Vec<String> {
    let is_alone = |address: IpAddr| region.machines().count_at(address) == 1;
    let mut names = vec![machine.id.to_string()];
    let address = machine.private_address;
    if is_alone(address.into()) {
        names.push(region.identity().private_dns_name(address));
        names.push(address.to_string());
    }
    let address = machine.ipv6_address.filter(|address| is_alone((*address).into()));
    names.extend(address.map(|address| address.to_string()));
    names
}
