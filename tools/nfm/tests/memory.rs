//! A large checkpoint needs at most 1.3 times its length in memory, whatever its container.
//!
//! 64 MB by default; `NFM_MB=1024 cargo test -p nfm --release --test memory -- --nocapture` measures 1 GB.

#![cfg(target_os = "linux")]

use std::{
    env,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use hdf5_writer::{DatasetBuilder, Hdf5Builder, WriteOptions};
use nfm::container::read;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const COLUMNS: usize = 64;
const ROW: [f32; COLUMNS] = [0.5; COLUMNS];

/// Rows of each of the two tables in a file.
fn rows() -> usize {
    let megabytes: usize = env::var("NFM_MB").map_or(64, |mb| mb.parse().expect("NFM_MB is a number"));
    (megabytes << 20) / (2 * size_of_val(&ROW))
}

fn write_table(to: &mut impl Write) {
    let row = row_bytes();
    (0..rows()).for_each(|_| to.write_all(&row).expect("a row"));
}

fn row_bytes() -> Vec<u8> {
    ROW.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn safetensors(file: File) {
    let (rows, bytes) = (rows(), rows() * size_of_val(&ROW));
    let info = |from: usize| {
        format!(r#"{{"dtype":"F32","shape":[{rows},{COLUMNS}],"data_offsets":[{from},{}]}}"#, from + bytes)
    };
    let header = format!(r#"{{"a":{},"b":{}}}"#, info(0), info(bytes));
    let mut file = BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("a length");
    file.write_all(header.as_bytes()).expect("a header");
    write_table(&mut file);
    write_table(&mut file);
    file.flush().expect("a file");
}

/// The opcodes of a pickled table at row `first` of storage `0`, which holds two.
fn pickled(name: &str, first: usize) -> String {
    let (rows, len) = (rows(), 2 * rows() * COLUMNS);
    format!(
        "S'{name}'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n\
         I{len}\ntQI{}\n(I{rows}\nI{COLUMNS}\nt(I{COLUMNS}\nI1\ntI00\n}}tRs",
        first * COLUMNS
    )
}

/// The name of an entry, and what writes it.
type Entry<'a> = (&'a str, &'a dyn Fn(&mut dyn Write));

/// An archive of stored entries.
fn zip(file: File, entries: &[Entry<'_>]) {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for (name, write) in entries {
        zip.start_file(*name, options).expect("an entry");
        write(&mut zip);
    }
    zip.finish().expect("an archive").flush().expect("a file");
}

fn torch(file: File) {
    let pickle = [b"\x80\x02}", pickled("a", 0).as_bytes(), pickled("b", rows()).as_bytes(), b"."].concat();
    let tables = |mut to: &mut dyn Write| (0..2).for_each(|_| write_table(&mut to));
    zip(file, &[("m/data.pkl", &|to| to.write_all(&pickle).expect("a pickle")), ("m/data/0", &tables)]);
}

fn write_npy(mut to: &mut dyn Write) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {COLUMNS}), }}\n", rows());
    let len = u16::try_from(header.len()).expect("a short header").to_le_bytes();
    to.write_all(&[b"\x93NUMPY\x01\x00", len.as_slice(), header.as_bytes()].concat()).expect("a header");
    write_table(&mut to);
}

fn npz(file: File) {
    zip(file, &[("a.npy", &write_npy), ("b.npy", &write_npy)]);
}

fn hdf5(chunk: Option<u64>) -> Vec<u8> {
    let table = |name| {
        let mut bytes = Vec::new();
        write_table(&mut bytes);
        let table = DatasetBuilder::typed::<f32>(name, [rows() as u64, COLUMNS as u64]).raw_data(bytes);
        chunk.map_or(table.clone(), |chunk| table.chunked([chunk, COLUMNS as u64]))
    };
    let plan = Hdf5Builder::new().dataset(table("a")).dataset(table("b")).into_plan().expect("a plan");
    plan.encode(WriteOptions::default()).expect("a file")
}

