//! The sorted string table of `LevelDB`, of which TensorFlow makes the index of a checkpoint.
//!
//! Blocks of prefix-compressed keys, each with a type byte and a masked CRC-32C; a last block that lists
//! them; a footer of 48 bytes. Own code: the crates of this format are whole databases, and this is one file of theirs to read.

use super::element::Checked;

/// The last eight bytes of a table.
pub(super) const MAGIC: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();

/// Two block handles of at most 20 bytes, padding, the magic.
pub(super) const FOOTER_BYTES: usize = 48;

/// Snappy makes no more of a byte than this.
const SNAPPY_RATIO: usize = 32;

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// All pairs of a table, in order of key.
///
/// # Errors
///
/// The problem, when the table is cut, a checksum differs, or the keys take far more memory than the file.
pub(super) fn pairs(table: &[u8]) -> Checked<Vec<Pair>> {
    let footer = table.len().checked_sub(FOOTER_BYTES).and_then(|at| table.get(at..));
    let Some((mut handles, MAGIC)) =
        footer.and_then(|footer| footer.split_last_chunk::<8>().map(|(h, m)| (h, *m)))
    else {
        return Err(
            "expected the footer of a TensorFlow checkpoint index, found none; the file is cut".into()
        );
    };
    // The first handle is of the block of filters, which TensorFlow leaves empty.
    handle(&mut handles)?;
    let index = handle(&mut handles)?;
    let mut left = table.len().saturating_mul(64).saturating_add(1 << 20);
    let mut pairs = Vec::new();
    for (_, mut value) in
        block_pairs(&block(table, index)?, &mut left)?.iter().map(|(k, v)| (k, v.as_slice()))
    {
        let at = handle(&mut value)?;
        pairs.extend(block_pairs(&block(table, at)?, &mut left)?);
    }
    Ok(pairs)
}

/// Offset and length of a block.
type Handle = (u64, u64);

fn handle(bytes: &mut &[u8]) -> Checked<Handle> {
    Ok((varint(bytes)?, varint(bytes)?))
}

/// A base-128 number, the low seven bits first.
pub(super) fn varint(bytes: &mut &[u8]) -> Checked<u64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("expected a number of variable length, found none; the index is damaged".into())
}

/// The content of the block at `handle`, checked and unpacked.
fn block(table: &[u8], (at, len): Handle) -> Checked<Vec<u8>> {
    let outside = || format!("a block of {len} bytes at {at} leaves the index; it is damaged");
    let (at, len) = usize::try_from(at).ok().zip(usize::try_from(len).ok()).ok_or_else(outside)?;
    let all = table.get(at..).ok_or_else(outside)?;
    let (content, trailer) = all.split_at_checked(len).ok_or_else(outside)?;
    let Some(([kind, sum @ ..], _)) = trailer.split_first_chunk::<5>() else { return Err(outside()) };
    let found = masked(crc32c::crc32c_append(crc32c::crc32c(content), &[*kind]));
    if u32::from_le_bytes(*sum) != found {
        return Err(format!("the checksum of the block at {at} differs; the index is damaged"));
    }
    match kind {
        0 => Ok(content.to_vec()),
        1 => unpacked(content),
        kind => Err(format!("expected a block packed with snappy or not at all, found method {kind}")),
    }
}

fn unpacked(content: &[u8]) -> Checked<Vec<u8>> {
    let damaged = |error| format!("{error}; the index is damaged");
    let len = snap::raw::decompress_len(content).map_err(damaged)?;
    if len > content.len().saturating_mul(SNAPPY_RATIO) {
        return Err(format!("{} bytes that unpack to {len}; the index is hostile or damaged", content.len()));
    }
    snap::raw::Decoder::new().decompress_vec(content).map_err(damaged)
}

