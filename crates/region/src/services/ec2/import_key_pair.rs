//! `ImportKeyPair`: the public half of a key that was made elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{key_pair, refusal, request, shape, ssh_key};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let name = key_pair::new_name(&root)?;
        let material = root.get("PublicKeyMaterial").ok_or_else(|| refusal::missing_parameter("PublicKeyMaterial"))?;
        let compact: Vec<u8> = material.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let material = BASE64.decode(compact).map_err(|_| refusal::key_format("Key material is not base64"))?;
        let public = ssh_key::read(&material, name)?;
        let tags = key_pair::tags(call.parameters)?;
        key_pair::check_room(&call, name).await?;
        request::finish(call.parameters)?;
        let pair = key_pair::put(&call, name, public, tags).await?;
        let answer = shape::response("ImportKeyPair", call.request_id, |w| {
            w.leaf("keyName", &pair.name);
            w.leaf("keyFingerprint", &pair.fingerprint);
            w.leaf("keyPairId", &pair.id);
            shape::tags(w, &pair.tags);
        });
        Ok(key_pair::reply(answer, &pair))
    })
}
