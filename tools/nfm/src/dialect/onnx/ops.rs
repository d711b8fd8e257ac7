//! The operations, each for numbers and symbols alike; those of the shape move elements by their places.

use super::{
    Checked,
    arithmetic::Binary,
    machine::Machine,
    symbols::{Atom, Function, Polynomial},
    value::{Value, elements, of_usize, places, strides, whole},
};
use crate::tensors::{Attribute, Node};

/// A node with the values that it takes.
pub(super) struct Inputs<'a, 't> {
    pub(super) node: &'a Node,
    pub(super) values: Vec<Option<Value<'t>>>,
}

impl<'t> Inputs<'_, 't> {
    pub(super) fn get(&self, at: usize) -> Checked<&Value<'t>> {
        self.optional(at).ok_or_else(|| format!("expected an input {at}, found none"))
    }

    pub(super) fn optional(&self, at: usize) -> Option<&Value<'t>> {
        self.values.get(at).and_then(Option::as_ref)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attribute::Int(int)) = self.node.attributes.get(name) { *int } else { default }
    }

    pub(super) fn float(&self, name: &str, default: f64) -> f64 {
        if let Some(Attribute::Float(float)) = self.node.attributes.get(name) { *float } else { default }
    }

    /// Integers that older versions of an operation have as an attribute, and newer ones as input `at`.
    fn ints(&self, name: &str, at: usize) -> Checked<Option<Vec<i64>>> {
        if let Some(Attribute::Ints(ints)) = self.node.attributes.get(name) {
            return Ok(Some(ints.clone()));
        }
        self.optional(at).map(|value| self.known(name, value)).transpose()
    }

    fn known(&self, name: &str, value: &Value<'_>) -> Checked<Vec<i64>> {
        value.all_whole().ok_or_else(|| format!("expected {name} that do not depend on the row"))
    }

    /// A float that older versions of an operation have as an attribute, and newer ones as input `at`.
    fn bound(&self, name: &str, at: usize, default: f64) -> Checked<f64> {
        match self.optional(at) {
            Some(value) => {
                value.number(0).ok_or_else(|| format!("expected {name} that does not depend on the row"))
            }
            None => Ok(self.float(name, default)),
        }
    }
}

impl<'t> Machine<'t> {
    /// The values that a node gives.
    pub(super) fn node(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Vec<Value<'t>>> {
        let all = match inputs.node.op.as_str() {
            "Split" => split(inputs),
            _ => self.one(inputs).map(|one| vec![one]),
        }?;
        let elements = all.iter().filter(|value| value.stored_name().is_none()).map(Value::len).sum();
        self.algebra.spend(elements)?;
        Ok(all)
    }

    /// The value that a node gives which gives one.
    fn one(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        match inputs.node.op.as_str() {
            "Identity" | "Dropout" => inputs.get(0).cloned(),
            "Cast" => self.cast(inputs),
            "Reshape" => reshape(inputs),
            "Flatten" => flatten(inputs),
            "Squeeze" => squeeze(inputs),
            "Unsqueeze" => unsqueeze(inputs),
            "Transpose" => transpose(inputs),
            "Concat" => concat(inputs),
            "Slice" => slice(inputs),
            "Expand" => expand(inputs),
            "Tile" => tile(inputs),
            "Shape" => shape(inputs),
            "Size" => Ok(Value::numbers(vec![], vec![of_usize(inputs.get(0)?.len())], true)),
            "ConstantOfShape" => constant_of_shape(inputs),
            "Range" => range(inputs),
            "OneHot" => one_hot(inputs),
            "Gather" => self.gather(inputs),
            _ => self.calculate(inputs),
        }
    }

    fn calculate(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let op = inputs.node.op.as_str();
        match op {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Equal" | "Less" | "Greater" | "LessOrEqual"
            | "GreaterOrEqual" | "And" | "Or" => self.binary(Binary::of(op), inputs.get(0)?, inputs.get(1)?),
            "Sum" | "Max" | "Min" | "Mean" => self.variadic(inputs),
            "Where" => self.choose(inputs.get(0)?, inputs.get(1)?, inputs.get(2)?),
            "Neg" | "Not" | "Sqrt" | "Reciprocal" | "Abs" | "Floor" | "Ceil" | "Exp" => {
                self.unary(op, inputs.get(0)?)
            }
            "MatMul" => self.matmul(inputs.get(0)?, inputs.get(1)?),
            "Gemm" | "com.microsoft::FusedGemm" => self.gemm(inputs),
            "com.microsoft::FusedMatMul" => self.fused_matmul(inputs),
            "BatchNormalization" => self.batch_norm(inputs),
            "Relu" | "LeakyRelu" | "Sigmoid" | "Tanh" | "Elu" | "Clip" => {
                let function = activation(op, inputs)?;
                self.activate(function, inputs.get(0)?)
            }
            "PRelu" => self.prelu(inputs.get(0)?, inputs.get(1)?),
            _ if op.starts_with("Reduce") => self.reduce(inputs),
            "If" | "Loop" | "Scan" => Err(format!(
                "expected operations in a line, found `{op}`; export the model with dynamo=True, or simplify the graph"
            )),
            _ => Err(format!(
                "expected an operation that a Neural Factorization Machine is made of, found `{op}`; activations may be Relu, \
                 LeakyRelu, PRelu, Sigmoid, Tanh, Elu"
            )),
        }
    }