/// The pairs of a block; `left` bounds the bytes of all keys and values.
fn block_pairs(block: &[u8], left: &mut usize) -> Checked<Vec<Pair>> {
    let damaged = || "a block whose parts do not fit; the index is damaged".to_owned();
    let (rest, count) = block.split_last_chunk::<4>().ok_or_else(damaged)?;
    let restarts = usize::try_from(u32::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(4));
    let end = restarts.and_then(|bytes| rest.len().checked_sub(bytes)).ok_or_else(damaged)?;
    let mut bytes = rest.get(..end).ok_or_else(damaged)?;
    let mut pairs: Vec<Pair> = Vec::new();
    let part = |bytes: &mut &[u8], len: u64| {
        let (part, rest) = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len))?;
        *bytes = rest;
        Some(part.to_vec())
    };
    while !bytes.is_empty() {
        let (shared, own, value) = (varint(&mut bytes)?, varint(&mut bytes)?, varint(&mut bytes)?);
        let last = pairs.last().map_or(&[] as &[u8], |(key, _)| key);
        let start = usize::try_from(shared).ok().and_then(|len| last.get(..len)).ok_or_else(damaged)?;
        let cost = start.len().saturating_add(
            bytes.len().min(usize::try_from(own.saturating_add(value)).unwrap_or(usize::MAX)),
        );
        *left = left
            .checked_sub(cost.saturating_add(64))
            .ok_or("keys that take far more memory than the index has bytes; it is hostile or damaged")?;
        let own = part(&mut bytes, own).ok_or_else(damaged)?;
        let key = [start, &own].concat();
        pairs.push((key, part(&mut bytes, value).ok_or_else(damaged)?));
    }
    Ok(pairs)
}

/// How `LevelDB` and TensorFlow store a CRC-32C.
pub(super) fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of one block: keys `""`, `xa`, `xy`, the last two sharing a byte.
    fn table(packs: bool) -> Vec<u8> {
        let mut table = Vec::new();
        let mut put = |content: &[u8]| {
            let (kind, content) = match packs {
                true => (1, snap::raw::Encoder::new().compress_vec(content).unwrap()),
                false => (0, content.to_vec()),
            };
            let handle = [table.len().try_into().unwrap(), u8::try_from(content.len()).unwrap()];
            let sum = masked(crc32c::crc32c(&[content.as_slice(), &[kind]].concat()));
            table.extend([content.as_slice(), &[kind], &sum.to_le_bytes()].concat());
            handle
        };
        let data = put(b"\0\0\x01H\0\x02\x01xab\x01\x01\x01yc\0\0\0\0\x01\0\0\0".as_slice());
        let filters = put(b"\0\0\0\0\x01\0\0\0");
        let index = put(&[b"\0\x01\x02z".as_slice(), &data, b"\0\0\0\0\x01\0\0\0"].concat());
        let mut footer = [filters, index].concat();
        footer.resize(40, 0);
        table.extend([footer.as_slice(), &MAGIC].concat());
        table
    }

    #[test]
    fn blocks_give_their_pairs_packed_or_not() {
        let expected = [("", "H"), ("xa", "b"), ("xy", "c")];
        for packs in [false, true] {
            let pairs = pairs(&table(packs)).unwrap();
            let pairs: Vec<_> =
                pairs.iter().map(|(k, v)| (str::from_utf8(k).unwrap(), str::from_utf8(v).unwrap())).collect();
            assert_eq!(pairs, expected, "packed {packs}");
        }
    }

    #[test]
    fn a_checksum_is_masked_as_leveldb_does() {
        // CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720, B.4).
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(0), 0xa282_ead8);
        assert_eq!(masked(1), 0xa284_ead8);
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_block_is_an_error() {
        let table = table(false);
        for len in 0..table.len() {
            assert!(pairs(&table[..len]).is_err(), "cut at {len}");
        }
        for at in 0..table.len() - FOOTER_BYTES {
            let mut changed = table.clone();
            changed[at] ^= 1;
            // The block of filters is not read.
            let is_filters = (28..41).contains(&at);
            assert_eq!(pairs(&changed).is_ok(), is_filters, "byte {at}");
        }
    }

    #[test]
    fn keys_that_share_much_are_refused() {
        let mut left = 1 << 20;
        let mut block = vec![0, 0x80, 0x80, 1, 0];
        block.resize(5 + (1 << 14), b'k');
        for _ in 0..100 {
            block.extend([0x80, 0x80, 1, 0, 0]);
        }
        block.extend([0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(block_pairs(&block, &mut left).unwrap_err().contains("far more memory"));
    }
}
