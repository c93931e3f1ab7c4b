//! Documents: what commands run. Those that every account has, and those that operators write.

mod built_in;
mod content;
mod parameters;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_identity::{AccountId, UnixTime};
use inborn_store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::OpenError;
use crate::unreadable::pass_over;
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

type Known = BTreeMap<(AccountId, String), Arc<Document>>;

/// Documents: the store's truth, mirrored in memory.
pub(crate) struct Documents {
    store: Arc<dyn Store>,
    /// Those that every account has, by name.
    built_in: BTreeMap<String, Arc<Document>>,
    known: RwLock<Known>,
    /// New ones take turns, so that there are never too many.
    turn: Mutex<()>,
}

impl Documents {
    pub(crate) async fn load(store: Arc<dyn Store>, own: AccountId) -> Result<Self, OpenError> {
        let all = pass_over("a document of Systems Manager", "(any)", store.documents().await)?;
        let known = readable(all.unwrap_or_default());
        let built_in = built_in::documents(own).map_err(|_| OpenError::Damaged("a built-in document"))?;
        let built_in =
            built_in.into_iter().map(|document| (document.stored.name.clone(), Arc::new(document))).collect();
        Ok(Self { store, built_in, known: RwLock::new(known), turn: Mutex::default() })
    }

    /// Another server has changed documents: memory follows the store. Where one cannot be read, all stay as they are known: that lets nobody
    /// do more than before, since everybody who may send a command has a document that runs whatever they like.
    pub(crate) async fn hear(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let read = self.store.documents().await;
        let Some(all) = pass_over("a document of Systems Manager", "(any)", read)? else { return Ok(()) };
        let known = readable(all);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The document that this name is in an account.
    pub(crate) fn get(&self, account: AccountId, name: &str) -> Option<Arc<Document>> {
        if let Some(found) = self.built_in.get(name) {
            return Some(Arc::clone(found));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(account, name.to_owned())).cloned()
    }

    /// All documents that an account has behind this name, by name.
    pub(crate) fn after(&self, account: AccountId, name: Option<&str>) -> Vec<Arc<Document>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let own = known.range((account, String::new())..).take_while(|((whose, _), _)| *whose == account);
        let own = own.map(|((_, name), document)| (name, document));
        let mut all: BTreeMap<&String, &Arc<Document>> = own.collect();
        all.extend(self.built_in.iter());
        let behind = all.into_iter().filter(|(found, _)| name.is_none_or(|after| found.as_str() > after));
        behind.map(|(_, document)| Arc::clone(document)).collect()
    }

    /// Adds a document.
    pub(crate) async fn create(
        &self,
        stored: inborn_store::Document,
        content: Content,
    ) -> Result<Arc<Document>, DocumentError> {
        let _turn = self.turn.lock().await;
        let account = stored.account;
        if self.get(account, &stored.name).is_some() {
            return Err(DocumentError::Exists);
        }
        if self.after(account, None).iter().filter(|document| !document.is_built_in).count() >= DOCUMENTS_MAX {
            return Err(DocumentError::TooMany);
        }
        match self.store.put_document(stored.clone()).await {
            Ok(()) => {}
            // Written by a call whose answer was lost.
            Err(StoreError::Conflict(_)) => return Err(DocumentError::Exists),
            Err(error) => return Err(DocumentError::Store(error)),
        }
        let document = Arc::new(Document { stored, content, is_built_in: false });
        let key = (account, document.stored.name.clone());
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&document));
        Ok(document)
    }

    /// Deletes a document of an account's operators; whether there was one.
    pub(crate) async fn delete(&self, account: AccountId, name: &str) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        if self.get(account, name).is_none_or(|document| document.is_built_in) {
            return Ok(false);
        }
        self.store.delete_document(account, name.to_owned()).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&(account, name.to_owned()));
        Ok(true)
    }
}

/// Those that can be read. Whoever sends a command by one of the others is told that it does not exist.
fn readable(all: Vec<inborn_store::Document>) -> Known {
    let mut known = Known::new();
    for stored in all {
        match Content::read(&stored.content) {
            Ok(content) => insert(&mut known, Document { content, is_built_in: false, stored }),
            Err(_) => tracing::error!(document = stored.name, "a document in the store cannot be read"),
        }
    }
    known
}

fn insert(known: &mut Known, document: Document) {
    known.insert((document.stored.account, document.stored.name.clone()), Arc::new(document));
}

/// When the documents that every account has were made: their content has not changed since. Source: AWS's own
/// `AWS-RunShellScript`, 2017-08-30T21:33:44Z.
const BUILT_IN_AT: UnixTime = UnixTime::from_secs(1_504_128_824);
