//! What the operations on key pairs have in common.

use std::collections::BTreeMap;

use inborn_store::{Conflict, KeyPair, StoreError};
use inborn_wire::Answer;
use inborn_wire::error::Problem;
use inborn_wire::query::{Parameters, Structure};
use serde_json::json;

use super::ssh_key::Public;
use super::{refusal, request};
use crate::operation::{Call, Reply};

/// Most key pairs of an account. Source: EC2 user guide, "Amazon EC2 service quotas".
const KEY_PAIRS_MAX: usize = 5000;
/// Longest name, in characters. Source: EC2 API reference, `CreateKeyPair`.
const NAME_LENGTH_MAX: usize = 255;

/// `KeyName` of a key pair that is to be: printable ASCII without blanks at its ends.
pub(super) fn new_name<'a>(root: &Structure<'a>) -> Result<&'a str, Problem> {
    let name = root.get("KeyName").ok_or_else(|| refusal::missing_parameter("KeyName"))?;
    let is_fine = (1..=NAME_LENGTH_MAX).contains(&name.len())
        && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name.trim() == name;
    if is_fine { Ok(name) } else { Err(refusal::invalid_value("Invalid value for parameter KeyName")) }
}

/// The tags for `key-pair` in `TagSpecification.N`.
pub(super) fn tags(parameters: &Parameters) -> Result<BTreeMap<String, String>, Problem> {
    request::tags_for(parameters, "key-pair")
}

/// All key pairs of the caller's account.
pub(super) async fn all(call: &Call<'_>) -> Result<Vec<KeyPair>, Problem> {
    call.region.store().key_pairs(call.caller.principal.account()).await.map_err(refusal::of_store)
}

/// The key pair of this name.
pub(super) async fn named(call: &Call<'_>, name: &str) -> Result<KeyPair, Problem> {
    all(call).await?.into_iter().find(|pair| pair.name == name).ok_or_else(|| refusal::key_pair_not_found(name))
}

/// Refuses what could not be put, before a key is made for it, and in a dry run.
pub(super) async fn check_room(call: &Call<'_>, name: &str) -> Result<(), Problem> {
    let all = all(call).await?;
    if all.iter().any(|pair| pair.name == name) {
        return Err(refusal::key_pair_exists(name));
    }
    if has_room(all.len()) { Ok(()) } else { Err(refusal::key_pair_limit()) }
}

const fn has_room(count: usize) -> bool {
    count < KEY_PAIRS_MAX
}

/// Remembers a public half under its name.
pub(super) async fn put(
    call: &Call<'_>,
    name: &str,
    public: Public,
    tags: BTreeMap<String, String>,
) -> Result<KeyPair, Problem> {
    let pair = KeyPair {
        account: call.caller.principal.account(),
        name: name.to_owned(),
        id: format!("key-{}", request::new_id()?.to_string().trim_start_matches("i-")),
        key_type: public.key_type,
        fingerprint: public.fingerprint,
        public_key: public.line,
        created_at: call.now,
        tags,
    };
    match call.region.store().put_key_pair(pair.clone()).await {
        Ok(()) => Ok(pair),
        Err(StoreError::Conflict(Conflict::Exists(_))) => Err(refusal::key_pair_exists(name)),
        Err(error) => Err(refusal::of_store(error)),
    }
}

/// The reply, whose audit names the key pair and shows no key.
pub(super) fn reply(answer: Answer, pair: &KeyPair) -> Reply {
    let response_elements = json!({ "keyName": pair.name, "keyFingerprint": pair.fingerprint, "keyPairId": pair.id });
    Reply { answer, response_elements }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_at_and_above_their_limit() {
        let check = |name: &str| {
            let form = format!("KeyName={name}");
            let parameters = Parameters::parse(b"", form.as_bytes()).unwrap();
            new_name(&parameters.root()).is_ok()
        };
        for (length, is_fine) in [(0, false), (1, true), (254, true), (255, true), (256, false)] {
            assert_eq!(check(&"k".repeat(length)), is_fine, "{length}");
        }
        for (name, is_fine) in [("a+b", true), ("+a", false), ("a+", false), ("a%0Ab", false), ("%D1%8F", false)] {
            assert_eq!(check(name), is_fine, "{name}");
        }
    }

    #[test]
    fn room_below_at_and_above_the_limit() {
        assert_eq!([4999, 5000, 5001].map(has_room), [true, false, false]);
    }
}
