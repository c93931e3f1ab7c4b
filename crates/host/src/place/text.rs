//! Names of places, each checked when it is read.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of an interface's name. Source: Linux `IFNAMSIZ`, less its NUL.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Bytes of the path of a namespace: several times what container runtimes make.
pub const PATH_BYTES_MAX: usize = 1024;

/// A text that names no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPlace {
    /// Not an interface.
    #[error("an interface's name is 1 to {INTERFACE_BYTES_MAX} characters without spaces and slashes, as in tap0")]
    Interface,
    /// Not a path.
    #[error("a namespace is an absolute path of at most {PATH_BYTES_MAX} bytes, as in /run/netns/web")]
    Path,
}

/// The name of a network interface. It becomes part of paths below `/proc/sys`, hence no slash and no dots alone.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// The absolute path of a namespace's file.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct NamespacePath(String);

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NamespacePath {
    /// As a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = BadPlace;

    fn try_from(text: String) -> Result<Self, BadPlace> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
        let fits = (1..=INTERFACE_BYTES_MAX).contains(&text.len());
        if fits && is_printable && text != "." && text != ".." { Ok(Self(text)) } else { Err(BadPlace::Interface) }
    }
}

impl TryFrom<String> for NamespacePath {
    type Error = BadPlace;

    fn try_from(text: String) -> Result<Self, BadPlace> {
        let is_path = text.starts_with('/') && !text.contains(['\0', '\n']);
        if is_path && text.len() <= PATH_BYTES_MAX { Ok(Self(text)) } else { Err(BadPlace::Path) }
    }
}

impl FromStr for InterfaceName {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        text.to_owned().try_into()
    }
}

impl FromStr for NamespacePath {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        text.to_owned().try_into()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl From<NamespacePath> for String {
    fn from(path: NamespacePath) -> Self {
        path.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NamespacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_below_at_and_above_the_limit() {
        for length in [1, INTERFACE_BYTES_MAX - 1, INTERFACE_BYTES_MAX] {
            assert!("x".repeat(length).parse::<InterfaceName>().is_ok(), "{length}");
        }
        assert!("x".repeat(INTERFACE_BYTES_MAX + 1).parse::<InterfaceName>().is_err());
        for name in ["eth0.100", "vnet3", "br-0f1e", "tap100i0", "a@b"] {
            assert!(name.parse::<InterfaceName>().is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a\n", "é", "a:1", "\0"] {
            assert_eq!(name.parse::<InterfaceName>(), Err(BadPlace::Interface), "{name:?}");
        }
    }

    #[test]
    fn paths_below_at_and_above_the_limit() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        for length in [1, PATH_BYTES_MAX - 1, PATH_BYTES_MAX] {
            assert!(path(length).parse::<NamespacePath>().is_ok(), "{length}");
        }
        assert_eq!(path(PATH_BYTES_MAX + 1).parse::<NamespacePath>(), Err(BadPlace::Path));
        for text in ["", "web", "./web", "/a\0b", "/a\nb"] {
            assert_eq!(text.parse::<NamespacePath>(), Err(BadPlace::Path), "{text:?}");
        }
    }
}
