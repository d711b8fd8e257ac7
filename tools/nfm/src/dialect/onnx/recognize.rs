//! What the score's polynomial says of the model: its terms, its first order and its layers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use indexmap::IndexSet;

use super::{
    Checked,
    machine::{Machine, Program},
    symbols::{Atom, AtomId, Function, Polynomial, PolynomialId},
};
use crate::{
    error::{Error, Result},
    float_model::Activation,
    schema::Pooling,
};

/// A number that the user feeds for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Column {
    /// The input of the graph.
    pub(super) input: usize,
    /// The place in the row.
    pub(super) position: usize,
}

/// What the row of a table is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Factor {
    /// A number that is fed.
    Value(Column),
    /// 0 where the id is this one, else 1.
    Padding(i64),
    /// 1 where the length in that column exceeds the number, else 0.
    Within(Column, i64),
}

/// The row of a table that an id chooses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// The id.
    pub(super) column: Column,
    /// What the row is multiplied with, ascending.
    pub(super) factors: Vec<Factor>,
}

/// What takes part in the score, without its weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Term {
    /// One row.
    Entry(Entry),
    /// Several rows as one, other than their sum.
    Pool { entries: Vec<Entry>, pooling: Pooling },
    /// A number times a row that is a constant.
    Number(Column),
}

/// Where the weights of a term are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    /// The number of the table.
    pub(super) table: usize,
    /// What is added to the id.
    pub(super) offset: i64,
    /// The column of the table.
    pub(super) lane: usize,
}

/// A term of the first order: its weights and a factor.
#[derive(Debug, Clone)]
pub(super) struct First {
    pub(super) term: Term,
    pub(super) source: Source,
    pub(super) factor: f64,
}

/// A sum of a layer's inputs.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    pub(super) constant: f64,
    neurons: BTreeMap<AtomId, f64>,
    /// By the lane of z.
    pub(super) lanes: BTreeMap<usize, f64>,
    pub(super) numbers: BTreeMap<Column, f64>,
    first: Vec<First>,
}

/// A layer of neurons: the sums that it takes, and its activation.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// `[out, in]` and `[out]`
    pub(super) weights: Vec<f64>,
    pub(super) bias: Vec<f64>,
}

/// Layers, each with the activation before it.
pub(super) type Layers = Vec<(Activation, Layer)>;

/// What is known of a model from its graph alone.
#[derive(Debug)]
pub(super) struct Structure {
    /// The terms of z and where their rows are (`None` for numbers).
    pub(super) terms: Vec<(Term, Option<Source>)>,
    /// The numbers of the terms that pool by sum: each other pair of terms interacts.
    pub(super) groups: Vec<Vec<usize>>,
    /// Lanes of z, as columns of the tables, ascending; for each the weights of the terms that are numbers.
    pub(super) lanes: BTreeMap<usize, BTreeMap<Column, f64>>,
    /// The first layer's sums of z and numbers; the score's own where there is no layer.
    pub(super) base: Vec<Sum>,
    /// What follows the first layer's sums: activations and layers in turn.
    pub(super) layers: Layers,
    /// First-order terms.
    pub(super) first: Vec<First>,
    /// First-order weights of numbers.
    pub(super) numbers: BTreeMap<Column, f64>,
    /// w0
    pub(super) bias: f64,
    /// What follows the score: a sigmoid, or ends.
    pub(super) link: Option<Function>,
}

/// How small a number is that only keeps a division from being one by zero.
const TINY: f64 = 1e-6;

/// How large a number is that keeps padding from being the largest.
const HUGE: f64 = 1e4;

/// The interaction of all terms but those of a sum, in one lane.
#[derive(Debug, Default)]
struct Interaction {
    terms: IndexSet<Term>,
    /// Of each term.
    sources: Vec<Option<Source>>,
    pairs: HashSet<(usize, usize)>,
    lanes: BTreeMap<usize, BTreeMap<Column, f64>>,
}

/// Reads polynomials.
pub(super) struct Reader<'a, 't> {
    program: &'a Program<'t>,
    machine: &'a Machine<'t>,
    interaction: Interaction,
    /// Lanes of z with their factors, by the atom.
    forms: HashMap<AtomId, Vec<(usize, f64)>>,
}

