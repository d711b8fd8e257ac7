//! Encodes the keys of `keys.txt`, one a line, as `what.txt` says, and prints the results and the stack that each took.
//!
//! `what.txt` names a hash, or says `text`, `int` or `set`: a lookup in the section `encoders.bin`, of one field, by the table
//! itself or by a sample builder. The plugin counts the regions that it counts of `bench`.
#![no_std]
#![no_main]

use embedded_nfm::{
    Q16,
    encode::{
        Encoder, Encoders, EncodersError, FieldIndex, SampleBuilder, SampleMemory, Slot, Slots, Vocabulary,
        hash::{fingerprint64, fnv1a_32, fnv1a_64, half_sip_1_3, murmur3_32, xx64},
    },
};
use firmware::measure::{Buffer, calibrate, empty, measure, read};
use semihosting::println;

static mut SECTION: Buffer<{ 256 << 10 }> = Buffer([0; 256 << 10]);
static mut KEYS: Buffer<{ 64 << 10 }> = Buffer([0; 64 << 10]);
static mut WHAT: Buffer<64> = Buffer([0; 64]);

firmware::program!(run);

/// The model's one field.
struct Fields;

impl Slots for Fields {
    fn count(&self) -> u16 {
        1
    }
    fn slot(&self, field: u16) -> Option<Slot> {
        (field == 0).then_some(Slot::Ids { first: 0, rows: 10_000, many: false })
    }
    fn name(&self, _: u16) -> &str {
        "key"
    }
}

fn run() -> Result<(), &'static str> {
    // SAFETY: main runs once, and nothing else names these statics.
    let (section, keys, what) =
        unsafe { (&mut *&raw mut SECTION.0, &mut *&raw mut KEYS.0, &mut *&raw mut WHAT.0) };
    let keys = read(c"keys.txt", keys).map_err(|_| "keys.txt cannot be read")?;
    let what = read(c"what.txt", what).map_err(|_| "what.txt cannot be read")?;
    let keys = str::from_utf8(keys).map_err(|_| "keys.txt is no text")?;
    calibrate();
    let hash = match what {
        b"fingerprint64" => of_fingerprint64,
        b"murmur3" => of_murmur3,
        b"fnv1a_32" => of_fnv1a_32,
        b"fnv1a_64" => of_fnv1a_64,
        b"xx64" => of_xx64,
        b"half_sip" => of_half_sip,
        _ => {
            return lookups(
                what,
                read(c"encoders.bin", section).map_err(|_| "encoders.bin cannot be read")?,
                keys,
            );
        }
    };
    println!("stack_parse {}", measure(empty as *const (), [0; 4]));
    println!("scratch 0");
    keys.lines().for_each(|key| report(hash as *const (), (&raw const key).addr(), 0));
    Ok(())
}

/// Calls `function` with addresses of its input, of its context and of its result.
fn report(function: *const (), input: usize, context: usize) {
    let mut result = 0_i32;
    let stack = measure(function, [input, context, (&raw mut result).addr(), 0]);
    println!("score {result} {stack}");
}

extern "C" fn of_fingerprint64(key: &&str, _: usize, result: &mut i32) {
    *result = fingerprint64(key.as_bytes()) as i32;
}

extern "C" fn of_murmur3(key: &&str, _: usize, result: &mut i32) {
    *result = murmur3_32(key.bytes(), 0) as i32;
}

extern "C" fn of_fnv1a_32(key: &&str, _: usize, result: &mut i32) {
    *result = fnv1a_32(key.as_bytes()) as i32;
}

extern "C" fn of_fnv1a_64(key: &&str, _: usize, result: &mut i32) {
    *result = fnv1a_64(key.as_bytes()) as i32;
}

extern "C" fn of_xx64(key: &&str, _: usize, result: &mut i32) {
    *result = xx64(key.as_bytes()) as i32;
}

extern "C" fn of_half_sip(key: &&str, _: usize, result: &mut i32) {
    *result = half_sip_1_3(key.as_bytes(), [0, 0])[0] as i32;
}

/// A parsed section.
type Parsed = Result<Encoders<'static, Q16>, EncodersError>;

extern "C" fn parse(section: &&'static [u8], parsed: &mut Option<Parsed>) {
    *parsed = Some(Encoders::parse(section, &Fields));
}

fn lookups(what: &[u8], section: &'static [u8], keys: &str) -> Result<(), &'static str> {
    let mut parsed: Option<Parsed> = None;
    let stack = measure(parse as *const (), [(&raw const section).addr(), (&raw mut parsed).addr(), 0, 0]);
    println!("stack_parse {stack}");
    println!("scratch 0");
    let encoders = parsed.ok_or("nothing was parsed")?.map_err(|_| "the section is refused")?;
    let Encoder::Vocabulary(table) = encoders.encoder(0).encoder else { return Err("no vocabulary") };
    let mut memory = SampleMemory::<Q16, 1, 0, 1>::new();
    let mut builder: Builder<'_> = SampleBuilder::new(encoders, &Fields, &mut memory);
    for key in keys.lines() {
        let input = (&raw const key).addr();
        match what {
            b"text" => report(text as *const (), input, (&raw const table).addr()),
            b"set" => report(set as *const (), input, (&raw mut builder).addr()),
            b"int" => {
                let number: i64 = key.parse().map_err(|_| "a key is no integer")?;
                report(int as *const (), (&raw const number).addr(), (&raw const table).addr());
            }
            _ => return Err("what.txt names nothing"),
        }
    }
    Ok(())
}

fn id(found: Option<u32>) -> i32 {
    found.map_or(-1, |id| id as i32)
}

extern "C" fn text(key: &&str, table: &Vocabulary<'_>, result: &mut i32) {
    *result = id(table.id_of_text(key));
}

extern "C" fn int(number: &i64, table: &Vocabulary<'_>, result: &mut i32) {
    *result = id(table.id_of_int(*number));
}

type Builder<'b> = SampleBuilder<'b, 'static, Q16, Fields>;

/// A sample of one field: an unseen key gives none.
extern "C" fn set(key: &&str, builder: &mut Builder<'_>, result: &mut i32) {
    builder.clear();
    let sample = builder.set(FieldIndex(0), *key).and_then(|()| builder.finish());
    *result = id(sample.ok().and_then(|sample| sample.ids().first().copied()));
}
