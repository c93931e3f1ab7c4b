//! The wire format of protobuf, read in place: messages as they stand in a body, field by field.
//!
//! Messages are not built, because two bytes on the wire can become hundreds in memory: a body within its limits could take
//! gigabytes. Source: protobuf, "Encoding". Groups, which proto3 does not have, are refused.

/// The bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotProtobuf;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    /// # Errors
    /// It is of another type.
    pub(crate) fn bytes(self) -> Result<&'a [u8], NotProtobuf> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(NotProtobuf) }
    }

    /// # Errors
    /// It is of another type.
    pub(crate) fn fixed64(self) -> Result<u64, NotProtobuf> {
        if let Self::Fixed64(number) = self { Ok(number) } else { Err(NotProtobuf) }
    }

    /// # Errors
    /// It is of another type.
    pub(crate) fn varint(self) -> Result<u64, NotProtobuf> {
        if let Self::Varint(number) = self { Ok(number) } else { Err(NotProtobuf) }
    }
}

/// The fields of a message, in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field: its number and what it holds.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, NotProtobuf> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| NotProtobuf)?;
        let number = key >> 3;
        if number == 0 {
            return Err(NotProtobuf);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| NotProtobuf)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(NotProtobuf)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => {
                let _: [u8; 4] = self.array()?;
                Value::Fixed32
            }
            _ => return Err(NotProtobuf),
        };
        Ok(Some((number, value)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotProtobuf> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(NotProtobuf)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// At most ten bytes, and 64 bits.
    fn varint(&mut self) -> Result<u64, NotProtobuf> {
        let mut number = 0_u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(NotProtobuf);
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = self.0.get(index + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(NotProtobuf)
    }
}

/// Writes a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Writes a field that is a number.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, number);
}

/// Writes a field that is a text or a message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_message() {
        for bytes in [
            &[0x80][..],
            &[0x00, 0x01],
            &[0x08],
            &[0x0a, 0x02, 0x01],
            &[0x09, 1, 2, 3, 4, 5, 6, 7],
            &[0x0d, 1, 2, 3],
            &[0x0b, 0x0c],
            &[0x0e],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00],
        ] {
            let mut fields = Fields::of(bytes);
            assert_eq!(fields.next(), Err(NotProtobuf), "{bytes:x?}");
        }
        let mut largest = Fields::of(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(largest.next(), Ok(Some((1, Value::Varint(u64::MAX)))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>(), field in 1_u32..1000, bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            put_number(&mut out, field, number);
            put_bytes(&mut out, field + 1, &bytes);
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.next(), Ok(Some((field, Value::Varint(number)))));
            prop_assert_eq!(fields.next(), Ok(Some((field + 1, Value::Bytes(&bytes)))));
            prop_assert_eq!(fields.next(), Ok(None));
        }

        #[test]
        fn varints_are_read_as_by_prost(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let theirs = prost::encoding::decode_varint(&mut bytes.as_slice());
            prop_assert_eq!(Fields::of(&bytes).varint().ok(), theirs.ok());
        }
    }
}
