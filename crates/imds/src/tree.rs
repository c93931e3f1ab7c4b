//! The tree: a table of leaves, from which the listings follow, so that what is listed and what answers cannot differ.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use bytes::Bytes;
use inborn_credential::Delivery;
use inborn_identity::UnixTime;

use crate::interface::{Below, lines};
use crate::path::{spells, split_first};
use crate::version::{LATEST, VERSIONS, is_version};
use crate::{Class, DocumentSignatures, KeyPair, LiveKeys, View, tag_key_fits_a_path};

/// What is at a path.
pub(crate) enum Found {
    /// A value or a listing.
    Leaf(Leaf),
    /// It will be there shortly.
    NotYet,
    /// Nothing.
    Absent,
}

/// Something to send.
pub(crate) struct Leaf {
    pub(crate) class: Class,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) modified: UnixTime,
    pub(crate) accept_ranges: &'static str,
}

/// What a row of the table holds.
enum Node {
    /// A text; `None` where this instance has no such leaf.
    Text(for<'a> fn(&View<'a>) -> Option<Cow<'a, str>>),
    /// The identity document.
    Document,
    /// One of its signatures.
    Signature(fn(&DocumentSignatures) -> &Bytes),
    /// `info` of the credentials.
    CredentialInfo,
    /// The credentials.
    Credentials,
    /// The directory `network/interfaces/macs`.
    Macs,
    /// The directory `managed-ssh-keys`.
    ManagedKeys,
    /// The directory `public-keys`.
    PublicKeys,
    /// The directory `tags/instance`.
    Tags,
    /// User data.
    UserData,
}

struct Row {
    path: &'static str,
    node: Node,
}

const fn row(path: &'static str, node: Node) -> Row {
    Row { path, node }
}

const fn text(path: &'static str, value: for<'a> fn(&View<'a>) -> Option<Cow<'a, str>>) -> Row {
    row(path, Node::Text(value))
}

/// Every leaf below a version, in the order of their bytes. To add one, add a row.
static ROWS: [Row; 41] = [
    // Detailed monitoring is a thing of CloudWatch; DescribeInstances says the same.
    text("dynamic/fws/instance-monitoring", |_| some("disabled")),
    row("dynamic/instance-identity/document", Node::Document),
    row("dynamic/instance-identity/pkcs7", Node::Signature(|signatures| &signatures.pkcs7)),
    row("dynamic/instance-identity/rsa2048", Node::Signature(|signatures| &signatures.pkcs7)),
    row("dynamic/instance-identity/signature", Node::Signature(|signatures| &signatures.signature)),
    text("meta-data/ami-id", |v| some(&v.facts.image_id)),
    text("meta-data/ami-launch-index", |v| Some(Cow::Owned(v.facts.launch_index.to_string()))),
    // What EC2 says of every image that is not kept in S3.
    text("meta-data/ami-manifest-path", |_| some("(unknown)")),
    text("meta-data/block-device-mapping/ami", |v| some(&v.facts.root_device)),
    text("meta-data/block-device-mapping/root", |v| some(&v.facts.root_device)),
    text("meta-data/events/maintenance/history", |_| some("[]")),
    text("meta-data/events/maintenance/scheduled", |_| some("[]")),
    text("meta-data/hibernation/configured", |_| some("false")),
    text("meta-data/hostname", |v| some(&v.facts.local_hostname)),
    row("meta-data/identity-credentials/ec2/info", Node::CredentialInfo),
    row("meta-data/identity-credentials/ec2/security-credentials/ec2-instance", Node::Credentials),
    text("meta-data/instance-action", |_| some("none")),
    text("meta-data/instance-id", |v| Some(Cow::Owned(v.instance.to_string()))),
    text("meta-data/instance-life-cycle", |_| some("on-demand")),
    text("meta-data/instance-type", |v| some(&v.facts.instance_type)),
    text("meta-data/ipv6", |v| ipv6(v).map(|address| Cow::Owned(address.to_string()))),
    text("meta-data/local-hostname", |v| some(&v.facts.local_hostname)),
    text("meta-data/local-ipv4", |v| v.facts.private_ip.map(|address| Cow::Owned(address.to_string()))),
    text("meta-data/mac", |v| v.facts.interface.as_ref().map(|interface| Cow::Borrowed(interface.mac.as_str()))),
    row("meta-data/managed-ssh-keys", Node::ManagedKeys),
    // What EC2 serves where nobody has written metrics, to the byte.
    text("meta-data/metrics/vhostmd", |_| some("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")),
    row("meta-data/network/interfaces/macs", Node::Macs),
    text("meta-data/placement/availability-zone", |v| some(v.facts.zone.as_str())),
    text("meta-data/placement/availability-zone-id", |v| some(&v.facts.zone_id)),
    text("meta-data/placement/group-name", |v| v.facts.placement_group.as_deref().map(Cow::Borrowed)),
    text("meta-data/placement/partition-number", |v| {
        v.facts.placement_partition.map(|number| Cow::Owned(number.to_string()))
    }),
    text("meta-data/placement/region", |v| some(v.facts.region.as_str())),
    text("meta-data/profile", |_| some("default-hvm")),
    row("meta-data/public-keys", Node::PublicKeys),
    text("meta-data/reservation-id", |v| some(&v.facts.reservation_id)),
    text("meta-data/security-groups", |v| lines(&v.facts.security_groups)),
    text("meta-data/services/domain", |v| some(&v.facts.domain)),
    text("meta-data/services/partition", |v| some(v.facts.partition.id())),
    text("meta-data/system", |_| some("nitro")),
    row("meta-data/tags/instance", Node::Tags),
    row("user-data", Node::UserData),
];

fn ipv6(view: &View<'_>) -> Option<Ipv6Addr> {
    view.facts.interface.as_ref().and_then(|interface| interface.ipv6)
}

/// A text that every instance has; empty is the same as none.
fn some(value: &str) -> Option<Cow<'_, str>> {
    (!value.is_empty()).then_some(Cow::Borrowed(value))
}