impl<'a, 't> Reader<'a, 't> {
    pub(super) fn new(program: &'a Program<'t>, machine: &'a Machine<'t>) -> Self {
        Self { program, machine, interaction: Interaction::default(), forms: HashMap::new() }
    }

    /// The structure of the model with this score.
    pub(super) fn structure(mut self, score: &Polynomial) -> Result<Structure> {
        let (score, link) = self.without_link(score);
        let mut last = self.sum(&score)?;
        let (first, numbers) = (std::mem::take(&mut last.first), std::mem::take(&mut last.numbers));
        let bias = std::mem::take(&mut last.constant);
        let (base, layers) = self.layers(last)?;
        let groups = self.groups()?;
        let Interaction { terms, sources, lanes, .. } = self.interaction;
        if lanes.is_empty() {
            return Err(self
                .program
                .whole("expected the Bi-Interaction of embeddings in its score, found none"));
        }
        let terms = terms.into_iter().zip(sources).collect();
        Ok(Structure { terms, groups, lanes, base, layers, first, numbers, bias, link })
    }

    /// The raw score, and the function that makes the output of it.
    fn without_link(&self, score: &Polynomial) -> (Polynomial, Option<Function>) {
        if let [(monomial, factor)] = **score
            && let [atom] = self.machine.algebra.monomial(monomial)
            && let Atom::Neuron { function: function @ (Function::Sigmoid | Function::Clip(..)), of } =
                *self.machine.algebra.atom(*atom)
            && factor == 1.0
        {
            return (self.polynomial(of), Some(function));
        }
        (score.clone(), None)
    }

    fn polynomial(&self, id: PolynomialId) -> Polynomial {
        self.machine.algebra.polynomial(id)
    }

    fn refuse(&self, atom: AtomId, problem: impl Into<String>) -> Error {
        self.program.refuse(self.machine.algebra.maker(atom), problem)
    }

    /// The layers from the last one's sum on: the first one's sums, and what follows them.
    fn layers(&mut self, last: Sum) -> Result<(Vec<Sum>, Layers)> {
        let mut sums = vec![last];
        let mut layers = Vec::new();
        loop {
            let neurons: BTreeSet<AtomId> = sums.iter().flat_map(|sum| sum.neurons.keys().copied()).collect();
            let Some(&some) = neurons.first() else { break };
            if sums
                .iter()
                .any(|sum| !sum.lanes.is_empty() || !sum.numbers.is_empty() || !sum.first.is_empty())
            {
                let problem = "expected layers that follow each other, found one whose output is added to the inputs of an earlier one";
                return Err(self.refuse(some, problem));
            }
            let weight = |sum: &Sum, neuron| sum.neurons.get(neuron).copied().unwrap_or(0.0);
            let weights =
                sums.iter().flat_map(|sum| neurons.iter().map(move |neuron| weight(sum, neuron))).collect();
            let layer = Layer { weights, bias: sums.iter().map(|sum| sum.constant).collect() };
            layers.push((self.activation(&neurons)?, layer));
            sums = neurons.iter().map(|neuron| self.inside(*neuron)).collect::<Result<_>>()?;
        }
        if let Some(first) = sums.iter().find_map(|sum| sum.first.first()) {
            let input = &self.program.graph.inputs[first.term.column().input].name;
            let problem = format!(
                "expected layers of the Bi-Interaction, found one that takes embeddings of input `{input}` themselves"
            );
            return Err(self.program.whole(&problem));
        }
        layers.reverse();
        Ok((sums, layers))
    }

    fn inside(&mut self, neuron: AtomId) -> Result<Sum> {
        match *self.machine.algebra.atom(neuron) {
            Atom::Neuron { of, .. } => self.sum(&self.polynomial(of)),
            _ => Ok(Sum::default()),
        }
    }

