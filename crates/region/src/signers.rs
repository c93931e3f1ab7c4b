//! Who signs what machines show to others: their identity documents, and the SSH keys that are sent to them.
//!
//! Their RSA keys take some tenths of a second to make. So a new region starts without them, makes them beside its first
//! requests, and seals them like all else.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use inborn_credential::Kek;
use inborn_identity::UnixTime;
use inborn_pki::{AuthorityError, DocumentSigner, InstanceConnectSigner, SealableSigner};
use inborn_store::{Sealed, SettingChange, Store};
use zeroize::Zeroizing;

use crate::secrets::{KeySource, decode_parts, encode_parts, sealable_key, unseal};
use crate::{OpenError, RegionIdentity};

const SETTING_DOCUMENTS: &str = "document-signer";
const SETTING_INSTANCE_CONNECT: &str = "instance-connect";

/// The signers of a region, as far as they are there.
pub(crate) struct Signers {
    kek: Arc<Kek>,
    source: KeySource,
    documents: ArcSwapOption<DocumentSigner>,
    instance_connect: ArcSwapOption<InstanceConnectSigner>,
    /// One makes keys at a time.
    making: tokio::sync::Mutex<()>,
}

impl Signers {
    /// Reads those that are sealed.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        kek: Arc<Kek>,
        source: &KeySource,
        identity: &RegionIdentity,
    ) -> Result<Self, OpenError> {
        let signers = Self {
            kek,
            source: source.clone(),
            documents: ArcSwapOption::empty(),
            instance_connect: ArcSwapOption::empty(),
            making: tokio::sync::Mutex::default(),
        };
        signers.documents.store(signers.stored_documents(store).await?.map(Arc::new));
        signers.instance_connect.store(signers.stored_instance_connect(store, identity).await?.map(Arc::new));
        Ok(signers)
    }

    pub(crate) fn documents(&self) -> Option<Arc<DocumentSigner>> {
        self.documents.load_full()
    }

    pub(crate) fn instance_connect(&self) -> Option<Arc<InstanceConnectSigner>> {
        self.instance_connect.load_full()
    }

    /// Makes what is not there, and renews what is due. A signer is stored before it signs anything, so that what it has
    /// signed stays verifiable.
    pub(crate) async fn complete(
        &self,
        store: &Arc<dyn Store>,
        identity: &RegionIdentity,
        now: UnixTime,
    ) -> Result<(), OpenError> {
        let _turn = self.making.lock().await;
        if self.documents.load().is_none() {
            // One may be stored after all: of a write that seemed to fail, nobody knows.
            let signer = match self.stored_documents(store).await? {
                Some(stored) => stored,
                None => self.make_documents(store, identity, now).await?,
            };
            self.documents.store(Some(Arc::new(signer)));
        }
        if self.instance_connect.load().is_none() {
            let stored = self.stored_instance_connect(store, identity).await?;
            self.instance_connect.store(stored.map(Arc::new));
        }
        let (region, domain) = (identity.region.clone(), identity.domain.clone());
        let made = match self.instance_connect() {
            None => Some(aside(move || InstanceConnectSigner::create(&region, &domain, now)).await?),
            Some(signer) => aside(move || signer.renewed(&region, &domain, now)).await?,
        };
        if let Some((signer, sealable)) = made {
            let name = instance_connect_setting(identity);
            let before = store.setting(&name).await?;
            self.keep(store, &name, before, &encode_instance_connect(&sealable)).await?;
            self.instance_connect.store(Some(Arc::new(signer)));
        }
        Ok(())
    }

    async fn make_documents(
        &self,
        store: &Arc<dyn Store>,
        identity: &RegionIdentity,
        now: UnixTime,
    ) -> Result<DocumentSigner, OpenError> {
        let region = identity.region.clone();
        let (signer, key) = aside(move || DocumentSigner::create(&region, now)).await?;
        let text = encode_parts(&[key.certificate_pem.as_bytes(), &key.private_key]);
        self.keep(store, SETTING_DOCUMENTS, None, &text).await?;
        Ok(signer)
    }

    async fn stored_documents(&self, store: &Arc<dyn Store>) -> Result<Option<DocumentSigner>, OpenError> {
        let Some(text) = self.stored(store, SETTING_DOCUMENTS).await? else { return Ok(None) };
        let signer = restore_documents(&text).ok_or(OpenError::Damaged("the signer of identity documents"))?;
        Ok(Some(signer))
    }

    async fn stored_instance_connect(
        &self,
        store: &Arc<dyn Store>,
        identity: &RegionIdentity,
    ) -> Result<Option<InstanceConnectSigner>, OpenError> {
        let Some(text) = self.stored(store, &instance_connect_setting(identity)).await? else { return Ok(None) };
        let signer = restore_instance_connect(identity, &text);
        signer.map(Some).ok_or(OpenError::Damaged("the signer of Instance Connect"))
    }

    /// What is sealed under `name`, opened.
    async fn stored(&self, store: &Arc<dyn Store>, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
        let Some(blob) = store.setting(name).await? else { return Ok(None) };
        unseal(&self.kek, &self.source, name, &Sealed::new(blob)).map(Some)
    }

    /// Seals `text` and stores it in the place of `before`.
    async fn keep(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
        before: Option<Vec<u8>>,
        text: &[u8],
    ) -> Result<(), OpenError> {
        let value = self.kek.seal(name, text)?;
        Ok(store.put_setting(SettingChange { name: name.to_owned(), expected: before, value }).await?)
    }
}

/// Does what takes long on a thread where nobody waits; in a simulation here, since there is only one thread.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthorityError> + Send + 'static,
) -> Result<T, AuthorityError> {
    if inborn_chance::is_seeded() {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(AuthorityError::Crypto))
}

/// Whether the setting of this name is sealed, as far as it is one of these.
pub(crate) fn is_sealed_setting(name: &str) -> bool {
    name == SETTING_DOCUMENTS || name.strip_prefix(SETTING_INSTANCE_CONNECT).is_some_and(|rest| rest.starts_with(' '))
}

/// One for each domain: its certificate speaks for a name in it.
fn instance_connect_setting(identity: &RegionIdentity) -> String {
    format!("{SETTING_INSTANCE_CONNECT} {}", identity.domain)
}

fn restore_documents(text: &[u8]) -> Option<DocumentSigner> {
    let [certificate, key] = decode_parts(text)?;
    DocumentSigner::restore(&sealable_key(certificate, key)?).ok()
}

fn encode_instance_connect(signer: &SealableSigner) -> Zeroizing<Vec<u8>> {
    let SealableSigner { root, signer } = signer;
    encode_parts(&[
        root.certificate_pem.as_bytes(),
        &root.private_key,
        signer.certificate_pem.as_bytes(),
        &signer.private_key,
    ])
}

fn restore_instance_connect(identity: &RegionIdentity, text: &[u8]) -> Option<InstanceConnectSigner> {
    let [root, root_key, certificate, key] = decode_parts(text)?;
    let stored = SealableSigner { root: sealable_key(root, root_key)?, signer: sealable_key(certificate, key)? };
    InstanceConnectSigner::restore(&identity.region, &identity.domain, &stored).ok()
}