/// What is at `path`, whose slashes are folded.
pub(crate) fn find(path: &[u8], view: &View<'_>, delivery: Delivery) -> Found {
    if path.is_empty() {
        return listing(view, VERSIONS.join("\n"));
    }
    let (version, path) = split_first(path);
    if !is_version(version) {
        return Found::Absent;
    }
    // In captures of dated trees there are no managed keys, and what walks those does not expect any.
    let view = &View { managed_keys: view.managed_keys.filter(|_| version == LATEST.as_bytes()), ..*view };
    match ROWS.binary_search_by(|row| row.path.as_bytes().cmp(path)) {
        Ok(at) => ROWS.get(at).map_or(Found::Absent, |row| row.node.read(view, delivery)),
        Err(_) => below_a_row(path, view).unwrap_or_else(|| directory(path, view)),
    }
}

/// What is at a path below one of the rows that are directories with entries of their own.
fn below_a_row(path: &[u8], view: &View<'_>) -> Option<Found> {
    ROWS.iter().filter(|row| row.node.is_directory()).find_map(|row| {
        let inner = path.strip_prefix(row.path.as_bytes())?.strip_prefix(b"/")?;
        Some(match row.node {
            Node::Macs => interface(inner, view),
            Node::ManagedKeys => managed_key(inner, view),
            Node::PublicKeys => public_key(inner, view),
            _ => tag(inner, view),
        })
    })
}

/// The listing of the directory `path`, made of the rows below it that answer.
fn directory(path: &[u8], view: &View<'_>) -> Found {
    let mut entries = String::new();
    let mut last = "";
    let mut awaited = false;
    for row in &ROWS {
        let Some(rest) = below(row.path, path) else { continue };
        match row.node.state(view) {
            State::Absent => continue,
            State::Awaited => awaited = true,
            State::Present => {
                let (name, is_directory) = match rest.split_once('/') {
                    Some((name, _)) => (name, true),
                    None => (rest, row.node.is_directory()),
                };
                if name == last {
                    continue;
                }
                last = name;
                push_line(&mut entries, name);
                // The names directly below a version have no slash, in every capture; all others do.
                if is_directory && !path.is_empty() {
                    entries.push('/');
                }
            }
        }
    }
    match (entries.is_empty(), awaited) {
        (false, _) => listing(view, entries),
        (true, true) => Found::NotYet,
        (true, false) => Found::Absent,
    }
}

fn below<'r>(row: &'r str, directory: &[u8]) -> Option<&'r str> {
    if directory.is_empty() {
        return Some(row);
    }
    row.strip_prefix(core::str::from_utf8(directory).ok()?)?.strip_prefix('/')
}

fn push_line(lines: &mut String, line: &str) {
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines.push_str(line);
}

enum State {
    Present,
    Awaited,
    Absent,
}

impl Node {
    const fn is_directory(&self) -> bool {
        matches!(self, Self::Macs | Self::ManagedKeys | Self::PublicKeys | Self::Tags)
    }

    /// Whether reading it would give something. Says what [`Node::read`] does; a test walks both.
    fn state(&self, view: &View<'_>) -> State {
        let present = match self {
            Self::Text(value) => value(view).is_some(),
            Self::Document => true,
            Self::CredentialInfo | Self::Credentials if view.is_withheld => false,
            Self::CredentialInfo | Self::Credentials if view.credentials.is_none() => return State::Awaited,
            Self::CredentialInfo | Self::Credentials => true,
            Self::Signature(_) if view.signatures.is_none() => return State::Awaited,
            Self::Signature(_) => true,
            Self::Macs => view.facts.interface.is_some(),
            Self::ManagedKeys => view.managed_keys.is_some(),
            Self::PublicKeys => view.facts.key_pair.is_some(),
            Self::Tags => shown_tags(view).next().is_some(),
            Self::UserData => user_data(view).is_some(),
        };
        if present { State::Present } else { State::Absent }
    }