    fn cast(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let value = inputs.get(0)?;
        let to = inputs.int("to", 1);
        let (is_int, is_bool) = (matches!(to, 2..=7 | 9 | 12 | 13), to == 9);
        if is_bool && !value.is_int {
            let zero = Value::numbers(vec![], vec![0.0], value.is_int);
            let equal = self.binary(Binary::Equal, value, &zero)?;
            return self.unary("Not", &equal);
        }
        if !is_int || value.is_int {
            return Ok(value.typed(is_int));
        }
        if let Some(numbers) = value.all() {
            return Ok(Value::numbers(
                value.shape.clone(),
                numbers.into_iter().map(f64::trunc).collect(),
                true,
            ));
        }
        match (0..value.len()).find(|at| !self.is_of_inputs(&value.symbol(*at))) {
            Some(at) => {
                Err(format!("expected ids, found element {at} that is calculated from weights as an integer"))
            }
            None => Ok(value.typed(true)),
        }
    }

    /// Whether a polynomial is of ids, which are integers whatever their type.
    fn is_of_inputs(&self, polynomial: &Polynomial) -> bool {
        polynomial.iter().all(|(monomial, factor)| {
            let is_input = |atom: &u32| {
                matches!(
                    self.algebra.atom(*atom),
                    Atom::Input { .. } | Atom::Differs { .. } | Atom::Exceeds { .. }
                )
            };
            factor.fract() == 0.0 && self.algebra.monomial(*monomial).iter().all(is_input)
        })
    }

    fn gather(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis(inputs.int("axis", 0), data.shape.len())?;
        let extent = data.shape[axis];
        let name = inputs.node.inputs.first().map_or("", String::as_str);
        let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
        let Some(indices) = indices.all_whole() else {
            return self.look_up(name, data, axis, indices, shape);
        };
        let index = |index: i64| match usize::try_from(if index < 0 {
            index.saturating_add(signed(extent))
        } else {
            index
        }) {
            Ok(index) if index < extent => Ok(index),
            _ => Err(format!("expected an index below {extent}, found {index}")),
        };
        let indices = indices.into_iter().map(index).collect::<Checked<Vec<_>>>()?;
        let mut all = every(&data.shape, Some(axis))?;
        all[axis] = indices;
        data.select(&all)?.reshaped(shape)
    }

    /// The rows of a table that ids choose.
    fn look_up(
        &mut self,
        name: &str,
        data: &Value<'t>,
        axis: usize,
        ids: &Value<'t>,
        shape: Vec<usize>,
    ) -> Checked<Value<'t>> {
        if !data.is_constant() || axis != 0 {
            return Err("expected a table of the file, and ids that choose its rows".into());
        }
        let name = data.stored_name().unwrap_or(name);
        let (table, _) = self.tables.insert_full(name.to_owned(), data.clone());
        let lanes = elements(&data.shape[1..])?;
        self.algebra.spend(elements(&shape)?)?;
        let mut symbols = Vec::new();
        for at in 0..ids.len() {
            let (id, offset) = self.id(&ids.symbol(at))?;
            symbols.extend(
                (0..lanes).map(|lane| self.algebra.variable(Atom::Lookup { table, id, offset, lane })),
            );
        }
        Ok(Value::symbols(shape, symbols, data.is_int))
    }

    /// The input that an id is, and what is added to it.
    fn id(&self, id: &Polynomial) -> Checked<(u32, i64)> {
        let mut input = None;
        let mut offset = 0.0;
        for (monomial, factor) in id.iter() {
            match self.algebra.monomial(*monomial) {
                [] => offset = *factor,
                [atom] if *factor == 1.0 && matches!(self.algebra.atom(*atom), Atom::Input { .. }) => {
                    input = Some(*atom);
                }
                _ => return Err("expected an id that is an input, or one plus an offset".into()),
            }
        }
        input
            .zip(whole(offset))
            .ok_or_else(|| format!("expected an input plus a whole offset as the id, found {offset}"))
    }
}

