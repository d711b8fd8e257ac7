//! `PaddlePaddle`'s static files: a folder with one file a variable, or all variables in one file with the
//! program that names them (`__model__` with `params` in fluid 1.x, `.pdmodel` with `.pdiparams` in 2.x).
//!
//! A variable is a version, a count of levels, a version, the length of its description, the description
//! (a protobuf of element type and extents), and its elements without a gap. In the one file they follow each
//! other in order of name.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use prost::Message;

use super::{
    Format, Probe,
    element::{ByteOrder, Checked, View},
    paddle_program::{self, ProgramDesc, TensorDesc},
};
use crate::{
    error::{Error, Result},
    tensors::{Tensor, Tensors},
};

pub(super) const FORMAT: Format = Format { name: "Paddle", matches, read };

/// Two versions of four bytes around a count of eight, and the length of the description.
const HEAD_BYTES: usize = 20;

/// A description of 64 extents takes less.
const MAX_DESC_BYTES: usize = 1024;

/// The files of one model.
#[derive(Debug, Default, PartialEq)]
struct Files {
    program: Option<PathBuf>,
    /// In order of name.
    variables: Vec<PathBuf>,
}

fn matches(probe: &Probe<'_>) -> bool {
    files(probe).is_some_and(|files| files.variables.iter().any(|path| is_variable(path)))
}

/// The files that the user means by a folder, by the program, or by a file of variables.
fn files(probe: &Probe<'_>) -> Option<Files> {
    if probe.is_dir {
        return Some(files_in(probe.path));
    }
    let path = probe.path;
    if starts_variable(&probe.head) {
        let programs = [path.with_extension("pdmodel"), path.with_file_name("__model__")];
        let program = programs.into_iter().find(|program| program.is_file());
        return Some(Files { program, variables: vec![path.to_owned()] });
    }
    // A program starts with its first block.
    if !probe.head.starts_with(b"\x0a") || !is_program(path) {
        return None;
    }
    if path.file_name()? == "__model__" {
        return Some(files_in(path.parent()?));
    }
    Some(Files { program: Some(path.to_owned()), variables: vec![path.with_extension("pdiparams")] })
}

fn files_in(folder: &Path) -> Files {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Paddle 2 keeps names for its own use in `.pdiparams.info`.
    let is_other = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "info")
            || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.is_file() && !is_other(path)).collect();
    all.sort();
    let program = all.iter().position(|path| is_program(path)).map(|at| all.remove(at));
    Files { program, variables: all }
}

fn is_program(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "__model__")
        || path.extension().is_some_and(|extension| extension == "pdmodel")
}

fn is_variable(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES as u64 + 1).read_to_end(&mut head));
    read.is_ok() && starts_variable(&head)
}

/// Whether this is the start of a dense variable.
fn starts_variable(head: &[u8]) -> bool {
    desc_len(head).is_some() && head.get(HEAD_BYTES) == Some(&0x08)
}

/// The length of the description of the variable that starts so: after zeros, as no parameter has levels.
fn desc_len(head: &[u8]) -> Option<usize> {
    let (zeros, rest) = head.split_first_chunk::<16>()?;
    let len = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    (*zeros == [0; 16] && (2..=MAX_DESC_BYTES).contains(&len)).then_some(len)
}

fn read(probe: &Probe<'_>) -> Result<Tensors> {
    let files = files(probe).unwrap_or_default();
    let program = files.program.as_deref().map(paddle_program::read).transpose()?;
    let mut tensors = Tensors { file: probe.file.clone(), container: FORMAT.name, ..Tensors::default() };
    match (files.variables.as_slice(), &program) {
        ([all], Some(program)) => read_all(all, program, &mut tensors)?,
        (files, _) => files.iter().try_for_each(|path| read_one(path, &mut tensors))?,
    }
    tensors.graph = program.map(ProgramDesc::into_graph);
    Ok(tensors)
}

