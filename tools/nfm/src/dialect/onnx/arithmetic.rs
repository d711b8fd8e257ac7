//! Operations that calculate.

use super::{
    Checked,
    machine::Machine,
    ops::Inputs,
    symbols::{Atom, Function, MonomialId, ONE, Polynomial, constant, of_number},
    value::{Value, common_shape, elements, of_usize, whole},
};
use crate::tensors::Attribute;

/// An elementwise operation of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Equal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    And,
    Or,
}

impl Binary {
    /// By the name that ONNX has for it.
    pub(super) fn of(op: &str) -> Self {
        match op {
            "Sub" => Self::Sub,
            "Mul" => Self::Mul,
            "Div" => Self::Div,
            "Pow" => Self::Pow,
            "Equal" => Self::Equal,
            "Less" => Self::Less,
            "Greater" => Self::Greater,
            "LessOrEqual" => Self::LessOrEqual,
            "GreaterOrEqual" => Self::GreaterOrEqual,
            "And" => Self::And,
            "Or" => Self::Or,
            _ => Self::Add,
        }
    }

    fn of_numbers(self, a: f64, b: f64, is_int: bool) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div if is_int => (a / b).trunc(),
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Equal => truth(a == b),
            Self::Less => truth(a < b),
            Self::Greater => truth(a > b),
            Self::LessOrEqual => truth(a <= b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Or => truth(a != 0.0 || b != 0.0),
        }
    }

    const fn gives_truth(self) -> bool {
        !matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Pow)
    }
}

const fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

/// The activation that onnxruntime has fused into a layer.
fn fused_activation(name: &str, inputs: &Inputs<'_, '_>) -> Checked<Function> {
    match name {
        "Relu" => Ok(Function::Relu),
        "LeakyRelu" => Ok(Function::LeakyRelu(inputs.float("activation_alpha", 0.01).to_bits())),
        "Sigmoid" => Ok(Function::Sigmoid),
        "Tanh" => Ok(Function::Tanh),
        _ => Err(format!("expected Relu, LeakyRelu, Sigmoid or Tanh in a layer, found `{name}`")),
    }
}

