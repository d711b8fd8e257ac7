//! Encodes the flights of `flights.csv`, and scores them as `what.txt` says, with a model and the Rust module that `nfm convert
//! --emit-rust` wrote for it: prints the results, and the stack that each took.
//!
//! `what.txt` says `set`, whose result is a digest of the sample, or `score`. The plugin counts the regions that it counts of `bench`.
#![no_std]
#![no_main]

use embedded_nfm::{Q16, Sample};
use firmware::measure::{Buffer, calibrate, measure, read};
use flights::{Builder, Memory, Model, Number, SCRATCH_LEN, field};
use semihosting::println;

mod flights {
    include!(env!("NFM_MODULE"));
}

/// Fields that are texts, and fields that are integers.
const TEXTS: usize = 5;
const NUMBERS: usize = 8;

static mut FLIGHTS: Buffer<{ 64 << 10 }> = Buffer([0; 64 << 10]);
static mut WHAT: Buffer<64> = Buffer([0; 64]);

firmware::program!(run);

/// Numbers of an arithmetic path, and the elements of its scratch.
trait Path {
    type Scratch: Copy + Default;
}

impl Path for Q16 {
    type Scratch = u32;
}

impl Path for f32 {
    type Scratch = f32;
}

type Scratch = <Number as Path>::Scratch;

/// What scores flights.
struct Device<'m> {
    model: &'m Model,
    builder: Builder<'m>,
    scratch: [Scratch; SCRATCH_LEN],
}

fn run() -> Result<(), &'static str> {
    // SAFETY: main runs once, and nothing else names these statics.
    let (flights, what) = unsafe { (&mut *&raw mut FLIGHTS.0, &mut *&raw mut WHAT.0) };
    let flights = read(c"flights.csv", flights).map_err(|_| "flights.csv cannot be read")?;
    let flights = str::from_utf8(flights).map_err(|_| "flights.csv is no text")?;
    let what = read(c"what.txt", what).map_err(|_| "what.txt cannot be read")?;
    calibrate();
    let (mut model, mut memory, mut builder) = (None, Memory::new(), None);
    let arguments = [(&raw mut model).addr(), (&raw mut memory).addr(), (&raw mut builder).addr(), 0];
    println!("stack_parse {}", measure(parse as *const (), arguments));
    println!("scratch {}", size_of::<[Scratch; SCRATCH_LEN]>());
    let mut device = Device {
        model: model.as_ref().ok_or("the model is refused")?,
        builder: builder.ok_or("the encoders are refused")?,
        scratch: [Default::default(); SCRATCH_LEN],
    };
    for line in flights.lines() {
        let flight = Flight::of_line(line).ok_or("a line is no flight")?;
        let (set, score) = (set as *const (), score as *const ());
        match what {
            b"set" => report(set, &flight, &mut device, |device, _| digest(&device.builder.sample()))?,
            b"score" => report(score, &flight, &mut device, |_, score| score)?,
            _ => return Err("what.txt names nothing"),
        }
    }
    Ok(())
}

/// Calls `function` as a region, and prints what `result` makes of the device then and of what the function gave.
fn report<'m>(
    function: *const (),
    flight: &Flight<'m>,
    device: &mut Device<'m>,
    result: fn(&Device<'m>, i32) -> i32,
) -> Result<(), &'static str> {
    let mut given: Option<i32> = None;
    let (flight, context) = (flight as *const Flight<'m>, device as *mut Device<'m>);
    let stack = measure(function, [flight.addr(), context.addr(), (&raw mut given).addr(), 0]);
    println!("score {} {stack}", result(device, given.ok_or("a flight is refused")?));
    Ok(())
}

extern "C" fn parse<'m>(
    model: &'m mut Option<Model>,
    memory: &'m mut Memory,
    builder: &mut Option<Builder<'m>>,
) {
    *model = flights::model().ok();
    *builder = model.as_ref().and_then(|model| flights::builder(model, memory).ok());
}

extern "C" fn set(flight: &Flight<'_>, device: &mut Device<'_>, given: &mut Option<i32>) {
    *given = flight.set(&mut device.builder).and_then(|()| device.builder.finish().ok()).map(|_| 0);
}

extern "C" fn score(flight: &Flight<'_>, device: &mut Device<'_>, given: &mut Option<i32>) {
    let sample = flight.set(&mut device.builder).and_then(|()| device.builder.finish().ok());
    let score = sample.and_then(|sample| device.model.score(&sample, &mut device.scratch).ok());
    *given = score.map(|score| score.to_bits() as i32);
}

/// A flight as an airline has it.
struct Flight<'f> {
    texts: [&'f str; TEXTS],
    numbers: [i32; NUMBERS],
}

impl<'f> Flight<'f> {
    fn of_line(line: &'f str) -> Option<Self> {
        let mut flight = Self { texts: [""; TEXTS], numbers: [0; NUMBERS] };
        let mut cells = line.split(',');
        for text in &mut flight.texts {
            *text = cells.next()?;
        }
        for number in &mut flight.numbers {
            *number = cells.next()?.parse().ok()?;
        }
        cells.next().is_none().then_some(flight)
    }

    /// Gives every field its value.
    fn set(&self, sample: &mut Builder<'_>) -> Option<()> {
        let [carrier, origin, dest, tailnum, flight] = self.texts;
        let [departure_hour, arrival_hour, month, day_of_month, day_of_week, distance, minutes, minute] =
            self.numbers;
        sample.clear();
        sample.set(field::CARRIER, carrier).ok()?;
        sample.set(field::ORIGIN, origin).ok()?;
        sample.set(field::DEST, dest).ok()?;
        sample.set(field::TAILNUM, tailnum).ok()?;
        sample.set(field::FLIGHT, flight).ok()?;
        sample.set(field::DEPARTURE_HOUR, departure_hour).ok()?;
        sample.set(field::ARRIVAL_HOUR, arrival_hour).ok()?;
        sample.set(field::MONTH, month).ok()?;
        sample.set(field::DAY_OF_MONTH, day_of_month).ok()?;
        sample.set(field::DAY_OF_WEEK, day_of_week).ok()?;
        sample.set(field::DISTANCE, distance).ok()?;
        sample.set(field::SCHEDULED_MINUTES, minutes).ok()?;
        sample.set(field::DEPARTURE_MINUTE, minute).ok()
    }
}

/// A hash of the ids and of the dense inputs' bits.
fn digest(sample: &Sample<'_, Number>) -> i32 {
    let dense = sample.dense().iter().map(|number| number.to_bits() as u32);
    let words = sample.ids().iter().copied().chain(dense);
    words.fold(0_u32, |digest, word| (digest ^ word).wrapping_mul(0x0100_0193)) as i32
}
