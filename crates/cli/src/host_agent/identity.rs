//! Who this host is: its key, its certificate, and where its region is asked, in its data directory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_host_agent::Address;
use inborn_identity::{HostId, Region, UnixTime};
use inborn_pki::{HostCertificate, HostKey, tls};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::directory;
use crate::serving::DATABASE;

/// Who it is; nothing in it is secret.
const FILE: &str = "host.json";
/// Its private key, PKCS#8 in PEM.
const KEY_FILE: &str = "host.key";
/// Bytes of either file: what is longer is not ours.
const BYTES_MAX: u64 = 64 * 1024;
/// Characters of a line of PEM. Source: RFC 7468, section 2.
const PEM_LINE: usize = 64;

/// What `host.json` holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    host: String,
    name: String,
    region: String,
    domain: String,
    authority: String,
    addresses: Vec<String>,
    certificate: String,
    #[serde(default, skip_serializing_if = "is_false")]
    evicted: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A host that has joined.
pub(crate) struct HostIdentity {
    pub(crate) host: HostId,
    pub(crate) name: String,
    pub(crate) region: Region,
    pub(crate) domain: String,
    pub(crate) addresses: Vec<Address>,
    /// Whether its region has cut it off for good.
    pub(crate) is_evicted: bool,
    authority: [u8; 32],
    certificate: String,
    key: Option<HostKey>,
}

/// What a host comes to know by joining.
pub(crate) struct Membership {
    pub(crate) host: HostId,
    pub(crate) name: String,
    pub(crate) region: Region,
    pub(crate) domain: String,
    pub(crate) addresses: Vec<Address>,
    pub(crate) authority: [u8; 32],
    pub(crate) certificate: String,
    pub(crate) key: HostKey,
}

impl HostIdentity {
    /// Whether the directory is that of a host, joined or cut off.
    pub(crate) fn is_in(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    /// Who the host in `data` is; `None` if it has not joined.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(FILE);
        let Some(text) = read_private(&path)? else { return Ok(None) };
        let damaged =
            || format!("{} is damaged: restore it, or remove it and join anew (`inborn host join`)", path.display());
        let written: Written = serde_json::from_slice(&text).with_context(damaged)?;
        let parse = |written: Written| -> Option<Self> {
            let addresses = written.addresses.iter().map(|text| text.parse().ok()).collect::<Option<Vec<_>>>()?;
            Some(Self {
                host: written.host.parse().ok()?,
                name: written.name,
                region: written.region.parse().ok()?,
                domain: written.domain,
                addresses,
                is_evicted: written.evicted,
                authority: from_hex(&written.authority)?,
                certificate: written.certificate,
                key: None,
            })
        };
        let mut identity = parse(written).with_context(damaged)?;
        if !identity.is_evicted {
            let path = data.join(KEY_FILE);
            let lost = || {
                format!(
                    "the host's key {} is lost, as it is after an eviction that could not be written down: nothing is served. Remove {} and \
                     join anew with another token (`inborn host join`), or restore the key if the region still knows this host",
                    path.display(),
                    data.join(FILE).display()
                )
            };
            let text = read_private(&path)?.with_context(lost)?;
            let der = PrivatePkcs8KeyDer::from_pem_slice(&text).ok().with_context(lost)?;
            identity.key = Some(HostKey::from_pkcs8(der.secret_pkcs8_der()).ok().with_context(lost)?);
        }
        Ok(Some(identity))
    }

    /// Writes down that the host has joined: whole, or not at all.
    pub(crate) fn create(data: &Path, membership: Membership) -> anyhow::Result<Self> {
        let Membership { host, name, region, domain, addresses, authority, certificate, key } = membership;
        let identity =
            Self { host, name, region, domain, addresses, is_evicted: false, authority, certificate, key: Some(key) };
        // The key first: who has the other file has joined.
        identity.write_key(data)?;
        identity.write(data)?;
        Ok(identity)
    }