/// Reads a variable that has the name of its file.
fn read_one(path: &Path, tensors: &mut Tensors) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut variables = Variables::open(path)?;
    let tensor = variables.next(&name, None)?;
    if variables.left > 0 {
        let problem = format!(
            "expected one variable, found {} more bytes: if it holds several, copy the program (`__model__` or \
             .pdmodel) that names them beside it",
            variables.left
        );
        return Err(variables.refuse(&name, problem));
    }
    tensors.entries.insert(name, tensor);
    Ok(())
}

/// Reads all variables of the program out of one file.
fn read_all(path: &Path, program: &ProgramDesc, tensors: &mut Tensors) -> Result<()> {
    let mut variables = Variables::open(path)?;
    let saved = program.saved();
    for (name, desc) in &saved {
        let tensor = variables.next(name, *desc)?;
        tensors.entries.insert((*name).to_owned(), tensor);
    }
    if variables.left == 0 {
        return Ok(());
    }
    let problem = format!(
        "expected the {} variables that its program names, found {} more bytes; the program is of another model",
        saved.len(),
        variables.left
    );
    Err(Error::refused(&variables.file, "", problem))
}

/// The variables of a file, one after the other.
struct Variables {
    file: String,
    reader: BufReader<File>,
    /// Bytes that are not read yet.
    left: u64,
}

impl Variables {
    fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let file = File::open(path).map_err(io)?;
        let left = file.metadata().map_err(io)?.len();
        Ok(Self { file: path.display().to_string(), reader: BufReader::new(file), left })
    }

    fn refuse(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::refused(&self.file, format!("variable `{name}`"), problem)
    }

    /// The next variable, which must be as `expected`.
    fn next(&mut self, name: &str, expected: Option<&TensorDesc>) -> Result<Tensor> {
        let desc = self.desc().map_err(|problem| self.refuse(name, problem))?;
        let fits = |expected: &TensorDesc| {
            let mut dims = expected.dims.iter().zip(&desc.dims);
            expected.dims.len() == desc.dims.len() && dims.all(|(a, b)| *a < 0 || a == b)
        };
        if let Some(expected) = expected.filter(|expected| !fits(expected)) {
            let problem = format!("its program says {:?}, found {:?}", expected.dims, desc.dims);
            return Err(self.refuse(name, format!("{problem}; the program is of another model")));
        }
        self.tensor(&desc).map_err(|problem| self.refuse(name, problem))
    }

    fn desc(&mut self) -> Checked<TensorDesc> {
        let mut head = [0; HEAD_BYTES];
        self.reader.read_exact(&mut head).map_err(cut)?;
        let Some(len) = desc_len(&head) else {
            let problem = "expected a dense variable of Paddle, found other bytes";
            return Err(format!("{problem}; remove the file if it is none"));
        };
        let mut desc = vec![0; len];
        self.reader.read_exact(&mut desc).map_err(cut)?;
        self.left = self.left.saturating_sub((HEAD_BYTES + len) as u64);
        TensorDesc::decode(desc.as_slice()).map_err(|error| format!("{error}; the file is damaged"))
    }

    fn tensor(&mut self, desc: &TensorDesc) -> Checked<Tensor> {
        let element = desc.element().ok_or_else(|| {
            format!("expected floats of 16, 32 or 64 bits or integers, found type {}", desc.data_type)
        })?;
        let shape = desc.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<usize>>>();
        let shape = shape
            .ok_or_else(|| format!("expected extents ≥ 0, found {:?}; the file is damaged", desc.dims))?;
        let elements = shape.iter().try_fold(1_usize, |len, extent| len.checked_mul(*extent));
        let bytes = elements.and_then(|len| len.checked_mul(element.bytes()));
        let Some(left) = bytes.and_then(|bytes| self.left.checked_sub(bytes as u64)) else {
            return Err(format!(
                "shape {shape:?} exceeds the {} bytes left; the file is cut or damaged",
                self.left
            ));
        };
        self.left = left;
        let view = View::whole(element, shape, elements.unwrap_or(0))?;
        let values = view.read(&mut self.reader, ByteOrder::Little).map_err(cut)?;
        Ok(Tensor { shape: view.shape, dtype: element.name(), values, storage: None })
    }
}

fn cut(source: std::io::Error) -> String {
    format!("{source}; the file is cut")
}
