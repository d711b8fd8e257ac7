//! The zip archive of `torch.save` (torch 1.6 and later).
//!
//! `<name>/data.pkl` is the pickle, `<name>/data/<key>` are the storages, `<name>/byteorder` is `little`
//! or `big`.

use std::{
    fs::File,
    io::{BufReader, Read},
};

use zip::{ZipArchive, read::ZipFile};

use super::{
    Format, Probe,
    collect::collect,
    element::ByteOrder,
    pickle::{Input, unpickle},
    rebuild::{Storages, load},
};
use crate::{error::Result, tensors::Tensors};

pub(super) const FORMAT: Format = Format { name: "torch zip", matches, read };

/// A packed pickle may unpack to this at least.
pub(super) const PICKLE_BYTES: u64 = 64 << 20;

fn matches(probe: &Probe<'_>) -> bool {
    pickle_entry(probe).is_some()
}

/// The entry of the pickle: `data.pkl`, in whichever directory.
pub(super) fn pickle_entry<'a>(probe: &'a Probe<'_>) -> Option<&'a str> {
    let pickles = probe.zip_entries.iter().filter(|entry| {
        entry
            .strip_suffix("data.pkl")
            .is_some_and(|directory| directory.is_empty() || directory.ends_with('/'))
    });
    pickles.min_by_key(|entry| entry.len()).map(String::as_str)
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let entry = pickle_entry(probe).unwrap_or_default();
    let directory = entry.strip_suffix("data.pkl").unwrap_or_default();
    if probe.zip_entries.iter().any(|name| *name == format!("{directory}constants.pkl")) {
        let problem = "expected a state_dict, found a TorchScript archive; load it with torch.jit.load and \
                       torch.save its state_dict()";
        return Err(probe.refuse("", problem));
    }
    let mut archive = Archive { probe, directory, zip: probe.zip()?, order: ByteOrder::Little };
    archive.order = archive.byte_order()?;
    let (len, reader) = archive.entry(entry, probe.limit().min(probe.len.max(PICKLE_BYTES)))?;
    let mut input = Input::new(BufReader::new(reader), &probe.file, entry, 0, len);
    let tree = unpickle(&mut input)?;
    input.finish()?;
    let collected = collect(&probe.file, &tree, probe.limit())?;
    load(&probe.file, FORMAT.name, &tree, collected, &mut archive)
}

struct Archive<'a> {
    probe: &'a Probe<'a>,
    /// With its trailing slash, or empty.
    directory: &'a str,
    zip: ZipArchive<BufReader<File>>,
    order: ByteOrder,
}

impl Archive<'_> {
    /// An entry, of which the archive says that it has at most `limit` bytes.
    fn entry(&mut self, name: &str, limit: u64) -> Result<(u64, ZipFile<'_, BufReader<File>>)> {
        let entry = self.probe.zip_entry(&mut self.zip, name, limit)?;
        Ok((entry.size(), entry))
    }

    fn byte_order(&mut self) -> Result<ByteOrder> {
        let name = format!("{}byteorder", self.directory);
        if self.zip.index_for_name(&name).is_none() {
            return Ok(ByteOrder::Little);
        }
        let mut text = Vec::new();
        let probe = self.probe;
        let damaged = |error| probe.refuse(&name, format!("{error}; the file is cut or damaged"));
        let (_, entry) = self.entry(&name, 64)?;
        entry.take(64).read_to_end(&mut text).map_err(damaged)?;
        match text.trim_ascii() {
            b"little" => Ok(ByteOrder::Little),
            b"big" => Ok(ByteOrder::Big),
            _ => Err(self.probe.refuse(&name, "expected `little` or `big`; the file is damaged")),
        }
    }
}

impl Storages for Archive<'_> {
    fn order(&self) -> ByteOrder {
        self.order
    }

    fn place(&self, key: &str) -> String {
        format!("{}data/{key}", self.directory)
    }

    fn open(&mut self, key: &str) -> Result<(u64, impl Read)> {
        let name = self.place(key);
        self.entry(&name, self.probe.limit())
    }
}
