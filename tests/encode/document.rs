//! `src/encode/FORMAT.md`: its dump is a section, and each of its near misses gives its error.

use embedded_nfm::{
    Q16,
    encode::{
        Encoder, Encoders, Entry, FieldEncoder, Keys, Of, Policy, SampleBuilder, SampleMemory, Scaling, Slot,
        Vocabulary, VocabularyParts,
    },
};

use crate::{
    fields::{Fields, ids, section, strict},
    support::AlignedBytes,
};

const DOCUMENT: &str = include_str!("../../src/encode/FORMAT.md");

fn dump() -> Vec<u8> {
    let dump =
        DOCUMENT.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a dump");
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, rest) = line.split_once("  ").expect("an offset");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let (hex, label) = rest.split_once("  ").expect("a label");
        assert!(!label.trim().is_empty(), "{line}");
        bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")));
    }
    bytes
}

fn fields() -> Fields {
    Fields(vec![("carrier", ids(0, 3)), ("distance", Slot::Dense { position: 0 })])
}

#[test]
fn the_dump_is_what_is_emitted() {
    let parts = VocabularyParts { keys: Keys::Text(&["AA", "DL", "UA"]), ids: &[0, 1, 2], exact: true };
    let mut table = vec![0; parts.encoded_len()];
    parts.emit(&mut [Entry::default(); 3], &mut table).expect("distinct keys");
    let carriers = Encoder::Vocabulary(Vocabulary::parse(&table, 3).expect("as it was emitted"));
    let miles = Scaling::new(Of::Value, 1000.0, 0.001, Q16::from_bits(-65_536), Q16::from_bits(5 << 16));
    let words = section(&[
        FieldEncoder { unseen: Policy::Use(2), ..strict(carriers) },
        FieldEncoder {
            unseen: Policy::Clamp,
            missing: Policy::Zero,
            ..strict(Encoder::Number(miles.expect("ordinary numbers")))
        },
    ]);
    assert_eq!(bytemuck::cast_slice::<u32, u8>(&words), dump());
}

#[test]
fn the_dump_encodes_what_it_says() {
    let (section, fields) = (AlignedBytes::new(&dump()), fields());
    let encoders = Encoders::<Q16>::parse(&section, &fields).expect("a section");
    let mut memory = SampleMemory::<Q16, 1, 1, 2>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    for (carrier, id, miles, bits) in [
        ("DL", 1, 1500.0, 1 << 15),
        ("XX", 2, 1e9, 5 << 16),
        ("AA", 0, f32::NAN, 0),
        ("UA", 2, -7.0, -65_536),
    ] {
        builder.clear();
        builder.set("carrier", carrier).unwrap();
        builder.set("distance", miles).unwrap();
        let sample = builder.finish().unwrap();
        assert_eq!((sample.ids(), sample.dense()), (&[id][..], &[Q16::from_bits(bits)][..]), "{carrier}");
    }
}

#[test]
fn each_near_miss_of_the_document_gives_its_error() {
    let table = DOCUMENT.split("## Near misses").nth(1).expect("a table");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let mut cell = || cells.next().expect("three cells");
        let (offset, bytes, error) = (cell(), cell(), cell());
        let mut section = dump();
        let at = usize::from_str_radix(offset, 16).expect("an offset");
        for (to, byte) in section[at..].iter_mut().zip(bytes.split(' ')) {
            *to = u8::from_str_radix(byte, 16).expect("two hex digits");
        }
        let found = Encoders::<Q16>::parse(&AlignedBytes::new(&section), &fields()).map(|_| ());
        let found = found.map_or_else(|e| format!("`{e:?}`"), |()| "a section".to_owned());
        if found != error {
            wrong.push(format!("{offset} {bytes}: {found}, not {error}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 20, "{count} near misses");
}
