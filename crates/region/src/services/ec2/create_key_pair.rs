//! `CreateKeyPair`: the one time that a private half is seen.

use inborn_store::KeyType;
use inborn_wire::error::Problem;

use super::{key_pair, refusal, request, shape, ssh_key};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let name = key_pair::new_name(&root)?;
        let key_type = root.one_of("KeyType", &["rsa", "ed25519"]).map_err(Problem::Parameter)?;
        if root.one_of("KeyFormat", &["pem", "ppk"]).map_err(Problem::Parameter)? == Some("ppk") {
            return Err(refusal::unsupported("Keys are made in PEM only: convert one with `puttygen`."));
        }
        let tags = key_pair::tags(call.parameters)?;
        key_pair::check_room(&call, name).await?;
        request::finish(call.parameters)?;
        let key_type = key_type.and_then(|word| word.parse().ok()).unwrap_or(KeyType::Rsa);
        // RSA takes a processor a while to find: not on a thread that serves others.
        let made = {
            let name = name.to_owned();
            let making = tokio::task::spawn_blocking(move || ssh_key::make(key_type, &name));
            making.await.map_err(|_| Problem::Internal)??
        };
        let pair = key_pair::put(&call, name, made.public, tags).await?;
        let answer = shape::response("CreateKeyPair", call.request_id, |w| {
            w.leaf("keyName", &pair.name);
            w.leaf("keyFingerprint", &pair.fingerprint);
            w.leaf("keyMaterial", &made.private);
            w.leaf("keyPairId", &pair.id);
            shape::tags(w, &pair.tags);
        });
        Ok(key_pair::reply(answer, &pair))
    })
}