    /// The function that all neurons of a layer have.
    fn activation(&self, neurons: &BTreeSet<AtomId>) -> Result<Activation> {
        let mut slopes = Vec::new();
        let mut known = None;
        for &neuron in neurons {
            let Atom::Neuron { function, .. } = *self.machine.algebra.atom(neuron) else { continue };
            let activation = match function {
                Function::Relu => Activation::Relu,
                Function::LeakyRelu(slope) => {
                    slopes.push(f64::from_bits(slope));
                    Activation::PRelu(Vec::new())
                }
                Function::Sigmoid => Activation::Sigmoid,
                Function::Tanh => Activation::Tanh,
                Function::Elu(alpha) => Activation::Elu(f64::from_bits(alpha)),
                Function::Clip(..) => {
                    let problem =
                        "expected relu, leaky_relu, prelu, sigmoid, tanh or elu between layers, found a clip";
                    return Err(self.refuse(neuron, problem));
                }
            };
            if known.get_or_insert_with(|| activation.clone()) != &activation {
                let problem = "expected one activation in all of a layer, found two; layers beside each other are not supported";
                return Err(self.refuse(neuron, problem));
            }
        }
        Ok(match (slopes.first(), known) {
            (Some(first), _) if slopes.iter().all(|slope| slope == first) => Activation::LeakyRelu(*first),
            (Some(_), _) => Activation::PRelu(slopes),
            (None, known) => known.unwrap_or(Activation::Identity),
        })
    }

    /// The parts of a polynomial.
    fn sum(&mut self, polynomial: &Polynomial) -> Result<Sum> {
        let mut sum = Sum::default();
        let mut bent = Vec::new();
        for &(monomial, factor) in polynomial.iter() {
            match self.machine.algebra.monomial(monomial) {
                [] => sum.constant = factor,
                &[atom] => self.add(&mut sum, atom, factor)?,
                _ => bent.push((monomial, factor)),
            }
        }
        for (lane, factor) in self.lanes(&bent.into())? {
            *sum.lanes.entry(lane).or_default() += factor;
        }
        Ok(sum)
    }

    /// Adds a factor times an atom.
    fn add(&mut self, sum: &mut Sum, atom: AtomId, factor: f64) -> Result<()> {
        match self.machine.algebra.atom(atom) {
            Atom::Neuron { .. } => {
                sum.neurons.insert(atom, factor);
            }
            Atom::Form(form) => {
                let form = self.polynomial(*form);
                if form.iter().all(|(monomial, _)| self.machine.algebra.monomial(*monomial).len() == 1) {
                    for (monomial, inner) in form.iter() {
                        let atom = self.machine.algebra.monomial(*monomial)[0];
                        self.add(sum, atom, factor * inner)?;
                    }
                    return Ok(());
                }
                if !self.forms.contains_key(&atom) {
                    let lanes = self.lanes(&form)?;
                    self.forms.insert(atom, lanes);
                }
                for (lane, inner) in &self.forms[&atom] {
                    *sum.lanes.entry(*lane).or_default() += factor * inner;
                }
            }
            _ => match self.term(atom).map_err(|problem| self.refuse(atom, problem))? {
                (Term::Number(column), _) => {
                    *sum.numbers.entry(column).or_default() += factor;
                }
                (term, Some(source)) => sum.first.push(First { term, source, factor }),
                (_, None) => {}
            },
        }
        Ok(())
    }

    /// A term, and where its weights are.
    fn term(&self, atom: AtomId) -> Checked<(Term, Option<Source>)> {
        Ok(match self.machine.algebra.atom(atom) {
            Atom::Input { .. } => (Term::Number(self.column(atom)?), None),
            Atom::Lookup { .. } | Atom::Scaled { .. } => {
                let (entry, source) = self.entry(atom)?;
                (Term::Entry(entry), Some(source))
            }
            Atom::Quotient { dividend, divisor } => self.quotient(*dividend, *divisor)?,
            Atom::Largest(parts) => self.largest(parts)?,
            Atom::Differs { .. } | Atom::Exceeds { .. } => {
                return Err("expected masks that hide entries, found one that takes part by itself".into());
            }
            Atom::Root(_) => {
                return Err("expected a root of a count, found one that takes part by itself".into());
            }
            Atom::Neuron { .. } | Atom::Form(_) => {
                return Err("expected embeddings, found a layer's output where only they may be".into());
            }
        })
    }

