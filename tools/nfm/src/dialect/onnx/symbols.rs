//! What an element of a graph's tensor is: a polynomial over lookups, inputs and functions of other polynomials.
//!
//! Polynomials have one form, whichever operations led to them: ½((Σ e)² − Σ e²) and the sum over pairs are equal here. Atoms,
//! monomials and polynomials inside of functions are interned, so that equal ones have equal numbers.

use std::rc::Rc;

use indexmap::IndexSet;

use super::Checked;

/// The number of an [`Atom`].
pub(super) type AtomId = u32;

/// The number of a polynomial that stands inside of an atom.
pub(super) type PolynomialId = u32;

/// The number of a monomial, which is a product of atoms.
pub(super) type MonomialId = u32;

/// The monomial of no atoms: what it multiplies is the constant.
pub(super) const ONE: MonomialId = 0;

/// Coefficients of monomials, ascending by monomial; none is 0.
pub(super) type Polynomial = Rc<[(MonomialId, f64)]>;

/// What a polynomial is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// A number that the user feeds: `position` within the row `row` of the graph's input `input`.
    Input { input: usize, row: usize, position: usize },
    /// `table[id + offset, lane]`, where the id is an [`Atom::Input`].
    Lookup { table: usize, id: AtomId, offset: i64, lane: usize },
    /// A lookup times inputs and indicators, ascending.
    Scaled { lookup: AtomId, by: Vec<AtomId> },
    /// 1 where the input is another whole number than this one, else 0.
    Differs { input: AtomId, from: i64 },
    /// 1 where the input is larger than this whole number, else 0.
    Exceeds { input: AtomId, limit: i64 },
    /// A fraction.
    Quotient { dividend: PolynomialId, divisor: PolynomialId },
    /// A square root.
    Root(PolynomialId),
    /// The largest of several.
    Largest(Vec<PolynomialId>),
    /// An activation.
    Neuron { function: Function, of: PolynomialId },
    /// The nonlinear part of a polynomial that a layer takes, divided by its first coefficient.
    Form(PolynomialId),
}

/// An activation function; parameters are the bits of an `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Function {
    Relu,
    /// By its slope.
    LeakyRelu(u64),
    Sigmoid,
    Tanh,
    /// By its alpha.
    Elu(u64),
    /// By its ends.
    Clip(u64, u64),
}

impl Function {
    /// max(x, end)
    pub(super) fn at_least(end: f64) -> Self {
        if end == 0.0 { Self::Relu } else { Self::Clip(end.to_bits(), f64::MAX.to_bits()) }
    }

