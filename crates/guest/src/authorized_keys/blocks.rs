//! What is below `managed-ssh-keys/active-keys/USER`: blocks of signed lines, parted by empty lines.
//!
//! A block is lines that begin with `#`, the line of the key, and the signature, base64 in one line or several. Source:
//! script `eic_parse_authorized_keys` 1.1.12 to 1.1.19.

use inborn_identity::{InstanceId, UnixTime};

/// Most blocks that are looked at: more keys than this for one user at a time nobody has.
pub const BLOCKS_MAX: usize = 64;

/// Why a block is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// Not a block.
    #[error("it is not of the form that is expected")]
    Malformed,
    /// Its minute is over.
    #[error("it expired {0} s ago: is the clock of this machine right?")]
    Expired(u64),
    /// For another machine.
    #[error("it was sent to another instance")]
    OtherInstance,
    /// For another user.
    #[error("it was sent to another user")]
    OtherUser,
    /// It does not say for whom it is.
    #[error("it does not say for which user it is (see --any-user)")]
    NoUser,
}

/// Whose keys are meant.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The machine that asks.
    pub instance: InstanceId,
    /// The user who wants to log in.
    pub user: &'a str,
    /// Whether a key that does not say for which user it is will do, as AWS's do not.
    pub any_user: bool,
    /// The present moment.
    pub now: UnixTime,
}

/// A block, taken apart; nothing in it is believed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// What is signed.
    pub signed: &'a str,
    /// The line of the key, without its end.
    pub key: &'a str,
    /// Base64, perhaps in lines.
    pub signature: &'a str,
}

/// The blocks of a text, each or why it is none. The last one counts only if its empty line is there: what was cut off could
/// be anything.
///
/// # Errors
/// [`BlockError::Malformed`], in the place of the block.
pub fn blocks(text: &str) -> impl Iterator<Item = Result<Block<'_>, BlockError>> {
    let text = text.trim_start_matches('\n');
    let parts = text.split_inclusive("\n\n").take(BLOCKS_MAX);
    parts.filter(|part| !part.trim().is_empty()).map(|part| {
        let whole = part.strip_suffix("\n\n").ok_or(BlockError::Malformed)?;
        Block::read(whole.trim_start_matches('\n')).ok_or(BlockError::Malformed)
    })
}

