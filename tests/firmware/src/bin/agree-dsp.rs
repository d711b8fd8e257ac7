//! Scores drawn models and samples, and compares with a naive evaluation of the definition: pairs are enumerated, sums are 64
//! bits wide.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use embedded_nfm::{
    Activation, DenseInputs, Field, FieldKind, Fields, FixedLayer, FixedParts, Info, Link, Model, Q16,
    QuantTable, Rescale, Sample, Table, Weights, row_header,
};
use firmware as _;
use semihosting::{eprintln, println, process::exit};

const ROWS: usize = 16;
const WIDTH: usize = 128;
const OUT: usize = 24;
const CASES: u32 = 4000;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    eprintln!("{info}");
    exit(1)
}

/// Marsaglia's xorshift32.
struct Random(u32);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.bits() >> 8) % limit
    }

    /// Any byte, or an extreme.
    fn code(&mut self, extreme: bool) -> i8 {
        if extreme { [-128, 127][self.below(2) as usize] } else { self.bits().to_le_bytes()[1].cast_signed() }
    }
}

/// Everything a drawn model borrows.
struct Drawn {
    headers: [u16; ROWS],
    gains: [i64; ROWS],
    codes: [i8; ROWS * WIDTH],
    words: [u32; OUT * WIDTH / 4],
    bias: [i32; OUT],
    head: [i16; WIDTH + 1],
    ids: [u32; ROWS],
    scratch: [u32; 256],
}

static mut DRAWN: Drawn = Drawn {
    headers: [0; ROWS],
    gains: [0; ROWS],
    codes: [0; ROWS * WIDTH],
    words: [0; OUT * WIDTH / 4],
    bias: [0; OUT],
    head: [0; WIDTH + 1],
    ids: [0; ROWS],
    scratch: [0; 256],
};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: main runs once, and nothing else names the static.
    let drawn = unsafe { &mut *&raw mut DRAWN };
    let mut random = Random(0x9E37_79B9);
    let mut scored = [0_u32; 2];
    for case in 0..CASES {
        match agree(drawn, &mut random) {
            Ok(Some(layers)) => scored[layers] += 1,
            Ok(None) => {}
            Err(()) => {
                eprintln!("case {case} disagrees");
                exit(1)
            }
        }
    }
    println!("agree {} {}", scored[0], scored[1]);
    // Most draws must be legal, or this tests nothing.
    exit(i32::from(scored[0] < CASES / 8 || scored[1] < CASES / 4))
}

