//! The container readers over real checkpoints, damaged ones and hostile ones.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use nfm::{
    container::read,
    error::Result,
    tensors::{Fact, Tensor, Tensors, Values},
};
use zip::{ZipWriter, write::SimpleFileOptions};

/// What the hostile fixtures would create, were anything in them executed.
const PWNED: &str = "/tmp/embedded-nfm-pwned";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The checkpoint of a fixture, whatever its extension.
fn checkpoint(name: &str) -> PathBuf {
    let directory = fixtures().join(name);
    let mut files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let found = files.find_map(|file| {
        let path = file.ok()?.path();
        (path.file_stem()? == "checkpoint").then_some(path)
    });
    found.unwrap_or_else(|| panic!("{name}: no checkpoint"))
}

fn hostile(name: &str) -> PathBuf {
    fixtures().join("hostile").join(name)
}

fn load(name: &str) -> Tensors {
    read(&checkpoint(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(path: &Path) -> String {
    read(path).err().unwrap_or_else(|| panic!("{} must be refused", path.display())).to_string()
}

fn bits(values: &Values) -> Vec<u64> {
    match values {
        Values::F32(v) => v.iter().map(|v| v.to_bits().into()).collect(),
        Values::F64(v) => v.iter().map(|v| v.to_bits()).collect(),
        Values::I64(v) => v.iter().map(|v| v.cast_unsigned()).collect(),
    }
}

/// The same shapes, types and bits.
fn same(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape && a.dtype == b.dtype && bits(&a.values) == bits(&b.values)
}

fn assert_same(a: &Tensors, b: &Tensors) {
    assert_eq!(a.entries.len(), b.entries.len(), "{} and {}", a.file, b.file);
    for (name, tensor) in &a.entries {
        let other = b.entries.get(name).unwrap_or_else(|| panic!("{}: no {name}", b.file));
        assert!(same(tensor, other), "{name} of {} and {}", a.file, b.file);
    }
}

fn names(tensors: &Tensors) -> Vec<&str> {
    tensors.entries.keys().map(String::as_str).collect()
}

fn text(text: &str) -> Fact {
    Fact::Text(text.into())
}

#[test]
fn every_torch_container_of_one_model_gives_the_same_tensors_in_the_same_order() {
    let zip = load("deepctr-zip");
    assert_eq!(zip.container, "torch zip");
    assert_eq!(zip.entries["linear_model.weight"].shape, [2, 1]);
    for name in
        ["deepctr-legacy", "deepctr-whole", "deepctr-whole-legacy", "deepctr-wrapped", "deepctr-zip-named-h5"]
    {
        let other = load(name);
        assert_same(&zip, &other);
        assert_eq!(names(&zip), names(&other), "{name}");
    }
    assert_eq!(load("deepctr-legacy").container, "torch legacy");
    assert_same(&load("paper-zip"), &load("paper-safetensors"));
}

#[test]
fn safetensors_give_the_values_that_they_were_written_with() {
    let zip = load("deepctr-zip");
    let exact = load("deepctr-safetensors-f32");
    assert_eq!(exact.container, "safetensors");
    assert_same(&zip, &exact);
    for (name, dtype) in [("deepctr-safetensors-f16", "f16"), ("deepctr-safetensors-bf16", "bf16")] {
        let short = load(name);
        assert_eq!(short.entries.len(), zip.entries.len());
        for (name, tensor) in &short.entries {
            let (Values::F32(wide), Values::F32(short)) = (&zip.entries[name].values, &tensor.values) else {
                panic!("{name}: floats");
            };
            let rounded: Vec<f32> = wide
                .iter()
                .map(|v| match dtype {
                    "f16" => half::f16::from_f32(*v).to_f32(),
                    _ => half::bf16::from_f32(*v).to_f32(),
                })
                .collect();
            assert_eq!((tensor.dtype, short), (dtype, &rounded), "{name}");
        }
    }
}

#[test]
fn what_wrappers_put_before_every_name_is_taken_off() {
    let file = checkpoint("deepctr-safetensors-f32");
    let bytes = fs::read(&file).unwrap();
    let plain = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let write = |prefix: &str, but: Option<&str>| {
        let name = |name: String| if but == Some(&name) { name } else { format!("{prefix}{name}") };
        let named = plain.tensors().into_iter().map(|(tensor, view)| (name(tensor), view));
        fs::write(&path, safetensors::serialize(named, None).unwrap()).unwrap();
        read(&path).unwrap()
    };
    for prefix in ["module.", "_orig_mod.module."] {
        assert_same(&load("deepctr-zip"), &write(prefix, None));
    }
    // A module of that name beside others is one.
    assert!(write("module.", Some("out.bias")).entries.contains_key("module.dnn_linear.weight"));
}

#[test]
fn views_come_out_as_contiguous_tensors() {
    let plain = load("deepctr-zip");
    for name in ["strided.pt", "strided-legacy.pt"] {
        let strided = read(&hostile(name)).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&plain, &strided);
        let shared = strided.entries.values().filter(|t| t.storage.as_ref().is_some_and(|s| s.1 > 0));
        assert!(shared.count() > 0, "{name}: no view at an offset");
    }
}

#[test]
fn a_wide_file_stays_wide() {
    let wide = read(&hostile("float64.pt")).unwrap_or_else(|e| panic!("{e}"));
    let plain = load("deepctr-zip");
    for (name, tensor) in &wide.entries {
        let (Values::F64(wide), Values::F32(short)) = (&tensor.values, &plain.entries[name].values) else {
            panic!("{name}: {}", tensor.dtype);
        };
        assert!(wide.iter().zip(short).all(|(w, s)| w.to_bits() == f64::from(*s).to_bits()), "{name}");
    }
}

#[test]
fn a_whole_model_says_which_graph_it_is() {
    for name in ["deepctr-whole", "deepctr-whole-legacy"] {
        let facts = load(name).facts;
        assert_eq!(facts["__class__"], text("deepctr_torch.models.nfm.NFM"));
        assert_eq!(facts["dnn.activation_layers.0.__class__"], text("torch.nn.modules.activation.ReLU"));
        assert_eq!(facts["dnn.use_bn"], Fact::Bool(false));
        assert_eq!(facts["loss_func"], text("torch.nn.functional.binary_cross_entropy"));
        assert_eq!(facts["dnn_feature_columns.0.0"], text("user"));
        assert!(!facts.contains_key("training"));
        assert!(!facts.keys().any(|path| path.contains("_hooks")), "{name}");
    }
    let paper = load("paper-whole");
    assert_eq!(paper.facts["FM_layers.0.eps"], Fact::Float(1e-3));
    assert_eq!(paper.facts["deep_layers.2.__class__"], text("torch.nn.modules.activation.Tanh"));
    assert!(paper.entries.contains_key("FM_layers.0.running_mean"));
}

#[test]
fn what_stands_beside_a_state_dict_are_facts() {
    assert_eq!(load("deepctr-wrapped").facts["epoch"], Fact::Int(3));
    let paper = load("paper-sigmoid");
    assert_eq!(paper.facts["config.bn_eps"], Fact::Float(1e-3));
    assert_eq!(paper.facts["config.activation"], text("sigmoid"));
    let optimizer = load("paper-optimizer");
    assert_same(&optimizer, &load("paper-bare"));
    assert!(!optimizer.facts.keys().any(|path| path.contains("param_groups")));
}

#[test]
fn a_pickle_that_calls_a_function_is_refused_by_its_name_and_nothing_runs() {
    let _ = fs::remove_file(PWNED);
    for name in ["os-system.pt", "os-system-legacy.pt", "os-system-only.pt", "os-system-only-legacy.pt"] {
        let message = refusal(&hostile(name));
        assert!(message.contains("`posix.system`") && message.contains("byte "), "{message}");
    }
    assert!(!Path::new(PWNED).exists());
}

#[test]
fn an_archive_without_storages_names_the_entry() {
    let message = refusal(&hostile("zip-without-data.pt"));
    assert!(message.contains("/data/0: expected this entry"), "{message}");
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.pt");
    assert!(refusal(directory.path()).contains("found a folder without one"));
    assert!(refusal(&path).contains("model.pt: "));
    let mut tar = [0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 10] = [
        (b"", "an empty file"),
        (b"\x89HDF\r\n\x1a\n....", "the file is cut or damaged"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (&tar, "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
        (b"no checkpoint", "an unknown format (bytes 6e 6f 20 63 68 65 63 6b)"),
        // pickle.dumps({}, 2)
        (b"\x80\x02}q\x00.", "found dict without any tensor"),
        (&archive(&[("a/x.npy", b"")]), "tensor `a/x`: header: "),
        (&archive(&[("a/x.txt", b"")]), "a zip archive without data.pkl"),
    ];
    for (bytes, part) in cases {
        fs::write(&path, bytes).expect("writable");
        let message = refusal(&path);
        assert!(message.contains(part), "{message}");
    }
    let script: [(&str, &[u8]); 2] = [("m/data.pkl", b"N."), ("m/constants.pkl", b"N.")];
    fs::write(&path, archive(&script)).expect("writable");
    assert!(refusal(&path).contains("a TorchScript archive"));
}

/// A deflated zip archive.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("an entry");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("an archive").into_inner()
}

fn read_archive(entries: &[(&str, &[u8])]) -> Result<Tensors> {
    read_bytes(&archive(entries))
}

fn read_bytes(bytes: &[u8]) -> Result<Tensors> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    read(file.path())
}

/// A pickled `_rebuild_tensor_v2` of storage `0`, whose declared length is `len`.
fn tensor(len: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let int = |value: i32| [b"J".as_slice(), &value.to_le_bytes()].concat();
    let tuple =
        |of: &[i32]| [b"(".to_vec(), of.iter().flat_map(|v| int(*v)).collect(), b"t".to_vec()].concat();
    let id =
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu".to_vec();
    [id, int(len), b"tQ".to_vec(), int(offset), tuple(shape), tuple(strides), b"\x89}tR".to_vec()].concat()
}

fn state_dict(tensor: &[u8]) -> Vec<u8> {
    [b"\x80\x02}U\x01w", tensor, b"s."].concat()
}

const FLOATS: [u8; 16] = [0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64];

#[test]
fn a_hand_made_archive_in_either_byte_order() {
    let pickle = state_dict(&tensor(4, 0, &[2, 2], &[1, 2]));
    let big: Vec<u8> = FLOATS.chunks(4).flat_map(|c| c.iter().rev().copied()).collect();
    for (order, floats) in [(b"little".as_slice(), FLOATS.as_slice()), (b"big", &big)] {
        let entries = [("m/data.pkl", pickle.as_slice()), ("m/byteorder", order), ("m/data/0", floats)];
        let tensors = read_archive(&entries).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(tensors.entries["w"].values, Values::F32(vec![1.0, 3.0, 2.0, 4.0]));
        assert_eq!(tensors.entries["w"].storage, Some(("0".into(), 0)));
    }
}

#[test]
fn a_view_beyond_its_storage_is_refused_before_it_is_allocated() {
    let cases = [
        (tensor(4, 1, &[4], &[1]), "leaves its storage of 4 elements"),
        (tensor(4, 0, &[i32::MAX, i32::MAX], &[i32::MAX, 1]), "leaves its storage"),
        (tensor(4, 0, &[i32::MAX, i32::MAX], &[0, 0]), "far more memory than the file"),
        (tensor(4, 0, &[-1], &[1]), "expected extents ≥ 0"),
        (tensor(4, 0, &[2], &[-1]), "expected strides ≥ 0"),
        (tensor(4, -1, &[2], &[1]), "≥ 0, found -1"),
        (tensor(i32::MAX, 0, &[2], &[1]), "expected 8589934588 bytes for tensor `w`, found 16"),
    ];
    for (tensor, part) in cases {
        let pickle = state_dict(&tensor);
        let result = read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)]);
        let message = result.expect_err("refused").to_string();
        assert!(message.contains(part) && message.contains('w'), "{message}");
    }
}

