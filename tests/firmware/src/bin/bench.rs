//! Parses `model.nfm`, scores the rows of `rows.bin`, and prints the scores' bits and the stack that both took.
//!
//! The plugin counts the instructions of every call, in this order: a function that does nothing, one of three nops, the
//! parse, the score of each row.
#![no_std]
#![no_main]

#[cfg(target_abi = "eabihf")]
use embedded_nfm::F32Model;
use embedded_nfm::{Arithmetic, Model, ParseError, Q16, Sample, ScoreError};
use firmware::measure::{Buffer, calibrate, measure, read};
use semihosting::println;

/// The most entries, and the most dense inputs, of a row.
const MAX_ENTRIES: usize = 64;
/// Bytes of scratch.
const SCRATCH: usize = 16 << 10;

static mut BLOB: Buffer<{ 3 << 20 }> = Buffer([0; 3 << 20]);
static mut ROWS: Buffer<{ 64 << 10 }> = Buffer([0; 64 << 10]);
static mut SCRATCH_WORDS: Buffer<SCRATCH> = Buffer([0; SCRATCH]);

firmware::program!(run);

fn run() -> Result<(), &'static str> {
    // SAFETY: main runs once, and nothing else names these statics.
    let (blob, rows) = unsafe { (&mut *&raw mut BLOB.0, &mut *&raw mut ROWS.0) };
    let blob = read(c"model.nfm", blob).map_err(|_| "model.nfm cannot be read")?;
    let rows = read(c"rows.bin", rows).map_err(|_| "rows.bin cannot be read")?;
    let (words, _) = rows.as_chunks::<4>();
    calibrate();
    match Arithmetic::of(blob) {
        Some(Arithmetic::Fixed) => bench::<Model<'_>>(blob, words),
        #[cfg(target_abi = "eabihf")]
        Some(Arithmetic::F32) => bench::<F32Model<'_>>(blob, words),
        _ => Err("this image cannot score that model"),
    }
}

fn bench<M: Path>(blob: &'static [u8], mut words: &[[u8; 4]]) -> Result<(), &'static str> {
    let mut model: Option<M> = None;
    let stack = measure(parse::<M> as *const (), [(&raw const blob).addr(), (&raw mut model).addr(), 0, 0]);
    let model = model.ok_or("the model is refused")?;
    let needed = model.scratch_len();
    // SAFETY: main runs once, nothing else names this static, and every bit pattern is a scratch.
    let (_, scratch, _) = unsafe { (*&raw mut SCRATCH_WORDS.0).align_to_mut::<M::Scratch>() };
    let mut scratch = scratch.get_mut(..needed).ok_or("the scratch is too short")?;
    println!("stack_parse {stack}");
    println!("scratch {}", size_of_val(scratch));
    let mut row = Row::<M>::new();
    while !words.is_empty() {
        words = row.read(words).ok_or("rows.bin is broken")?;
        let sample = row.sample();
        let mut score = Err(ScoreError::ValueOutOfRange { position: 0 });
        let arguments = [
            (&raw const model).addr(),
            (&raw const sample).addr(),
            (&raw mut scratch).addr(),
            (&raw mut score).addr(),
        ];
        let stack = measure(self::score::<M> as *const (), arguments);
        println!("score {} {stack}", M::bits(score.map_err(|_| "a row is refused")?));
    }
    Ok(())
}

/// An arithmetic path.
trait Path: Sized + 'static {
    type Number: Copy + 'static;
    type Scratch: 'static;
    fn parse_into(blob: &'static [u8], place: &mut Option<Self>) -> Result<(), ParseError>;
    fn score(
        &self,
        sample: &Sample<'_, Self::Number>,
        scratch: &mut [Self::Scratch],
    ) -> Result<Self::Number, ScoreError>;
    fn scratch_len(&self) -> usize;
    fn number(bits: i32) -> Self::Number;
    fn bits(number: Self::Number) -> i32;
}

impl Path for Model<'static> {
    type Number = Q16;
    type Scratch = u32;
    fn parse_into(blob: &'static [u8], place: &mut Option<Self>) -> Result<(), ParseError> {
        Model::parse_into(blob, place)
    }
    fn score(&self, sample: &Sample<'_, Q16>, scratch: &mut [u32]) -> Result<Q16, ScoreError> {
        self.score(sample, scratch)
    }
    fn scratch_len(&self) -> usize {
        self.scratch_len()
    }
    fn number(bits: i32) -> Q16 {
        Q16::from_bits(bits)
    }
    fn bits(number: Q16) -> i32 {
        number.to_bits()
    }
}

#[cfg(target_abi = "eabihf")]
impl Path for F32Model<'static> {
    type Number = f32;
    type Scratch = f32;
    fn parse_into(blob: &'static [u8], place: &mut Option<Self>) -> Result<(), ParseError> {
        *place = Some(F32Model::parse(blob)?);
        Ok(())
    }
    fn score(&self, sample: &Sample<'_, f32>, scratch: &mut [f32]) -> Result<f32, ScoreError> {
        self.score(sample, scratch)
    }
    fn scratch_len(&self) -> usize {
        self.scratch_len()
    }
    fn number(bits: i32) -> f32 {
        f32::from_bits(bits.cast_unsigned())
    }
    fn bits(number: f32) -> i32 {
        number.to_bits().cast_signed()
    }
}

extern "C" fn parse<M: Path>(blob: &&'static [u8], model: &mut Option<M>) {
    let _ = M::parse_into(blob, model);
}

extern "C" fn score<M: Path>(
    model: &M,
    sample: &Sample<'_, M::Number>,
    scratch: &mut &mut [M::Scratch],
    score: &mut Result<M::Number, ScoreError>,
) {
    *score = model.score(sample, scratch);
}

/// A row as `rows.bin` holds it: how many ids, values and dense inputs; then these.
struct Row<M: Path> {
    ids: [u32; MAX_ENTRIES],
    values: [M::Number; MAX_ENTRIES],
    dense: [M::Number; MAX_ENTRIES],
    lens: [usize; 3],
}

impl<M: Path> Row<M> {
    fn new() -> Self {
        let numbers = [M::number(0); MAX_ENTRIES];
        Self { ids: [0; MAX_ENTRIES], values: numbers, dense: numbers, lens: [0; 3] }
    }

    /// Takes a row from `words`, and gives the rest.
    fn read<'w>(&mut self, words: &'w [[u8; 4]]) -> Option<&'w [[u8; 4]]> {
        let (lens, rest) = words.split_first_chunk::<3>()?;
        self.lens = lens.map(|len| u32::from_le_bytes(len) as usize);
        let rest = fill(self.ids.get_mut(..self.lens[0])?, rest, i32::cast_unsigned)?;
        let rest = fill(self.values.get_mut(..self.lens[1])?, rest, M::number)?;
        fill(self.dense.get_mut(..self.lens[2])?, rest, M::number)
    }

    fn sample(&self) -> Sample<'_, M::Number> {
        let [ids, values, dense] = self.lens;
        let sample = Sample::new(&self.ids[..ids]).with_dense(&self.dense[..dense]);
        if values > 0 { sample.with_values(&self.values[..values]) } else { sample }
    }
}

/// Fills `to` from the first `words`, and gives the rest.
fn fill<'w, T>(to: &mut [T], words: &'w [[u8; 4]], read: fn(i32) -> T) -> Option<&'w [[u8; 4]]> {
    let (words, rest) = words.split_at_checked(to.len())?;
    to.iter_mut().zip(words).for_each(|(to, word)| *to = read(i32::from_le_bytes(*word)));
    Some(rest)
}
