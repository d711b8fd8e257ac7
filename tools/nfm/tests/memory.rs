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
    let row: Vec<u8> = ROW.iter().flat_map(|v| v.to_le_bytes()).collect();
    (0..rows()).for_each(|_| to.write_all(&row).expect("a row"));
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

fn keras(file: File) {
    let config = |to: &mut dyn Write| to.write_all(b"{}").expect("a configuration");
    let inner = hdf5(None);
    zip(
        file,
        &[("config.json", &config), ("model.weights.h5", &|to| to.write_all(&inner).expect("weights"))],
    );
}

/// The most memory that this process ever had, in bytes.
fn high_water() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
#[ignore = "the process in which the test below reads"]
fn reads_the_file_that_the_environment_names() {
    let path = env::var("NFM_LARGE_FILE").expect("NFM_LARGE_FILE");
    let tensors = read(Path::new(&path)).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<&str> = tensors.entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(tensors.entries.values().all(|tensor| tensor.shape == [rows(), COLUMNS]));
    println!("high water {}", high_water());
}

#[test]
fn a_large_file_takes_little_more_memory_than_its_bytes() {
    let containers: [(&str, &dyn Fn(File)); 6] = [
        ("safetensors", &safetensors),
        ("torch", &torch),
        ("npz", &npz),
        ("h5", &|mut file| file.write_all(&hdf5(None)).expect("a file")),
        ("chunked.h5", &|mut file| file.write_all(&hdf5(Some(1000))).expect("a file")),
        ("keras", &keras),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (name, write) in containers {
        let path = folder.path().join(name);
        write(File::create(&path).expect("a file"));
        let len = fs::metadata(&path).expect("a file").len();
        let arguments = ["--exact", "reads_the_file_that_the_environment_names", "--ignored", "--nocapture"];
        let mut child = Command::new(env::current_exe().expect("this program"));
        let output = child.args(arguments).env("NFM_LARGE_FILE", &path).output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout);
        let used = text.lines().find_map(|line| line.split_once("high water ")?.1.parse::<u64>().ok());
        let used =
            used.unwrap_or_else(|| panic!("{name}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        println!("{name}: {len} bytes, {used} of memory: {:.3}", used as f64 / len as f64);
        assert!(used * 10 <= len * 13, "{name} of {len} bytes takes {used} of memory");
        fs::remove_file(&path).expect("removable");
    }
}