impl<'a> Block<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut end = 0;
        for line in text.split_inclusive('\n') {
            end += line.len();
            if !line.starts_with('#') {
                let (signed, signature) = text.split_at_checked(end)?;
                let key = line.strip_suffix('\n')?;
                return (!signature.is_empty()).then_some(Self { signed, key, signature });
            }
        }
        None
    }

    /// The value of the line `#NAME=VALUE`: at most one, so that no two readers can differ.
    fn value(&self, name: &str) -> Result<Option<&'a str>, BlockError> {
        let mut values = self.signed.lines().filter_map(|line| {
            let (key, value) = line.strip_prefix('#')?.split_once('=')?;
            (key == name).then_some(value)
        });
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(BlockError::Malformed),
        }
    }

    /// Checks that it is what is wanted.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub fn check(&self, wanted: Wanted<'_>) -> Result<(), BlockError> {
        let require = |name| self.value(name)?.ok_or(BlockError::Malformed);
        let instance: InstanceId = require("Instance")?.parse().map_err(|_| BlockError::Malformed)?;
        if instance != wanted.instance {
            return Err(BlockError::OtherInstance);
        }
        match self.value("User")? {
            Some(user) if user != wanted.user => return Err(BlockError::OtherUser),
            None if !wanted.any_user => return Err(BlockError::NoUser),
            _ => {}
        }
        let timestamp = require("Timestamp")?;
        let is_number = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: u64 = timestamp.parse().ok().filter(|_| is_number).ok_or(BlockError::Malformed)?;
        let end = UnixTime::from_secs(seconds);
        if wanted.now < end { Ok(()) } else { Err(BlockError::Expired(wanted.now.since(end))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = "i-0123456789abcdef0";
    const LINES: &str = "#Timestamp=1800000060\n#Instance=i-0123456789abcdef0\n#Caller=arn:aws:iam::123456789012:user/a\n\
                         #Request=2\n#User=root\nssh-ed25519 AAAA a\n";

    fn wanted(user: &str) -> Wanted<'_> {
        let now = UnixTime::from_secs(1_800_000_000);
        Wanted { instance: INSTANCE.parse().unwrap(), user, any_user: false, now }
    }

    fn checked(lines: &str, wanted: Wanted<'_>) -> Result<(), BlockError> {
        let text = format!("{lines}c2ln\n\n");
        let block = blocks(&text).next().unwrap()?;
        assert_eq!(block.signed, lines);
        block.check(wanted)
    }

    #[test]
    fn blocks_one_after_the_other() {
        let text = format!("\n{LINES}c2ln\n\n{LINES}c2\nln\n\n\n");
        let found: Vec<_> = blocks(&text).map(Result::unwrap).collect();
        assert_eq!(found[0], Block { signed: LINES, key: "ssh-ed25519 AAAA a", signature: "c2ln" });
        assert_eq!((found.len(), found[1].signature), (2, "c2\nln"));
        assert_eq!(blocks("").count() + blocks("\n\n").count(), 0);
    }

    #[test]
    fn what_is_cut_off_is_no_block() {
        for text in [
            format!("{LINES}c2ln"),
            format!("{LINES}c2ln\n"),
            format!("{LINES}\n"),
            "#Timestamp=1\n\n".into(),
            "x".into(),
            "c2ln\n\n".into(),
        ] {
            assert_eq!(
                blocks(&text).map(|block| block.unwrap_err()).collect::<Vec<_>>(),
                [BlockError::Malformed],
                "{text}"
            );
        }
        let cut = format!("{LINES}c2ln\n\n{LINES}c2");
        assert_eq!(blocks(&cut).map(|block| block.is_ok()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn more_blocks_than_anybody_has_are_not_looked_at() {
        for (count, seen) in [(BLOCKS_MAX - 1, BLOCKS_MAX - 1), (BLOCKS_MAX, BLOCKS_MAX), (BLOCKS_MAX + 1, BLOCKS_MAX)]
        {
            assert_eq!(blocks(&format!("{LINES}c2ln\n\n").repeat(count)).count(), seen);
        }
    }

    #[test]
    fn a_block_is_for_one_instance_one_user_and_one_minute() {
        assert_eq!(checked(LINES, wanted("root")), Ok(()));
        assert_eq!(checked(LINES, wanted("roo")), Err(BlockError::OtherUser));
        assert_eq!(checked(LINES, Wanted { any_user: true, ..wanted("me") }), Err(BlockError::OtherUser));
        let other = "i-0123456789abcdef1".parse().unwrap();
        assert_eq!(checked(LINES, Wanted { instance: other, ..wanted("root") }), Err(BlockError::OtherInstance));
        for (now, expected) in [
            (1_800_000_059, Ok(())),
            (1_800_000_060, Err(BlockError::Expired(0))),
            (1_800_000_061, Err(BlockError::Expired(1))),
        ] {
            assert_eq!(checked(LINES, Wanted { now: UnixTime::from_secs(now), ..wanted("root") }), expected);
        }
        let nameless = LINES.replace("#User=root\n", "");
        assert_eq!(checked(&nameless, wanted("root")), Err(BlockError::NoUser));
        assert_eq!(checked(&nameless, Wanted { any_user: true, ..wanted("root") }), Ok(()));
    }

    #[test]
    fn what_is_said_twice_or_not_at_all_is_malformed() {
        for lines in [
            LINES.replace("#Timestamp=1800000060\n", ""),
            LINES.replace("#Instance=i-0123456789abcdef0\n", ""),
            LINES.replace("#Request=2\n", "#User=root\n"),
            LINES.replace("#Request=2\n", "#Instance=i-0123456789abcdef1\n"),
            LINES.replace("#Request=2\n", "#Timestamp=9800000060\n"),
            LINES.replace("=1800000060", "=+1800000060"),
            LINES.replace("=1800000060", "="),
            LINES.replace("=1800000060", "=99999999999999999999"),
            LINES.replace("=i-0123456789abcdef0", "=i-"),
        ] {
            assert_eq!(checked(&lines, wanted("root")), Err(BlockError::Malformed), "{lines}");
        }
    }
}