/// How many layers the model had; nothing where it was not legal.
fn agree(drawn: &mut Drawn, random: &mut Random) -> Result<Option<usize>, ()> {
    let lanes = 4 * (1 + random.below(WIDTH as u32 / 4) as usize);
    let inputs = lanes.next_multiple_of(8);
    let layers = usize::from(random.below(3) > 0);
    let out = 8 * (1 + random.below(OUT as u32 / 8) as usize);
    let max_multiplier = 1 + random.below(16) as u8;
    let active = random.below(ROWS as u32 + 1) as usize;
    let extreme = random.below(4) == 0;
    for (header, gain) in drawn.headers.iter_mut().zip(&mut drawn.gains) {
        let multiplier = if extreme { max_multiplier } else { 1 + random.below(max_multiplier.into()) as u8 };
        *header = row_header(0, multiplier);
        *gain = multiplier.into();
    }
    drawn.codes.iter_mut().for_each(|code| *code = random.code(extreme));
    let quiet = random.below(7); // fewer bits a code, for longer folds
    drawn.words.iter_mut().for_each(|word| {
        *word = u32::from_le_bytes([0; 4].map(|_: u8| (random.code(extreme) >> quiet).cast_unsigned()));
    });
    drawn.bias.iter_mut().for_each(|bias| *bias = random.bits().cast_signed() >> (8 + random.below(20)));
    drawn
        .head
        .iter_mut()
        .for_each(|head| *head = (random.bits() as u16).cast_signed() >> (4 + random.below(8)));
    drawn.ids.iter_mut().for_each(|id| *id = random.below(ROWS as u32));
    let draw_max = |random: &mut Random| match random.below(3) {
        0 => 2047,
        1 => 127,
        _ => 1 + random.below(if layers == 0 { 32767 } else { 4000 }) as u16,
    };
    let (max, shift) = (draw_max(random), random.below(22) as u8);
    let groups = inputs as u32 / 4;
    let fold = match random.below(3) {
        0 => groups as u16,
        1 => 1 + random.below(groups + 3) as u16,
        _ => (groups >> random.below(4)).max(1) as u16,
    };
    let activation = match random.below(6) {
        0 => Activation::Identity,
        1 => Activation::LeakyRelu { slope: 82 },
        _ => Activation::Relu,
    };
    let width = if layers == 0 { inputs } else { out };
    // It starts anywhere: a twin that loads words must see that it cannot.
    let first = random.below(2) as usize;
    let head = &drawn.head[first..][..width];
    let layer = FixedLayer {
        activation,
        shift: random.below(16) as u8,
        fraction: 0,
        max: draw_max(random),
        out: out as u16 - random.below(8) as u16,
        bias: &drawn.bias[..out],
        weights: Weights::Dsp { words: &drawn.words[..out * inputs / 4], fold },
        slopes: &[],
        multipliers: &[],
    };
    let fields = [Field { name: "f", kind: FieldKind::Id { first: 0, rows: ROWS as u32 } }];
    let identity = Rescale { multiplier: 1, shift: 0 };
    let parts = FixedParts {
        info: Info {
            name: "drawn",
            rows: ROWS as u32,
            dim: lanes as u16,
            max_active: active.max(1) as u16,
            fields: Fields::Listed(&fields),
            encoders: &[],
        },
        max_value: Q16::ONE,
        max_embedding: 128 * u16::from(max_multiplier),
        table: Table::I8(QuantTable { headers: &drawn.headers, codes: &drawn.codes[..ROWS * lanes] }),
        shift,
        max,
        dense_inputs: DenseInputs { words: &[] },
        layers: core::iter::repeat_n(layer, layers).collect(),
        head,
        head_scale: identity,
        linear_scale: identity,
        bias: Q16::from_bits(0),
        link: Link::Identity,
    };
    let Ok(model) = Model::new(parts) else { return Ok(None) };
    let ids = &drawn.ids[..active];
    let got = model.score(&Sample::new(ids), &mut drawn.scratch).map_err(|_| ())?;

    // By the definition.
    let mut z = [0_i64; WIDTH];
    for (lane, z) in z.iter_mut().enumerate().take(lanes) {
        let e = |id: u32| drawn.gains[id as usize] * i64::from(drawn.codes[id as usize * lanes + lane]);
        let mut sum = 0;
        for (i, a) in ids.iter().enumerate() {
            sum += ids[..i].iter().map(|b| e(*a) * e(*b)).sum::<i64>();
        }
        *z = ((sum + ((1 << shift) >> 1)) >> shift).clamp(-i64::from(max), max.into());
    }
    let mut h = z;
    if layers > 0 {
        h = [0; WIDTH];
        for o in 0..usize::from(layer.out) {
            let mut acc = i64::from(drawn.bias[o]);
            for first in (0..groups as usize).step_by(fold.into()) {
                let mut partial = 0;
                for g in first..(first + usize::from(fold)).min(groups as usize) {
                    let word = drawn.words[o / 4 * inputs + g * 4 + o % 4];
                    let halves = |w: u32| [w as u16, (w >> 16) as u16].map(|w| i64::from(w.cast_signed()));
                    let ([a, b], [c, d]) = (halves(word), halves(word << 8));
                    partial += a * z[g * 4] + b * z[g * 4 + 1] + c * z[g * 4 + 2] + d * z[g * 4 + 3];
                }
                acc += partial >> 8;
            }
            let max = i64::from(layer.max);
            let y = (acc >> layer.shift).clamp(-max, max);
            h[o] = match activation {
                Activation::Identity => y,
                Activation::LeakyRelu { slope } if y < 0 => (y * i64::from(slope) + (1 << 12)) >> 13,
                _ => y.max(0),
            };
        }
    }
    let want: i64 = h[..width].iter().zip(head).map(|(h, head)| h * i64::from(*head)).sum();
    if i64::from(got.to_bits()) == want {
        return Ok(Some(layers));
    }
    eprintln!(
        "lanes {lanes} layers {layers} out {out} active {active} multiplier {max_multiplier} shift {shift} max {max}"
    );
    eprintln!(
        "fold {fold} layer shift {} max {} out {}: {} for {want}",
        layer.shift,
        layer.max,
        layer.out,
        got.to_bits()
    );
    Err(())
}
