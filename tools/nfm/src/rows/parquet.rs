//! Parquet: columns by name, of texts, numbers, truth values, and lists or maps of these.
//!
//! Memory is that of a page of each column, 23 MB for a file of 100 MB. Only damage in a page with the encoding
//! `DELTA_LENGTH_BYTE_ARRAY` or `DELTA_BYTE_ARRAY` can cost more: the crate believes a count there before it has the values,
//! at worst 2³¹ of 4 bytes.

use std::{
    any::Any,
    cell::Cell as Flag,
    fs::File,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, Type as Physical},
    data_type::Decimal,
    file::reader::{FileReader, SerializedFileReader},
    record::{Field as Cell, Row as Cells, reader::RowIter},
    schema::types::Type,
};

use super::{
    Problem,
    named::{self, Coder, Columns, Named, Target},
};
use crate::encoding::raw::RawValue;

/// The rows of a file, a page of each column at a time.
pub(super) struct Parquet {
    pub(super) columns: Columns,
    rows: RowIter<'static>,
    /// Of the columns that are read.
    targets: Vec<Target>,
    count: u64,
    number: u64,
}

impl Parquet {
    /// Reads the schema.
    pub(super) fn open(file: File, coder: &Coder<'_>) -> Result<Self, Problem> {
        guarded(|| Self::read_schema(file, coder))
    }

    fn read_schema(file: File, coder: &Coder<'_>) -> Result<Self, Problem> {
        let reader = SerializedFileReader::new(file).map_err(damaged)?;
        let metadata = reader.metadata();
        let count = row_count(&reader)?;
        let root = metadata.file_metadata().schema_descr().root_schema();
        let names: Vec<&str> = root.get_fields().iter().map(|column| column.name()).collect();
        let columns = coder.columns(&names)?;
        let read = root.get_fields().iter().zip(&columns.targets);
        let read: Vec<_> = read.filter(|(_, target)| **target != Target::Nothing).collect();
        for (column, _) in &read {
            check(column).map_err(|text| Problem::of_value(column.name(), text))?;
        }
        let targets = read.iter().map(|(_, target)| **target).collect();
        let projection = Type::group_type_builder(root.name())
            .with_fields(read.iter().map(|(column, _)| (*column).clone()).collect())
            .build()
            .map_err(damaged)?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection)).map_err(damaged)?;
        Ok(Self { columns, rows, targets, count, number: 0 })
    }

    /// Goes to the next row; false at the end.
    pub(super) fn advance(&mut self) -> bool {
        let is_there = self.number < self.count;
        self.number += u64::from(is_there);
        is_there
    }

    /// The number of the row, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Which part of the rows was read, of `whole`.
    pub(super) fn part_of(&self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.number) / u128::from(self.count.max(1));
        u64::try_from(part).unwrap_or(whole)
    }

    /// Gives the row's values to `named`.
    pub(super) fn parse(&mut self, named: &mut Named) -> Result<(), Problem> {
        let cells: Cells = guarded(|| match self.rows.next() {
            Some(cells) => cells.map_err(damaged),
            None => Err(damaged("fewer rows than it says")),
        })?;
        for ((name, cell), target) in cells.into_columns().into_iter().zip(&self.targets) {
            let value = value_of(cell).map_err(|text| Problem::of_value(&name, text))?;
            match target {
                Target::Field(field) => {
                    if let Some(place) = named.values.get_mut(*field) {
                        *place = value;
                    }
                }
                Target::Label => named.set_label(&value)?,
                Target::Nothing => {}
            }
        }
        Ok(())
    }
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::new(format!("expected an intact Parquet file, found: {error}"))
}

thread_local! {
    /// Whether a panic of this thread is caught and becomes an error.
    static IS_GUARDED: Flag<bool> = const { Flag::new(false) };
}

