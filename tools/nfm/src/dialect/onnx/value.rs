//! A value of a graph: a shape, and for each element a number or a polynomial.

use std::rc::Rc;

use super::{
    Checked,
    symbols::{Polynomial, constant, of_number},
};
use crate::tensors::{Tensor, Values};

/// How many elements one computed value may have.
const MAX_ELEMENTS: usize = 1 << 24;

/// A tensor of the graph.
#[derive(Debug, Clone)]
pub(super) struct Value<'t> {
    /// Extents, outermost first.
    pub(super) shape: Vec<usize>,
    /// Whether the elements are integers or booleans.
    pub(super) is_int: bool,
    data: Data<'t>,
}

#[derive(Debug, Clone)]
enum Data<'t> {
    /// A tensor of the file, by its name, which is not copied.
    Stored(&'t str, &'t Tensor),
    Numbers(Rc<[f64]>),
    Symbols(Rc<[Polynomial]>),
}

impl<'t> Value<'t> {
    pub(super) fn stored(name: &'t str, tensor: &'t Tensor) -> Self {
        let is_int = matches!(tensor.values, Values::I64(_));
        Self { shape: tensor.shape.clone(), is_int, data: Data::Stored(name, tensor) }
    }

    pub(super) fn numbers(shape: Vec<usize>, numbers: Vec<f64>, is_int: bool) -> Self {
        Self { shape, is_int, data: Data::Numbers(numbers.into()) }
    }

    /// A vector of integers.
    pub(super) fn integers(numbers: impl Iterator<Item = usize>) -> Self {
        let numbers: Vec<f64> = numbers.map(of_usize).collect();
        Self::numbers(vec![numbers.len()], numbers, true)
    }

    /// Numbers again, where no element is anything else.
    pub(super) fn symbols(shape: Vec<usize>, symbols: Vec<Polynomial>, is_int: bool) -> Self {
        match symbols.iter().map(constant).collect() {
            Some(numbers) => Self::numbers(shape, numbers, is_int),
            None => Self { shape, is_int, data: Data::Symbols(symbols.into()) },
        }
    }