#[test]
fn a_zip_bomb_is_refused() {
    let zeros = vec![0; 16 << 20];
    let pickle = state_dict(&tensor(4 << 20, 0, &[4 << 20], &[1]));
    let message =
        read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &zeros)]).expect_err("refused").to_string();
    assert!(message.contains("far more memory"), "{message}");
    let pickle = state_dict(&tensor(4, 0, &[4], &[1]));
    let message =
        read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &zeros)]).expect_err("refused").to_string();
    assert!(message.contains("m/data/0: expected at most"), "{message}");
    let message = read_archive(&[("m/data.pkl", &zeros)]).expect_err("refused").to_string();
    assert!(message.contains("m/data.pkl: expected at most"), "{message}");
}

#[test]
fn self_reference_and_depth_end() {
    let w = tensor(4, 0, &[4], &[1]);
    let read_with = |rest: &[u8]| {
        let pickle = [b"\x80\x02}q\x00(U\x01w", w.as_slice(), rest, b"u."].concat();
        read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)])
    };
    // A dict that holds itself and a list of itself.
    let tensors = read_with(b"U\x01sh\x00U\x01l]h\x00a").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(names(&tensors), ["w"]);
    let deep = [b"U\x01dN".to_vec(), vec![0x85; 1_000_000]].concat();
    assert!(read_with(&deep).expect_err("refused").to_string().contains("nested deeper than 100"));
    // Each of thirty lists holds the one before twice, with a scalar at the bottom.
    let mut shared = b"U\x01d]K\x01a".to_vec();
    for memo in 1..31 {
        shared.extend([b'q', memo, b'0', b']', b'h', memo, b'a', b'h', memo, b'a']);
    }
    let tensors = read_with(&shared).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(tensors.facts.len(), 1);
}