    fn write_key(&self, data: &Path) -> anyhow::Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let encoded = Zeroizing::new(BASE64.encode(&*key.to_pkcs8()));
        let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + PEM_LINE));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in encoded.as_bytes().chunks(PEM_LINE) {
            text.push_str(core::str::from_utf8(line).unwrap_or_default());
            text.push('\n');
        }
        text.push_str("-----END PRIVATE KEY-----\n");
        directory::replace_private(&data.join(KEY_FILE), text.as_bytes())
    }

    fn write(&self, data: &Path) -> anyhow::Result<()> {
        let written = Written {
            host: self.host.to_string(),
            name: self.name.clone(),
            region: self.region.to_string(),
            domain: self.domain.clone(),
            authority: to_hex(&self.authority),
            addresses: self.addresses.iter().map(Address::to_string).collect(),
            certificate: self.certificate.clone(),
            evicted: self.is_evicted,
        };
        let mut text = serde_json::to_vec_pretty(&written)?;
        text.push(b'\n');
        directory::replace_private(&data.join(FILE), &text)
    }

    /// Takes over its next certificate, if it is one for it.
    pub(crate) fn renew(&mut self, data: &Path, certificate: String) -> anyhow::Result<()> {
        let public_key = self.key.as_ref().map(HostKey::public_key).unwrap_or_default();
        check(&certificate, self.host, public_key)?;
        let before = std::mem::replace(&mut self.certificate, certificate);
        self.write(data).inspect_err(|_| self.certificate = before)
    }

    /// Removes its key: it can show nothing to its region any more.
    pub(super) fn forget_key(&mut self, data: &Path) -> anyhow::Result<()> {
        self.key = None;
        remove(&data.join(KEY_FILE))
    }

    /// Writes down that the region has cut it off, unless that is written.
    pub(super) fn be_evicted(&mut self, data: &Path) -> anyhow::Result<()> {
        if self.is_evicted {
            return Ok(());
        }
        self.is_evicted = true;
        self.certificate = String::new();
        self.write(data)
    }

    /// When its certificate ends.
    pub(crate) fn certificate_ends(&self) -> UnixTime {
        HostCertificate::from_pem(&self.certificate).map_or(UnixTime::default(), |certificate| certificate.not_after)
    }

    /// Whether its certificate is for it, and of its key.
    pub(crate) fn is_whole(&self) -> bool {
        self.key.as_ref().is_some_and(|key| check(&self.certificate, self.host, key.public_key()).is_ok())
    }

    /// Whether its certificate has ended: its region does not know it any more.
    pub(crate) fn has_ended(&self, now: UnixTime) -> bool {
        now > self.certificate_ends()
    }

    /// What it shows to its region, and how it knows it.
    pub(crate) fn tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let key = self.key.as_ref().context("the host has no key any more")?;
        Ok(tls::host_client_config(self.authority, Some((&self.certificate, key)))?)
    }
}

/// Checks that a certificate is the one of this host and key: the region answers no other, unless something is wrong with it.
pub(super) fn check(certificate: &str, host: HostId, public_key: &[u8]) -> anyhow::Result<()> {
    let read = HostCertificate::from_pem(certificate).ok().context("the region gave a certificate that is none")?;
    if read.host != host || read.public_key != public_key {
        bail!("the region gave the certificate of another host");
    }
    Ok(())
}

/// Refuses a directory that a region keeps its state in: both would write the same names.
pub(super) fn check_is_no_regions(data: &Path) -> anyhow::Result<()> {
    if data.join(DATABASE).exists() {
        bail!(
            "{} is the data directory of a region, which is its own host: name another one with --data DIR",
            data.display()
        );
    }
    Ok(())
}