    fn column(&self, input: AtomId) -> Checked<Column> {
        match *self.machine.algebra.atom(input) {
            Atom::Input { input, row: 0, position } => Ok(Column { input, position }),
            Atom::Input { .. } => {
                Err("expected a score that depends on its own row, found one that looks at others".into())
            }
            _ => Err("expected an input".into()),
        }
    }

    /// A row of a table, and what it is multiplied with.
    fn entry(&self, atom: AtomId) -> Checked<(Entry, Source)> {
        let (lookup, by) = match self.machine.algebra.atom(atom) {
            Atom::Scaled { lookup, by } => (*lookup, by.as_slice()),
            _ => (atom, &[][..]),
        };
        let Atom::Lookup { table, id, offset, lane } = *self.machine.algebra.atom(lookup) else {
            return Err("expected rows of tables".into());
        };
        let mut factors = by.iter().map(|factor| self.factor(id, *factor)).collect::<Checked<Vec<_>>>()?;
        factors.sort_unstable();
        Ok((Entry { column: self.column(id)?, factors }, Source { table, offset, lane }))
    }

    fn factor(&self, id: AtomId, factor: AtomId) -> Checked<Factor> {
        match *self.machine.algebra.atom(factor) {
            Atom::Differs { input, from } if input == id => Ok(Factor::Padding(from)),
            Atom::Differs { .. } => {
                Err("expected a mask by the id itself, found one by another input".into())
            }
            Atom::Exceeds { input, limit } => Ok(Factor::Within(self.column(input)?, limit)),
            _ => Ok(Factor::Value(self.column(factor)?)),
        }
    }

    /// A sum of entries through their number, or its root.
    fn quotient(&self, dividend: PolynomialId, divisor: PolynomialId) -> Checked<(Term, Option<Source>)> {
        let mut entries = Vec::new();
        for (monomial, factor) in self.polynomial(dividend).iter() {
            let [atom] = self.machine.algebra.monomial(*monomial) else {
                return Err("expected a mean of rows of a table, found another fraction".into());
            };
            if (factor - 1.0).abs() > TINY {
                return Err(format!(
                    "expected a sum of rows through their number, found one with the factor {factor}"
                ));
            }
            entries.push(self.entry(*atom)?);
        }
        let count = self.count(divisor)?;
        let source = self.one_source(&entries)?;
        let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
        entries.sort_by_key(|entry| entry.column);
        for mask in &count.masks {
            self.mask(&mut entries, source, *mask)?;
        }
        let is_counted = |entry: &Entry| match count.length {
            Some(length) => entry.factors.iter().any(|f| matches!(f, Factor::Within(of, _) if *of == length)),
            None => entry.factors.iter().any(|factor| !matches!(factor, Factor::Value(_))),
        };
        let counts = if count.length.is_some() { entries.len() } else { count.masks.len() };
        if counts != entries.len() || !entries.iter().all(is_counted) {
            return Err("expected a sum of rows through their number, found the number of others".into());
        }
        Ok((Term::Pool { entries, pooling: count.pooling }, Some(source)))
    }

    /// Sees to it that the entry which a mask counts has it. A row of zeros for the padding is as good as a mask.
    fn mask(&self, entries: &mut [Entry], source: Source, mask: AtomId) -> Checked<()> {
        let (column, factor) = match *self.machine.algebra.atom(mask) {
            Atom::Differs { input, from } => (Some(self.column(input)?), Factor::Padding(from)),
            Atom::Exceeds { input, limit } => (None, Factor::Within(self.column(input)?, limit)),
            _ => return Err("expected a count of entries".into()),
        };
        let has = |entry: &Entry| {
            entry.factors.contains(&factor) && column.is_none_or(|column| entry.column == column)
        };
        if entries.iter().any(has) {
            return Ok(());
        }
        let entry = entries.iter_mut().find(|entry| column == Some(entry.column));
        let (Some(entry), Factor::Padding(from)) = (entry, factor) else {
            return Err("expected a sum of rows through their number, found the number of others".into());
        };
        if !self.machine.is_zero(source, from) {
            return Err(format!(
                "expected padding by id {from} to be masked in the sum too, or its row to be zeros"
            ));
        }
        entry.factors.push(factor);
        entry.factors.sort_unstable();
        Ok(())
    }

