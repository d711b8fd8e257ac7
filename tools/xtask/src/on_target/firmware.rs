//! The cores, the programs built for them, and running these under QEMU.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nfm::quantize::Layout;

use crate::{
    process::{Result, output, program, root},
    toolchain::{cargo_for_all, install},
};

/// A core, and the emulated board that carries it.
pub(crate) struct Core {
    /// Name in the report.
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    qemu: &'static [&'static str],
    /// Whether it has an FPU, and so runs the f32 path too.
    pub(crate) has_fpu: bool,
    /// How a user packs layers for it.
    pub(crate) layout: Layout,
}

/// The cores that are measured. Armv6-M runs on the M3's board, of whose instructions it has a subset: the counts are the
/// same, and the M0's own board has no room for the models. RV32IMC differs from RV32IMAC by atomics, which nothing uses.
pub(crate) const CORES: [Core; 5] = [
    Core {
        name: "Cortex-M0",
        target: "thumbv6m-none-eabi",
        qemu: &["qemu-system-arm", "-M", "mps2-an385"],
        has_fpu: false,
        layout: Layout::Scalar,
    },
    Core {
        name: "Cortex-M3",
        target: "thumbv7m-none-eabi",
        qemu: &["qemu-system-arm", "-M", "mps2-an385"],
        has_fpu: false,
        layout: Layout::Scalar,
    },
    Core {
        name: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        qemu: &["qemu-system-arm", "-M", "mps2-an386"],
        has_fpu: true,
        layout: Layout::Dsp,
    },
    Core {
        name: "Cortex-M33",
        target: "thumbv8m.main-none-eabihf",
        qemu: &["qemu-system-arm", "-M", "mps2-an505"],
        has_fpu: true,
        layout: Layout::Dsp,
    },
    Core {
        name: "RV32IMAC",
        target: "riscv32imac-unknown-none-elf",
        qemu: &["qemu-system-riscv32", "-M", "virt", "-bios", "none"],
        has_fpu: false,
        layout: Layout::Scalar,
    },
];

/// Optimization levels, as `opt-level` has them.
pub(crate) const LEVELS: [&str; 2] = ["3", "s"];

/// How the library is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// With every feature.
    Whole,
    /// With none: what any model needs.
    Lean,
    /// With every feature, and without kernels in assembly.
    Portable,
}

impl Build {
    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Lean => "lean",
            Self::Portable => "portable",
        }
    }

    /// The firmware's programs that are built so.
    fn programs(self, has_fpu: bool) -> Vec<&'static str> {
        match self {
            Self::Whole if has_fpu => [&PROGRAM_NAMES[..], &F32_PROGRAM_NAMES].concat(),
            Self::Whole => PROGRAM_NAMES.to_vec(),
            Self::Lean => vec!["bench", "agree", "agree-dsp", "size-empty", "size-fixed", "size-fixed-score"],
            Self::Portable => vec!["bench", "agree", "agree-dsp"],
        }
    }

    /// Which of the programs that compare drawn models with their definition find enough that they can score.
    pub(crate) fn agreeing(self, layout: Layout) -> &'static [&'static str] {
        match (self, layout) {
            (Self::Lean, Layout::Scalar) => &["agree"],
            (Self::Lean, Layout::Dsp) => &["agree-dsp"],
            (Self::Whole | Self::Portable, _) => &["agree", "agree-dsp"],
        }
    }
}

/// Debian packages that emulate and count.
const PACKAGES: [&str; 4] = ["qemu-system-arm", "qemu-system-misc", "gcc", "libc6-dev"];
const PROGRAMS: [&str; 4] =
    ["/usr/bin/qemu-system-arm", "/usr/bin/qemu-system-riscv32", "/usr/bin/gcc", "/usr/include/stdio.h"];

/// No program here runs longer than a few seconds.
const TIMEOUT_SECONDS: &str = "120";

/// The firmware's programs for every core, and what more a core with an FPU runs.
const PROGRAM_NAMES: [&str; 8] =
    ["bench", "encode", "agree", "agree-dsp", "size-empty", "size-encode", "size-fixed", "size-fixed-score"];
const F32_PROGRAM_NAMES: [&str; 2] = ["size-f32", "size-f32-score"];

