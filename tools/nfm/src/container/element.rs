//! Element types, strided views, and the one way from a file's bytes to [`Values`].

use std::io::{self, Read};

use half::{bf16, f16};

use crate::tensors::Values;

/// A value, or the problem, to which the caller adds file and place.
pub(super) type Checked<T> = Result<T, String>;

/// The element type of a tensor in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Element {
    /// The type's name in [`crate::tensors::Tensor::dtype`].
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Bytes an element takes in a file.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Bytes an element takes in [`Values`].
    pub(super) fn wide_bytes(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 4,
            _ => 8,
        }
    }

    /// No values yet, with room for `len`.
    fn empty(self, len: usize) -> Values {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => Values::F32(Vec::with_capacity(len)),
            Self::F64 => Values::F64(Vec::with_capacity(len)),
            _ => Values::I64(Vec::with_capacity(len)),
        }
    }

    /// `len` zeros.
    pub(super) fn zeros(self, len: usize) -> Values {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => Values::F32(vec![0.0; len]),
            Self::F64 => Values::F64(vec![0.0; len]),
            _ => Values::I64(vec![0; len]),
        }
    }

    /// Decodes whole elements to the end of `values`, which [`Element::empty`] of the same type gave.
    fn decode(self, bytes: &[u8], order: ByteOrder, values: &mut Values) -> io::Result<()> {
        match (self, values) {
            (Self::F32, Values::F32(v)) => v.extend(each(bytes, order, f32::from_le_bytes)),
            (Self::F16, Values::F32(v)) => v.extend(each(bytes, order, |b| f16::from_le_bytes(b).to_f32())),
            (Self::Bf16, Values::F32(v)) => v.extend(each(bytes, order, |b| bf16::from_le_bytes(b).to_f32())),
            (Self::F64, Values::F64(v)) => v.extend(each(bytes, order, f64::from_le_bytes)),
            (Self::I64, Values::I64(v)) => v.extend(each(bytes, order, i64::from_le_bytes)),
            (Self::I32, Values::I64(v)) => v.extend(each(bytes, order, |b| i64::from(i32::from_le_bytes(b)))),
            (Self::I16, Values::I64(v)) => v.extend(each(bytes, order, |b| i64::from(i16::from_le_bytes(b)))),
            (Self::I8, Values::I64(v)) => v.extend(bytes.iter().map(|b| i64::from(b.cast_signed()))),
            (Self::U32, Values::I64(v)) => v.extend(each(bytes, order, |b| i64::from(u32::from_le_bytes(b)))),
            (Self::U16, Values::I64(v)) => v.extend(each(bytes, order, |b| i64::from(u16::from_le_bytes(b)))),
            (Self::U8, Values::I64(v)) => v.extend(bytes.iter().map(|b| i64::from(*b))),
            (Self::Bool, Values::I64(v)) => v.extend(bytes.iter().map(|b| i64::from(*b != 0))),
            (Self::U64, Values::I64(v)) => {
                for wide in each(bytes, order, u64::from_le_bytes) {
                    v.push(i64::try_from(wide).map_err(|_| invalid(format!("{wide} exceeds 2⁶³ − 1")))?);
                }
            }
            _ => debug_assert!(false, "values of another type"),
        }
        Ok(())
    }
}

/// Which byte of an element comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

fn each<const N: usize, T>(
    bytes: &[u8],
    order: ByteOrder,
    from_le: impl Fn([u8; N]) -> T,
) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |chunk| {
        let mut chunk = *chunk;
        if order == ByteOrder::Big {
            chunk.reverse();
        }
        from_le(chunk)
    })
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// A view of a storage: which elements a tensor takes, in which order. It lies within the storage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    strides: Vec<usize>,
    /// The first element, counted in elements from the start of the storage.
    pub(super) offset: usize,
    /// The product of `shape`.
    pub(super) len: usize,
}

/// More dimensions than any tensor that torch or numpy makes.
const MAX_DIMENSIONS: usize = 64;