/// A pickled module with the given `_parameters` and `_modules`.
fn module(parameters: &[u8], modules: &[u8]) -> Vec<u8> {
    let head = b"cmy\nNet\n)\x81q\x01}(U\x0b_parameters}".as_slice();
    [
        head,
        parameters,
        b"U\x08_buffers}U\x08_modules}",
        modules,
        b"U\x03epsG\x3f\xe0\x00\x00\x00\x00\x00\x00ub",
    ]
    .concat()
}

/// A pickled dict of tensors, each of one element of storage `0`.
fn dict(entries: &[(&str, i32)]) -> Vec<u8> {
    let entry = |(name, offset): &(&str, i32)| {
        let len = u8::try_from(name.len()).expect("a short name");
        [b"U".as_slice(), &[len], name.as_bytes(), &tensor(4, *offset, &[1], &[1])].concat()
    };
    [b"}(".to_vec(), entries.iter().flat_map(entry).collect(), b"u".to_vec()].concat()
}

#[test]
fn the_model_is_found_in_its_wrapper_and_leftovers_keep_their_path() {
    let read_with = |pickle: &[u8]| {
        let pickle = [b"\x80\x02", pickle, b"."].concat();
        read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)])
    };
    let state = dict(&[("module.a", 0), ("module.b", 1)]);
    let adam = dict(&[("exp_avg", 2)]);
    for key in [b"U\x0astate_dict".as_slice(), b"U\x10model_state_dict", b"U\x05model"] {
        let beside =
            [b"}(U\x09optimizer", adam.as_slice(), b"U\x03ema", &dict(&[("c", 3), ("same", 0)])].concat();
        let pickle = [&beside, key, &state, b"U\x05epochK\x07u"].concat();
        let tensors = read_with(&pickle).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(names(&tensors), ["a", "b", "ema.c"]);
        assert_eq!(tensors.entries["ema.c"].values, Values::F32(vec![4.0]));
        assert_eq!(tensors.facts["epoch"], Fact::Int(7));
    }
    let some = dict(&[("module.a", 0), ("b", 1), ("b", 2)]);
    let tensors = read_with(&some).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(names(&tensors), ["module.a", "b"], "not all have the prefix");
    assert_eq!(tensors.entries["b"].values, Values::F32(vec![3.0]), "the later value counts");
    let twice =
        [b"}(U\x05model", dict(&[("ema.c", 0)]).as_slice(), b"U\x03ema", &dict(&[("c", 1)]), b"u"].concat();
    let message = read_with(&twice).expect_err("refused").to_string();
    assert!(message.contains("tensor `ema.c`: two tensors have this name"), "{message}");
    let message = read_with(b"}U\x05epochK\x07s").expect_err("refused").to_string();
    assert!(message.contains("without any tensor"), "{message}");
}