    fn read(&self, view: &View<'_>, delivery: Delivery) -> Found {
        let launched = view.facts.launch_time;
        match self {
            Self::Text(value) => value(view).map_or(Found::Absent, |value| plain(Class::Leaf, bytes(value), launched)),
            Self::Document => dynamic(view.document, launched),
            Self::Signature(which) => {
                view.signatures.map_or(Found::NotYet, |signatures| dynamic(which(signatures), launched))
            }
            Self::CredentialInfo | Self::Credentials if view.is_withheld => Found::Absent,
            Self::CredentialInfo => view.credentials.map_or(Found::NotYet, |credentials| {
                plain(Class::Leaf, credentials.info().clone(), credentials.issued_at())
            }),
            Self::Credentials => view.credentials.map_or(Found::NotYet, |credentials| {
                plain(Class::Credentials, credentials.document(delivery).clone(), credentials.issued_at())
            }),
            Self::Macs => view
                .facts
                .interface
                .as_ref()
                .map_or(Found::Absent, |interface| listing(view, format!("{}/", interface.mac))),
            Self::ManagedKeys => view.managed_keys.map_or(Found::Absent, |_| listing(view, LiveKeys::listing())),
            Self::PublicKeys => view
                .facts
                .key_pair
                .as_ref()
                .map_or(Found::Absent, |key_pair| listing(view, format!("0={}", key_pair.name))),
            Self::Tags => {
                let mut keys: Vec<&str> = shown_tags(view).map(|(key, _)| key).collect();
                keys.sort_unstable();
                if keys.is_empty() { Found::Absent } else { listing(view, keys.join("\n")) }
            }
            Self::UserData => user_data(view).map_or(Found::Absent, |bytes| {
                Found::Leaf(Leaf {
                    class: Class::UserData,
                    content_type: "application/octet-stream",
                    body: bytes.clone(),
                    modified: launched,
                    accept_ranges: "bytes",
                })
            }),
        }
    }
}

pub(crate) fn bytes(value: Cow<'_, str>) -> Bytes {
    match value {
        Cow::Borrowed(value) => Bytes::copy_from_slice(value.as_bytes()),
        Cow::Owned(value) => Bytes::from(value),
    }
}

fn plain(class: Class, body: Bytes, modified: UnixTime) -> Found {
    Found::Leaf(Leaf { class, content_type: "text/plain", body, modified, accept_ranges: "none" })
}

fn listing(view: &View<'_>, lines: String) -> Found {
    plain(Class::Listing, Bytes::from(lines), view.facts.launch_time)
}

/// Files that EC2 keeps as files say that they can be read in ranges, though nothing there has to honour one.
fn dynamic(document: &Bytes, modified: UnixTime) -> Found {
    Found::Leaf(Leaf {
        class: Class::Dynamic,
        content_type: "text/plain",
        body: document.clone(),
        modified,
        accept_ranges: "bytes",
    })
}

fn user_data<'a>(view: &View<'a>) -> Option<&'a Bytes> {
    view.facts.user_data.as_ref().filter(|bytes| !bytes.is_empty())
}

/// What a directory with entries of its own has found.
fn found(view: &View<'_>, below: Below) -> Found {
    match below {
        Below::Listing(names) => listing(view, names),
        Below::Leaf(value) => plain(Class::Leaf, value, view.facts.launch_time),
        Below::Absent => Found::Absent,
    }
}

/// `network/interfaces/macs/MAC` and what is below it.
fn interface(inner: &[u8], view: &View<'_>) -> Found {
    let interface = view.facts.interface.as_ref();
    found(view, interface.map_or(Below::Absent, |interface| interface.find(inner, view)))
}

/// What is below `managed-ssh-keys`.
fn managed_key(inner: &[u8], view: &View<'_>) -> Found {
    found(view, view.managed_keys.map_or(Below::Absent, |keys| keys.find(inner)))
}

/// `public-keys/0` and `public-keys/0/openssh-key`. The directory above lists `0=NAME`, which is not a path.
fn public_key(inner: &[u8], view: &View<'_>) -> Found {
    match (inner, &view.facts.key_pair) {
        (b"0", Some(_)) => listing(view, "openssh-key".to_owned()),
        (b"0/openssh-key", Some(KeyPair { openssh_key, .. })) => {
            // The one value with a newline at its end.
            let line = format!("{}\n", openssh_key.trim_end_matches('\n'));
            plain(Class::Leaf, Bytes::from(line), view.facts.launch_time)
        }
        _ => Found::Absent,
    }
}

fn shown_tags<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let tags = if view.options.tags { view.tags } else { &[] };
    tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).filter(|(key, _)| tag_key_fits_a_path(key))
}

fn tag(segment: &[u8], view: &View<'_>) -> Found {
    shown_tags(view).find(|(key, _)| spells(segment, key)).map_or(Found::Absent, |(_, value)| {
        plain(Class::Leaf, Bytes::copy_from_slice(value.as_bytes()), view.facts.launch_time)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binary search and the listings want it.
    #[test]
    fn rows_are_in_order() {
        assert!(ROWS.is_sorted_by(|a, b| a.path.as_bytes() < b.path.as_bytes()));
    }

    #[test]
    fn no_row_is_below_another() {
        for row in &ROWS {
            assert!(!ROWS.iter().any(|other| other.path.starts_with(&format!("{}/", row.path))), "{}", row.path);
        }
    }
}
