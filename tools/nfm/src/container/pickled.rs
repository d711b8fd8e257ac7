//! A pickle of numpy arrays by name: Paddle's `.pdparams`, which its `save` functions of either mode write, or anyone's.
//!
//! Large arrays stay in the file until they are read, so that each is in memory once. Where Paddle's program
//! (`.pdmodel`) stands beside the file, it is the graph.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use super::{
    Format, Probe,
    collect::collect,
    element::ByteOrder,
    paddle_program::{self, ProgramDesc},
    pickle::{Input, unpickle},
    rebuild::{Storages, load},
    torch_legacy,
};
use crate::{
    error::{Error, Result},
    tensors::Tensors,
};

pub(super) const FORMAT: Format = Format { name: "pickle of arrays", matches, read };

fn matches(probe: &Probe<'_>) -> bool {
    matches!(probe.head.as_slice(), [0x80, 0..=5, ..]) && !torch_legacy::is_one(&probe.head)
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut input = Input::new(probe.open()?, &probe.file, "", 0, probe.len).with_spans();
    let tree = unpickle(&mut input)?;
    let collected = collect(&probe.file, &tree, probe.limit())?;
    let mut spans = Spans { probe, file: probe.open()? };
    let mut tensors = load(&probe.file, FORMAT.name, &tree, collected, &mut spans)?;
    let program = probe.path.with_extension("pdmodel");
    if program.is_file() {
        tensors.graph = Some(paddle_program::read(&program).map(ProgramDesc::into_graph)?);
    }
    Ok(tensors)
}

/// The arrays that stayed in the file, by [`span_key`].
struct Spans<'a> {
    probe: &'a Probe<'a>,
    file: BufReader<File>,
}

/// The key of the bytes `at..at + len` of the file.
pub(super) fn span_key(at: u64, len: u64) -> String {
    format!("{at}+{len}")
}

impl Storages for Spans<'_> {
    fn order(&self) -> ByteOrder {
        ByteOrder::Little
    }

    fn place(&self, key: &str) -> String {
        format!("bytes {key}")
    }

    fn open(&mut self, key: &str) -> Result<(u64, impl Read)> {
        let span = key.split_once('+').and_then(|(at, len)| Some((at.parse().ok()?, len.parse().ok()?)));
        let Some((at, len)) = span else {
            // What torch keeps outside of its pickle.
            let problem = "expected arrays of numpy, found a tensor of torch without its values; save it with torch.save";
            return Err(self.probe.refuse(self.place(key), problem));
        };
        self.file.seek(SeekFrom::Start(at)).map_err(|source| Error::io(self.probe.path, source))?;
        Ok((len, (&mut self.file).take(len)))
    }
}