impl View {
    /// The view of `shape` and `strides` at `offset` in a storage of `storage_len` elements.
    ///
    /// # Errors
    ///
    /// The problem, when an extent or a stride is negative or the view leaves the storage.
    pub(super) fn new(
        element: Element,
        shape: &[i64],
        strides: &[i64],
        offset: usize,
        storage_len: usize,
    ) -> Checked<Self> {
        if shape.len() != strides.len() || shape.len() > MAX_DIMENSIONS {
            return Err(format!(
                "expected one stride an extent, of at most {MAX_DIMENSIONS}, found {} extents and {} strides",
                shape.len(),
                strides.len()
            ));
        }
        let usizes = |what: &str, of: &[i64]| -> Checked<Vec<usize>> {
            let all = of.iter().map(|i| usize::try_from(*i).ok()).collect::<Option<Vec<usize>>>();
            all.ok_or_else(|| format!("expected {what} ≥ 0, found {of:?}"))
        };
        let view = Self {
            element,
            shape: usizes("extents", shape)?,
            strides: usizes("strides", strides)?,
            offset,
            len: 0,
        };
        view.checked(storage_len)
    }

    /// The contiguous view of `shape` over a whole storage of `storage_len` elements.
    pub(super) fn whole(element: Element, shape: Vec<usize>, storage_len: usize) -> Checked<Self> {
        let mut strides = vec![1; shape.len()];
        let mut stride: usize = 1;
        for (to, extent) in strides.iter_mut().zip(&shape).rev() {
            *to = stride;
            stride = stride.saturating_mul(*extent);
        }
        let view = Self { element, shape, strides, offset: 0, len: 0 }.checked(storage_len)?;
        if view.len != storage_len {
            return Err(format!(
                "expected {} elements for shape {:?}, found {storage_len}",
                view.len, view.shape
            ));
        }
        Ok(view)
    }

    /// The same elements with the axes in reverse: of a contiguous view, one in Fortran's order.
    pub(super) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.strides.reverse();
        self
    }

    fn checked(mut self, storage_len: usize) -> Checked<Self> {
        if self.shape.contains(&0) {
            return Ok(self);
        }
        let len = self.shape.iter().try_fold(1_usize, |len, extent| len.checked_mul(*extent));
        let mut pairs = self.shape.iter().zip(&self.strides);
        let last = pairs.try_fold(self.offset, |last, (extent, stride)| {
            last.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?)
        });
        match (len, last) {
            (Some(len), Some(last)) if last < storage_len => {
                self.len = len;
                Ok(self)
            }
            _ => Err(format!(
                "shape {:?} with strides {:?} at {} leaves its storage of {storage_len} elements; \
                 the file is damaged",
                self.shape, self.strides, self.offset
            )),
        }
    }

    /// Bytes that the values take in memory.
    pub(super) fn wide_bytes(&self) -> u64 {
        (self.len as u64).saturating_mul(self.element.wide_bytes() as u64)
    }

    /// Whether the elements follow each other in the storage.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected: usize = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(extent, stride)| {
            let follows = *extent == 1 || *stride == expected;
            expected = expected.saturating_mul(*extent);
            follows
        })
    }

    /// Reads a contiguous view from `reader`, which stands at its first element.
    pub(super) fn read(&self, reader: &mut impl Read, order: ByteOrder) -> io::Result<Values> {
        let mut values = self.element.empty(self.len);
        // A storage holds the view, so its byte count fits.
        let mut left = self.len * self.element.bytes();
        let mut chunk = vec![0; left.min(CHUNK_BYTES)];
        while left > 0 {
            let (now, _) = chunk.split_at_mut(left.min(CHUNK_BYTES));
            reader.read_exact(now)?;
            self.element.decode(now, order, &mut values)?;
            left -= now.len();
        }
        Ok(values)
    }

    /// Takes any view out of the bytes of its storage.
    pub(super) fn gather(&self, storage: &[u8], order: ByteOrder) -> io::Result<Values> {
        let size = self.element.bytes();
        let short = || invalid(format!("its storage of {} bytes is too short", storage.len()));
        if self.is_contiguous() {
            let start = self.offset.checked_mul(size).filter(|_| self.len > 0).unwrap_or(0);
            return self.read(&mut storage.get(start..).ok_or_else(short)?, order);
        }
        let mut values = self.element.empty(self.len);
        let mut index = vec![0_usize; self.shape.len()];
        let mut at = self.offset;
        let mut chunk = Vec::new();
        for _ in 0..self.len {
            let start = at.checked_mul(size).ok_or_else(short)?;
            let element = storage.get(start..).and_then(|s| s.get(..size)).ok_or_else(short)?;
            chunk.extend_from_slice(element);
            if chunk.len() >= CHUNK_BYTES {
                self.element.decode(&chunk, order, &mut values)?;
                chunk.clear();
            }
            at = self.advance(&mut index, at);
        }
        self.element.decode(&chunk, order, &mut values)?;
        Ok(values)
    }

    /// Counts `index` up in row-major order and gives the element after the one `at`.
    fn advance(&self, index: &mut [usize], mut at: usize) -> usize {
        // No step leaves the view, and every element of the view is below `storage_len`.
        for ((i, extent), stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
            if *i + 1 < *extent {
                *i += 1;
                return at + *stride;
            }
            at -= *i * *stride;
            *i = 0;
        }
        at
    }
}