/// A file that nobody else may read; `None` if there is none.
fn read_private(path: &Path) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}: run this as its owner", path.display()));
        }
    };
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        bail!("{0} may be read by others (mode {1:04o}): chmod 600 {0}", path.display(), metadata.mode() & 0o7777);
    }
    if metadata.len() > BYTES_MAX {
        bail!("{} is longer than anything that is kept there", path.display());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(BYTES_MAX).unwrap_or_default()));
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    // Of a sign before a digit the standard library would take no offence.
    let digits = Some(text.as_bytes()).filter(|text| text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit))?;
    let pairs = digits.chunks_exact(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use inborn_pki::HostsAuthority;
    use std::os::unix::fs::PermissionsExt;

    pub(in super::super) fn joined(data: &Path) -> (HostsAuthority, HostIdentity) {
        let region: Region = "us-east-1".parse().unwrap();
        let now = UnixTime::from_secs(1_800_000_000);
        let (authority, _) = HostsAuthority::create(&region, now).unwrap();
        let key = HostKey::generate().unwrap();
        let host: HostId = "h-0123456789abcdef0".parse().unwrap();
        let membership = Membership {
            host,
            name: "kvm-1".to_owned(),
            region,
            domain: "amazonaws.com".to_owned(),
            addresses: vec!["region.example:4544".parse().unwrap(), "[fd00::1]:4544".parse().unwrap()],
            authority: authority.fingerprint(),
            certificate: authority.certify(host, key.public_key(), now).unwrap(),
            key,
        };
        (authority, HostIdentity::create(data, membership).unwrap())
    }

    #[test]
    fn what_was_joined_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        assert!(HostIdentity::read(data).unwrap().is_none() && !HostIdentity::is_in(data));
        let (authority, mut made) = joined(data);
        for file in [FILE, KEY_FILE] {
            assert_eq!(std::fs::metadata(data.join(file)).unwrap().mode() & 0o7777, 0o600, "{file}");
        }
        let read = HostIdentity::read(data).unwrap().unwrap();
        assert_eq!((read.host, &read.addresses, read.authority), (made.host, &made.addresses, made.authority));
        assert_eq!(read.key.as_ref().unwrap().public_key(), made.key.as_ref().unwrap().public_key());
        assert!(read.tls().is_ok() && read.is_whole() && HostIdentity::is_in(data));
        let ends = read.certificate_ends();
        assert!(!read.has_ended(ends) && read.has_ended(ends.plus(1)));
        // A week later: its own next certificate is taken, another's is not.
        let later = UnixTime::from_secs(1_800_600_000);
        let next = authority.certify(made.host, read.key.as_ref().unwrap().public_key(), later).unwrap();
        made.renew(data, next.clone()).unwrap();
        assert_eq!(HostIdentity::read(data).unwrap().unwrap().certificate, next);
        let others = authority.certify(made.host, HostKey::generate().unwrap().public_key(), later).unwrap();
        for wrong in [others, String::new()] {
            assert!(made.renew(data, wrong).is_err());
        }
        assert_eq!(HostIdentity::read(data).unwrap().unwrap().certificate, next);
        made.forget_key(data).unwrap();
        made.be_evicted(data).unwrap();
        let read = HostIdentity::read(data).unwrap().unwrap();
        assert!(
            read.is_evicted
                && !read.is_whole()
                && read.key.is_none()
                && read.tls().is_err()
                && !data.join(KEY_FILE).exists()
        );
    }

    #[test]
    fn what_others_may_read_or_is_damaged_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let _ = joined(data);
        std::fs::set_permissions(data.join(KEY_FILE), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = HostIdentity::read(data).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::remove_file(data.join(KEY_FILE)).unwrap();
        let error = HostIdentity::read(data).err().unwrap().to_string();
        assert!(error.contains("join anew") && error.contains("host.json") && error.contains("eviction"), "{error}");
        directory::replace_private(&data.join(FILE), b"{}").unwrap();
        let error = HostIdentity::read(data).err().unwrap().to_string();
        assert!(error.contains("damaged"), "{error}");
    }

    #[test]
    fn hexadecimal() {
        let bytes: [u8; 32] = core::array::from_fn(|index| u8::try_from(index * 8).unwrap());
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for text in ["", "0", &"0".repeat(63), &"0".repeat(66), &"é".repeat(32), &"+0".repeat(32)] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
