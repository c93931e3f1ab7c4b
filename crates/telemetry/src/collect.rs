//! What becomes of the events of one request, one after the other.

use std::collections::HashMap;

use crate::limits::{AGENT_BYTES_MAX, RECORDS_MAX};
use crate::ocsf::{Beside, Rejection, Scratch, hex, stamp};
use crate::scan::quote;
use crate::{Record, Source, Stamp};

/// Why nothing of a request is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not what its `Content-Type` says.
    #[error("the body cannot be read as {0}")]
    Syntax(&'static str),
    /// More than [`RECORDS_MAX`].
    #[error("the request has more than {RECORDS_MAX} records")]
    TooMany,
}

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
    fn claims(&self, stamp: &Stamp<'_>) -> String {
        let Source { account, instance, region } = stamp.source;
        let said = [
            ("host.id", &self.host, instance.to_string()),
            ("cloud.account.id", &self.account, account.to_string()),
            ("cloud.region", &self.region, region.to_string()),
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
    stamp: &'a Stamp<'a>,
    scratch: Scratch,
    resource: Resource,
    claims: String,
    decoded: Decoded,
    seen: usize,
    /// How often an event without a uid was there already: the same event twice in one request is two events.
    again: HashMap<u128, usize>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(stamp: &'a Stamp<'a>) -> Self {
        Self {
            stamp,
            scratch: Scratch::default(),
            resource: Resource::default(),
            claims: String::new(),
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
        let own = self.stamp.source.instance.to_string();
        self.decoded.foreign_hosts += usize::from(resource.host.as_deref().is_some_and(|host| *host != own));
        self.claims = resource.claims(self.stamp);
        self.resource = resource;
    }

    /// One event, or why it is none.
    pub(crate) fn add(&mut self, text: Result<&str, Rejection>, beside: Beside<'_>) -> Result<(), Malformed> {
        self.seen += 1;
        if self.seen > RECORDS_MAX {
            return Err(Malformed::TooMany);
        }
        let beside = Beside { service: self.resource.name.as_deref(), claims: &self.claims, ..beside };
        match text.and_then(|text| stamp(text, beside, self.stamp, &mut self.scratch)) {
            Ok(mut taken) => {
                if let Some(digest) = taken.digest {
                    let times = self.again.entry(digest).and_modify(|times| *times += 1).or_insert(0);
                    if *times > 0 {
                        number(&mut taken.record, digest, *times);
                    }
                }
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
