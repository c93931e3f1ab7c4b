//! Documents: what commands run. Those that every account has, and those that operators write.

mod built_in;
mod content;
mod parameters;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_identity::UnixTime;
use inborn_store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::OpenError;
pub(crate) use content::{Content, ContentError};

/// Most documents of an account. Source: botocore's model, `DocumentLimitExceeded`.
pub(crate) const DOCUMENTS_MAX: usize = 500;

/// A document, read.
#[derive(Debug)]
pub(crate) struct Document {
    /// As it is stored; those that every account has are not.
    pub(crate) stored: inborn_store::Document,
    pub(crate) content: Content,
    /// Whether every account has it.
    pub(crate) is_built_in: bool,
}

/// Why there is no new document, or why one is still there.
#[derive(Debug)]
pub(crate) enum DocumentError {
    /// There is one with this name.
    Exists,
    /// There are [`DOCUMENTS_MAX`].
    TooMany,
    /// The store's.
    Store(StoreError),
}

/// Documents: the store's truth, mirrored in memory.
pub(crate) struct Documents {
    store: Arc<dyn Store>,
    known: RwLock<BTreeMap<String, Arc<Document>>>,
    /// New ones take turns, so that there are never too many.
    turn: Mutex<()>,
}

impl Documents {
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, OpenError> {
        let mut known = BTreeMap::new();
        for stored in store.documents().await? {
            let content =
                Content::read(&stored.content).map_err(|_| OpenError::Damaged("a document of Systems Manager"))?;
            let document = Document { content, is_built_in: false, stored };
            known.insert(document.stored.name.clone(), Arc::new(document));
        }
        for document in built_in::documents().map_err(|_| OpenError::Damaged("a built-in document"))? {
            known.insert(document.stored.name.clone(), Arc::new(document));
        }
        Ok(Self { store, known: RwLock::new(known), turn: Mutex::default() })
    }

    /// Another server has changed documents: memory follows the store.
    pub(crate) async fn hear(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let stored = self.store.documents().await?;
        let mut known: BTreeMap<String, Arc<Document>> = BTreeMap::new();
        let built_in = self.after(None).into_iter().filter(|document| document.is_built_in);
        known.extend(built_in.map(|document| (document.stored.name.clone(), document)));
        for stored in stored {
            match Content::read(&stored.content) {
                Ok(content) => {
                    let document = Document { content, is_built_in: false, stored };
                    known.insert(document.stored.name.clone(), Arc::new(document));
                }
                Err(_) => tracing::error!(document = stored.name, "a document in the store cannot be read"),
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The document of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Document>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All documents behind this name, by name.
    pub(crate) fn after(&self, name: Option<&str>) -> Vec<Arc<Document>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_behind = |document: &&Arc<Document>| name.is_none_or(|after| document.stored.name.as_str() > after);
        known.values().filter(is_behind).cloned().collect()
    }

    /// Adds a document.
    pub(crate) async fn create(
        &self,
        stored: inborn_store::Document,
        content: Content,
    ) -> Result<Arc<Document>, DocumentError> {
        let _turn = self.turn.lock().await;
        if self.get(&stored.name).is_some() {
            return Err(DocumentError::Exists);
        }
        if self.after(None).iter().filter(|document| !document.is_built_in).count() >= DOCUMENTS_MAX {
            return Err(DocumentError::TooMany);
        }
        match self.store.put_document(stored.clone()).await {
            Ok(()) => {}
            // Written by a call whose answer was lost.
            Err(StoreError::Conflict(_)) => return Err(DocumentError::Exists),
            Err(error) => return Err(DocumentError::Store(error)),
        }
        let document = Arc::new(Document { stored, content, is_built_in: false });
        let name = document.stored.name.clone();
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&document));
        Ok(document)
    }

    /// Deletes a document of an operator's; whether there was one.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        if self.get(name).is_none_or(|document| document.is_built_in) {
            return Ok(false);
        }
        self.store.delete_document(name.to_owned()).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(true)
    }
}

/// When the documents that every account has were made: their content has not changed since. Source: AWS's own
/// `AWS-RunShellScript`, 2017-08-30T21:33:44Z.
const BUILT_IN_AT: UnixTime = UnixTime::from_secs(1_504_128_824);
