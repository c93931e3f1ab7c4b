//! What becomes of the events of one request, one after the other.

use std::collections::HashMap;

use crate::limits::{AGENT_BYTES_MAX, RECORD_OVERHEAD_BYTES, RECORDS_MAX, STAMPED_BYTES_MAX};
use crate::ocsf::{Beside, Own, Rejection, Scratch, hex, stamp};
use crate::scan::quote;
use crate::{Foreign, Record, Stamp};

/// Why nothing of a request is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not what its `Content-Type` says.
    #[error("the body cannot be read as {0}")]
    Syntax(&'static str),
    /// More than [`RECORDS_MAX`].
    #[error("the request has more than {RECORDS_MAX} records")]
    TooMany,
    /// More than [`STAMPED_BYTES_MAX`].
    #[error(
        "the records take more than {STAMPED_BYTES_MAX} bytes with what they are stamped with: send fewer at a time"
    )]
    TooLarge,
    /// There is no memory for them now.
    #[error("no memory for the records")]
    NoRoom,
}

/// How much memory is asked for at a time.
const ROOM_STEP_BYTES: usize = 64 * 1024;

/// The program that sent a request, by its own words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Agent {
    /// `service.name`.
    pub name: Option<Box<str>>,
    /// `service.version`.
    pub version: Option<Box<str>>,
}

/// What a request held.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    /// The events that are taken.
    pub records: Vec<Record>,
    /// How many are not.
    pub rejected: usize,
    /// Why the first of those is not.
    pub complaint: Option<String>,
    /// Who sent it.
    pub agent: Agent,
    /// Resources whose `host.id` is of another machine.
    pub foreign_hosts: usize,
    /// Events whose time was too far off, and was replaced.
    pub times_off: usize,
}

/// What a resource says, as far as it matters here. Each attribute counts once, the last of its name: what is claimed is
/// written into every event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    name: Option<Box<str>>,
    version: Option<Box<str>>,
    host: Option<Box<str>>,
    account: Option<Box<str>>,
    region: Option<Box<str>>,
}

impl Resource {
    /// One attribute that is a text.
    pub(crate) fn attribute(&mut self, key: &str, value: &str) {
        let slot = match key {
            "service.name" => &mut self.name,
            "service.version" => &mut self.version,
            "host.id" => &mut self.host,
            "cloud.account.id" => &mut self.account,
            "cloud.region" => &mut self.region,
            _ => return,
        };
        *slot = Some(cut(value));
    }

    /// What it says otherwise than the identity, as members of an object.
    fn claims(&self, own: &Own<'_>) -> String {
        let said = [
            ("host.id", &self.host, own.instance.as_str()),
            ("cloud.account.id", &self.account, own.account.as_str()),
            ("cloud.region", &self.region, own.region),
        ];
        let mut claims = String::new();
        for (key, said, own) in said {
            if let Some(said) = said.as_deref().filter(|said| *said != own) {
                claims.push_str(if claims.is_empty() { "" } else { "," });
                quote(&mut claims, key);
                claims.push(':');
                quote(&mut claims, said);
            }
        }
        claims
    }
}

fn cut(value: &str) -> Box<str> {
    let end = (0..=AGENT_BYTES_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    value.get(..end.unwrap_or(0)).unwrap_or_default().into()
}

/// Gathers the events of a request.
pub(crate) struct Collector<'a> {
    own: Own<'a>,
    scratch: Scratch,
    resource: Resource,
    claims: String,
    /// Whether the resource is of another machine.
    is_foreign: bool,
    room: &'a mut dyn FnMut(usize) -> bool,
    /// What the events so far take, and how much of it was asked for.
    stamped: usize,
    granted: usize,
    decoded: Decoded,
    seen: usize,
    /// How often an event without a uid was there already: the same event twice in one request is two events.
    again: HashMap<u128, usize>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(stamp: &'a Stamp<'a>, room: &'a mut dyn FnMut(usize) -> bool) -> Self {
        Self {
            own: Own::new(stamp),
            scratch: Scratch::default(),
            resource: Resource::default(),
            claims: String::new(),
            is_foreign: false,
            room,
            stamped: 0,
            granted: 0,
            decoded: Decoded::default(),
            seen: 0,
            again: HashMap::new(),
        }
    }

    /// What comes next is of this resource.
    pub(crate) fn enter(&mut self, resource: Resource) {
        if resource.name.is_some() {
            self.decoded.agent = Agent { name: resource.name.clone(), version: resource.version.clone() };
        }
        self.is_foreign = resource.host.as_deref().is_some_and(|host| *host != self.own.instance);
        self.decoded.foreign_hosts += usize::from(self.is_foreign);
        self.claims = resource.claims(&self.own);
        self.resource = resource;
    }

    /// One event, or why it is none.
    pub(crate) fn add(&mut self, text: Result<&str, Rejection>, beside: Beside<'_>) -> Result<(), Malformed> {
        self.seen += 1;
        if self.seen > RECORDS_MAX {
            return Err(Malformed::TooMany);
        }
        let text = match self.own.stamp.foreign {
            Foreign::Reject if self.is_foreign => Err(Rejection::Foreign("host.id")),
            _ => text,
        };
        let beside = Beside { service: self.resource.name.as_deref(), claims: &self.claims, ..beside };
        match text.and_then(|text| stamp(text, beside, &self.own, &mut self.scratch)) {
            Ok(mut taken) => {
                if let Some(digest) = taken.digest {
                    let times = self.again.entry(digest).and_modify(|times| *times += 1).or_insert(0);
                    if *times > 0 {
                        number(&mut taken.record, digest, *times);
                    }
                }
                self.take_room(taken.record.json.len() + taken.record.uid.len())?;
                self.decoded.times_off += usize::from(taken.is_time_off);
                self.decoded.records.push(taken.record);
            }
            Err(rejection) => {
                self.decoded.rejected += 1;
                let record = self.seen;
                self.decoded.complaint.get_or_insert_with(|| format!("record {record}: {rejection}"));
            }
        }
        Ok(())
    }

    /// Takes memory for an event of so many bytes.
    fn take_room(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.stamped += bytes + RECORD_OVERHEAD_BYTES;
        if self.stamped > STAMPED_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        if self.stamped > self.granted {
            let more = (self.stamped - self.granted).max(ROOM_STEP_BYTES);
            if !(self.room)(more) {
                return Err(Malformed::NoRoom);
            }
            self.granted += more;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Decoded {
        self.decoded
    }
}

/// Gives an event that came before in its request a uid of its own: the same one whenever the request is sent again.
fn number(record: &mut Record, digest: u128, times: usize) {
    let (plain, numbered) = (hex(digest), format!("{}-{times}", hex(digest)));
    let (from, to) = (format!("\"uid\":\"{plain}\""), format!("\"uid\":\"{numbered}\""));
    record.json = record.json.replacen(&from, &to, 1).into_boxed_str();
    record.uid = numbered.into_boxed_str();
}
