//! Sessions of Session Manager: who was on which machine, and when.

use inborn_identity::{AccountId, InstanceId, UnixTime};

use crate::{NodeId, StoreError};

/// One session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its id: 1 to [`Session::ID_MAX`] bytes.
    pub id: String,
    /// The account of the machine.
    pub account: AccountId,
    /// The machine. A session's record outlives it.
    pub instance: InstanceId,
    /// The ARN of who started it.
    pub owner: String,
    /// The document that says what kind of session it is.
    pub document_name: String,
    /// Why it was started; empty if nobody said.
    pub reason: String,
    /// When it was started.
    pub started_at: UnixTime,
    /// How it ended, if it has.
    pub end: Option<SessionEnd>,
    /// The node that carries it; [`NodeId::NOBODY`]: whichever takes it up; `None`: of a program that did not say.
    pub carrier: Option<NodeId>,
}

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionEnd {
    /// When.
    pub at: UnixTime,
    /// `Terminated` or `Failed`.
    pub status: String,
    /// Why, for people.
    pub details: String,
}

impl Session {
    /// The longest id, in bytes. Source: botocore's model, `SessionId`.
    pub const ID_MAX: usize = 96;
    /// The longest of the other texts, in bytes.
    pub const TEXT_MAX: usize = 2048;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.id.is_empty() || self.id.len() > Self::ID_MAX {
            return Err(StoreError::Invalid("the id of a session has 1 to 96 bytes"));
        }
        if let Some(end) = &self.end {
            end.check()?;
        }
        fits(&[&self.owner, &self.document_name, &self.reason])
    }
}

impl SessionEnd {
    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        fits(&[&self.status, &self.details])
    }
}

fn fits(texts: &[&String]) -> Result<(), StoreError> {
    if texts.iter().all(|text| text.len() <= Session::TEXT_MAX) {
        Ok(())
    } else {
        Err(StoreError::Invalid("a text of a session has at most 2048 bytes"))
    }
}

/// A place in the order of sessions: the latest first, then by id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPlace {
    /// When the session was started.
    pub started_at: UnixTime,
    /// Its id.
    pub id: String,
}

/// Which sessions to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionQuery {
    /// Whose machines; `None`: everybody's.
    pub account: Option<AccountId>,
    /// Those that have ended, or those that have not.
    pub has_ended: bool,
    /// Only what comes behind this place.
    pub after: Option<SessionPlace>,
    /// How many at most: 1 to [`SessionQuery::LIMIT_MAX`].
    pub limit: u32,
}

impl SessionQuery {
    /// The most on one page. Source: botocore's model, `DescribeSessions`, `MaxResults`.
    pub const LIMIT_MAX: u32 = 200;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.limit {
            1..=Self::LIMIT_MAX => Ok(()),
            _ => Err(StoreError::Invalid("a page has 1 to 200 sessions")),
        }
    }
}

/// Which sessions that have ended to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionRetention {
    /// Those that were started since then,
    pub started_since: UnixTime,
    /// and of them the latest, so many.
    pub sessions_max: u32,
}
