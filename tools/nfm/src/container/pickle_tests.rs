//! Tests of the pickle machine; bytes are what Python's `pickle.dumps` gives, or hostile by hand.

use super::*;

fn run(bytes: &[u8]) -> Result<Tree> {
    unpickle(&mut Input::new(bytes, "file", "data.pkl", 0, bytes.len() as u64))
}

fn refusal(bytes: &[u8]) -> String {
    run(bytes).expect_err("must be refused").to_string()
}

fn texts(tree: &Tree, ids: &[Id]) -> Vec<String> {
    ids.iter().map(|id| tree.text(*id).unwrap().to_owned()).collect()
}

#[test]
fn scalars_of_every_opcode() {
    let cases: [(&[u8], Node); 20] = [
        (b"N.", Node::None),
        (b"\x88.", Node::Bool(true)),
        (b"\x89.", Node::Bool(false)),
        (b"I01\n.", Node::Bool(true)),
        (b"I-7\n.", Node::Int(-7)),
        (b"J\xff\xff\xff\xff.", Node::Int(-1)),
        (b"K\xff.", Node::Int(255)),
        (b"M\x00\x01.", Node::Int(256)),
        (b"L12L\n.", Node::Int(12)),
        (b"\x8a\x00.", Node::Int(0)),
        (b"\x8a\x01\xff.", Node::Int(-1)),
        (b"\x8b\x02\x00\x00\x00\xff\x00.", Node::Int(255)),
        (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", Node::Long([0, 0, 0, 0, 0, 0, 0, 0, 1].into())),
        (b"F0.5\n.", Node::Float(0.5)),
        (b"G\x3f\xe0\x00\x00\x00\x00\x00\x00.", Node::Float(0.5)),
        (b"S'ab'\n.", Node::Text("ab".into())),
        (b"U\x02\xff\x00.", Node::Bytes([0xff, 0].into())),
        (b"X\x02\x00\x00\x00\xc3\xa9.", Node::Text("\u{e9}".into())),
        (b"\x8c\x01a.", Node::Text("a".into())),
        (b"C\x01a.", Node::Bytes([b'a'].into())),
    ];
    for (bytes, expected) in cases {
        let tree = run(bytes).unwrap_or_else(|e| panic!("{bytes:?}: {e}"));
        assert_eq!(*tree.node(tree.root), expected, "{bytes:?}");
    }
}

#[test]
fn protocol_4_with_frame_and_memo() {
    // pickle.dumps({'a': [1, 'a']}, 4)
    let bytes = b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(K\x01h\x01es.";
    let tree = run(bytes).unwrap();
    let [(key, value)] = *tree.dict(tree.root).unwrap() else { panic!("one pair") };
    assert_eq!(tree.text(key), Some("a"));
    let [one, a] = *tree.sequence(value).unwrap() else { panic!("two items") };
    assert_eq!((tree.int(one), a), (Some(1), key));
}

#[test]
fn protocol_0_containers() {
    // pickle.dumps({'a': (1, [])}, 0), with the memo left out
    let tree = run(b"(dVa\n(I1\n(ltp0\ns.").unwrap();
    let pairs = tree.dict(tree.root).unwrap();
    let items = tree.sequence(tree.get(pairs, "a").unwrap()).unwrap();
    assert_eq!(tree.int(items[0]), Some(1));
    assert_eq!(tree.sequence(items[1]), Some([].as_slice()));
}

#[test]
fn an_unknown_class_is_an_inert_object_with_its_state() {
    // copyreg._reconstructor(my.Config, object, None), then BUILD {'a': 1}
    let old = b"\x80\x02ccopy_reg\n_reconstructor\ncmy\nConfig\nc__builtin__\nobject\nN\x87R}U\x01aK\x01sb.";
    let new = b"\x80\x02cmy\nConfig\n)\x81}U\x01aK\x01sb.";
    for bytes in [old.as_slice(), new.as_slice()] {
        let tree = run(bytes).unwrap();
        let Node::Instance(instance) = tree.node(tree.root) else { panic!("an object") };
        assert_eq!(tree.global(instance.class).unwrap().to_string(), "my.Config");
        let state = tree.dict(instance.state.unwrap()).unwrap();
        assert_eq!(tree.get(state, "a").and_then(|id| tree.int(id)), Some(1));
    }
}

#[test]
fn known_containers_become_dicts_and_lists() {
    assert!(refusal(b"ccollections\nOrderedDict\n]U\x01aa\x85R.").contains("pairs of key and value"));
    let tree = run(b"ccollections\nOrderedDict\n]U\x01aU\x01b\x86a\x85R.").unwrap();
    let [(a, b)] = *tree.dict(tree.root).unwrap() else { panic!("one pair") };
    assert_eq!(texts(&tree, &[a, b]), ["a", "b"]);
    let tree = run(b"c__builtin__\nset\n]U\x01aa\x85R.").unwrap();
    assert_eq!(texts(&tree, tree.sequence(tree.root).unwrap()), ["a"]);
    let tree = run(b"\x8f(U\x01a\x90.").unwrap();
    assert_eq!(texts(&tree, tree.sequence(tree.root).unwrap()), ["a"]);
}

#[test]
fn bytes_of_protocol_2_are_latin_1_text() {
    let tree = run(b"c_codecs\nencode\nX\x03\x00\x00\x00a\xc3\xbfU\x06latin1\x86R.").unwrap();
    assert_eq!(*tree.node(tree.root), Node::Bytes([b'a', 0xff].into()));
}

#[test]
fn a_stored_torch_function_is_its_name() {
    let tree = run(b"c__builtin__\ngetattr\nctorch._C\n_VariableFunctionsClass\nU\x04relu\x86R.").unwrap();
    assert_eq!(tree.global(tree.root).unwrap().to_string(), "torch.relu");
}

#[test]
fn every_way_to_call_names_the_callable_and_the_byte() {
    let cases: [(&[u8], &str, &str); 9] = [
        (b"cposix\nsystem\nU\x02ls\x85R.", "`posix.system`", "byte 19"),
        (b"\x8c\x05posix\x8c\x06system\x93U\x02ls\x85R.", "`posix.system`", "byte 21"),
        (b"(U\x02lsios\nsystem\n.", "`os.system`", "byte 5"),
        (b"(cos\nsystem\nU\x02lso.", "`os.system`", "byte 16"),
        (b"c__builtin__\neval\nU\x011\x85R.", "`builtins.eval`", "byte 22"),
        (b"c__builtin__\ngetattr\ncos\n_\nU\x06system\x86R.", "`builtins.getattr(os._, system)`", "byte 36"),
        (b"cfunctools\npartial\ncos\nsystem\n\x85R.", "`functools.partial`", "byte 31"),
        (b"ctorch.hub\nload\n)R.", "`torch.hub.load`", "byte 17"),
        (b"ctorch.storage\n_load_from_bytes\nC\x00\x85R.", "`torch.storage._load_from_bytes`", "byte 35"),
    ];
    for (bytes, callable, place) in cases {
        let message = refusal(bytes);
        assert!(message.contains(callable), "{message}");
        assert!(message.starts_with(&format!("file: data.pkl {place}: ")), "{message}");
    }
}

#[test]
fn what_a_getattr_gave_cannot_be_called() {
    let member = b"c__builtin__\ngetattr\nctorch\nhub\nU\x04load\x86R)R.";
    assert!(refusal(member).contains("`torch.hub.load`"));
}

#[test]
fn damage_is_an_error_at_its_byte() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "byte 0"),
        (b"K", "byte 1"),
        (b".", "byte 0"),
        (b"\x80\x06.", "byte 0"),
        (b"\xff.", "byte 0"),
        (b"h\x05.", "memo 5"),
        (b"t.", "mark"),
        (b"(K\x01K\x01u.", "empty stack"),
        (b"](K\x01u.", "without a value"),
        (b"NNa.", "expected a list, found None"),
        (b"NNNs.", "expected a dict, found None"),
        (b"NNb.", "expected an object, found None"),
        (b"NNR.", "expected the name of a callable, found None"),
        (b"NN\x81.", "expected a class, found None"),
        (b"\x82\x01.", "0x82"),
        (b"NU\x01a\x93.", "name of a class"),
    ];
    for (bytes, part) in cases {
        let message = refusal(bytes);
        assert!(message.contains(part), "{bytes:?}: {message}");
    }
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    for bytes in [
        b"X\xff\xff\xff\x7f".as_slice(),
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
    ] {
        assert!(refusal(bytes).contains("the file is cut or damaged"));
    }
}

