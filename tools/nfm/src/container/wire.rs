//! The wire format of protobuf, field by field: for messages with large tensors, which are read where they
//! lie and not copied with the message.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: FieldValue,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldValue {
    Varint(u64),
    /// Of 32 or 64 bits.
    Fixed,
    /// A string, bytes, a message or packed numbers: where they are.
    Bytes(Range<u64>),
}

impl Field {
    /// The number, when it is one.
    pub(super) fn varint(&self) -> Option<u64> {
        match self.value {
            FieldValue::Varint(value) => Some(value),
            _ => None,
        }
    }

    /// Where the bytes are, when it has some.
    pub(super) fn range(&self) -> Option<Range<u64>> {
        match &self.value {
            FieldValue::Bytes(range) => Some(range.clone()),
            _ => None,
        }
    }
}

/// The fields of the message in `range`.
///
/// # Errors
///
/// When a field leaves the message, or is of a type that protobuf has given up.
pub(super) fn fields(reader: &mut (impl Read + Seek), range: Range<u64>) -> io::Result<Vec<Field>> {
    let mut fields = Vec::new();
    let mut next = Fields::new(reader, range)?;
    while let Some(field) = next.next()? {
        fields.push(field);
    }
    Ok(fields)
}

/// The bytes in `range`, which [`fields`] gave.
pub(super) fn bytes(reader: &mut (impl Read + Seek), range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = range.end.saturating_sub(range.start);
    reader.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    reader.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads fields one after the other.
pub(super) struct Fields<'a, R> {
    reader: &'a mut R,
    at: u64,
    end: u64,
}

impl<'a, R: Read + Seek> Fields<'a, R> {
    pub(super) fn new(reader: &'a mut R, range: Range<u64>) -> io::Result<Self> {
        reader.seek(SeekFrom::Start(range.start))?;
        Ok(Self { reader, at: range.start, end: range.end })
    }

    /// The next field; its bytes are passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Field>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => self.skip(8).map(|_| FieldValue::Fixed)?,
            2 => {
                let len = self.varint()?;
                FieldValue::Bytes(self.skip(len)?)
            }
            5 => self.skip(4).map(|_| FieldValue::Fixed)?,
            kind => return Err(damaged(format!("a field of type {kind} at byte {}", self.at))),
        };
        Ok(Some(Field { number: tag >> 3, value }))
    }

    /// The next number of a packed field.
    pub(super) fn packed(&mut self) -> io::Result<Option<u64>> {
        if self.at >= self.end { Ok(None) } else { self.varint().map(Some) }
    }

    fn skip(&mut self, len: u64) -> io::Result<Range<u64>> {
        let start = self.at;
        let end = start.checked_add(len).filter(|end| *end <= self.end);
        let (Some(end), Ok(step)) = (end, i64::try_from(len)) else {
            return Err(damaged(format!("a field of {len} bytes at byte {start} leaves its message")));
        };
        self.reader.seek_relative(step)?;
        self.at = end;
        Ok(start..end)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            if self.at >= self.end {
                break;
            }
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged(format!("expected a number at byte {}", self.at)))
    }
}

/// Each number of the packed field in `range`, of which there must be `len`.
pub(super) fn varints(
    reader: &mut (impl Read + Seek),
    range: Range<u64>,
    len: usize,
    mut each: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut numbers = Fields::new(reader, range)?;
    let mut found = 0;
    while let Some(number) = numbers.packed()? {
        each(number)?;
        found += 1;
    }
    if found == len { Ok(()) } else { Err(damaged(format!("expected {len} numbers, found {found}"))) }
}

pub(super) fn damaged(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn all(message: &[u8]) -> io::Result<Vec<Field>> {
        fields(&mut Cursor::new(message), 0..message.len() as u64)
    }

    #[test]
    fn a_message_comes_apart() {
        // The examples of the protobuf documentation: `a: 150`, `b: "testing"`; then a fixed32.
        let message = b"\x08\x96\x01\x12\x07testing\x1d\0\0\0\0";
        let found = all(message).unwrap();
        let values = [FieldValue::Varint(150), FieldValue::Bytes(5..12), FieldValue::Fixed];
        assert_eq!(found.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found.into_iter().map(|field| field.value).collect::<Vec<_>>(), values);
        assert_eq!(bytes(&mut Cursor::new(message), 5..12).unwrap(), b"testing");
    }

    #[test]
    fn a_length_that_leaves_the_message_is_an_error() {
        for message in [
            b"\x12\x08testing".as_slice(),
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x08",
            b"\x0b",
            b"\x08\xff",
        ] {
            assert!(all(message).is_err(), "{message:?}");
        }
    }
}
