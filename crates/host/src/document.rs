//! The identity document of a machine, and its signatures, which are made beside the requests.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use inborn_identity::UnixTime;
use inborn_imds::DocumentSignatures;
use tokio::sync::Notify;

use crate::Issuer;

/// How long a request for a signature that is not made yet waits for it. Clients give a request a second.
const WAIT: Duration = Duration::from_millis(800);

/// An identity document. A new one is made when its text changes: with a start of the machine.
#[derive(Debug)]
pub(crate) struct Document {
    text: Bytes,
    signatures: OnceLock<DocumentSignatures>,
    is_signed: Notify,
}

impl Document {
    pub(crate) fn new(text: Bytes) -> Self {
        Self { text, signatures: OnceLock::new(), is_signed: Notify::new() }
    }

    pub(crate) const fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn signatures(&self) -> Option<&DocumentSignatures> {
        self.signatures.get()
    }

    /// Has it signed: some milliseconds of work. Says whether it is signed now.
    pub(crate) fn sign(&self, issuer: &dyn Issuer, now: UnixTime) -> bool {
        if self.signatures.get().is_none() {
            let Some(signatures) = issuer.sign_document(&self.text, now) else { return false };
            let _ = self.signatures.set(signatures);
            self.is_signed.notify_waiters();
        }
        true
    }

    /// Waits until it is signed, but not for ever: says whether it is.
    pub(crate) async fn is_signed_soon(&self) -> bool {
        let signed = self.is_signed.notified();
        tokio::pin!(signed);
        // Listens before it looks, so that it cannot be signed in between.
        signed.as_mut().enable();
        self.signatures.get().is_some() || tokio::time::timeout(WAIT, signed).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_credential::{Credential, Delivery};
    use inborn_identity::InstanceId;

    struct Signer(bool);

    impl Issuer for Signer {
        fn issue(&self, _: InstanceId, _: Delivery, _: UnixTime) -> Option<(Credential, UnixTime)> {
            None
        }

        fn sign_document(&self, document: &Bytes, _: UnixTime) -> Option<DocumentSignatures> {
            self.0.then(|| DocumentSignatures { signature: document.clone(), pkcs7: document.clone() })
        }
    }

    #[tokio::test]
    async fn who_asks_early_waits_a_little() {
        let document = Document::new(Bytes::from_static(b"{}"));
        assert!(!document.sign(&Signer(false), UnixTime::default()));
        let begun = tokio::time::Instant::now();
        assert!(!document.is_signed_soon().await, "the region is away");
        assert!(begun.elapsed() >= WAIT);
        let (soon, signed) = tokio::join!(document.is_signed_soon(), async {
            tokio::time::sleep(WAIT / 10).await;
            document.sign(&Signer(true), UnixTime::default())
        });
        assert!(soon && signed && document.signatures().is_some());
        assert!(document.is_signed_soon().await, "at once where it is signed");
    }
}