/// A pickle (protocol 4) of two arrays of numpy.
fn pickle(file: File) {
    let mut file = BufWriter::new(file);
    let mut put = |bytes: &[u8]| file.write_all(bytes).expect("a pickle");
    put(b"\x80\x04}");
    for name in ["a", "b"] {
        let (rows, bytes) = (rows(), rows() * size_of_val(&ROW));
        put(format!("S'{name}'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR")
            .as_bytes());
        put(format!("(I1\n(I{rows}\nI{COLUMNS}\ntcnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\ntbI00\n")
            .as_bytes());
        put(&[b"\x8e".as_slice(), &(bytes as u64).to_le_bytes()].concat());
        (0..rows).for_each(|_| put(&row_bytes()));
        put(b"tbs");
    }
    put(b".");
    file.flush().expect("a file");
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.extend(value.to_le_bytes().first());
    bytes
}

/// Field `number` of a protobuf: bytes, a message or text.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// Field `number` of a protobuf: a number.
fn number(number: u64, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value as u64)].concat()
}

fn onnx(file: File) {
    let bytes = rows() * size_of_val(&ROW);
    // `dims`, `data_type` 1, `name`, and the start of `raw_data`.
    let start = |name: &str| {
        let raw = [varint(9 << 3 | 2), varint(bytes as u64)].concat();
        [number(1, rows()), number(1, COLUMNS), number(2, 1), field(8, name.as_bytes()), raw].concat()
    };
    let tensor_len = start("a").len() + bytes;
    let head = [varint(5 << 3 | 2), varint(tensor_len as u64)].concat();
    let graph_len = 2 * (head.len() + tensor_len);
    let mut file = BufWriter::new(file);
    let graph = [number(1, 8), varint(7 << 3 | 2), varint(graph_len as u64)].concat();
    file.write_all(&graph).expect("a model");
    for name in ["a", "b"] {
        file.write_all(&[head.clone(), start(name)].concat()).expect("a tensor");
        write_table(&mut file);
    }
    file.write_all(&field(8, &number(2, 17))).expect("an opset");
    file.flush().expect("a file");
}

/// The parameters of a program, in a folder with it.
fn paddle(folder: &Path) {
    let desc = [number(1, 5), number(2, rows()), number(2, COLUMNS)].concat();
    let mut file = BufWriter::new(File::create(folder.join("params")).expect("a file"));
    for _ in 0..2 {
        let len = u32::try_from(desc.len()).expect("short").to_le_bytes();
        file.write_all(&[&[0; 16], len.as_slice(), &desc].concat()).expect("a head");
        write_table(&mut file);
    }
    file.flush().expect("a file");
    let kind = field(2, &[number(1, 7), field(3, &field(1, &desc))].concat());
    let variable = |name: &str| field(3, &[field(1, name.as_bytes()), kind.clone(), number(3, 1)].concat());
    fs::write(folder.join("__model__"), field(1, &[variable("a"), variable("b")].concat()))
        .expect("a program");
}

fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A checkpoint of TensorFlow in this folder: the data, and a table of one block as its index.
fn bundle(folder: &Path) {
    let mut file = BufWriter::new(File::create(folder.join("m.data-00000-of-00001")).expect("a file"));
    (0..2).for_each(|_| write_table(&mut file));
    file.flush().expect("a file");
    let sum = masked((0..rows()).fold(0, |sum, _| crc32c::crc32c_append(sum, &row_bytes())));
    let bytes = rows() * size_of_val(&ROW);
    let shape = field(2, &[field(2, &number(1, rows())), field(2, &number(1, COLUMNS))].concat());
    let entry = |offset| {
        [
            number(1, 1),
            shape.clone(),
            number(4, offset),
            number(5, bytes),
            vec![0x35],
            sum.to_le_bytes().to_vec(),
        ]
        .concat()
    };
    let pair = |key: &[u8], value: &[u8]| {
        [vec![0], varint(key.len() as u64), varint(value.len() as u64), key.to_vec(), value.to_vec()].concat()
    };
    let mut table = Vec::new();
    let mut block = |pairs: &[u8]| {
        let content = [pairs, &[0, 0, 0, 0, 1, 0, 0, 0]].concat();
        let handle = [varint(table.len() as u64), varint(content.len() as u64)].concat();
        let sum = masked(crc32c::crc32c(&[content.as_slice(), &[0]].concat()));
        table.extend([content, vec![0], sum.to_le_bytes().to_vec()].concat());
        handle
    };
    let data = block(&[pair(b"", &number(1, 1)), pair(b"a", &entry(0)), pair(b"b", &entry(bytes))].concat());
    let mut footer = [block(&[]), block(&pair(b"c", &data))].concat();
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
    table.extend(footer);
    fs::write(folder.join("m.index"), table).expect("an index");
}

