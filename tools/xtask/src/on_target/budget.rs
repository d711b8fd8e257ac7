//! What everything may cost: a ratchet. A figure above its budget fails, and so does one far below, until the budget follows.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use crate::process::Result;

/// How far below its budget a figure may be, in percent.
const SLACK_PERCENT: u64 = 5;

const ADVICE: &str = "cargo xtask on-target --write-budgets";

/// What a model costs on a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    /// The mean over the rows.
    pub(crate) instructions_score: u64,
    pub(crate) instructions_parse: u64,
    /// Of a score.
    pub(crate) stack_bytes: u64,
    pub(crate) stack_bytes_parse: u64,
    pub(crate) scratch_bytes: u64,
    pub(crate) static_ram_bytes: u64,
    /// Code and constants of parse and score, without the model.
    pub(crate) flash_bytes: u64,
    /// Of score alone.
    pub(crate) flash_bytes_score: u64,
}

impl Cost {
    fn figures(&self) -> [(&'static str, u64); 8] {
        [
            ("instructions_score", self.instructions_score),
            ("instructions_parse", self.instructions_parse),
            ("stack_bytes", self.stack_bytes),
            ("stack_bytes_parse", self.stack_bytes_parse),
            ("scratch_bytes", self.scratch_bytes),
            ("static_ram_bytes", self.static_ram_bytes),
            ("flash_bytes", self.flash_bytes),
            ("flash_bytes_score", self.flash_bytes_score),
        ]
    }

    /// Every figure that is above this budget, or far below.
    fn failures(&self, measured: &Self) -> Vec<String> {
        let pairs = self.figures().into_iter().zip(measured.figures());
        pairs
            .filter_map(|((name, budget), (_, found))| {
                if found > budget {
                    Some(format!("{name} is {found}, above its budget of {budget}"))
                } else if found * 100 < budget * (100 - SLACK_PERCENT) {
                    Some(format!("{name} is {found}, far below its budget of {budget}: run {ADVICE}"))
                } else {
                    None
                }
            })
            .collect()
    }
}

/// Costs by core and by model, precision and optimization level.
pub(crate) type Costs = BTreeMap<String, BTreeMap<String, Cost>>;

/// `tests/budgets.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Budgets {
    /// The compiler that the budgets were measured with.
    compiler: String,
    #[serde(flatten)]
    cores: Costs,
}

impl Budgets {
    pub(crate) fn new(compiler: String, cores: Costs) -> Self {
        Self { compiler, cores }
    }

    /// Why these budgets say nothing about `measured`: other compilers make other code.
    pub(crate) fn of_another_compiler(&self, measured: &Self) -> Option<String> {
        (self.compiler != measured.compiler).then(|| {
            format!("skipped: budgets; they are of {}, and this is {}", self.compiler, measured.compiler)
        })
    }

    pub(crate) fn read(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| format!("tests/budgets.toml: {e}"))
    }

    /// The file's text: a line an entry, so that a change shows as what it is.
    pub(crate) fn write(&self) -> String {
        let mut text =
            "# What the library may cost on target; `cargo xtask on-target` compares. A change is made by\n\
            # `cargo xtask on-target --write-budgets`, and explained where it is made.\n\n"
                .to_owned();
        let _ = writeln!(text, "compiler = {:?}", self.compiler);
        for (core, costs) in &self.cores {
            let _ = writeln!(text, "\n[{core}]");
            for (key, cost) in costs {
                let figures = cost.figures().map(|(name, figure)| format!("{name} = {figure}")).join(", ");
                let _ = writeln!(text, "{key} = {{ {figures} }}");
            }
        }
        text
    }

    /// Whatever of `measured` breaks a budget, has none, or has one that nothing was measured for. Cores that were not measured
    /// at all are not missed.
    pub(crate) fn failures(&self, measured: &Self) -> Vec<String> {
        let mut failures = Vec::new();
        let none = BTreeMap::new();
        for (core, costs) in &measured.cores {
            let budgets = self.cores.get(core).unwrap_or(&none);
            for (key, cost) in costs {
                match budgets.get(key) {
                    None => failures.push(format!("{core} {key}: no budget; run {ADVICE}")),
                    Some(budget) => failures.extend(
                        budget.failures(cost).into_iter().map(|failure| format!("{core} {key}: {failure}")),
                    ),
                }
            }
            let stale = budgets.keys().filter(|key| !costs.contains_key(*key));
            failures.extend(stale.map(|key| format!("{core} {key}: a budget for nothing; run {ADVICE}")));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::{Budgets, Cost, Costs};

    fn budgets(entries: &[(&str, &str, u64)]) -> Budgets {
        let mut costs = Costs::new();
        for &(core, key, instructions_score) in entries {
            let cost = Cost { instructions_score, flash_bytes: 1000, ..Cost::default() };
            costs.entry(core.to_owned()).or_default().insert(key.to_owned(), cost);
        }
        Budgets::new("rustc 1.0.0".to_owned(), costs)
    }

    fn failures(budget: &[(&str, &str, u64)], measured: &[(&str, &str, u64)]) -> Vec<String> {
        budgets(budget).failures(&budgets(measured))
    }

    #[test]
    fn what_was_written_is_read() {
        let written = budgets(&[("Cortex-M0", "A-int8-O3", 1000), ("Cortex-M3", "A-int8-Os", 7)]);
        assert_eq!(Budgets::read(&written.write()).unwrap(), written);
    }

    #[test]
    fn a_figure_at_its_budget_and_a_little_below_passes() {
        assert!(failures(&[("M0", "A", 1000)], &[("M0", "A", 1000)]).is_empty());
        assert!(failures(&[("M0", "A", 1000)], &[("M0", "A", 950)]).is_empty());
    }

    #[test]
    fn a_figure_above_its_budget_fails() {
        let failures = failures(&[("M0", "A", 1000)], &[("M0", "A", 1001)]);
        assert_eq!(failures, ["M0 A: instructions_score is 1001, above its budget of 1000"]);
    }

    #[test]
    fn slack_fails_and_tells_the_figure() {
        let failures = failures(&[("M0", "A", 1000)], &[("M0", "A", 949)]);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("is 949, far below its budget of 1000"), "{failures:?}");
    }

    #[test]
    fn a_missing_and_a_stale_budget_fail() {
        let failures = failures(&[("M0", "A", 1), ("M3", "A", 1)], &[("M0", "B", 1)]);
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(
            failures[0].contains("M0 B: no budget") && failures[1].contains("M0 A: a budget for nothing")
        );
    }

    #[test]
    fn budgets_of_another_compiler_are_skipped_with_the_reason() {
        let budgets = budgets(&[("M0", "A", 100)]);
        assert_eq!(budgets.of_another_compiler(&budgets.clone()), None);
        let mut measured = budgets.clone();
        measured.compiler = "rustc 2.0.0".to_owned();
        let reason = budgets.of_another_compiler(&measured).unwrap();
        assert!(reason.contains("rustc 1.0.0") && reason.contains("rustc 2.0.0"), "{reason}");
    }

    #[test]
    fn an_unknown_figure_is_refused() {
        assert!(Budgets::read("compiler = \"\"\n[M0]\nA = { stack = 1 }").is_err());
    }
}
