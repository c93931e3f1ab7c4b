//! Values that travel as the text they print as.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer, de};

pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(source: D) -> Result<T, D::Error> {
    String::deserialize(source)?.parse().map_err(de::Error::custom)
}

/// Lists of them.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, de};
    use serde::ser::SerializeSeq;

    pub(crate) fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(values.len()))?;
        for value in values {
            sequence.serialize_element(&value.to_string())?;
        }
        sequence.end()
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(source)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

/// Maps whose keys are such values.
pub(crate) mod keys {
    use std::collections::BTreeMap;

    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, de};
    use serde::ser::SerializeMap;

    pub(crate) fn serialize<K: Display, S: Serializer>(
        map: &BTreeMap<K, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_map(Some(map.len()))?;
        for (key, value) in map {
            entries.serialize_entry(&key.to_string(), value)?;
        }
        entries.end()
    }

    pub(crate) fn deserialize<'de, K: FromStr<Err: Display> + Ord, D: Deserializer<'de>>(
        source: D,
    ) -> Result<BTreeMap<K, String>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(source)?;
        let parse = |(key, value): (String, String)| Ok((key.parse().map_err(de::Error::custom)?, value));
        texts.into_iter().map(parse).collect()
    }
}

/// Bytes in base64.
pub(crate) mod bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(source)?).map_err(de::Error::custom)
    }

    /// Bytes that may be absent.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, Engine, STANDARD, Serializer, de};

        #[allow(clippy::ref_option, reason = "serde passes references")]
        pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<u8>>, D::Error> {
            let text = Option::<String>::deserialize(source)?;
            text.map(|text| STANDARD.decode(text).map_err(de::Error::custom)).transpose()
        }
    }
}