fn signed(extent: usize) -> i64 {
    i64::try_from(extent).unwrap_or(i64::MAX)
}

/// A place on an axis of `rank`, of which negative ones count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Checked<usize> {
    let from_end = usize::try_from(axis.unsigned_abs()).ok().filter(|_| axis < 0);
    let found = match from_end {
        Some(back) => rank.checked_sub(back),
        None => usize::try_from(axis).ok().filter(|axis| *axis < rank),
    };
    found.ok_or_else(|| format!("expected an axis of the {rank}, found {axis}"))
}

/// All indices of each axis but one, for [`Value::select`].
fn every(shape: &[usize], but: Option<usize>) -> Checked<Vec<Vec<usize>>> {
    let indices = |(axis, extent): (usize, &usize)| match but == Some(axis) {
        true => Ok(Vec::new()),
        false => Ok((0..elements(&[*extent])?).collect()),
    };
    shape.iter().enumerate().map(indices).collect()
}

fn activation(op: &str, inputs: &Inputs<'_, '_>) -> Checked<Function> {
    Ok(match op {
        "LeakyRelu" => Function::LeakyRelu(inputs.float("alpha", 0.01).to_bits()),
        "Sigmoid" => Function::Sigmoid,
        "Tanh" => Function::Tanh,
        "Elu" => Function::Elu(inputs.float("alpha", 1.0).to_bits()),
        "Clip" => {
            let (min, max) = (inputs.bound("min", 1, f64::MIN)?, inputs.bound("max", 2, f64::MAX)?);
            // Without an end some writers have the largest number of their type.
            if max > 1e30 { Function::at_least(min) } else { Function::Clip(min.to_bits(), max.to_bits()) }
        }
        _ => Function::Relu,
    })
}

fn reshape<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let wanted = inputs.ints("shape", 1)?.ok_or("expected a shape, found none")?;
    let keeps = inputs.int("allowzero", 0) == 0;
    let mut shape = Vec::new();
    for (at, extent) in wanted.iter().enumerate() {
        shape.push(match extent {
            0 if keeps => value.shape.get(at).copied(),
            -1 => Some(1),
            extent => usize::try_from(*extent).ok(),
        });
    }
    let shape: Option<Vec<usize>> = shape.into_iter().collect();
    let mut shape =
        shape.ok_or_else(|| format!("expected a shape for {:?}, found {wanted:?}", value.shape))?;
    if let Some(open) = wanted.iter().position(|extent| *extent == -1) {
        shape[open] = value.len().checked_div(elements(&shape)?).unwrap_or(0);
    }
    value.reshaped(shape)
}

fn flatten<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let rank = value.shape.len();
    let at = inputs.int("axis", 1);
    let at = if at == signed(rank) { rank } else { axis(at, rank)? };
    let (rows, columns) = value.shape.split_at(at);
    value.reshaped(vec![elements(rows)?, elements(columns)?])
}

fn squeeze<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let rank = value.shape.len();
    let axes = match inputs.ints("axes", 1)? {
        Some(axes) => axes.into_iter().map(|at| axis(at, rank)).collect::<Checked<Vec<_>>>()?,
        None => (0..rank).filter(|axis| value.shape[*axis] == 1).collect(),
    };
    let kept = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| value.shape[axis]).collect();
    value.reshaped(kept)
}

fn unsqueeze<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let axes = inputs.ints("axes", 1)?.ok_or("expected axes, found none")?;
    let rank = value.shape.len() + axes.len();
    let axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Checked<Vec<_>>>()?;
    let mut own = value.shape.iter().copied();
    let shape =
        (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { own.next().unwrap_or(1) }).collect();
    value.reshaped(shape)
}

fn transpose<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let rank = value.shape.len();
    let order = match inputs.ints("perm", usize::MAX)? {
        Some(order) => order.into_iter().map(|at| axis(at, rank)).collect::<Checked<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    if order.len() != rank || (0..rank).any(|axis| !order.contains(&axis)) {
        return Err(format!("expected each of the {rank} axes once, found {order:?}"));
    }
    elements(&value.shape)?;
    Ok(value.transposed(&order))
}

