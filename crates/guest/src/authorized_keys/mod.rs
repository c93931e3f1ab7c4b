//! `inborn authorized-keys`: which keys were sent to a user of this machine a moment ago, for sshd.
//!
//! What AWS's package does with a shell, curl and openssl: the same documents, checked against a root that somebody has put
//! into the machine. No DMI, no hypervisor, no list of domains.

mod blocks;

use std::fmt;

use inborn_identity::{InstanceId, UnixTime};
use inborn_pki::{LoginKeysError, LoginKeysRoot};
use inborn_ssh::{KeyError, PublicKey};

use crate::{MetadataClient, MetadataError, Settings};
pub use blocks::{BLOCKS_MAX, Block, BlockError, Wanted, blocks};

const INSTANCE_PATH: &str = "/latest/meta-data/instance-id";
const KEYS_PATH: &str = "/latest/meta-data/managed-ssh-keys";
/// The longest name of a user. Source: the model of `SendSSHPublicKey`.
const USER_BYTES_MAX: usize = 32;

/// What sshd asks.
#[derive(Debug)]
pub struct Question<'a> {
    /// The user who wants to log in (%u).
    pub user: &'a str,
    /// The fingerprint of the key that is offered (%f), if only that one is of interest: `SHA256:…`.
    pub fingerprint: Option<&'a str>,
    /// Whether a key that does not say for which user it is will do, as AWS's do not.
    pub any_user: bool,
    /// Which instance this is, if something says so that whoever answers for metadata cannot change. Without it, one who does
    /// can pass off the keys that were sent to another machine of the region.
    pub instance: Option<InstanceId>,
    /// The name in the signer's certificate; without one the root says whose it can be.
    pub signer: Option<&'a str>,
    /// What is trusted, PEM.
    pub root: &'a [u8],
}

/// What there is.
#[derive(Debug, Default)]
pub struct Answer {
    /// The keys, a line each.
    pub keys: Vec<String>,
    /// Why others were refused.
    pub refused: Vec<Refused>,
}

/// Why one key was refused.
#[derive(Debug)]
pub enum Refused {
    /// What it says.
    Block(BlockError),
    /// Who signed it.
    Signature(LoginKeysError),
    /// What it is.
    Key(KeyError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(error) => error.fmt(f),
            Self::Signature(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
        }
    }
}

/// Why nobody knows whether there are keys, or none can be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizedKeysError {
    /// The metadata service.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It gives no token, as that of a machine which is stopped.
    #[error("the metadata service gives no token, and is not asked without one")]
    NoToken,
    /// It speaks for another instance than this one.
    #[error("the metadata are those of {0}, which is not this instance")]
    AnotherInstance(InstanceId),
    /// It says something that is no id.
    #[error("the metadata service says that this machine is no instance")]
    Instance,
    /// The root, the chain or a staple.
    #[error(transparent)]
    Signer(#[from] LoginKeysError),
}

/// Asks the metadata service, and believes what leads to the root.
///
/// # Errors
/// See [`AuthorizedKeysError`]. That there are no keys is an empty answer.
pub async fn authorized_keys(
    settings: &Settings,
    question: &Question<'_>,
    now: UnixTime,
) -> Result<Answer, AuthorizedKeysError> {
    if !can_be_sent_keys(question.user) {
        return Ok(Answer::default());
    }
    // Version 1 could be had through an open proxy, and who logs in is no question for one.
    let mut metadata = MetadataClient::new(&Settings { metadata_v1: false, ..settings.clone() });
    let text = match metadata.get(&format!("{KEYS_PATH}/active-keys/{}/", question.user)).await {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Answer::default()),
        Err(MetadataError::V1Forbidden) => return Err(AuthorizedKeysError::NoToken),
        Err(error) => return Err(error.into()),
    };
    let root = LoginKeysRoot::from_pem(question.root)?;
    let instance: InstanceId =
        metadata.require(INSTANCE_PATH).await?.parse().map_err(|_| AuthorizedKeysError::Instance)?;
    if question.instance.is_some_and(|own| own != instance) {
        return Err(AuthorizedKeysError::AnotherInstance(instance));
    }
    let chain = metadata.require(&format!("{KEYS_PATH}/signer-cert/")).await?;
    let chain = root.follow(&chain, question.signer, now)?;
    let mut staples = Vec::new();
    for name in chain.staple_names() {
        staples.push(metadata.require(&format!("{KEYS_PATH}/signer-ocsp/{name}")).await?);
    }
    let signer = chain.proven_by(&staples, now)?;
    let wanted = Wanted { instance, user: question.user, any_user: question.any_user, now };
    let believed = |block: Block<'_>| {
        signer.verify(block.signed, block.signature).map_err(Refused::Signature)?;
        block.check(wanted).map_err(Refused::Block)?;
        PublicKey::parse(block.key).map_err(Refused::Key)
    };
    let mut answer = Answer::default();
    for block in blocks(text.expose()) {
        match block.map_err(Refused::Block).and_then(believed) {
            Ok(key) if question.fingerprint.is_none_or(|wanted| wanted == key.fingerprint()) => {
                answer.keys.push(key.line());
            }
            Ok(_) => {}
            Err(refused) => answer.refused.push(refused),
        }
    }
    Ok(answer)
}

/// Whether a key can have been sent to a user of this name; any other could lead to another path.
fn can_be_sent_keys(user: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"@._$-".contains(&byte);
    (1..=USER_BYTES_MAX).contains(&user.len()) && user.bytes().all(fits) && !user.starts_with('.')
}

#[cfg(test)]
mod tests;
