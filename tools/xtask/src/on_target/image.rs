//! What an image weighs, and what must not be in it.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use addr2line::{
    Context,
    gimli::{Dwarf, EndianSlice, LittleEndian, SectionId},
};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use crate::process::{Result, root};

/// Bytes of an image's sections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Code, constants, and the first values of variables.
    pub(crate) flash: u64,
    /// Variables.
    pub(crate) ram: u64,
}

impl Size {
    /// What this image has more than `other`.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self { flash: self.flash.saturating_sub(other.flash), ram: self.ram.saturating_sub(other.ram) }
    }
}

/// A linked program with its relocations.
pub(crate) struct Image {
    pub(crate) size: Size,
    /// Functions by their addresses.
    functions: BTreeMap<u64, String>,
    /// Address of each reference in code, and the name that is referred to.
    references: Vec<(u64, String)>,
    /// The file, which knows the lines too.
    bytes: Vec<u8>,
}

impl Image {
    /// Reads an ELF file that was linked with `--emit-relocs`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = fs::read(path).map_err(|e| text(&e))?;
        let file = object::File::parse(&*bytes).map_err(|e| text(&e))?;
        let bytes_of = |names: &[&str]| {
            names.iter().filter_map(|name| file.section_by_name(name)).map(|section| section.size()).sum()
        };
        let name = |symbol: object::Symbol<'_, '_>| {
            let name = symbol.name().unwrap_or_default();
            format!("{:#}", rustc_demangle::demangle(name))
        };
        let functions = file
            .symbols()
            .filter(|symbol| {
                symbol.kind() == object::SymbolKind::Text && !symbol.name().unwrap_or_default().is_empty()
            })
            // Bit 0 says Thumb.
            .map(|symbol| (symbol.address() & !1, name(symbol)))
            .collect();
        let mut references = Vec::new();
        for (offset, relocation) in file.section_by_name(".text").into_iter().flat_map(|s| s.relocations()) {
            if let RelocationTarget::Symbol(index) = relocation.target() {
                references.push((offset, file.symbol_by_index(index).map(name).map_err(|e| text(&e))?));
            }
        }
        let size =
            Size { flash: bytes_of(&[".text", ".rodata", ".data"]), ram: bytes_of(&[".data", ".bss"]) };
        Ok(Self { size, functions, references, bytes })
    }

    /// Refuses an image that can panic.
    pub(crate) fn check_panics(&self) -> Result<()> {
        self.check("can panic", is_panic)
    }

    /// Refuses an image that computes with floats in software.
    pub(crate) fn check_floats(&self) -> Result<()> {
        self.check("computes with floats", is_float)
    }

    fn check(&self, what: &str, forbidden: fn(&str) -> bool) -> Result<()> {
        let found: Vec<&str> =
            self.functions.values().map(String::as_str).filter(|name| forbidden(name)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut problem = format!("the image {what}, since it holds {}", found.join(", "));
        for (address, name) in &self.references {
            let caller = self.functions.range(..=address).next_back().map_or("?", |(_, name)| name);
            if forbidden(name) && !forbidden(caller) {
                let _ = write!(problem, "\n    {name} is called by{}", self.frames(*address));
            }
        }
        Err(problem)
    }

    /// The functions that the code at an address was inlined from, the innermost first, as far as the file knows.
    fn frames(&self, address: u64) -> String {
        let mut lines = String::new();
        let Ok(file) = object::File::parse(&*self.bytes) else { return lines };
        let section = |id: SectionId| {
            let section = file.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok(EndianSlice::new(section.unwrap_or_default(), LittleEndian))
        };
        let dwarf = Dwarf::load(section).and_then(Context::from_dwarf);
        let Ok(dwarf) = dwarf else { return lines };
        let Ok(mut frames) = dwarf.find_frames(address).skip_all_loads() else { return lines };
        let root = root().canonicalize().unwrap_or_default();
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let (file, line) =
                frame.location.map_or(("", 0), |at| (at.file.unwrap_or(""), at.line.unwrap_or(0)));
            let file = Path::new(file).strip_prefix(&root).unwrap_or(Path::new(file));
            let _ =
                write!(lines, "\n        {} ({}:{line})", function.as_deref().unwrap_or("?"), file.display());
        }
        lines
    }
}

/// Whether a function is part of panicking. The handler itself is in no image that cannot reach it.
fn is_panic(name: &str) -> bool {
    [
        "core::panicking",
        "panic_fmt",
        "rust_begin_unwind",
        "slice_index_fail",
        "unwrap_failed",
        "expect_failed",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// Whether a function computes with floats: of Arm's run-time ABI, of the compiler's own library, or of libm.
fn is_float(name: &str) -> bool {
    let gcc = |name: &str| {
        [
            "add", "sub", "mul", "div", "neg", "eq", "ne", "lt", "le", "gt", "ge", "cmp", "unord", "fix",
            "float", "extend", "trunc", "pow",
        ]
        .iter()
        .any(|verb| name.starts_with(verb))
            && (name.contains("sf") || name.contains("df"))
    };
    let aeabi = |name: &str| {
        ["f", "d", "cf", "cd", "i2", "ui2", "l2", "ul2"].iter().any(|start| name.starts_with(start))
    };
    name.strip_prefix("__aeabi_").is_some_and(aeabi)
        || name.strip_prefix("__").is_some_and(gcc)
        || name.contains("compiler_builtins::float")
        || name.starts_with("libm::")
}

#[cfg(test)]
mod tests {
    use super::{is_float, is_panic};

    #[test]
    fn names_of_panics_are_known() {
        assert!(is_panic("core::panicking::panic_fmt") && is_panic("core::slice::index::slice_index_fail"));
        assert!(is_panic("__rustc[5c0d]::rust_begin_unwind"));
        assert!(!is_panic("embedded_nfm::blob::checksum") && !is_panic("memcpy"));
    }

    #[test]
    fn names_of_float_functions_are_known() {
        for name in [
            "__aeabi_fmul",
            "__aeabi_dadd",
            "__aeabi_i2f",
            "__aeabi_ul2d",
            "__addsf3",
            "__muldf3",
            "__floatsisf",
        ] {
            assert!(is_float(name), "{name}");
        }
        for name in ["__aeabi_lmul", "__aeabi_uidiv", "__aeabi_memcpy", "__muldi3", "__udivsi3", "memset"] {
            assert!(!is_float(name), "{name}");
        }
    }
}