/// A multiple of every element's size.
const CHUNK_BYTES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: u8) -> Vec<u8> {
        (0..count).collect()
    }

    #[test]
    fn a_transposed_view_comes_out_row_major() {
        let view = View::new(Element::U8, &[2, 3], &[1, 2], 1, 7).unwrap();
        assert!(!view.is_contiguous());
        assert_eq!(view.gather(&bytes(7), ByteOrder::Little).unwrap(), Values::I64(vec![1, 3, 5, 2, 4, 6]));
    }

    #[test]
    fn an_expanded_view_repeats() {
        let view = View::new(Element::I8, &[2, 2], &[0, 1], 1, 3).unwrap();
        assert_eq!(view.gather(&bytes(3), ByteOrder::Little).unwrap(), Values::I64(vec![1, 2, 1, 2]));
    }

    #[test]
    fn a_view_that_leaves_its_storage_is_refused() {
        let i64s: [(&[i64], &[i64], usize); 6] = [
            (&[3], &[1], 1),
            (&[2], &[3], 0),
            (&[-1], &[1], 0),
            (&[2], &[-1], 1),
            (&[i64::MAX, i64::MAX], &[i64::MAX, i64::MAX], 0),
            (&[1], &[1], usize::MAX),
        ];
        for (shape, strides, offset) in i64s {
            assert!(View::new(Element::F32, shape, strides, offset, 3).is_err(), "{shape:?} {strides:?}");
        }
        assert!(View::new(Element::F32, &[3], &[1], 0, 3).is_ok());
        assert!(View::new(Element::F32, &[], &[], 2, 3).is_ok());
        assert!(View::new(Element::F32, &[], &[], 3, 3).is_err());
    }

    #[test]
    fn an_empty_view_needs_no_storage() {
        let view = View::new(Element::F32, &[0, i64::MAX], &[i64::MAX, 1], 9, 0).unwrap();
        assert_eq!(view.gather(&[], ByteOrder::Little).unwrap(), Values::F32(vec![]));
    }

    #[test]
    fn short_floats_widen_and_byte_order_counts() {
        let half = View::new(Element::F16, &[2], &[1], 0, 2).unwrap();
        let values = half.read(&mut [0x3c, 0x00, 0xc1, 0x00].as_slice(), ByteOrder::Big).unwrap();
        assert_eq!(values, Values::F32(vec![1.0, -2.5]));
        let brain = View::new(Element::Bf16, &[1], &[1], 0, 1).unwrap();
        assert_eq!(brain.gather(&[0x20, 0xc0], ByteOrder::Little).unwrap(), Values::F32(vec![-2.5]));
    }

    #[test]
    fn an_unsigned_that_does_not_fit_is_an_error() {
        let view = View::new(Element::U64, &[1], &[1], 0, 1).unwrap();
        assert!(view.gather(&[0xff; 8], ByteOrder::Little).is_err());
    }
}
