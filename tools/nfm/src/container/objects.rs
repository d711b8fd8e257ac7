//! Files of Python objects that are no checkpoints: what `pickle` and joblib write, and the objects of a torch zip.

use std::{
    io::{BufReader, Read},
    path::Path,
};

use flate2::read::{MultiGzDecoder, ZlibDecoder};

use super::{
    Probe,
    object::Tree,
    pickle::{Input, unpickle},
    torch,
};
use crate::error::Result;

/// A packed file may unpack to this at most.
const MAX_UNPACKED: u64 = 256 << 20;

/// How the file is packed.
enum Packing {
    Plain,
    Zlib,
    Gzip,
    Zip(String),
}

/// The objects of the file, as inert data; `None` when it holds no pickle.
pub(crate) fn read(path: &Path) -> Result<Option<Tree>> {
    let probe = Probe::new(path)?;
    let Some(packing) = packing(&probe)? else { return Ok(None) };
    let (entry, file) = ("unpacked", probe.open());
    let tree = match packing {
        Packing::Plain => unpickle(&mut Input::new(file?, &probe.file, "", 0, probe.len))?,
        Packing::Zlib => unpack(ZlibDecoder::new(file?), &probe.file, entry)?,
        Packing::Gzip => unpack(MultiGzDecoder::new(file?), &probe.file, entry)?,
        Packing::Zip(entry) => {
            let mut zip = probe.zip()?;
            let limit = probe.limit().min(probe.len.max(torch::PICKLE_BYTES));
            unpack(probe.zip_entry(&mut zip, &entry, limit)?, &probe.file, &entry)?
        }
    };
    Ok(Some(tree))
}

fn unpack(reader: impl Read, file: &str, entry: &str) -> Result<Tree> {
    let reader = BufReader::new(reader.take(MAX_UNPACKED));
    unpickle(&mut Input::new(reader, file, entry, 0, MAX_UNPACKED))
}

fn packing(probe: &Probe<'_>) -> Result<Option<Packing>> {
    if let Some(entry) = torch::pickle_entry(probe) {
        return Ok(Some(Packing::Zip(entry.to_owned())));
    }
    match probe.head.as_slice() {
        [0x80, 0..=5, ..] => Ok(Some(Packing::Plain)),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Ok(Some(Packing::Zlib)),
        [0x1f, 0x8b, ..] => Ok(holds_pickle(MultiGzDecoder::new(probe.open()?)).then_some(Packing::Gzip)),
        head => match OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
            None => Ok(None),
            Some((_, name)) => {
                let problem = format!("expected a pickle or a file of joblib, found {name}");
                Err(probe
                    .refuse("", format!("{problem}; save it uncompressed, or with compress=(\"zlib\", 3)")))
            }
        },
    }
}

/// A gzip file may hold text as well.
fn holds_pickle(mut reader: impl Read) -> bool {
    let mut head = [0; 2];
    reader.read_exact(&mut head).is_ok() && matches!(head, [0x80, 0..=5])
}

/// What joblib can write and is not read: first bytes and name.
const OTHERS: &[(&[u8], &str)] = &[
    (b"BZh", "one that is packed by bzip2"),
    (b"\xfd7zXZ", "one that is packed by xz"),
    (b"\x5d\x00", "one that is packed by lzma"),
    (b"\x04\x22\x4d\x18", "one that is packed by lz4"),
    (b"ZF", "one of joblib before 0.10"),
    (b"ccopy_reg\n", "a pickle of protocol 0 or 1"),
    (b"ccopyreg\n", "a pickle of protocol 0 or 1"),
];
