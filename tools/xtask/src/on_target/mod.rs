//! `cargo xtask on-target`: the library on emulated microcontrollers. The same bits as on the host, no panic and no float in the
//! image, and what a score costs in instructions, stack and flash, held to `tests/budgets.toml`.

mod budget;
mod cases;
mod encode;
mod firmware;
mod image;
mod raw;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use serde::Serialize;

use self::{
    budget::{Budgets, Cost, Costs},
    cases::Case,
    firmware::{Build, CORES, Core, Emulator, LEVELS},
    image::{Image, Size},
};
use crate::{
    process::{Result, root},
    readme,
    toolchain::compiler_for_all,
};

#[derive(Debug, Default, Args)]
pub(crate) struct OnTarget {
    /// Only the cores whose name contains this, in any case
    #[arg(long, value_name = "NAME", default_value = "")]
    core: String,
    /// Commits the host's scores in tests/golden/on-target
    #[arg(long)]
    write_golden: bool,
    /// Commits what is measured in tests/budgets.toml
    #[arg(long, conflicts_with = "core")]
    write_budgets: bool,
    /// Writes the table into the README
    #[arg(long, conflicts_with = "core")]
    readme: bool,
    /// Measures the portable kernels instead, and holds them to a multiple of what those in assembly may cost
    #[arg(long, conflicts_with_all = ["write_budgets", "readme"])]
    portable: bool,
}

/// The most instructions of a score with 8-bit rows, by core and model: what the library promises, at any level.
const PROMISES: [(&str, [(&str, u64); 3]); 5] = [
    ("Cortex-M0", [("A", 20_000), ("B", 5_800), ("C", 48_000)]),
    ("Cortex-M3", [("A", 13_000), ("B", 3_800), ("C", 31_000)]),
    ("Cortex-M4F", [("A", 7_000), ("B", 2_200), ("C", 16_000)]),
    ("Cortex-M33", [("A", 7_000), ("B", 2_200), ("C", 16_000)]),
    ("RV32IMAC", [("A", 18_000), ("B", 5_000), ("C", 44_000)]),
];

/// How many times as many instructions the portable kernels may take.
const PORTABLE_FACTOR: f64 = 2.3;

/// The most bytes of flash of parse and score, and of score alone, of a lean build for a Cortex-M.
const LEAN_FLASH: (u64, u64) = (8192, 3072);

/// A line of the report.
#[derive(Debug, Serialize)]
struct Line {
    core: &'static str,
    model: &'static str,
    precision: &'static str,
    opt_level: &'static str,
    #[serde(flatten)]
    cost: Cost,
    /// Fewest and most instructions of a score, where the rows differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions_score_range: Option<(u64, u64)>,
}

/// What is wrong, and where.
#[derive(Debug, Default)]
struct Failures(Vec<(String, Vec<String>)>);