/// Calls the crate, which panics on some damaged files: of 5,600 files with one or two wrong bytes 39.
fn guarded<T>(read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                tell(info);
            }
        }));
    });
    IS_GUARDED.set(true);
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(false);
    read.unwrap_or_else(|panic| Err(damaged(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("damage")
}

/// How many rows there are, by both statements that a file makes.
fn row_count(reader: &SerializedFileReader<File>) -> Result<u64, Problem> {
    let metadata = reader.metadata();
    let stated = u64::try_from(metadata.file_metadata().num_rows()).map_err(damaged)?;
    let mut counted = 0_u64;
    for group in metadata.row_groups() {
        counted = counted.saturating_add(u64::try_from(group.num_rows()).map_err(damaged)?);
    }
    if stated != counted {
        return Err(damaged(format!("{stated} rows in the file, but {counted} in its groups")));
    }
    Ok(counted)
}

/// Refuses a column of a type that is no value, list or map.
fn check(column: &Type) -> Result<(), String> {
    let is_one = |of: &Type| of.get_basic_info().repetition() != Repetition::REPEATED;
    let is_value = |of: &Type| is_scalar(of) && is_one(of);
    let is_pair = |of: &[std::sync::Arc<Type>]| of.len() == 2 && of.iter().all(|of| is_value(of));
    let is_several = |repeated: &Type| {
        let parts = if repeated.is_primitive() { &[] } else { repeated.get_fields() };
        match (column.get_basic_info().converted_type(), parts) {
            (ConvertedType::LIST, []) => is_scalar(repeated),
            (ConvertedType::LIST, [element]) if element.is_primitive() => is_value(element),
            (ConvertedType::LIST, [element]) => is_one(element) && is_pair(element.get_fields()),
            (ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, pair) => is_pair(pair),
            _ => false,
        }
    };
    let is_read = is_one(column)
        && match column.is_group().then(|| column.get_fields()) {
            None => is_scalar(column),
            Some([repeated]) => !is_one(repeated) && is_several(repeated),
            Some(_) => false,
        };
    let expected = "expected texts, numbers, truth values, or a list or map of these";
    if is_read {
        Ok(())
    } else {
        Err(format!("{expected}, found {}; write another column", type_name(column)))
    }
}

/// Whether a type is a text, a number or a truth value.
fn is_scalar(of: &Type) -> bool {
    if !of.is_primitive() {
        return false;
    }
    let (physical, info) = (of.get_physical_type(), of.get_basic_info());
    let is_plain = matches!(info.logical_type_ref(), None | Some(LogicalType::Unknown));
    match info.converted_type() {
        ConvertedType::NONE if is_plain => {
            !matches!(physical, Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY)
        }
        ConvertedType::NONE => matches!(info.logical_type_ref(), Some(LogicalType::Float16)),
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::DECIMAL => true,
        ConvertedType::INT_8 | ConvertedType::INT_16 | ConvertedType::INT_32 | ConvertedType::INT_64 => true,
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
            true
        }
        _ => false,
    }
}

/// A type for a message.
fn type_name(of: &Type) -> String {
    let info = of.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(logical), _) => format!("{logical:?}"),
        (None, ConvertedType::NONE) if of.is_primitive() => of.get_physical_type().to_string(),
        (None, ConvertedType::NONE) => "a struct".into(),
        (None, converted) => converted.to_string(),
    }
}

/// A cell's value.
fn value_of(cell: Cell) -> Result<RawValue, String> {
    match cell {
        Cell::Str(text) => Ok(RawValue::Text(text)),
        Cell::ListInternal(list) => {
            list.elements().iter().map(element).collect::<Result<_, _>>().map(RawValue::List)
        }
        Cell::MapInternal(map) => {
            let pairs = map.entries().iter().map(|(key, weight)| pair(key, weight));
            pairs.collect::<Result<_, _>>().map(RawValue::List)
        }
        cell => scalar(&cell),
    }
}

/// An element of a list: a value, or a value and its weight.
fn element(cell: &Cell) -> Result<(RawValue, f64), String> {
    let Cell::Group(row) = cell else { return Ok((scalar(cell)?, 1.0)) };
    let parts: Vec<&Cell> = row.get_column_iter().map(|(_, part)| part).collect();
    match parts.as_slice() {
        [value, weight] => pair(value, weight),
        parts => Err(format!("expected a value and a weight, found {} parts", parts.len())),
    }
}