fn concat<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let first = inputs.get(0)?;
    let rank = first.shape.len();
    let at = axis(inputs.int("axis", 1), rank)?;
    let parts = (0..inputs.values.len()).map(|part| inputs.get(part)).collect::<Checked<Vec<_>>>()?;
    if parts.len() == 1 {
        return Ok(first.clone());
    }
    let mut shape = first.shape.clone();
    let extents = parts.iter().map(|part| part.shape.get(at).copied().unwrap_or(0));
    shape[at] = extents.fold(0, usize::saturating_add);
    let fits = |part: &&&Value<'t>| {
        part.shape.len() != rank || (0..rank).any(|axis| axis != at && part.shape[axis] != shape[axis])
    };
    if let Some(part) = parts.iter().find(fits) {
        return Err(format!(
            "expected shapes that differ on axis {at} alone, found {:?} and {:?}",
            first.shape, part.shape
        ));
    }
    elements(&shape)?;
    let (outer, is_int) = (elements(&shape[..at])?, first.is_int);
    let mut symbols = Vec::new();
    for outer in 0..outer {
        for part in &parts {
            let inner: usize = part.shape[at..].iter().product();
            symbols.extend((outer * inner..(outer + 1) * inner).map(|place| part.symbol(place)));
        }
    }
    Ok(Value::symbols(shape, symbols, is_int))
}

fn slice<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let rank = value.shape.len();
    let (Some(starts), Some(ends)) = (inputs.ints("starts", 1)?, inputs.ints("ends", 2)?) else {
        return Err("expected starts and ends, found none".into());
    };
    let axes = inputs.ints("axes", 3)?.unwrap_or_else(|| (0..signed(starts.len())).collect());
    let steps = inputs.ints("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut kept = every(&value.shape, None)?;
    for (((start, end), at), step) in starts.iter().zip(&ends).zip(axes).zip(steps) {
        let at = axis(at, rank)?;
        let extent = value.shape[at];
        let place = |place: i64| {
            let from_start = if place < 0 { place.saturating_add(signed(extent)) } else { place };
            usize::try_from(from_start).unwrap_or(0).min(extent)
        };
        let step = usize::try_from(step).ok().filter(|step| *step > 0);
        let step = step.ok_or("expected steps of at least 1; others are not supported")?;
        kept[at] = (place(*start)..place(*end)).step_by(step).collect();
    }
    value.select(&kept)
}

fn split<'t>(inputs: &Inputs<'_, 't>) -> Checked<Vec<Value<'t>>> {
    let value = inputs.get(0)?;
    let at = axis(inputs.int("axis", 0), value.shape.len())?;
    let extent = value.shape[at];
    let parts = inputs.node.outputs.len().max(1);
    let sizes = inputs.ints("split", 1)?;
    let sizes: Option<Vec<usize>> = match sizes {
        Some(sizes) => sizes.iter().map(|size| usize::try_from(*size).ok()).collect(),
        None => Some(
            (0..parts)
                .map(|part| extent.div_ceil(parts).min(extent - extent.min(part * extent.div_ceil(parts))))
                .collect(),
        ),
    };
    let sizes = sizes
        .filter(|sizes| sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size)) == Some(extent));
    let sizes = sizes.ok_or_else(|| format!("expected parts that add up to {extent}"))?;
    let mut kept = every(&value.shape, None)?;
    let mut start = 0;
    let part = |size: &usize| {
        kept[at] = (start..start + size).collect();
        start += size;
        value.select(&kept)
    };
    sizes.iter().map(part).collect()
}

fn expand<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let shape = extents(inputs, 1)?;
    value.broadcast(&super::value::common_shape(&value.shape, &shape)?)
}

fn tile<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let value = inputs.get(0)?;
    let repeats = extents(inputs, 1)?;
    if repeats.len() != value.shape.len() {
        return Err(format!("expected {} repeats, found {}", value.shape.len(), repeats.len()));
    }
    let repeated = value.shape.iter().zip(&repeats).map(|(extent, repeats)| extent.checked_mul(*repeats));
    elements(&repeated.collect::<Option<Vec<_>>>().ok_or("expected fewer repeats")?)?;
    let axes = value.shape.iter().zip(repeats);
    value.select(
        &axes.map(|(extent, repeats)| (0..repeats).flat_map(|_| 0..*extent).collect()).collect::<Vec<_>>(),
    )
}

/// The shape that input `at` says.
fn extents(inputs: &Inputs<'_, '_>, at: usize) -> Checked<Vec<usize>> {
    let extents = inputs.known("extents", inputs.get(at)?)?;
    let shape: Option<Vec<usize>> = extents.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    shape.ok_or_else(|| format!("expected extents of at least 0, found {extents:?}"))
}

