//! The pickle stream of `torch.save` before torch 1.6, and of `_use_new_zipfile_serialization=False`.
//!
//! Pickles one after the other: a magic number, the protocol 1001, facts of the system, the saved object,
//! the keys of the storages. Then for each key an `i64` count of elements and the elements.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
};

use indexmap::IndexMap;

use super::{
    Format, Probe,
    collect::collect,
    element::ByteOrder,
    object::{Node, Tree},
    pickle::{Input, unpickle},
    rebuild::{Storages, load, storage_id},
};
use crate::{
    error::{Error, Result},
    tensors::Tensors,
};

pub(super) const FORMAT: Format = Format { name: "torch legacy", matches, read };

/// `0x1950a86a20f9469cfc6c`, as a pickle writes it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The magic number ends before this byte.
const START_BYTES: usize = 32;

/// The only version of the stream.
const PROTOCOL: i64 = 1001;

fn matches(probe: &Probe<'_>) -> bool {
    is_one(&probe.head)
}

/// Whether a pickle of the magic number is the first of the pickles.
pub(super) fn is_one(head: &[u8]) -> bool {
    // `PROTO`, in protocol 4 `FRAME`, and `LONG1` stand before it.
    let start = head.get(..START_BYTES).unwrap_or(head);
    matches!(start, [0x80, 0..=5, ..]) && start.windows(MAGIC.len()).any(|bytes| bytes == MAGIC)
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut input = Input::new(probe.open()?, &probe.file, "", 0, probe.len);
    let magic = unpickle(&mut input)?;
    if *magic.node(magic.root) != Node::Long(MAGIC.into()) {
        return Err(probe.refuse("", "expected the magic number of torch.save; the file is damaged"));
    }
    let at = input.at();
    let protocol = unpickle(&mut input)?;
    if protocol.int(protocol.root) != Some(PROTOCOL) {
        return Err(
            input.refuse(at, format!("expected protocol {PROTOCOL}, found another; the file is damaged"))
        );
    }
    let system = unpickle(&mut input)?;
    let is_little = system.dict(system.root).and_then(|pairs| system.get(pairs, "little_endian"));
    let is_big = is_little.is_some_and(|id| *system.node(id) == Node::Bool(false));
    let order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
    let tree = unpickle(&mut input)?;
    let collected = collect(&probe.file, &tree, probe.limit())?;
    let places = places(probe, &tree, &mut input, order)?;
    let mut storages = Stream { probe, file: probe.open()?, places, order };
    load(&probe.file, FORMAT.name, &tree, collected, &mut storages)
}

/// Offset and length in bytes of each storage.
type Places = HashMap<String, (u64, u64)>;

/// Reads the list of keys, then passes over the storages.
fn places<R: BufRead + Seek>(
    probe: &Probe<'_>,
    tree: &Tree,
    input: &mut Input<'_, R>,
    order: ByteOrder,
) -> Result<Places> {
    let mut sizes: IndexMap<String, (u64, u64)> = IndexMap::new();
    for node in tree.nodes() {
        let Node::Persistent(id) = node else { continue };
        // No tensor of the model uses an odd one: it would have been refused with the tensor's name.
        let Ok(storage) = storage_id(tree, *id) else { continue };
        sizes.insert(storage.key.clone(), (storage.element_bytes() as u64, storage.bytes as u64));
    }
    let at = input.at();
    let keys = unpickle(input)?;
    let Some(items) = keys.sequence(keys.root) else {
        return Err(input.refuse(at, "expected the list of storages; the file is damaged"));
    };
    let mut places = Places::new();
    for item in items {
        let key = keys.text(*item).unwrap_or_default();
        let at = input.at();
        let Some((size, bytes)) = sizes.get(key) else {
            return Err(input.refuse(
                at,
                format!("storage `{key}` belongs to no supported tensor; its length is unknown"),
            ));
        };
        let header = input.array()?;
        let count =
            if order == ByteOrder::Big { u64::from_be_bytes(header) } else { u64::from_le_bytes(header) };
        let Some(len) = count.checked_mul(*size).filter(|len| len >= bytes) else {
            let problem =
                format!("expected {bytes} bytes in storage `{key}`, found {count} elements of {size}");
            return Err(input.refuse(at, format!("{problem}; the file is damaged")));
        };
        if len > probe.len.saturating_sub(input.at()) {
            return Err(
                input.refuse(at, format!("storage `{key}` needs {len} bytes; the file is cut or damaged"))
            );
        }
        places.insert(key.to_owned(), (input.at(), len));
        input.skip(len)?;
    }
    Ok(places)
}

struct Stream<'a> {
    probe: &'a Probe<'a>,
    file: BufReader<File>,
    places: Places,
    order: ByteOrder,
}

impl Storages for Stream<'_> {
    fn order(&self) -> ByteOrder {
        self.order
    }

    fn place(&self, key: &str) -> String {
        format!("storage `{key}`")
    }

    fn open(&mut self, key: &str) -> Result<(u64, impl Read)> {
        let Some((at, len)) = self.places.get(key) else {
            return Err(self.probe.refuse(self.place(key), "missing; the file is cut or damaged"));
        };
        let sought = self.file.seek(SeekFrom::Start(*at));
        sought.map_err(|source| Error::io(self.probe.path, source))?;
        Ok((*len, (&mut self.file).take(*len)))
    }
}