    /// The same elements as integers, or as floats.
    pub(super) fn typed(&self, is_int: bool) -> Self {
        Self { is_int, ..self.clone() }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Stored(_, tensor) => tensor.values.len(),
            Data::Numbers(numbers) => numbers.len(),
            Data::Symbols(symbols) => symbols.len(),
        }
    }

    /// The name of the file's tensor that it is.
    pub(super) fn stored_name(&self) -> Option<&'t str> {
        if let Data::Stored(name, _) = self.data { Some(name) } else { None }
    }

    pub(super) fn is_constant(&self) -> bool {
        !matches!(self.data, Data::Symbols(_))
    }

    /// An element that is a number.
    pub(super) fn number(&self, at: usize) -> Option<f64> {
        match &self.data {
            Data::Stored(_, tensor) => match &tensor.values {
                Values::F32(values) => values.get(at).copied().map(f64::from),
                Values::F64(values) => values.get(at).copied(),
                Values::I64(values) => values.get(at).copied().map(of_i64),
            },
            Data::Numbers(numbers) => numbers.get(at).copied(),
            Data::Symbols(symbols) => symbols.get(at).and_then(constant),
        }
    }

    /// An element as a polynomial.
    pub(super) fn symbol(&self, at: usize) -> Polynomial {
        match &self.data {
            Data::Symbols(symbols) => symbols[at].clone(),
            _ => of_number(self.number(at).unwrap_or(f64::NAN)),
        }
    }

    /// All elements, where they are numbers.
    pub(super) fn all(&self) -> Option<Vec<f64>> {
        (0..self.len()).map(|at| self.number(at)).collect()
    }

    /// All elements, where they are integers.
    pub(super) fn all_whole(&self) -> Option<Vec<i64>> {
        (0..self.len()).map(|at| whole(self.number(at)?)).collect()
    }

    /// The same elements in another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Checked<Self> {
        if elements(&shape)? != self.len() {
            return Err(format!(
                "expected the {} elements of {:?}, found the shape {shape:?}",
                self.len(),
                self.shape
            ));
        }
        if shape == self.shape {
            return Ok(self.clone());
        }
        Ok(Self { shape, ..self.clone() }.computed())
    }

    /// The same, but no longer a tensor of the file.
    fn computed(self) -> Self {
        match (&self.data, self.all()) {
            (Data::Stored(..), Some(numbers)) => Self { data: Data::Numbers(numbers.into()), ..self },
            _ => self,
        }
    }

    /// Elements by their places in this value, in a new shape.
    pub(super) fn pick(&self, shape: Vec<usize>, places: &[usize]) -> Self {
        let data = match &self.data {
            Data::Symbols(symbols) => Data::Symbols(places.iter().map(|at| symbols[*at].clone()).collect()),
            _ => Data::Numbers(places.iter().map(|at| self.number(*at).unwrap_or(f64::NAN)).collect()),
        };
        let picked = Self { shape, data, is_int: self.is_int };
        match &picked.data {
            Data::Symbols(symbols) => Self::symbols(picked.shape, symbols.to_vec(), picked.is_int),
            _ => picked,
        }
    }

    /// The elements whose index on each axis is one of these, in their order.
    pub(super) fn select(&self, indices: &[Vec<usize>]) -> Checked<Self> {
        let shape: Vec<usize> = indices.iter().map(Vec::len).collect();
        elements(&shape)?;
        let mut places = vec![0];
        for (indices, extent) in indices.iter().zip(&self.shape) {
            places = places
                .iter()
                .flat_map(|place| indices.iter().map(move |index| place * extent + index))
                .collect();
        }
        Ok(self.pick(shape, &places))
    }

    /// With its axes in another order.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        let shape: Vec<usize> = order.iter().map(|axis| self.shape[*axis]).collect();
        let strides = strides(&self.shape);
        let strides: Vec<usize> = order.iter().map(|axis| strides[*axis]).collect();
        self.pick(shape.clone(), &places(&shape, &strides))
    }

    /// Repeated along axes of extent 1, and with axes before its own, by numpy's rules.
    pub(super) fn broadcast(&self, shape: &[usize]) -> Checked<Self> {
        let places = self.broadcast_places(shape)?;
        Ok(if self.shape == shape { self.clone() } else { self.pick(shape.to_vec(), &places) })
    }

    /// For each element of `shape` the place of the element here that stands for it.
    pub(super) fn broadcast_places(&self, shape: &[usize]) -> Checked<Vec<usize>> {
        elements(shape)?;
        let missing = shape.len().checked_sub(self.shape.len());
        let fits = |missing| {
            let theirs = shape.iter().skip(missing);
            self.shape.iter().zip(theirs).all(|(own, theirs)| own == theirs || *own == 1)
        };
        let Some(missing) = missing.filter(|missing| fits(*missing)) else {
            return Err(format!("expected a shape that {:?} fits into, found {shape:?}", self.shape));
        };
        let own = strides(&self.shape);
        let stride = |axis: usize| match axis.checked_sub(missing) {
            Some(axis) if self.shape[axis] != 1 => own[axis],
            _ => 0,
        };
        Ok(places(shape, &(0..shape.len()).map(stride).collect::<Vec<_>>()))
    }
}

/// The shape of an elementwise operation of two values.
pub(super) fn common_shape(a: &[usize], b: &[usize]) -> Checked<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let axes = (0..rank).map(|axis| match (extent(a, axis), extent(b, axis)) {
        (1, other) | (other, 1) => Some(other),
        (a, b) => (a == b).then_some(a),
    });
    axes.collect::<Option<_>>()
        .ok_or_else(|| format!("expected shapes that fit together, found {a:?} and {b:?}"))
}

/// How many elements a shape has. An extent of 0 does not make the others small.
pub(super) fn elements(shape: &[usize]) -> Checked<usize> {
    let bound = shape.iter().try_fold(1_usize, |product, extent| product.checked_mul((*extent).max(1)));
    if bound.is_none_or(|bound| bound > MAX_ELEMENTS) || shape.len() > 16 {
        return Err(format!("expected at most {MAX_ELEMENTS} elements, found the shape {shape:?}"));
    }
    Ok(shape.iter().product())
}

/// How far apart neighbours on each axis are.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The places of all elements of `shape`, where neighbours on each axis are that far apart.
pub(super) fn places(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (extent, stride) in shape.iter().zip(strides) {
        places =
            places.iter().flat_map(|place| (0..*extent).map(move |index| place + index * stride)).collect();
    }
    places
}

#[expect(clippy::cast_precision_loss, reason = "extents, and ids of at most 32 bits, are exact")]
pub(super) const fn of_usize(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "what is not exact is the end of an open slice")]
pub(super) const fn of_i64(number: i64) -> f64 {
    number as f64
}

/// A number that is an integer.
#[expect(clippy::cast_possible_truncation, reason = "it saturates, as the end of an open slice should")]
pub(super) fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 || number.is_infinite()).then_some(number as i64)
}