fn keras(file: File) {
    let config = |to: &mut dyn Write| to.write_all(b"{}").expect("a configuration");
    let inner = hdf5(None);
    zip(
        file,
        &[("config.json", &config), ("model.weights.h5", &|to| to.write_all(&inner).expect("weights"))],
    );
}

/// The name of a file or folder, and what writes it.
type Container<'a> = (&'a str, &'a dyn Fn(&Path));

/// The most memory that this process ever had, in bytes.
fn high_water() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Bytes of a file, or of all files in a folder.
fn bytes_of(path: &Path) -> u64 {
    if path.is_file() {
        return fs::metadata(path).expect("a file").len();
    }
    fs::read_dir(path).expect("a folder").map(|entry| bytes_of(&entry.expect("an entry").path())).sum()
}

#[test]
#[ignore = "the process in which the test below reads"]
fn reads_the_file_that_the_environment_names() {
    let path = env::var("NFM_LARGE_FILE").expect("NFM_LARGE_FILE");
    let start = Instant::now();
    let tensors = read(Path::new(&path)).unwrap_or_else(|e| panic!("{e}"));
    let seconds = start.elapsed().as_secs_f64();
    let names: Vec<&str> = tensors.entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(tensors.entries.values().all(|tensor| tensor.shape == [rows(), COLUMNS]));
    println!("high water {}", high_water());
    println!("seconds {seconds}");
}

/// The number behind `what` in the output of the process that read.
fn said<T: core::str::FromStr>(text: &str, what: &str) -> T {
    let found = text.lines().find_map(|line| line.split_once(what)?.1.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {what} in {text}"))
}

#[test]
fn a_large_file_takes_little_more_memory_than_its_bytes() {
    let file = |write: fn(File)| move |path: &Path| write(File::create(path).expect("a file"));
    let folder = |write: fn(&Path)| {
        move |path: &Path| {
            fs::create_dir(path).expect("a folder");
            write(path);
        }
    };
    let containers: [Container<'_>; 10] = [
        ("safetensors", &file(safetensors)),
        ("torch", &file(torch)),
        ("npz", &file(npz)),
        ("h5", &file(|mut file| file.write_all(&hdf5(None)).expect("a file"))),
        ("chunked.h5", &file(|mut file| file.write_all(&hdf5(Some(1000))).expect("a file"))),
        ("keras", &file(keras)),
        ("onnx", &file(onnx)),
        ("pickle", &file(pickle)),
        ("paddle", &folder(paddle)),
        ("bundle", &folder(bundle)),
    ];
    let directory = tempfile::tempdir().expect("a folder");
    for (name, write) in containers {
        let path = directory.path().join(name);
        write(&path);
        let len = bytes_of(&path);
        let arguments = ["--exact", "reads_the_file_that_the_environment_names", "--ignored", "--nocapture"];
        let mut child = Command::new(env::current_exe().expect("this program"));
        let output = child.args(arguments).env("NFM_LARGE_FILE", &path).output().expect("a child");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let (used, seconds): (u64, f64) = (said(&text, "high water "), said(&text, "seconds "));
        let (part, rate) = (used as f64 / len as f64, len as f64 / seconds / 1e6);
        println!("{name}: {len} bytes, {used} of memory: {part:.3}; {rate:.0} MB/s");
        assert!(used * 10 <= len * 13, "{name} of {len} bytes takes {used} of memory");
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("removable");
    }
}
