//! Safetensors: an 8-byte length, a JSON header of that length, then the tensors without gaps.

use std::io::{BufReader, Read, Seek, SeekFrom};

use safetensors::{Dtype, tensor::Metadata};

use super::{
    Format, Probe,
    element::{ByteOrder, Checked, Element, View},
};
use crate::{
    error::{Error, Result},
    tensors::{Fact, Tensor, Tensors},
};

pub(super) const FORMAT: Format = Format { name: "safetensors", matches, read };

/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

fn matches(probe: &Probe<'_>) -> bool {
    let header = probe.head.split_first_chunk::<8>();
    header.is_some_and(|(len, rest)| {
        u64::from_le_bytes(*len) <= MAX_HEADER_BYTES && rest.first() == Some(&b'{')
    })
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let mut file = probe.open()?;
    let (metadata, start) = header(probe, &mut file)?;
    let mut tensors = Tensors { file: probe.file.clone(), container: FORMAT.name, ..Tensors::default() };
    for (key, text) in metadata.metadata().iter().flatten() {
        tensors.facts.insert(key.clone(), Fact::Text(text.clone()));
    }
    tensors.facts.sort_keys();
    let mut names = metadata.offset_keys();
    if names.is_empty() {
        return Err(probe.refuse("", "expected tensors, found none"));
    }
    // Empty tensors share their offset; the format keeps no order of its own.
    names.sort_by_key(|name| metadata.info(name).map(|info| (info.data_offsets, name.clone())));
    for name in names {
        let Some(info) = metadata.info(&name) else { continue };
        let refuse = |problem: String| tensors.refuse(&name, problem);
        let element = element(info.dtype).map_err(refuse)?;
        let (from, to) = info.data_offsets;
        let len = to.saturating_sub(from) / element.bytes();
        let view = View::whole(element, info.shape.clone(), len).map_err(refuse)?;
        file.seek(SeekFrom::Start(start + from as u64)).map_err(|source| Error::io(probe.path, source))?;
        let values = view.read(&mut file, ByteOrder::Little);
        let values = values.map_err(|source| refuse(format!("{source}; the file is cut or damaged")))?;
        let tensor = Tensor { shape: info.shape.clone(), dtype: element.name(), values, storage: None };
        tensors.entries.insert(name, tensor);
    }
    Ok(tensors)
}

/// The header, and the offset of the first tensor.
fn header(probe: &Probe<'_>, file: &mut BufReader<impl Read>) -> Result<(Metadata, u64)> {
    let damaged = |source| probe.refuse("header", format!("{source}; the file is cut or damaged"));
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(damaged)?;
    let len = u64::from_le_bytes(len);
    let start = len.saturating_add(8);
    if start > probe.len {
        let problem = format!("expected {len} bytes, found {}; the file is cut", probe.len.saturating_sub(8));
        return Err(probe.refuse("header", problem));
    }
    let mut json = Vec::new();
    file.take(len).read_to_end(&mut json).map_err(damaged)?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| probe.refuse("header", format!("{error}; the file is damaged")))?;
    let expected = start.saturating_add(metadata.data_len() as u64);
    if expected != probe.len {
        let problem = format!(
            "expected {expected} bytes by the header, found {}; the file is cut or damaged",
            probe.len
        );
        return Err(probe.refuse("", problem));
    }
    Ok((metadata, start))
}

fn element(dtype: Dtype) -> Checked<Element> {
    Ok(match dtype {
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F64 => Element::F64,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U64 => Element::U64,
        Dtype::U32 => Element::U32,
        Dtype::U16 => Element::U16,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        _ => {
            return Err(format!(
                "expected floats of 16, 32 or 64 bits or integers, found {dtype:?}; convert it to float32"
            ));
        }
    })
}