    /// What a divisor counts.
    fn count(&self, divisor: PolynomialId) -> Checked<Count> {
        const REASON: &str = "expected a division by the number of entries or its root";
        let mut count = Count { masks: Vec::new(), length: None, pooling: Pooling::Mean };
        let polynomial = self.polynomial(divisor);
        for (monomial, factor) in polynomial.iter() {
            let atom = match (self.machine.algebra.monomial(*monomial), *factor) {
                ([], constant) if (0.0..=TINY).contains(&constant) => continue,
                ([atom], 1.0) => *atom,
                _ => return Err(REASON.into()),
            };
            match *self.machine.algebra.atom(atom) {
                Atom::Differs { .. } | Atom::Exceeds { .. } => count.masks.push(atom),
                Atom::Input { .. } if count.length.is_none() => count.length = Some(self.column(atom)?),
                Atom::Root(of) if count.is_empty() => {
                    count = self.count(of)?;
                    if count.pooling != Pooling::Mean {
                        return Err(REASON.into());
                    }
                    count.pooling = Pooling::SqrtN;
                }
                // The mean of no entry is that of nothing either way.
                Atom::Neuron { function: Function::Clip(min, _), of }
                    if count.is_empty() && f64::from_bits(min) <= 1.0 =>
                {
                    count = self.count(of)?;
                }
                _ => return Err(REASON.into()),
            }
        }
        if count.is_empty() || (count.length.is_some() && !count.masks.is_empty()) {
            return Err(REASON.into());
        }
        Ok(count)
    }

    /// The largest of entries, of which padding has a number taken off.
    fn largest(&self, parts: &[PolynomialId]) -> Checked<(Term, Option<Source>)> {
        let mut entries = Vec::new();
        for part in parts {
            let (mut entry, mut mask, mut constant, mut lift) = (None, None, 0.0, 0.0);
            for &(monomial, factor) in self.polynomial(*part).iter() {
                match self.machine.algebra.monomial(monomial) {
                    [] => constant = factor,
                    [atom] => match self.machine.algebra.atom(*atom) {
                        Atom::Differs { .. } | Atom::Exceeds { .. } if mask.is_none() => {
                            (mask, lift) = (Some(*atom), factor);
                        }
                        _ if entry.is_none() && factor == 1.0 => entry = Some(self.entry(*atom)?),
                        _ => return Err("expected the largest of rows, found that of something else".into()),
                    },
                    _ => return Err("expected the largest of rows, found that of products".into()),
                }
            }
            let (mut entry, source) = entry.ok_or("expected the largest of rows, found that of numbers")?;
            if let Some(mask) = mask {
                if lift < HUGE || (constant + lift).abs() > TINY * lift {
                    return Err(format!(
                        "expected padding to be lowered by a large number, found {constant} and {lift}"
                    ));
                }
                let factor = match *self.machine.algebra.atom(mask) {
                    Atom::Differs { input, from } if self.column(input)? == entry.column => {
                        Factor::Padding(from)
                    }
                    Atom::Exceeds { input, limit } => Factor::Within(self.column(input)?, limit),
                    _ => return Err("expected a mask by the id itself".into()),
                };
                entry.factors.retain(|own| *own != factor);
                entry.factors.push(factor);
                entry.factors.sort_unstable();
            } else if constant != 0.0 {
                return Err(format!("expected the largest of rows, found that of rows and {constant}"));
            }
            entries.push((entry, source));
        }
        let source = self.one_source(&entries)?;
        let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
        entries.sort_by_key(|entry| entry.column);
        Ok((Term::Pool { entries, pooling: Pooling::Max }, Some(source)))
    }