impl Failures {
    /// The same problem in several places is told once.
    fn add(&mut self, place: &str, problems: impl IntoIterator<Item = String>) {
        for problem in problems {
            match self.0.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, places)) => places.push(place.to_owned()),
                None => self.0.push((problem, vec![place.to_owned()])),
            }
        }
    }

    fn finish(self) -> Result<()> {
        let text = |(problem, places): &(String, Vec<String>)| format!("{}: {problem}", places.join(", "));
        let problems: Vec<String> = self.0.iter().map(text).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

/// Everything on every core, nothing committed.
pub(crate) fn check() -> Result<()> {
    OnTarget::default().run()
}

/// The same of the portable kernels.
pub(crate) fn check_portable() -> Result<()> {
    OnTarget { portable: true, ..OnTarget::default() }.run()
}

impl OnTarget {
    pub(crate) fn run(&self) -> Result<()> {
        let start = Instant::now();
        let cores = self.cores()?;
        let targets: Vec<&str> = cores.iter().map(|core| core.target).collect();
        let folder = create(root().join("target/on-target"))?;

        let emulator = step("emulator", || Emulator::new(&folder))?;
        let cases = step("models, and the host's scores", || self.cases())?;
        if self.portable {
            return portable(&cores, &cases, &emulator, &folder);
        }
        let encoders = step("vocabularies, and the host's ids", encode::cases)?;
        for level in LEVELS {
            for build in [Build::Whole, Build::Lean] {
                let name = format!("firmware, {build:?}, opt-level {level}");
                step(&name, || firmware::build(&cores, build, level, &folder))?;
            }
        }
        step("the checks see a panic and a float", || checks_refuse(&CORES[0]))?;

        let mut failures = Failures::default();
        let mut lines = step("runs", || measure(&cores, &cases, &emulator, &folder, &mut failures))?;
        lines.extend(step("lookups", || encode(&cores, &encoders, &emulator, &folder, &mut failures))?);
        lines.extend(step("raw flights", || raw::measure(&cores, &emulator, &folder, &mut failures))?);
        keep_promises(&lines, &mut failures);
        print_table(&lines);
        let json = serde_json::to_string_pretty(&lines).map_err(|e| e.to_string())?;
        write(&root().join("target/on-target.json"), &json)?;

        let measured = Budgets::new(compiler_for_all(&targets)?, costs(&lines));
        failures.add("tests/budgets.toml", self.compare(&measured)?);
        println!("── {:.0} s", start.elapsed().as_secs_f64());
        failures.finish()?;
        if self.readme {
            readme::update("on-target", &summary(&lines))?;
            readme::update("encode", &encode_summary(&lines))?;
            readme::update("raw", &raw::summary(&lines))?;
        }
        Ok(())
    }

    fn cores(&self) -> Result<Vec<&'static Core>> {
        let chosen = |core: &&Core| core.name.to_lowercase().contains(&self.core.to_lowercase());
        let cores: Vec<&Core> = CORES.iter().filter(chosen).collect();
        if cores.is_empty() {
            let names: Vec<&str> = CORES.iter().map(|core| core.name).collect();
            return Err(format!("no core is called {:?}; there are {}", self.core, names.join(", ")));
        }
        Ok(cores)
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let cases = cases::cases()?;
        create(root().join("tests/golden/on-target"))?;
        cases.iter().try_for_each(|case| case.check_golden(self.write_golden))?;
        Ok(cases)
    }

    /// What breaks the budgets; none when they are written.
    fn compare(&self, measured: &Budgets) -> Result<Vec<String>> {
        let path = root().join("tests/budgets.toml");
        if self.write_budgets {
            write(&path, &measured.write())?;
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).map_err(|e| format!("tests/budgets.toml: {e}"))?;
        let budgets = Budgets::read(&text)?;
        if let Some(reason) = budgets.of_another_compiler(measured) {
            println!("{reason}");
            return Ok(Vec::new());
        }
        Ok(budgets.failures(measured))
    }
}

/// Does something that takes a while, and says so.
fn step<T>(name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    println!("── {name}");
    let result = action()?;
    println!("   {:.0} s", start.elapsed().as_secs_f64());
    Ok(result)
}