/// Builds the programs for all cores, and copies them into `folder`, where [`image`] finds them.
pub(crate) fn build(cores: &[&Core], build: Build, level: &str, folder: &Path) -> Result<()> {
    for has_fpu in [false, true] {
        let cores: Vec<&Core> = cores.iter().copied().filter(|core| core.has_fpu == has_fpu).collect();
        let programs = build.programs(has_fpu);
        let bins: Vec<&str> = programs.iter().flat_map(|name| ["--bin", name]).collect();
        if cores.is_empty() {
            continue;
        }
        build_programs(&cores, build, level, &bins)?;
        for core in cores {
            for name in &programs {
                let (from, to) = (built(core, build, name), image(folder, core, build, level, name));
                let copy = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(&from, &to));
                copy.map_err(|e| format!("{}: {e}", from.display()))?;
            }
        }
    }
    Ok(())
}

/// Builds `size-fixed` with a defect, a feature of the firmware, and gives its path.
pub(crate) fn build_broken(core: &Core, defect: &str) -> Result<PathBuf> {
    build_programs(&[core], Build::Whole, LEVELS[0], &["--bin", "size-fixed", "--features", defect])?;
    Ok(built(core, Build::Whole, "size-fixed"))
}

/// Builds programs for cores, which [`built`] finds.
pub(crate) fn build_programs(cores: &[&Core], build: Build, level: &str, arguments: &[&str]) -> Result<()> {
    let targets: Vec<&str> = cores.iter().map(|core| core.target).collect();
    let level = level.parse::<u8>().map_or_else(|_| format!("{level:?}"), |number| number.to_string());
    let mut cargo = cargo_for_all(&targets, "build")?;
    cargo
        .args([
            "--quiet",
            "--manifest-path",
            "tests/firmware/Cargo.toml",
            "--locked",
            "--release",
            "--config",
        ])
        .arg(format!("profile.release.opt-level={level}"))
        .args(arguments);
    match build {
        Build::Whole => {}
        Build::Lean => drop(cargo.arg("--no-default-features")),
        // In a folder of their own, so that the others need not be built again.
        Build::Portable => {
            cargo.env("NFM_KERNELS", "portable").env("CARGO_TARGET_DIR", target_folder(build));
            // The compiler takes the target for a core without the DSP extension, unless it hears of the core.
            cargo.env("CARGO_TARGET_THUMBV8M_MAIN_NONE_EABIHF_RUSTFLAGS", "-Ctarget-cpu=cortex-m33");
        }
    }
    output(&mut cargo).map(drop)
}

fn target_folder(build: Build) -> PathBuf {
    root().join("target").join(if build == Build::Portable { "embedded-portable" } else { "embedded" })
}

pub(crate) fn built(core: &Core, build: Build, name: &str) -> PathBuf {
    target_folder(build).join(core.target).join("release").join(name)
}

/// Where [`build`] put a program.
pub(crate) fn image(folder: &Path, core: &Core, build: Build, level: &str, name: &str) -> PathBuf {
    folder.join(core.target).join(build.name()).join(level).join(name)
}

/// What one run printed and counted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// Bits of the scores.
    pub(crate) scores: Vec<i32>,
    /// Instructions of each score.
    pub(crate) instructions: Vec<u64>,
    pub(crate) instructions_parse: u64,
    /// The deepest of all scores.
    pub(crate) stack: u64,
    pub(crate) stack_parse: u64,
    pub(crate) scratch: u64,
}

/// QEMU with the counting plugin.
pub(crate) struct Emulator {
    plugin: PathBuf,
}

impl Emulator {
    /// Installs what is missing, and compiles the plugin into `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        install(&PACKAGES, PROGRAMS.iter().all(|program| Path::new(program).exists()))?;
        let plugin = folder.join("count.so");
        let mut gcc = program("/usr/bin/gcc");
        gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&plugin);
        output(gcc.arg("tests/firmware/plugin/count.c"))?;
        Ok(Self { plugin })
    }

    /// Runs a program that compares drawn models with their definition.
    pub(crate) fn agree(core: &Core, program: &Path) -> Result<()> {
        output(&mut qemu(core, program)).map(|_| ())
    }

    /// Runs `bench` or `encode` on a case, whose files are in `folder`.
    pub(crate) fn run(&self, core: &Core, program: &Path, folder: &Path) -> Result<Run> {
        let regions = folder.join("regions.txt");
        let mut qemu = qemu(core, program);
        qemu.current_dir(folder).arg("-plugin").arg(format!(
            "{},out={}",
            self.plugin.display(),
            regions.display()
        ));
        let printed = output(&mut qemu)?;
        let counted = fs::read_to_string(&regions).map_err(|e| format!("{}: {e}", regions.display()))?;
        Run::read(&printed, &counted)
    }
}