    fn one_source(&self, entries: &[(Entry, Source)]) -> Checked<Source> {
        match entries {
            [(_, source), more @ ..] if more.iter().all(|(_, other)| other == source) => Ok(*source),
            _ => Err("expected rows of one table to be pooled, found several or none".into()),
        }
    }

    /// z's lanes in a sum of products, with their factors.
    fn lanes(&mut self, bent: &Polynomial) -> Result<Vec<(usize, f64)>> {
        let mut pairs: BTreeMap<usize, Vec<Pair>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for &(monomial, factor) in bent.iter() {
            let atoms = self.machine.algebra.monomial(monomial).to_vec();
            let last = atoms.last().copied().unwrap_or(0);
            let pair = self.pair(&atoms).map_err(|problem| self.refuse(last, problem))?;
            let pair = Pair { terms: pair, factor, atom: last };
            let [a, b] = pair.terms.each_ref().map(|(_, source)| source.map(|source| source.lane));
            match (a, b) {
                (Some(a), Some(b)) if a != b => {
                    return Err(self.refuse(
                        last,
                        "expected products within a lane, found one of two lanes; is it no Bi-Interaction?",
                    ));
                }
                (Some(lane), _) | (None, Some(lane)) => pairs.entry(lane).or_default().push(pair),
                (None, None) => homeless.push(pair),
            }
        }
        if let (Some(pair), true) = (homeless.first(), pairs.len() != 1) {
            return Err(
                self.refuse(pair.atom, "expected products with an embedding, found one of two inputs")
            );
        }
        pairs.values_mut().next().into_iter().for_each(|pairs| pairs.append(&mut homeless));
        pairs.into_iter().map(|(lane, pairs)| Ok((lane, self.lane(lane, &pairs)?))).collect()
    }

    /// The two terms of a product.
    fn pair(&self, atoms: &[AtomId]) -> Checked<[(Term, Option<Source>); 2]> {
        match atoms {
            [a, b] => Ok([self.term(*a)?, self.term(*b)?]),
            [atom] => {
                // A number of its own times an entry.
                let (Entry { column, factors }, source) = self.entry(*atom)?;
                let numbers: Vec<Column> = factors
                    .iter()
                    .filter_map(|f| if let Factor::Value(column) = f { Some(*column) } else { None })
                    .collect();
                let [number] = numbers.as_slice() else {
                    return Err("expected a product of two terms, found one of more".into());
                };
                let factors =
                    factors.into_iter().filter(|factor| *factor != Factor::Value(*number)).collect();
                Ok([(Term::Number(*number), None), (Term::Entry(Entry { column, factors }), Some(source))])
            }
            _ => Err(format!("expected products of two terms, found one of {}", atoms.len())),
        }
    }

    /// The factor of z in a lane.
    fn lane(&mut self, lane: usize, pairs: &[Pair]) -> Result<f64> {
        let is_first = self.interaction.lanes.is_empty();
        let mut found: HashMap<(usize, usize), (f64, AtomId)> = HashMap::new();
        for pair in pairs {
            let places = pair.terms.each_ref().map(|term| self.place(term, is_first));
            let (Some(a), Some(b)) = (places[0], places[1]) else {
                return Err(self.refuse(pair.atom, "expected the same terms in all lanes, found others"));
            };
            if a == b {
                return Err(self.refuse(pair.atom, "expected products of two terms, found the square of one"));
            }
            found.insert((a.min(b), a.max(b)), (pair.factor, pair.atom));
        }
        let is_number = |at: usize| matches!(self.interaction.terms[at], Term::Number(_));
        let scale =
            found.iter().find(|((a, b), _)| !is_number(*a) && !is_number(*b)).map(|(_, (factor, _))| *factor);
        let atom = pairs.first().map_or(0, |pair| pair.atom);
        let Some(scale) = scale else {
            return Err(self.refuse(atom, "expected two embeddings that interact at least"));
        };
        let mut numbers = BTreeMap::new();
        for (&(a, b), (factor, _)) in &found {
            match (&self.interaction.terms[a], &self.interaction.terms[b]) {
                (Term::Number(_), Term::Number(_)) => {}
                (Term::Number(column), _) | (_, Term::Number(column)) => {
                    numbers.insert(*column, factor / scale);
                }
                _ => {}
            }
        }
        let weight = |at: usize| match &self.interaction.terms[at] {
            Term::Number(column) => numbers.get(column).copied().unwrap_or(0.0),
            _ => 1.0,
        };
        for (&(a, b), &(factor, atom)) in &found {
            let expected = scale * weight(a) * weight(b);
            if (factor - expected).abs() > 1e-6 * expected.abs() {
                let problem =
                    format!("expected all pairs of terms with one factor, {expected}, found {factor}");
                return Err(self.refuse(atom, problem));
            }
        }
        let found: HashSet<(usize, usize)> = found.into_keys().collect();
        if is_first {
            self.interaction.pairs = found;
        } else if self.interaction.pairs != found {
            return Err(self.refuse(atom, "expected the same pairs of terms in all lanes, found others"));
        }
        match self.interaction.lanes.insert(lane, numbers.clone()) {
            Some(other) if other != numbers => {
                Err(self.refuse(atom, "expected one embedding of each input, found two"))
            }
            _ => Ok(scale),
        }
    }