    /// f(x)
    pub(super) fn apply(self, x: f64) -> f64 {
        match self {
            // Written so that NaN stays.
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::LeakyRelu(slope) => {
                if x < 0.0 {
                    x * f64::from_bits(slope)
                } else {
                    x
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Elu(alpha) => {
                if x < 0.0 {
                    f64::from_bits(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Self::Clip(min, max) => {
                let (min, max) = (f64::from_bits(min), f64::from_bits(max));
                if x < min {
                    min
                } else if x > max {
                    max
                } else {
                    x
                }
            }
        }
    }
}

/// How many terms all operations of a graph may make together, so that a hostile one ends.
const MAX_TERMS: usize = 1 << 26;

/// The atoms and monomials of one graph.
#[derive(Debug, Default)]
pub(super) struct Algebra {
    atoms: IndexSet<Atom>,
    /// The node that made each atom.
    makers: Vec<usize>,
    monomials: IndexSet<Box<[AtomId]>>,
    polynomials: IndexSet<Vec<(MonomialId, u64)>>,
    terms: usize,
    /// The node that is being evaluated.
    pub(super) node: usize,
}

impl Algebra {
    pub(super) fn new() -> Self {
        let mut new = Self::default();
        new.monomials.insert(Box::new([]));
        new
    }

    /// Counts terms that are about to be made.
    pub(super) fn spend(&mut self, terms: usize) -> Checked<()> {
        self.terms = self.terms.saturating_add(terms);
        if self.terms > MAX_TERMS {
            return Err(format!(
                "expected at most {MAX_TERMS} terms in the whole graph; export the model with a dynamic batch, or for a batch of 1"
            ));
        }
        Ok(())
    }

    pub(super) fn atom(&self, id: AtomId) -> &Atom {
        &self.atoms[id as usize]
    }

    /// The node that made an atom.
    pub(super) fn maker(&self, id: AtomId) -> usize {
        self.makers[id as usize]
    }

    pub(super) fn monomial(&self, id: MonomialId) -> &[AtomId] {
        &self.monomials[id as usize]
    }

    pub(super) fn polynomial(&self, id: PolynomialId) -> Polynomial {
        self.polynomials[id as usize]
            .iter()
            .map(|(monomial, bits)| (*monomial, f64::from_bits(*bits)))
            .collect()
    }

    /// The number of an atom.
    pub(super) fn intern(&mut self, atom: Atom) -> AtomId {
        let (at, is_new) = self.atoms.insert_full(atom);
        if is_new {
            self.makers.push(self.node);
        }
        number(at)
    }

    /// The number of a polynomial, for an atom that holds it.
    pub(super) fn keep(&mut self, polynomial: &Polynomial) -> PolynomialId {
        let bits = polynomial.iter().map(|(monomial, factor)| (*monomial, factor.to_bits())).collect();
        number(self.polynomials.insert_full(bits).0)
    }

    /// An atom as a polynomial.
    pub(super) fn variable(&mut self, atom: Atom) -> Polynomial {
        let atom = self.intern(atom);
        [(self.product_of(vec![atom]), 1.0)].into()
    }

    /// The monomial of these atoms. The product of one lookup with inputs and indicators is an atom of its own, so that each
    /// atom of a product of two terms belongs to one of them; an indicator is its own square.
    fn product_of(&mut self, mut atoms: Vec<AtomId>) -> MonomialId {
        atoms.sort_unstable();
        let is_indicator = |atom: &Atom| matches!(atom, Atom::Differs { .. } | Atom::Exceeds { .. });
        atoms.dedup_by(|a, b| a == b && is_indicator(self.atom(*a)));
        let is_lookup = |id: &&AtomId| matches!(self.atom(**id), Atom::Lookup { .. } | Atom::Scaled { .. });
        let is_factor = |id: &&AtomId| {
            let atom = self.atom(**id);
            is_indicator(atom) || matches!(atom, Atom::Input { .. })
        };
        if atoms.len() > 1
            && atoms.iter().filter(is_lookup).count() == 1
            && atoms.iter().filter(is_factor).count() == atoms.len() - 1
        {
            let mut by = Vec::new();
            let mut lookup = 0;
            for &atom in &atoms {
                match self.atom(atom) {
                    Atom::Lookup { .. } => lookup = atom,
                    Atom::Scaled { lookup: inner, by: more } => {
                        lookup = *inner;
                        by.extend(more);
                    }
                    _ => by.push(atom),
                }
            }
            by.sort_unstable();
            by.dedup_by(|a, b| a == b && is_indicator(self.atom(*a)));
            atoms = vec![self.intern(Atom::Scaled { lookup, by })];
        }
        number(self.monomials.insert_full(atoms.into()).0)
    }

    /// Σ of terms in any order.
    pub(super) fn sum(&mut self, mut terms: Vec<(MonomialId, f64)>) -> Checked<Polynomial> {
        self.spend(terms.len())?;
        terms.sort_by_key(|(monomial, _)| *monomial);
        let mut sum: Vec<(MonomialId, f64)> = Vec::with_capacity(terms.len());
        for (monomial, factor) in terms {
            match sum.last_mut() {
                Some((last, total)) if *last == monomial => {
                    let size = total.abs() + factor.abs();
                    *total += factor;
                    // What is left of a difference by rounding is nothing.
                    if total.abs() <= 1e-13 * size {
                        *total = 0.0;
                    }
                }
                _ => sum.push((monomial, factor)),
            }
        }
        sum.retain(|(_, factor)| *factor != 0.0);
        Ok(sum.into())
    }

    /// a + c · b
    pub(super) fn add(&mut self, a: &Polynomial, c: f64, b: &Polynomial) -> Checked<Polynomial> {
        self.sum(
            a.iter().copied().chain(b.iter().map(|(monomial, factor)| (*monomial, c * factor))).collect(),
        )
    }

    /// a · b
    pub(super) fn multiply(&mut self, a: &Polynomial, b: &Polynomial) -> Checked<Polynomial> {
        self.spend(a.len().saturating_mul(b.len()))?;
        let mut terms = Vec::with_capacity(a.len() * b.len());
        for &(left, c) in a.iter() {
            for &(right, d) in b.iter() {
                let monomial = match (left, right) {
                    (ONE, other) | (other, ONE) => other,
                    _ => self.product_of([self.monomial(left), self.monomial(right)].concat()),
                };
                terms.push((monomial, c * d));
            }
        }
        self.sum(terms)
    }

    /// What a layer takes of a polynomial: its nonlinear part, where that is more than one monomial, as one atom.
    pub(super) fn freeze(&mut self, polynomial: &Polynomial) -> Checked<Polynomial> {
        let (bent, mut straight): (Vec<_>, Vec<_>) = polynomial.iter().partition(|(id, _)| self.is_bent(*id));
        let [(_, first), _, ..] = bent.as_slice() else { return Ok(polynomial.clone()) };
        let first = *first;
        let monic = bent.iter().map(|(monomial, factor)| (*monomial, factor / first)).collect();
        let form = self.keep(&monic);
        let form = self.variable(Atom::Form(form));
        straight.extend(form.iter().map(|(monomial, _)| (*monomial, first)));
        self.sum(straight)
    }

    /// Whether a monomial is a product.
    fn is_bent(&self, monomial: MonomialId) -> bool {
        match self.monomial(monomial) {
            [] => false,
            [atom] => matches!(self.atom(*atom), Atom::Scaled { .. }),
            _ => true,
        }
    }

    /// f(x)
    pub(super) fn activate(&mut self, function: Function, x: &Polynomial) -> Checked<Polynomial> {
        if let Some(x) = constant(x) {
            return Ok(of_number(function.apply(x)));
        }
        let of = self.freeze(x)?;
        let of = self.keep(&of);
        Ok(self.variable(Atom::Neuron { function, of }))
    }
}

/// A number of something interned: there are at most [`MAX_TERMS`].
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The polynomial that is this number.
pub(super) fn of_number(number: f64) -> Polynomial {
    if number == 0.0 { [].into() } else { [(ONE, number)].into() }
}

/// The number that a polynomial is; `None` when it is none.
pub(super) fn constant(polynomial: &Polynomial) -> Option<f64> {
    match **polynomial {
        [] => Some(0.0),
        [(ONE, number)] => Some(number),
        _ => None,
    }
}