/// QEMU with a program in the core's board.
fn qemu(core: &Core, program: &Path) -> Command {
    let mut qemu = Command::new("timeout");
    qemu.arg(TIMEOUT_SECONDS)
        .args(core.qemu)
        .args(["-display", "none", "-serial", "none", "-monitor", "none"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .arg("-kernel")
        .arg(program);
    qemu
}

impl Run {
    /// The mean of all scores, rounded up.
    pub(crate) fn mean(&self) -> u64 {
        let rows = u64::try_from(self.instructions.len()).unwrap_or(u64::MAX);
        self.instructions.iter().sum::<u64>().div_ceil(rows.max(1))
    }

    /// Fewest and most instructions of a score, where they differ.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let (min, max) = (self.instructions.iter().min()?, self.instructions.iter().max()?);
        (min < max).then_some((*min, *max))
    }

    /// From the program's lines and the plugin's.
    pub(crate) fn read(printed: &str, counted: &str) -> Result<Self> {
        let mut run = Self::default();
        for line in printed.lines() {
            let broken = || format!("the firmware printed {line:?}");
            let mut words = line.split_whitespace();
            let word = words.next();
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).ok_or_else(broken);
            let unsigned = |number: i64| u64::try_from(number).map_err(|_| broken());
            match word {
                Some("stack_parse") => run.stack_parse = unsigned(number()?)?,
                Some("scratch") => run.scratch = unsigned(number()?)?,
                Some("score") => {
                    run.scores.push(i32::try_from(number()?).map_err(|_| broken())?);
                    run.stack = run.stack.max(unsigned(number()?)?);
                }
                _ => return Err(broken()),
            }
        }
        let counts = counted.lines().map(str::parse).collect::<core::result::Result<Vec<u64>, _>>();
        let counts = counts.map_err(|e| format!("the plugin counted {counted:?}: {e}"))?;
        let [empty, nops, parse, scores @ ..] = counts.as_slice() else {
            return Err(format!("only {} regions were counted", counts.len()));
        };
        if nops.checked_sub(*empty) != Some(3) {
            return Err(format!("three instructions count as {nops}, none as {empty}: the plugin is broken"));
        }
        if scores.len() != run.scores.len() {
            return Err(format!("{} scores, but {} counted regions", run.scores.len(), scores.len()));
        }
        run.instructions_parse = parse.saturating_sub(*empty);
        run.instructions = scores.iter().map(|score| score.saturating_sub(*empty)).collect();
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::Run;

    const PRINTED: &str = "stack_parse 96\nscratch 16\nscore -3 40\nscore 7 48\n";

    #[test]
    fn a_run_is_read() {
        let run = Run::read(PRINTED, "2\n5\n1002\n302\n303\n").unwrap();
        assert_eq!(
            (run.scores.as_slice(), run.stack, run.stack_parse, run.scratch),
            (&[-3, 7][..], 48, 96, 16)
        );
        assert_eq!((run.instructions_parse, run.mean(), run.range()), (1000, 301, Some((300, 301))));
    }

    #[test]
    fn a_plugin_that_miscounts_is_refused() {
        assert!(Run::read(PRINTED, "2\n6\n1002\n302\n303\n").unwrap_err().contains("plugin is broken"));
        assert!(Run::read(PRINTED, "2\n5\n1002\n302\n").unwrap_err().contains("2 scores, but 1 counted"));
        assert!(Run::read(PRINTED, "").unwrap_err().contains("only 0 regions"));
    }

    #[test]
    fn what_is_no_line_of_the_firmware_is_refused() {
        assert!(Run::read("panicked at", "2\n5\n9\n").unwrap_err().contains("panicked at"));
    }
}