fn shape<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let shape = &inputs.get(0)?.shape;
    let rank = signed(shape.len());
    let place = |place: i64| {
        let place = if place < 0 { place.saturating_add(rank) } else { place };
        usize::try_from(place).unwrap_or(0).min(shape.len())
    };
    let (start, end) = (place(inputs.int("start", 0)), place(inputs.int("end", rank)));
    Ok(Value::integers(shape.get(start..end).unwrap_or_default().iter().copied()))
}

fn constant_of_shape<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let shape = extents(inputs, 0)?;
    let (number, is_int) = match inputs.node.attributes.get("value") {
        Some(Attribute::Tensor(tensor)) => {
            let value = Value::stored("", tensor);
            (value.number(0).ok_or("expected one number to fill with, found none")?, value.is_int)
        }
        _ => (0.0, false),
    };
    Ok(Value::numbers(shape.clone(), vec![number; elements(&shape)?], is_int))
}

fn range<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let bound = |at| {
        inputs.get(at)?.number(0).ok_or_else(|| "expected a range that does not depend on the row".to_owned())
    };
    let (start, limit, delta) = (bound(0)?, bound(1)?, bound(2)?);
    let len = whole(((limit - start) / delta).ceil().max(0.0)).and_then(|len| usize::try_from(len).ok());
    let len = len.filter(|_| delta != 0.0).ok_or("expected a range with an end")?;
    elements(&[len])?;
    let numbers = (0..len).map(|step| start + of_usize(step) * delta).collect();
    Ok(Value::numbers(vec![len], numbers, inputs.get(0)?.is_int))
}

fn one_hot<'t>(inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
    let (indices, values) = (inputs.get(0)?, inputs.get(2)?);
    let (Some(known), Some(depth), Some(values_known)) =
        (indices.all_whole(), inputs.known("depth", inputs.get(1)?)?.first().copied(), values.all())
    else {
        return Err("expected ids that choose a table's rows by Gather, found a OneHot of them".into());
    };
    let (Ok(extent), [off, on]) = (usize::try_from(depth), values_known.as_slice()) else {
        return Err(format!("expected a depth and two values, found {depth} and {values_known:?}"));
    };
    let at = axis(inputs.int("axis", -1), indices.shape.len() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(at, extent);
    let inner: usize = indices.shape[at..].iter().product();
    let hot = |place: usize| {
        let (outer, index, inner_at) = (place / (extent * inner), place / inner % extent, place % inner);
        let wanted =
            known.get(outer * inner + inner_at).map(|index| if *index < 0 { index + depth } else { *index });
        if wanted == Some(signed(index)) { *on } else { *off }
    };
    let numbers = (0..elements(&shape)?).map(hot).collect();
    Ok(Value::numbers(shape, numbers, values.is_int))
}

/// For each element of `shape` without `axes`, the places of the elements that are reduced to it.
pub(super) fn groups(shape: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let strides = strides(shape);
    let part = |is_reduced: bool| {
        let chosen: Vec<usize> = (0..shape.len()).filter(|axis| axes.contains(axis) == is_reduced).collect();
        let pick = |all: &[usize]| chosen.iter().map(|axis| all[*axis]).collect::<Vec<_>>();
        places(&pick(shape), &pick(&strides))
    };
    let (kept, reduced) = (part(false), part(true));
    kept.iter().map(|start| reduced.iter().map(|more| start + more).collect()).collect()
}

impl<'t> Machine<'t> {
    fn reduce(&mut self, inputs: &Inputs<'_, 't>) -> Checked<Value<'t>> {
        let value = inputs.get(0)?;
        let rank = value.shape.len();
        let axes = inputs.ints("axes", 1)?.unwrap_or_default();
        if axes.is_empty() && inputs.int("noop_with_empty_axes", 0) != 0 {
            return Ok(value.clone());
        }
        let axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Checked<Vec<_>>>()?;
        let axes = if axes.is_empty() { (0..rank).collect() } else { axes };
        elements(&value.shape)?;
        let keeps = inputs.int("keepdims", 1) != 0;
        let shape = (0..rank).filter(|axis| keeps || !axes.contains(axis));
        let shape: Vec<usize> =
            shape.map(|axis| if axes.contains(&axis) { 1 } else { value.shape[axis] }).collect();
        let reduced = groups(&value.shape, &axes).into_iter();
        let reduced =
            reduced.map(|group| self.reduced(&inputs.node.op, value, &group)).collect::<Checked<Vec<_>>>()?;
        Ok(Value::symbols(shape, reduced, value.is_int))
    }
}