impl<'t> Machine<'t> {
    pub(super) fn binary(&mut self, op: Binary, a: &Value<'t>, b: &Value<'t>) -> Checked<Value<'t>> {
        let shape = common_shape(&a.shape, &b.shape)?;
        let (left, right) = (a.broadcast_places(&shape)?, b.broadcast_places(&shape)?);
        let is_int = a.is_int && b.is_int;
        let mut symbols = Vec::with_capacity(left.len());
        for (left, right) in left.into_iter().zip(right) {
            symbols.push(match (a.number(left), b.number(right)) {
                (Some(a), Some(b)) => of_number(op.of_numbers(a, b, is_int)),
                _ => self.of_symbols(op, &a.symbol(left), &b.symbol(right), is_int)?,
            });
        }
        Ok(Value::symbols(shape, symbols, is_int || op.gives_truth()))
    }

    fn of_symbols(
        &mut self,
        op: Binary,
        a: &Polynomial,
        b: &Polynomial,
        is_int: bool,
    ) -> Checked<Polynomial> {
        let one = of_number(1.0);
        Ok(match op {
            Binary::Add => self.algebra.add(a, 1.0, b)?,
            Binary::Sub => self.algebra.add(a, -1.0, b)?,
            Binary::Mul | Binary::And => self.algebra.multiply(a, b)?,
            Binary::Or => {
                let both = self.algebra.multiply(a, b)?;
                let either = self.algebra.add(a, 1.0, b)?;
                self.algebra.add(&either, -1.0, &both)?
            }
            Binary::Div => self.divide(a, b)?,
            Binary::Pow => self.power(a, b)?,
            Binary::Equal => {
                let difference = self.algebra.add(a, -1.0, b)?;
                let differs = self.differs(&difference)?;
                self.algebra.add(&one, -1.0, &differs)?
            }
            Binary::Greater => self.exceeds(a, b, is_int)?,
            Binary::Less => self.exceeds(b, a, is_int)?,
            Binary::LessOrEqual => {
                let exceeds = self.exceeds(a, b, is_int)?;
                self.algebra.add(&one, -1.0, &exceeds)?
            }
            Binary::GreaterOrEqual => {
                let exceeds = self.exceeds(b, a, is_int)?;
                self.algebra.add(&one, -1.0, &exceeds)?
            }
        })
    }

    fn divide(&mut self, a: &Polynomial, b: &Polynomial) -> Checked<Polynomial> {
        match constant(b) {
            Some(0.0) => Err("expected a divisor, found 0".into()),
            Some(divisor) => self.algebra.add(&of_number(0.0), 1.0 / divisor, a),
            None => {
                let (dividend, divisor) = (self.algebra.keep(a), self.algebra.keep(b));
                Ok(self.algebra.variable(Atom::Quotient { dividend, divisor }))
            }
        }
    }

    fn power(&mut self, a: &Polynomial, exponent: &Polynomial) -> Checked<Polynomial> {
        match constant(exponent) {
            Some(2.0) => self.algebra.multiply(a, a),
            Some(1.0) => Ok(a.clone()),
            Some(0.5) => self.root(a),
            Some(-1.0) => self.divide(&of_number(1.0), a),
            Some(exponent) => Err(format!("expected a power of 2, 1, 0.5 or -1, found {exponent}")),
            None => Err("expected a power of 2, 1, 0.5 or -1, found one that depends on the row".into()),
        }
    }

    fn root(&mut self, a: &Polynomial) -> Checked<Polynomial> {
        let of = self.algebra.keep(a);
        Ok(self.algebra.variable(Atom::Root(of)))
    }

    /// The one atom of a · atom + b.
    fn line(&self, polynomial: &Polynomial) -> Option<(u32, f64, f64)> {
        let (shift, slope) = match polynomial.as_ref() {
            [(ONE, shift), slope] => (*shift, *slope),
            [slope] => (0.0, *slope),
            _ => return None,
        };
        match self.algebra.monomial(slope.0) {
            [atom] => Some((*atom, slope.1, shift)),
            _ => None,
        }
    }

    /// 1 where this is not 0.
    fn differs(&mut self, polynomial: &Polynomial) -> Checked<Polynomial> {
        let line = self.line(polynomial);
        match line.map(|(atom, slope, shift)| (atom, self.algebra.atom(atom).clone(), slope, shift)) {
            Some((input, Atom::Input { .. }, slope, shift)) => match whole(-shift / slope) {
                Some(from) => Ok(self.algebra.variable(Atom::Differs { input, from })),
                None => Ok(of_number(1.0)),
            },
            Some((atom, Atom::Differs { .. } | Atom::Exceeds { .. }, slope, shift)) => {
                self.of_indicator(atom, truth(shift != 0.0), truth(slope + shift != 0.0))
            }
            _ => self.differs_by_id(polynomial),
        }
    }

    /// What is `zero` where an indicator is 0 and `one` where it is 1.
    fn of_indicator(&mut self, indicator: u32, zero: f64, one: f64) -> Checked<Polynomial> {
        let indicator = self.algebra.atom(indicator).clone();
        let indicator = self.algebra.variable(indicator);
        self.algebra.add(&of_number(zero), one - zero, &indicator)
    }

    /// 1 where a sum over the lanes of one row of a table is not 0, where that says that the row is not the padding.
    fn differs_by_id(&mut self, polynomial: &Polynomial) -> Checked<Polynomial> {
        const REASON: &str =
            "expected a comparison of an input with a number, or of a table's row with zeros";
        let mut lookups = Vec::new();
        let mut shift = 0.0;
        for &(monomial, factor) in polynomial.iter() {
            match self.algebra.monomial(monomial) {
                [] => shift = factor,
                [atom] => match *self.algebra.atom(*atom) {
                    Atom::Lookup { table, id, offset, lane } => {
                        lookups.push((table, id, offset, lane, factor));
                    }
                    _ => return Err(REASON.into()),
                },
                _ => return Err(REASON.into()),
            }
        }
        let Some(&(table, id, offset, ..)) = lookups.first() else { return Err(REASON.into()) };
        if lookups.iter().any(|other| (other.0, other.1, other.2) != (table, id, offset)) {
            return Err(REASON.into());
        }
        let factors = lookups.iter().map(|(.., lane, factor)| (*lane, factor.to_bits())).collect();
        let zeros = self.zero_rows(table, factors, shift)?;
        match zeros.as_slice() {
            [] => Ok(of_number(1.0)),
            [row] => {
                let row = i64::try_from(*row).unwrap_or(i64::MAX);
                Ok(self.algebra.variable(Atom::Differs { input: id, from: row.saturating_sub(offset) }))
            }
            [a, b, ..] => {
                Err(format!("expected one row of zeros in the table, the padding's, found rows {a} and {b}"))
            }
        }
    }

    /// Up to two rows of a table where Σ factor · lane + shift is 0; each position of a sequence asks for the same.
    fn zero_rows(&mut self, table: usize, factors: Vec<(usize, u64)>, shift: f64) -> Checked<Vec<usize>> {
        let key = (table, factors, shift.to_bits());
        if let Some(known) = self.zero_rows.get(&key) {
            return Ok(known.clone());
        }
        let values = &self.tables[table];
        let lanes = elements(&values.shape[1..])?;
        let number = |row: usize, lane: usize| values.number(row * lanes + lane).unwrap_or(f64::NAN);
        let sum = |row: usize| {
            key.1.iter().map(|(lane, factor)| f64::from_bits(*factor) * number(row, *lane)).sum::<f64>()
        };
        let zeros: Vec<usize> = (0..values.shape[0]).filter(|row| shift + sum(*row) == 0.0).take(2).collect();
        self.zero_rows.insert(key, zeros.clone());
        Ok(zeros)
    }

    /// 1 where a > b, of integers.
    fn exceeds(&mut self, a: &Polynomial, b: &Polynomial, is_int: bool) -> Checked<Polynomial> {
        let difference = self.algebra.add(a, -1.0, b)?;
        let line = self.line(&difference);
        match line.map(|(atom, slope, shift)| (atom, self.algebra.atom(atom).clone(), slope, shift)) {
            Some((input, Atom::Input { .. }, slope, shift)) if is_int => {
                // slope · x + shift > 0
                let edge = -shift / slope;
                let limit = whole(if slope > 0.0 { edge.floor() } else { edge.ceil() - 1.0 });
                let limit = limit.ok_or("expected a whole number to compare with")?;
                let exceeds = self.algebra.variable(Atom::Exceeds { input, limit });
                if slope > 0.0 { Ok(exceeds) } else { self.algebra.add(&of_number(1.0), -1.0, &exceeds) }
            }
            Some((atom, Atom::Differs { .. } | Atom::Exceeds { .. }, slope, shift)) => {
                self.of_indicator(atom, truth(shift > 0.0), truth(slope + shift > 0.0))
            }
            _ => Err("expected a comparison of an integer input with a number".into()),
        }
    }

    pub(super) fn choose(
        &mut self,
        condition: &Value<'t>,
        yes: &Value<'t>,
        no: &Value<'t>,
    ) -> Checked<Value<'t>> {
        let taken = self.binary(Binary::Mul, condition, yes)?;
        let other = self.unary("Not", condition)?;
        let other = self.binary(Binary::Mul, &other, no)?;
        let chosen = self.binary(Binary::Add, &taken, &other)?;
        Ok(chosen.typed(yes.is_int))
    }

    pub(super) fn variadic(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let mut total = inputs.get(0)?.clone();
        for at in 1..inputs.values.len() {
            let next = inputs.get(at)?;
            total = match inputs.node.op.as_str() {
                "Max" => self.larger(&total, next)?,
                "Min" => {
                    let (a, b) = (self.unary("Neg", &total)?, self.unary("Neg", next)?);
                    let larger = self.larger(&a, &b)?;
                    self.unary("Neg", &larger)?
                }
                _ => self.binary(Binary::Add, &total, next)?,
            };
        }
        if inputs.node.op == "Mean" {
            let count = Value::numbers(vec![], vec![of_usize(inputs.values.len())], false);
            return self.binary(Binary::Div, &total, &count);
        }
        Ok(total)
    }

    /// max(a, b), where a or b is a number: an activation, or the lower end of a count.
    fn larger(&mut self, a: &Value<'t>, b: &Value<'t>) -> Checked<Value<'t>> {
        let shape = common_shape(&a.shape, &b.shape)?;
        let (left, right) = (a.broadcast_places(&shape)?, b.broadcast_places(&shape)?);
        let mut symbols = Vec::with_capacity(left.len());
        for (left, right) in left.into_iter().zip(right) {
            symbols.push(match (a.number(left), b.number(right)) {
                (Some(a), Some(b)) => of_number(a.max(b)),
                (Some(end), None) => self.algebra.activate(Function::at_least(end), &b.symbol(right))?,
                (None, Some(end)) => self.algebra.activate(Function::at_least(end), &a.symbol(left))?,
                _ => {
                    return Err(
                        "expected the larger of a value and a number, as Relu is, found two values".into()
                    );
                }
            });
        }
        Ok(Value::symbols(shape, symbols, a.is_int))
    }

    pub(super) fn unary(&mut self, op: &str, value: &Value<'t>) -> Checked<Value<'t>> {
        let mut symbols = Vec::with_capacity(value.len());
        for at in 0..value.len() {
            symbols.push(match value.number(at) {
                Some(x) => of_number(match op {
                    "Neg" => -x,
                    "Not" => truth(x == 0.0),
                    "Sqrt" => x.sqrt(),
                    "Reciprocal" => 1.0 / x,
                    "Abs" => x.abs(),
                    "Floor" => x.floor(),
                    "Ceil" => x.ceil(),
                    _ => x.exp(),
                }),
                None => self.unary_symbol(op, &value.symbol(at))?,
            });
        }
        Ok(Value::symbols(value.shape.clone(), symbols, value.is_int))
    }

    fn unary_symbol(&mut self, op: &str, x: &Polynomial) -> Checked<Polynomial> {
        match op {
            "Neg" => self.algebra.add(&of_number(0.0), -1.0, x),
            "Not" => self.algebra.add(&of_number(1.0), -1.0, x),
            "Sqrt" => self.root(x),
            "Reciprocal" => self.divide(&of_number(1.0), x),
            _ => Err(format!("expected `{op}` of constants, found one of a value that depends on the row")),
        }
    }

    pub(super) fn activate(&mut self, function: Function, value: &Value<'t>) -> Checked<Value<'t>> {
        let symbols = (0..value.len()).map(|at| self.algebra.activate(function, &value.symbol(at)));
        let symbols = symbols.collect::<Checked<_>>()?;
        Ok(Value::symbols(value.shape.clone(), symbols, value.is_int))
    }

    pub(super) fn prelu(&mut self, value: &Value<'t>, slopes: &Value<'t>) -> Checked<Value<'t>> {
        let places = slopes.broadcast_places(&value.shape)?;
        let mut symbols = Vec::with_capacity(value.len());
        for (at, place) in places.into_iter().enumerate() {
            let slope = slopes.number(place).ok_or("expected slopes that do not depend on the row")?;
            symbols.push(self.algebra.activate(Function::LeakyRelu(slope.to_bits()), &value.symbol(at))?);
        }
        Ok(Value::symbols(value.shape.clone(), symbols, false))
    }

    /// What the elements at `places` are reduced to.
    pub(super) fn reduced(&mut self, op: &str, value: &Value<'t>, places: &[usize]) -> Checked<Polynomial> {
        let parts: Vec<Polynomial> = places.iter().map(|at| value.symbol(*at)).collect();
        let numbers = || parts.iter().map(constant).collect::<Option<Vec<f64>>>();
        match op {
            "ReduceSum" => self.algebra.sum(parts.iter().flat_map(|part| part.iter().copied()).collect()),
            "ReduceMean" => {
                let share = 1.0 / of_usize(parts.len());
                let terms = parts.iter().flat_map(|part| part.iter());
                self.algebra.sum(terms.map(|(monomial, factor)| (*monomial, factor * share)).collect())
            }
            "ReduceSumSquare" => {
                let mut squares = Vec::new();
                for part in &parts {
                    squares.extend_from_slice(&self.algebra.multiply(part, part)?);
                }
                self.algebra.sum(squares)
            }
            "ReduceProd" => match numbers() {
                Some(numbers) => Ok(of_number(numbers.iter().product())),
                None => Err("expected a product of constants".into()),
            },
            "ReduceMax" => match numbers() {
                Some(numbers) => Ok(of_number(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max))),
                None => {
                    let parts = parts.iter().map(|part| self.algebra.keep(part)).collect();
                    Ok(self.algebra.variable(Atom::Largest(parts)))
                }
            },
            _ => Err(format!("expected ReduceSum, ReduceMean, ReduceMax or ReduceSumSquare, found `{op}`")),
        }
    }

    pub(super) fn matmul(&mut self, a: &Value<'t>, b: &Value<'t>) -> Checked<Value<'t>> {
        let (one, other) = (a.shape.len() == 1, b.shape.len() == 1);
        let a = if one { a.reshaped([&[1], a.shape.as_slice()].concat())? } else { a.clone() };
        let b = if other { b.reshaped([b.shape.as_slice(), &[1]].concat())? } else { b.clone() };
        let (&[ref batches @ .., rows, inner], &[ref more @ .., depth, columns]) =
            (a.shape.as_slice(), b.shape.as_slice())
        else {
            return Err("expected two matrices, found a number".into());
        };
        if inner != depth {
            return Err(format!(
                "expected matrices that fit together, found {:?} and {:?}",
                a.shape, b.shape
            ));
        }
        let batches = common_shape(batches, more)?;
        let mut shape = batches.clone();
        shape.extend((!one).then_some(rows));
        shape.extend((!other).then_some(columns));
        elements(&shape)?;
        let left = a.broadcast(&[batches.as_slice(), &[rows, inner]].concat())?;
        let right = b.broadcast(&[batches.as_slice(), &[inner, columns]].concat())?;
        let (left, right) =
            (self.operand(&left, right.is_constant())?, self.operand(&right, left.is_constant())?);
        let mut products = Vec::new();
        for batch in 0..elements(&batches)? {
            for row in 0..rows {
                for column in 0..columns {
                    let pairs = (0..inner)
                        .map(|k| ((batch * rows + row) * inner + k, (batch * inner + k) * columns + column));
                    products.push(self.dot(&left, &right, pairs)?);
                }
            }
        }
        Ok(Value::symbols(shape, products, false))
    }

    /// What a layer takes: sums of products as one symbol, where the other operand are its weights.
    fn operand(&mut self, value: &Value<'t>, with_weights: bool) -> Checked<Value<'t>> {
        if value.is_constant() || !with_weights {
            return Ok(value.clone());
        }
        let symbols =
            (0..value.len()).map(|at| self.algebra.freeze(&value.symbol(at))).collect::<Checked<_>>()?;
        Ok(Value::symbols(value.shape.clone(), symbols, value.is_int))
    }

    fn dot(
        &mut self,
        left: &Value<'t>,
        right: &Value<'t>,
        pairs: impl Iterator<Item = (usize, usize)>,
    ) -> Checked<Polynomial> {
        let mut terms: Vec<(MonomialId, f64)> = Vec::new();
        for (a, b) in pairs {
            let (symbol, factor) = match (left.number(a), right.number(b)) {
                (Some(a), Some(b)) => {
                    terms.push((ONE, a * b));
                    continue;
                }
                (None, Some(factor)) => (left.symbol(a), factor),
                (Some(factor), None) => (right.symbol(b), factor),
                (None, None) => (self.algebra.multiply(&left.symbol(a), &right.symbol(b))?, 1.0),
            };
            terms.extend(symbol.iter().map(|(monomial, own)| (*monomial, factor * own)));
        }
        if terms.iter().all(|(monomial, _)| *monomial == ONE) {
            self.algebra.spend(terms.len())?;
            return Ok(of_number(terms.iter().map(|(_, factor)| factor).sum()));
        }
        self.algebra.sum(terms)
    }

    pub(super) fn gemm(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let operand = |at, name| {
            let value: &Value<'t> = inputs.get(at)?;
            if value.shape.len() != 2 {
                return Err(format!("expected a matrix, found the shape {:?}", value.shape));
            }
            Ok(if inputs.int(name, 0) == 0 { value.clone() } else { value.transposed(&[1, 0]) })
        };
        let (a, b) = (operand(0, "transA")?, operand(1, "transB")?);
        let number = |name| Value::numbers(vec![], vec![inputs.float(name, 1.0)], false);
        let product = self.matmul(&a, &b)?;
        let product = self.binary(Binary::Mul, &number("alpha"), &product)?;
        let sum = match inputs.optional(2) {
            None => product,
            Some(bias) => {
                let bias = self.binary(Binary::Mul, &number("beta"), bias)?;
                self.binary(Binary::Add, &product, &bias)?
            }
        };
        match inputs.node.attributes.get("activation") {
            Some(Attribute::Text(name)) => self.activate(fused_activation(name, inputs)?, &sum),
            _ => Ok(sum),
        }
    }

    pub(super) fn fused_matmul(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let operand = |at, name| {
            let value: &Value<'t> = inputs.get(at)?;
            let rank = value.shape.len();
            let mut order: Vec<usize> = (0..rank).collect();
            if inputs.int(name, 0) != 0 && rank > 1 {
                order.swap(rank - 1, rank - 2);
            }
            Ok::<_, String>(value.transposed(&order))
        };
        let product = self.matmul(&operand(0, "transA")?, &operand(1, "transB")?)?;
        let alpha = Value::numbers(vec![], vec![inputs.float("alpha", 1.0)], false);
        self.binary(Binary::Mul, &alpha, &product)
    }

    pub(super) fn batch_norm(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let value = inputs.get(0)?;
        if inputs.int("training_mode", 0) != 0 {
            return Err(
                "expected stored statistics, found training mode; export the model after model.eval()".into(),
            );
        }
        let channels = value.shape.get(1).copied().ok_or("expected channels on axis 1")?;
        let parameter = |at| {
            let parameter = inputs.get(at)?.all().filter(|all| all.len() == channels);
            parameter.ok_or_else(|| format!("expected {channels} constants as input {at}"))
        };
        let (gamma, beta, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let eps = inputs.float("epsilon", 1e-5);
        let spatial: usize = value.shape.iter().skip(2).product();
        let mut symbols = Vec::with_capacity(value.len());
        for at in 0..value.len() {
            let channel = (at / spatial.max(1)) % channels.max(1);
            if variance[channel] + eps <= 0.0 {
                return Err(format!(
                    "expected variances, found {} as the one of channel {channel}",
                    variance[channel]
                ));
            }
            let scale = gamma[channel] / (variance[channel] + eps).sqrt();
            let shift = of_number(beta[channel] - scale * mean[channel]);
            symbols.push(self.algebra.add(&shift, scale, &value.symbol(at))?);
        }
        Ok(Value::symbols(value.shape.clone(), symbols, false))
    }
}
