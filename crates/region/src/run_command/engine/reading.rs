//! What the engine reads again of the store: what others have changed, and what became of writes of which nobody knows.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{CommandQuery, SentCommand, Store, StoreError};

use super::{Engine, Failed, Turn};

/// After so many failures in a row of reads the others wait for the next turn: a store that is away may take its time with each.
const FAILURES_MAX: usize = 4;

impl Engine {
    /// Takes over what the store has of commands that are in doubt. What cannot be read stays so.
    pub(super) async fn read_again(&mut self, store: &dyn Store, now: UnixTime) {
        let is_due = |id: &&String| !self.waits.is_waiting(Some(id), now);
        let ids: Vec<String> = self.in_doubt.keys().filter(is_due).cloned().collect();
        let mut failures = 0;
        for id in ids {
            match read(store, &id, Vec::new()).await {
                Ok(found) => {
                    self.in_doubt.remove(&id);
                    self.take_over(&id, found, false);
                }
                Err(_) => {
                    self.waits.failed(Some(&id), now);
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return;
                    }
                }
            }
        }
    }

    /// Reads what others have told of, and what they had changed in between. What cannot be read is read later, and does not hold
    /// up the others. Gives which commands it was.
    pub(super) async fn read_told(&mut self, store: &dyn Store, now: UnixTime) -> BTreeSet<String> {
        let told = core::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.to_read.append(told);
        let mut touched = BTreeSet::new();
        if self.to_read.everything && !self.waits.is_waiting(None, now) {
            match store.open_commands().await {
                Ok(open) => touched = self.take_over_all(open),
                Err(error) => {
                    tracing::warn!(%error, "commands of other servers are not read: it is tried again");
                    self.waits.failed(None, now);
                }
            }
        }
        let mut failures = 0;
        for (id, machines) in core::mem::take(&mut self.to_read.commands) {
            if failures == FAILURES_MAX || self.waits.is_waiting(Some(&id), now) {
                self.to_read.commands.insert(id, machines);
                continue;
            }
            let is_known = self.commands.contains_key(&id);
            let asked: Vec<InstanceId> = machines.iter().copied().filter(|_| is_known).collect();
            match read(store, &id, asked).await {
                Ok(found) => {
                    self.take_over(&id, found, false);
                    touched.insert(id);
                }
                Err(error) => {
                    tracing::warn!(command = %id, %error, "what another server has made of a command is not read: it is tried again");
                    self.waits.failed(Some(&id), now);
                    self.to_read.commands.insert(id, machines);
                    failures += 1;
                }
            }
        }
        touched
    }

    /// Takes over all commands of which something may still become; which they are.
    fn take_over_all(&mut self, open: Vec<SentCommand>) -> BTreeSet<String> {
        self.to_read.everything = false;
        self.waits.end(None);
        let known: BTreeSet<String> = open.iter().map(|sent| sent.command.id.clone()).collect();
        let over: Vec<String> = self.commands.keys().filter(|id| !known.contains(*id)).cloned().collect();
        over.iter().for_each(|id| self.close(id));
        for sent in open {
            // Nobody has told of what is new among it: it may have been sent.
            self.take_over(&sent.command.id.clone(), Some(sent), true);
        }
        known
    }

    /// Reads the commands that somebody speaks of and that are not known here: another server may have sent them a moment ago.
    pub(super) async fn read_unknown(&mut self, store: &dyn Store, turn: &Turn) -> Failed {
        let is_unknown = |id: &&String| !self.commands.contains_key(*id) && !self.over.contains(id);
        let unknown: BTreeSet<&String> = turn.acts.iter().map(|act| &act.command).filter(is_unknown).collect();
        let mut failed = Failed::new();
        for id in unknown {
            let last = failed.last_key_value().filter(|_| failed.len() >= FAILURES_MAX);
            let found = match last {
                Some((_, error)) => Err(error.clone()),
                None => read(store, id, Vec::new()).await,
            };
            match found {
                Ok(found) => self.take_over(id, found, false),
                Err(error) => _ = failed.insert(id.clone(), error),
            }
        }
        failed
    }

    /// Takes over what the store has of a command, on some of its machines or on all. If it is new here: whether it may have been
    /// sent without having been written down as sent.
    fn take_over(&mut self, id: &str, found: Option<SentCommand>, is_restored: bool) {
        self.waits.end(Some(id));
        let Some(sent) = found.filter(|sent| !sent.command.progress.state.is_terminal()) else {
            return self.close(id);
        };
        match self.commands.get_mut(id) {
            Some(command) => {
                command.take_over(sent.command.progress, sent.invocations);
            }
            None => {
                // More than there may be was let in by others: it is finished all the same.
                self.load.take(&sent);
                self.open(sent, is_restored);
            }
        }
    }
}

/// What the store has of a command of which something may still become, on these of its machines or on all. Of others, that an
/// agent may speak of as often as it likes, nothing but their row is read: their output may be large.
async fn read(store: &dyn Store, id: &str, asked: Vec<InstanceId>) -> Result<Option<SentCommand>, StoreError> {
    if asked.is_empty() {
        let query = CommandQuery { command: Some(id.to_owned()), limit: 1, ..CommandQuery::default() };
        let found = store.commands(query).await?;
        if found.first().is_none_or(|command| command.progress.state.is_terminal()) {
            return Ok(None);
        }
    }
    store.sent_command(id.to_owned(), asked).await
}