/// Creates a folder, and gives its full path.
fn create(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|e| format!("{}: {e}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// A check that never fails shows nothing: each must refuse an image with the defect that it is there for.
///
/// `core` has no FPU: with one, floats need no helper that the check could see.
fn checks_refuse(core: &Core) -> Result<()> {
    let image = |defect| Image::read(&firmware::build_broken(core, defect)?);
    let passed =
        |defect| format!("an image with the defect {defect} passed the check that is there to refuse it");
    if image("broken-panic")?.check_panics().is_ok() {
        return Err(passed("broken-panic"));
    }
    if image("broken-float")?.check_floats().is_ok() {
        return Err(passed("broken-float"));
    }
    Ok(())
}

/// Checks all images and runs all cases; what does not agree goes to `failures`.
fn measure(
    cores: &[&'static Core],
    cases: &[Case],
    emulator: &Emulator,
    folder: &Path,
    failures: &mut Failures,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for core in cores {
        for level in LEVELS {
            let scored = |case: &&Case| core.has_fpu || !case.is_f32();
            let scored: Vec<&Case> = cases.iter().filter(scored).collect();
            let runner = Runner { core, level, emulator, folder };
            lines.extend(runner.run(Build::Whole, &scored, failures)?);
            let lean: Vec<&Case> =
                scored.into_iter().filter(|case| case.is_lean() && case.is_measured(core.layout)).collect();
            lines.extend(runner.run(Build::Lean, &lean, failures)?);
        }
    }
    Ok(lines)
}

/// One core at one optimization level.
struct Runner<'a> {
    core: &'static Core,
    level: &'static str,
    emulator: &'a Emulator,
    folder: &'a Path,
}

impl Runner<'_> {
    /// Checks the images of a build and runs cases; gives a line for each that is measured.
    fn run(&self, build: Build, cases: &[&Case], failures: &mut Failures) -> Result<Vec<Line>> {
        let Self { core, level, .. } = *self;
        self.agree(build, failures);
        let sizes = self.sizes(build, failures)?;
        let mut lines = Vec::new();
        for case in cases {
            let run = self.score(build, case, failures)?;
            if case.is_measured(core.layout) {
                let names = (case.model, if build == Build::Lean { LEAN } else { case.precision });
                lines.push(line(core, names, level, &run, sizes[usize::from(case.is_f32())]));
            }
        }
        Ok(lines)
    }

    /// Runs the programs that compare drawn models with their definition.
    fn agree(&self, build: Build, failures: &mut Failures) {
        let Self { core, level, folder, .. } = *self;
        for program in build.agreeing(core.layout) {
            let result = Emulator::agree(core, &firmware::image(folder, core, build, level, program));
            failures.add(&format!("{} {program} {build:?} O{level}", core.name), result.err());
        }
    }

    /// Runs a case, and compares its scores with the host's.
    fn score(&self, build: Build, case: &Case, failures: &mut Failures) -> Result<firmware::Run> {
        let Self { core, level, emulator, folder } = *self;
        let bench = firmware::image(folder, core, build, level, "bench");
        let context = self.context(build, case);
        let run = emulator.run(core, &bench, &case.write(folder)?).map_err(|e| format!("{context}: {e}"))?;
        failures.add(&context, case.agree(&run.scores).err());
        Ok(run)
    }

    fn context(&self, build: Build, case: &Case) -> String {
        format!("{} {} {build:?} O{}", self.core.name, case.name(), self.level)
    }

    /// Runs a case on the portable kernels, and prints and judges what a score takes where one is promised.
    fn run_portable(&self, case: &Case, failures: &mut Failures) -> Result<()> {
        let Self { core, level, .. } = *self;
        let run = self.score(Build::Portable, case, failures)?;
        let measured = case.is_lean() && case.is_measured(core.layout);
        if let Some(promise) = promise(core.name, case.model).filter(|_| measured) {
            let (score, model) = (run.mean(), case.model);
            let times = as_f64(score) / as_f64(promise);
            println!("{:11}{model:3}{level:3}{score:>9} instr/score, {times:.2} × {promise}", core.name);
            let failure = format!("takes {times:.2} times {promise}, more than {PORTABLE_FACTOR}");
            let context = self.context(Build::Portable, case);
            failures.add(&context, (times > PORTABLE_FACTOR).then_some(failure));
        }
        Ok(())
    }

    /// What the fixed and the f32 path weigh; what an image must not hold goes to `failures`.
    fn sizes(&self, build: Build, failures: &mut Failures) -> Result<[Sizes; 2]> {
        let Self { core, level, folder, .. } = *self;
        let image = |name: &str| Image::read(&firmware::image(folder, core, build, level, name));
        let context = format!("{} {build:?} O{level}", core.name);
        let empty = image("size-empty")?.size;
        let fixed = image("size-fixed")?;
        failures.add(&context, fixed.check_panics().err());
        failures.add(&context, if core.has_fpu { None } else { fixed.check_floats().err() });
        let fixed = (fixed.size.beyond(empty), image("size-fixed-score")?.size.beyond(empty));
        if !core.has_fpu || build != Build::Whole {
            return Ok([fixed, Sizes::default()]);
        }
        let f32 = image("size-f32")?;
        failures.add(&format!("{context} f32"), f32.check_panics().err());
        Ok([fixed, (f32.size.beyond(empty), image("size-f32-score")?.size.beyond(empty))])
    }
}

/// What the report calls 8-bit rows in a build with what any model needs alone.
const LEAN: &str = "lean";

/// Runs the portable kernels, and prints and judges what a score with 8-bit rows takes.
fn portable(cores: &[&'static Core], cases: &[Case], emulator: &Emulator, folder: &Path) -> Result<()> {
    let build = Build::Portable;
    step("firmware with portable kernels", || {
        LEVELS.iter().try_for_each(|level| firmware::build(cores, build, level, folder))
    })?;
    let mut failures = Failures::default();
    for core in cores {
        for level in LEVELS {
            let runner = Runner { core, level, emulator, folder };
            runner.agree(build, &mut failures);
            for case in cases.iter().filter(|case| !case.is_f32()) {
                runner.run_portable(case, &mut failures)?;
            }
        }
    }
    failures.finish()
}

#[expect(clippy::cast_precision_loss, reason = "counts of instructions, far below 2⁵²")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// What a score with 8-bit rows may take.
fn promise(core: &str, model: &str) -> Option<u64> {
    let (_, models) = PROMISES.iter().find(|(name, _)| *name == core)?;
    models.iter().find(|(name, _)| *name == model).map(|(_, most)| *most)
}

/// What is promised beyond the budgets: instructions with 8-bit rows in either build, and the flash of the lean one.
fn keep_promises(lines: &[Line], failures: &mut Failures) {
    for Line { core, model, precision, opt_level, cost, .. } in lines {
        let place = format!("{core} {model} {precision} O{opt_level}");
        let most = promise(core, model).filter(|_| ["int8", LEAN].contains(precision));
        let score = cost.instructions_score;
        let above = most.filter(|most| score > *most);
        failures
            .add(&place, above.map(|most| format!("a score takes {score} instructions, more than {most}")));
        let (flash, flash_score) = (cost.flash_bytes, cost.flash_bytes_score);
        let heavy = flash > LEAN_FLASH.0 || flash_score > LEAN_FLASH.1;
        if *precision == LEAN && core.starts_with("Cortex-M") && heavy {
            failures.add(&place, [format!("flash is {flash} and {flash_score}, more than {LEAN_FLASH:?}")]);
        }
    }
}

/// Runs all encoders; `instructions_score` is a lookup's or a hash's, and flash that of all encoders and the sample builder.
fn encode(
    cores: &[&'static Core],
    cases: &[encode::Case],
    emulator: &Emulator,
    folder: &Path,
    failures: &mut Failures,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for core in cores {
        for level in LEVELS {
            let image = |name: &str| Image::read(&firmware::image(folder, core, Build::Whole, level, name));
            let all = image("size-encode")?;
            let context = format!("{} encode O{level}", core.name);
            failures.add(&context, all.check_panics().err());
            failures.add(&context, if core.has_fpu { None } else { all.check_floats().err() });
            let size = all.size.beyond(image("size-empty")?.size);
            for case in cases {
                let context = format!("{} {} O{level}", core.name, case.name());
                let program = firmware::image(folder, core, Build::Whole, level, "encode");
                let run = emulator.run(core, &program, &case.write(folder)?);
                let run = run.map_err(|e| format!("{context}: {e}"))?;
                let most = run.instructions.iter().copied().max().unwrap_or(0);
                failures.add(&context, case.agree(&run.scores).err());
                failures.add(&context, case.check_speed(core.name, most).err());
                lines.push(line(core, (case.model, case.what), level, &run, (size, Size::default())));
            }
        }
    }
    Ok(lines)
}

/// Bytes of parse and score together, and of score alone.
type Sizes = (Size, Size);

fn line(
    core: &'static Core,
    (model, precision): (&'static str, &'static str),
    level: &'static str,
    run: &firmware::Run,
    (both, score): Sizes,
) -> Line {
    let cost = Cost {
        instructions_score: run.mean(),
        instructions_parse: run.instructions_parse,
        stack_bytes: run.stack,
        stack_bytes_parse: run.stack_parse,
        scratch_bytes: run.scratch,
        static_ram_bytes: both.ram,
        flash_bytes: both.flash,
        flash_bytes_score: score.flash,
    };
    Line { core: core.name, model, precision, opt_level: level, cost, instructions_score_range: run.range() }
}

fn costs(lines: &[Line]) -> Costs {
    let mut costs = Costs::new();
    for line in lines {
        let key = format!("{}-{}-O{}", line.model, line.precision, line.opt_level);
        let core: &mut BTreeMap<_, _> = costs.entry(line.core.to_owned()).or_default();
        core.insert(key, line.cost);
    }
    costs
}

/// The README's table: instructions of a score by core, precision and model, and what a score of A takes beside them.
fn summary(lines: &[Line]) -> String {
    const MODELS: [&str; 4] = ["demo", "A", "B", "C"];
    let mut text = format!("{:11}{:7}{:4}", "", "", "opt");
    MODELS.iter().for_each(|model| text.push_str(&format!("{model:>9}")));
    text.push_str(&format!("{:>9}{:>9}{:>9}\n", "RAM (A)", "flash", "score"));
    for Line { core, precision, opt_level, cost, .. } in lines.iter().filter(|line| line.model == "A") {
        text.push_str(&format!("{core:11}{precision:7}{opt_level:4}"));
        for model in MODELS {
            let same = |line: &&Line| {
                (line.core, line.precision, line.opt_level, line.model)
                    == (*core, *precision, *opt_level, model)
            };
            let score = lines.iter().find(same).map(|line| line.cost.instructions_score.to_string());
            text.push_str(&format!("{:>9}", score.as_deref().unwrap_or("-")));
        }
        let ram = cost.stack_bytes + cost.scratch_bytes;
        text.push_str(&format!("{ram:>9}{:>9}{:>9}\n", cost.flash_bytes, cost.flash_bytes_score));
    }
    text
}

/// The README's table of encoders: instructions of a lookup or a hash by core, and what they take beside them.
fn encode_summary(lines: &[Line]) -> String {
    let encoders = |line: &&Line| ["vocabulary-10000", "hash"].contains(&line.model);
    let whats: Vec<&str> =
        lines.iter().filter(encoders).map(|line| line.precision).take(encode::COUNT).collect();
    let mut text = format!("{:11}{:4}", "", "opt");
    whats.iter().for_each(|what| text.push_str(&format!("{what:>14}")));
    text.push_str(&format!("{:>9}\n", "flash"));
    let lines: Vec<&Line> = lines.iter().filter(encoders).collect();
    for lines in lines.chunks(encode::COUNT) {
        text.push_str(&format!("{:11}{:4}", lines[0].core, lines[0].opt_level));
        lines.iter().for_each(|line| text.push_str(&format!("{:>14}", line.cost.instructions_score)));
        text.push_str(&format!("{:>9}\n", lines[0].cost.flash_bytes));
    }
    text
}

fn print_table(lines: &[Line]) {
    println!(
        "{:11}{:17}{:14}{:4}{:>12}{:>12}{:>7}{:>7}{:>9}{:>7}{:>8}{:>8}",
        "", "", "", "opt", "instr/score", "instr/parse", "stack", "parse", "scratch", "RAM", "flash", "score"
    );
    for Line { core, model, precision, opt_level, cost, instructions_score_range: range } in lines {
        println!(
            "{core:11}{model:17}{precision:14}{opt_level:4}{:>12}{:>12}{:>7}{:>7}{:>9}{:>7}{:>8}{:>8}{}",
            cost.instructions_score,
            cost.instructions_parse,
            cost.stack_bytes,
            cost.stack_bytes_parse,
            cost.scratch_bytes,
            cost.static_ram_bytes,
            cost.flash_bytes,
            cost.flash_bytes_score,
            range.map(|(min, max)| format!("  {min}–{max} instr/score")).unwrap_or_default(),
        );
    }
}