#[test]
fn a_list_in_itself_is_a_value() {
    let tree = run(b"]q\x00h\x00a.").unwrap();
    assert_eq!(tree.sequence(tree.root), Some([tree.root].as_slice()));
}

#[test]
fn depth_costs_no_stack() {
    let mut bytes = vec![b'N'];
    bytes.extend(std::iter::repeat_n(op::TUPLE1, 1_000_000));
    bytes.push(op::STOP);
    let tree = run(&bytes).unwrap();
    assert_eq!(tree.nodes().len(), 1_000_001);
    drop(tree);
}

#[test]
fn shared_structure_costs_no_memory() {
    // Thirty lists, each holding the one before twice: 2³⁰ paths, thirty objects.
    let mut bytes = b"]".to_vec();
    for memo in 0..30 {
        bytes.extend([b'q', memo, b'0', b']', b'h', memo, b'a', b'h', memo, b'a']);
    }
    bytes.push(op::STOP);
    assert_eq!(run(&bytes).unwrap().nodes().len(), 32);
}

#[test]
fn copying_a_memoized_text_again_and_again_is_refused() {
    let mut bytes = b"c_codecs\nencode\nq\x00X\x00\x00\x01\x00".to_vec();
    bytes.extend(std::iter::repeat_n(b'a', 1 << 16));
    bytes.extend(b"\x85q\x01");
    for _ in 0..1000 {
        bytes.extend(b"h\x00h\x01R0");
    }
    assert!(refusal(&bytes).contains("copies far more than it holds"));
}