fn pair(value: &Cell, weight: &Cell) -> Result<(RawValue, f64), String> {
    let number = named::number(&scalar(weight)?);
    let weight = number.map_err(|found| format!("expected a finite number as the weight, found {found}"))?;
    Ok((scalar(value)?, weight))
}

fn scalar(cell: &Cell) -> Result<RawValue, String> {
    Ok(match cell {
        Cell::Null => RawValue::Missing,
        Cell::Bool(truth) => RawValue::Int((*truth).into()),
        Cell::Byte(number) => RawValue::Int((*number).into()),
        Cell::Short(number) => RawValue::Int((*number).into()),
        Cell::Int(number) => RawValue::Int((*number).into()),
        Cell::Long(number) => RawValue::Int(*number),
        Cell::UByte(number) => RawValue::Int((*number).into()),
        Cell::UShort(number) => RawValue::Int((*number).into()),
        Cell::UInt(number) => RawValue::Int((*number).into()),
        Cell::ULong(number) => RawValue::Int(
            (*number).try_into().map_err(|_| format!("expected an integer below 2⁶³, found {number}"))?,
        ),
        Cell::Float16(number) => RawValue::Float((*number).into()),
        Cell::Float(number) => RawValue::Float((*number).into()),
        Cell::Double(number) => RawValue::Float(*number),
        Cell::Decimal(number) => RawValue::Text(decimal(number)?),
        Cell::Str(text) => RawValue::Text(text.clone()),
        Cell::Bytes(bytes) => RawValue::Text(text(bytes.data())?),
        // `check` refused the others.
        _ => return Err("expected a text or a number, found another type".into()),
    })
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| format!("expected a UTF-8 text, found {} other bytes", bytes.len()))
}

/// A decimal with all the digits of its scale, as Python prints it.
fn decimal(number: &Decimal) -> Result<String, String> {
    let bytes = number.data();
    let scale = usize::try_from(number.scale()).ok().filter(|scale| *scale <= 38);
    let Some(scale) = scale.filter(|_| bytes.len() <= size_of::<i128>()) else {
        let (len, scale) = (bytes.len(), number.scale());
        return Err(format!(
            "expected a decimal of at most 16 bytes and a scale to 38, found {len} and {scale}"
        ));
    };
    let negative = bytes.first().is_some_and(|byte| byte.cast_signed() < 0);
    let sign = if negative { -1 } else { 0 };
    let unscaled = bytes.iter().fold(sign, |number: i128, byte| number << 8 | i128::from(*byte));
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale.saturating_add(1));
    let (whole, part) = digits.split_at(digits.len().saturating_sub(scale));
    let (minus, point) = (if negative { "-" } else { "" }, if scale > 0 { "." } else { "" });
    Ok(format!("{minus}{whole}{point}{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_all_their_digits() {
        let of = |bytes: &[u8], scale| decimal(&Decimal::from_bytes(bytes.to_vec().into(), 38, scale));
        let most = [[0x80].as_slice(), &[0; 15]].concat();
        for (bytes, scale, expected) in [
            (&[0][..], 0, "0"),
            (&[5], 2, "0.05"),
            (&[0xfb], 2, "-0.05"),
            (&[0x04, 0xe2], 2, "12.50"),
            (&[0xff, 0x85], 0, "-123"),
            (&[0x7b], 3, "0.123"),
            (&most, 38, "-1.70141183460469231731687303715884105728"),
        ] {
            assert_eq!(of(bytes, scale).as_deref(), Ok(expected));
        }
        for (bytes, scale) in [(vec![0; 17], 2), (vec![0], 39), (vec![0], -1)] {
            assert!(of(&bytes, scale).unwrap_err().starts_with("expected a decimal of at most 16 bytes"));
        }
    }
}