#[test]
fn a_tensor_that_is_not_dense_numbers_is_refused_by_its_type() {
    let float = state_dict(&tensor(4, 0, &[4], &[1]));
    let replaced = |from: &str, to: &str| {
        let at = float.windows(from.len()).position(|w| w == from.as_bytes()).expect("in the pickle");
        [&float[..at], to.as_bytes(), &float[at + from.len()..]].concat()
    };
    let cases = [
        (replaced("FloatStorage", "ComplexFloatStorage"), "`ComplexFloatStorage`"),
        (replaced("FloatStorage", "QInt8Storage"), "`QInt8Storage`"),
        (replaced("_rebuild_tensor_v2", "_rebuild_sparse_tensor"), "`torch._utils._rebuild_sparse_tensor`"),
        (replaced("_rebuild_tensor_v2", "_rebuild_qtensor"), "`torch._utils._rebuild_qtensor`"),
    ];
    for (pickle, part) in cases {
        let result = read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)]);
        let message = result.expect_err("refused").to_string();
        assert!(message.contains("tensor `w`: ") && message.contains(part), "{message}");
    }
}

#[test]
fn a_numpy_attribute_is_facts() {
    // numpy.array([[1, 2], [3, 4]], dtype='<i2', order='F'), by protocols 2 and 5
    let old =
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x02K\x02\x86\
        cnumpy\ndtype\nU\x02i2\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88\
        C\x08\x01\x00\x03\x00\x02\x00\x04\x00tb";
    let new = b"cnumpy._core.numeric\n_frombuffer\n(C\x08\x01\x00\x03\x00\x02\x00\x04\x00\
        cnumpy\ndtype\nU\x02i2\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\
        K\x02K\x02\x86U\x01FtR";
    let parameters = [b"U\x01w".as_slice(), &tensor(4, 0, &[4], &[1]), b"s"].concat();
    for array in [old.as_slice(), new] {
        let module = module(&parameters, b"");
        let attribute = [b"U\x07offsets", array, b"ub."].concat();
        let pickle = [b"\x80\x02", &module[..module.len() - 2], attribute.as_slice()].concat();
        let tensors = read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)]);
        let tensors = tensors.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(names(&tensors), ["w"]);
        let facts: Vec<_> = (0..4).map(|at| tensors.facts[&format!("offsets.{at}")].clone()).collect();
        assert_eq!(facts, [1, 2, 3, 4].map(Fact::Int));
    }
}