    /// The number of a term, whose weights are where they are in all lanes.
    fn place(&mut self, (term, source): &(Term, Option<Source>), is_first: bool) -> Option<usize> {
        let at = self.interaction.terms.get_index_of(term);
        let at = match at {
            None if is_first => {
                self.interaction.sources.push(*source);
                self.interaction.terms.insert_full(term.clone()).0
            }
            at => at?,
        };
        let home = |source: &Option<Source>| source.map(|source| (source.table, source.offset));
        (home(&self.interaction.sources[at]) == home(source)).then_some(at)
    }

    /// The terms, of which those that do not meet each other are one sum.
    fn groups(&self) -> Result<Vec<Vec<usize>>> {
        let Interaction { terms, pairs, .. } = &self.interaction;
        let meet = |a: usize, b: usize| pairs.contains(&(a.min(b), a.max(b)));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for at in 0..terms.len() {
            match groups.iter_mut().find(|group| !meet(group[0], at)) {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        for (index, group) in groups.iter().enumerate() {
            for other in &groups[index..] {
                let same = std::ptr::eq(group, other);
                let wrong = |&(a, b): &(usize, usize)| a != b && meet(a, b) == same;
                let pairs = group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
                if let Some((a, b)) = pairs.clone().find(wrong) {
                    let name = |at: usize| self.program.column_name(terms[at].column());
                    let problem = format!(
                        "expected all terms to interact but those that are pooled together, found {} and {} not to fit; is it no \
                         Bi-Interaction?",
                        name(a),
                        name(b)
                    );
                    return Err(self.program.whole(&problem));
                }
            }
        }
        Ok(groups)
    }
}

/// What the sum of a sequence is divided by.
struct Count {
    /// Indicators that are added up.
    masks: Vec<AtomId>,
    /// The number itself, where it is fed.
    length: Option<Column>,
    /// Whether it is the count or its root.
    pooling: Pooling,
}

impl Count {
    const fn is_empty(&self) -> bool {
        self.masks.is_empty() && self.length.is_none()
    }
}

/// A product of two terms.
struct Pair {
    terms: [(Term, Option<Source>); 2],
    factor: f64,
    /// One of its atoms, for messages.
    atom: AtomId,
}

impl Term {
    /// The first column that it takes.
    pub(super) fn column(&self) -> Column {
        match self {
            Self::Entry(entry) => entry.column,
            Self::Number(column) => *column,
            Self::Pool { entries, .. } => {
                entries.first().map_or(Column { input: 0, position: 0 }, |entry| entry.column)
            }
        }
    }

    /// The entries, and how they are pooled where they are.
    pub(super) fn entries(&self) -> (&[Entry], Option<Pooling>) {
        match self {
            Self::Entry(entry) => (std::slice::from_ref(entry), None),
            Self::Pool { entries, pooling } => (entries, Some(*pooling)),
            Self::Number(_) => (&[], None),
        }
    }
}
