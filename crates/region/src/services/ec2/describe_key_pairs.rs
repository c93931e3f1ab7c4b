//! `DescribeKeyPairs`: all, some by name or id, some by filter.

use inborn_store::KeyPair;
use inborn_wire::error::Problem;

use super::filter::{self, Filter};
use super::{key_pair, refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let (names, ids) = (root.list("KeyName"), root.list("KeyPairId"));
        let filters = filter::read(call.parameters)?;
        let with_key = root.boolean("IncludePublicKey").map_err(Problem::Parameter)?.unwrap_or(false);
        request::finish(call.parameters)?;
        let pairs = select(key_pair::all(&call).await?, &names, &ids, &filters)?;
        let answer = shape::response("DescribeKeyPairs", call.request_id, |w| {
            w.list("keySet", "item", &pairs, |w, pair| {
                w.leaf("keyPairId", &pair.id);
                w.leaf("keyName", &pair.name);
                w.leaf("keyFingerprint", &pair.fingerprint);
                w.leaf("keyType", pair.key_type.as_str());
                w.leaf("createTime", &shape::milliseconds(pair.created_at));
                shape::tags(w, &pair.tags);
                w.optional("publicKey", with_key.then_some(pair.public_key.as_str()));
            });
        });
        Ok(answer.into())
    })
}

/// Each that is named must be there; filters then choose among them.
fn select(
    all: Vec<KeyPair>,
    names: &[&str],
    ids: &[&str],
    filters: &[Filter<'_, KeyPair>],
) -> Result<Vec<KeyPair>, Problem> {
    for name in names {
        if !all.iter().any(|pair| pair.name == *name) {
            return Err(refusal::key_pair_not_found(name));
        }
    }
    for id in ids {
        if !all.iter().any(|pair| pair.id == *id) {
            return Err(refusal::key_pair_id_not_found(id));
        }
    }
    let is_named = |pair: &KeyPair| {
        names.is_empty() && ids.is_empty() || names.contains(&pair.name.as_str()) || ids.contains(&pair.id.as_str())
    };
    Ok(all.into_iter().filter(|pair| is_named(pair) && filters.iter().all(|filter| filter.matches(pair))).collect())
}