#[test]
fn buffers_that_a_state_dict_leaves_out_are_left_out() {
    let [w, kept, cache] = [0, 1, 2].map(|offset| tensor(4, offset, &[1], &[1]));
    let module = [
        b"\x80\x02cmy\nNet\n)\x81}(U\x08_buffers}(U\x04kept".as_slice(),
        &kept,
        b"U\x05cache",
        &cache,
        b"U\x04noneNuU\x1b_non_persistent_buffers_setc__builtin__\nset\n]U\x05cachea\x85RU\x0b_parameters}U\x01w",
        &w,
        b"sU\x08_modules}U\x07_hidden}q\x05U\x04textU\x01xsU\x04openh\x05ub.",
    ];
    let tensors = read_archive(&[("m/data.pkl", &module.concat()), ("m/data/0", &FLOATS)]);
    let tensors = tensors.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(names(&tensors), ["w", "kept"], "parameters first");
    assert_eq!(tensors.facts["open.text"], text("x"));
    assert!(!tensors.facts.keys().any(|path| path.starts_with('_') && path != "__class__"));
}

#[test]
fn a_module_in_itself_ends() {
    let w = tensor(4, 0, &[4], &[1]);
    let parameters = [b"U\x01w", w.as_slice(), b"sU\x01nNs"].concat();
    let read_module = |modules: &[u8]| {
        let pickle = [b"\x80\x02", module(&parameters, modules).as_slice(), b"."].concat();
        read_archive(&[("m/data.pkl", &pickle), ("m/data/0", &FLOATS)])
    };
    let tensors = read_module(b"").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(names(&tensors), ["w"]);
    assert_eq!(tensors.facts["eps"], Fact::Float(0.5));
    let message = read_module(b"U\x01ah\x01sU\x01bh\x01s").expect_err("refused").to_string();
    assert!(message.contains("nested deeper") || message.contains("names take far more"), "{message}");
}
