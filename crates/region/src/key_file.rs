//! The file that holds the key-encryption key: everything secret in the store is sealed with it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// First word of the file, so that a person sees what it is and a later format can be told apart.
const MAGIC: &str = "inborn-key-1";
/// Bytes of a key-encryption key.
pub const KEY_BYTES: usize = inborn_credential::Kek::BYTES;
/// The file is 1 line of 78 characters; anything much longer is not ours.
pub(crate) const FILE_BYTES_MAX: u64 = 256;
/// The mode it must have.
const MODE: u32 = 0o600;

/// Why the key file cannot be used. Each says what to do, and none of the remedies is "make a new one".
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there, and something is sealed with it.
    #[error(
        "the key file {} is missing, and the secrets of this region are sealed with it. Put it back from your backup. \
         If it is lost for good, this data directory cannot be used any more: start with another one (--data DIR) and \
         launch your machines again",
        .0.display()
    )]
    Missing(PathBuf),
    /// Others than its owner may read it.
    #[error(
        "the key file {} may be read by others (mode {mode:04o}). If nobody else can have read it: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key file.
    #[error("{} is not a key file: put the right one back from your backup", .0.display())]
    Malformed(PathBuf),
    /// It is a key, but another one.
    #[error(
        "the key file {} is not the one that the secrets of this region are sealed with: put the right one back from \
         your backup",
        .0.display()
    )]
    Wrong(PathBuf),
    /// The operating system refused.
    #[error("cannot use the key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The service manager gives no such credential.
    #[error(
        "there is no credential {}: have the unit load it (LoadCredentialEncrypted=NAME:FILE), or see that its name is right",
        .0.display()
    )]
    NoCredential(PathBuf),
    /// The program that prints the key does not.
    #[error("the key command {program} {why}")]
    Command {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was given is a key, but another one.
    #[error("the key that {0} gives is not the one that the secrets of this region are sealed with")]
    WrongGiven(String),
    /// The machine gave no random bytes.
    #[error("this machine has no source of random bytes")]
    NoRandomness,
}

/// Reads the key from the file at `path`.
///
/// # Errors
/// Missing, readable by others than its owner, or not a key file.
pub fn read(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(KeyFileError::Missing(path.into())),
        Err(source) => return Err(KeyFileError::Io { path: path.into(), source }),
    };
    let io = |source| KeyFileError::Io { path: path.into(), source };
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    let malformed = || KeyFileError::Malformed(path.into());
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(malformed());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|_| malformed())?;
    parse(&text).ok_or_else(malformed)
}

/// The key in the text of a key file.
pub(crate) fn parse(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    decode(text.trim_end().strip_prefix(MAGIC)?.strip_prefix(' ')?)
}

/// Reads the key from a credential that the service manager gives, which decides itself who may read it.
///
/// # Errors
/// Missing, or not a key.
pub fn read_credential(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeyFileError::NoCredential(path.into()));
        }
        Err(source) => return Err(KeyFileError::Io { path: path.into(), source }),
    };
    let malformed = || KeyFileError::Malformed(path.into());
    // As much as is ever read: no copy is left behind by a buffer that grows.
    let capacity = usize::try_from(FILE_BYTES_MAX + 1).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|_| malformed())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(malformed());
    }
    parse(&text).ok_or_else(malformed)
}

/// Whether the file at `path` is a key file that can be used; not whether it is the right one.
///
/// # Errors
/// Missing, readable by others than its owner, or not a key file.
pub fn check(path: &Path) -> Result<(), KeyFileError> {
    read(path).map(drop)
}

/// Makes a new key and writes it to `path`, which must not exist; both file and directory are on disk when this returns.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.into(), source };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(&mut key[..]).map_err(|_| KeyFileError::NoRandomness)?;
    let mut line = Zeroizing::new(String::with_capacity(MAGIC.len() + 2 * KEY_BYTES + 2));
    line.push_str(MAGIC);
    line.push(' ');
    for byte in key.iter() {
        line.push(hex_digit(byte >> 4));
        line.push(hex_digit(byte & 15));
    }
    line.push('\n');
    // Under another name until it is whole: half a key would stand in the way of the next start. A link, unlike a
    // rename, never replaces what is there.
    let beside = path.with_extension("key.new");
    let _ = std::fs::remove_file(&beside);
    let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::hard_link(&beside, path)
    });
    let _ = std::fs::remove_file(&beside);
    made.map_err(io)?;
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    }
    Ok(key)
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

fn decode(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let value = char::from(*high).to_digit(16)? << 4 | char::from(*low).to_digit(16)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_made_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("epoch.key");
        let made = create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(*read(&path).unwrap(), *made);
        assert!(matches!(create(&path), Err(KeyFileError::Io { .. })), "never over an old one");
        assert_eq!(*read(&path).unwrap(), *made);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn refuses_what_others_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("epoch.key");
        create(&path).unwrap();
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o666, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(_) => assert!(is_fine, "{mode:o}"),
                Err(error) => {
                    assert!(!is_fine && error.to_string().contains("chmod 600"), "{mode:o}: {error}");
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_not_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("epoch.key");
        assert!(matches!(read(&path), Err(KeyFileError::Missing(_))));
        let digits = "0".repeat(64);
        for text in [
            "",
            "inborn-key-1",
            "inborn-key-1 00",
            "inborn-key-2 x",
            &format!("inborn-key-1 {digits}0"),
            &format!("inborn-key-1 g{}", &digits[1..]),
            &"x".repeat(300),
        ] {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::Malformed(_))), "{text}");
        }
    }
}
