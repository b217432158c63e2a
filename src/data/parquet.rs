//! Reads Parquet files row by row. Decodes only the requested columns, one page of each at a time. Owns how a cell becomes a [`Value`].
//! Does not know what the columns mean.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::{Type, TypePtr};
use anyhow::{Context, Result, anyhow};
use half::f16;

use super::rows::Row;
use super::value::{Value, usual_notation};
use crate::input::catch_panics;

/// An open Parquet file.
pub(super) struct Table {
    name: String,
    reader: SerializedFileReader<File>,
}

impl Table {
    /// Opens a file and reads its schema.
    ///
    /// # Errors
    /// If the file cannot be read or is not Parquet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let reader = catch_panics(&name, || SerializedFileReader::new(file).map_err(|error| parse_error(&name, &error)))?;
        Ok(Self { name, reader })
    }

    /// Returns the names of the top-level columns.
    pub(super) fn columns(&self) -> Vec<&str> {
        self.schema().get_fields().iter().map(|field| field.name()).collect()
    }

    /// Calls `take` with every row, reduced to the columns and fields in `paths`, such as the column `prompt` or the field
    /// `extra_info.index`. Ignores paths that the file lacks.
    ///
    /// # Errors
    /// If the file is corrupt, or `take` returns an error, which stops the iteration.
    pub(super) fn each_row(&self, paths: &[&str], mut take: impl FnMut(Row) -> Result<()>) -> Result<()> {
        let parse_error = |error| parse_error(&self.name, &error);
        let open = || self.reader.get_row_iter(Some(projection(self.schema(), paths)?));
        let mut records = catch_panics(&self.name, || open().map_err(parse_error))?;
        for number in 0.. {
            let location = format!("{}, row {}", self.name, number + 1);
            let Some(record) = catch_panics(&location, || records.next().transpose().map_err(parse_error))? else { break };
            take(Row { fields: object(record), location, number })?;
        }
        Ok(())
    }

    fn schema(&self) -> &Type {
        self.reader.metadata().file_metadata().schema()
    }
}

fn parse_error(name: &str, error: &::parquet::errors::ParquetError) -> anyhow::Error {
    anyhow!("cannot read {name} as Parquet: {error}")
}

/// Reduces a schema to the columns in `paths` and, within structs, to the listed fields. Keeps all fields of a struct that has none of the
/// listed ones, so that errors can list them.
fn projection(schema: &Type, paths: &[&str]) -> ::parquet::errors::Result<Type> {
    let mut fields: Vec<TypePtr> = Vec::new();
    for column in schema.get_fields() {
        let of_column = |path: &&str| path.split('.').next() == Some(column.name());
        let inner: Vec<&str> = paths.iter().filter(|path| of_column(path)).filter_map(|path| Some(path.split_once('.')?.1)).collect();
        let wanted: Vec<TypePtr> = match column.is_group() {
            true => column.get_fields().iter().filter(|field| inner.contains(&field.name())).cloned().collect(),
            false => Vec::new(),
        };
        if !wanted.is_empty() {
            let own = column.get_basic_info();
            let group = Type::group_type_builder(column.name()).with_repetition(own.repetition()).with_fields(wanted);
            fields.push(Arc::new(group.build()?));
        } else if paths.iter().any(of_column) {
            fields.push(column.clone());
        }
    }
    Type::group_type_builder(schema.name()).with_fields(fields).build()
}

fn object(record: Record) -> Value {
    Value::Object(record.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect())
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::Bool(truth),
        Field::Byte(number) => Value::Number(number.to_string()),
        Field::Short(number) => Value::Number(number.to_string()),
        Field::Int(number) => Value::Number(number.to_string()),
        Field::Long(number) => Value::Number(number.to_string()),
        Field::UByte(number) => Value::Number(number.to_string()),
        Field::UShort(number) => Value::Number(number.to_string()),
        Field::UInt(number) => Value::Number(number.to_string()),
        Field::ULong(number) => Value::Number(number.to_string()),
        Field::Float16(float) => Value::float(f32::from(float), shortest(float)),
        Field::Float(float) => Value::float(float, format!("{float:?}")),
        Field::Double(float) => Value::float(float, usual_notation(&format!("{float:e}"))),
        Field::Str(text) => Value::Text(text),
        Field::Bytes(bytes) => match String::from_utf8(bytes.data().to_vec()) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Other("bytes that are not UTF-8 text"),
        },
        Field::Group(record) => object(record),
        Field::ListInternal(list) => Value::List(list.elements().iter().cloned().map(value).collect()),
        decimal @ Field::Decimal(_) => Value::Number(decimal.to_string()),
        Field::Date(_) | Field::TimestampMillis(_) | Field::TimestampMicros(_) => Value::Other("a date"),
        Field::TimeMillis(_) | Field::TimeMicros(_) => Value::Other("a time"),
        Field::MapInternal(_) => Value::Other("a map"),
    }
}

/// Returns the shortest decimal that parses as this half-precision number.
fn shortest(float: f16) -> String {
    let value = f32::from(float);
    let fewest = (0..5).map(|decimals| format!("{value:.decimals$e}")).find(|text| text.parse().map(f16::from_f32) == Ok(float));
    fewest.map_or_else(|| value.to_string(), |text| usual_notation(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_writes_floats_as_the_shortest_text_of_their_type() {
        let check = |field: Field, expected: &str| assert_eq!(value(field.clone()), Value::Number(expected.into()), "{field:?}");
        check(Field::Float(12.8), "12.8");
        check(Field::Float(0.1), "0.1");
        check(Field::Float(-7.0), "-7");
        check(Field::Float(1e-7), "1e-7");
        check(Field::Float16(f16::from_f32(12.8)), "12.8");
        check(Field::Float16(f16::from_f32(0.1)), "0.1");
        check(Field::Float16(f16::from_f32(-2.0)), "-2");
        check(Field::Double(12.800000190734863), "12.800000190734863");
        check(Field::Double(0.1), "0.1");
        check(Field::Double(1e20), "1e+20");
        check(Field::ULong(u64::MAX), "18446744073709551615");
        assert_eq!(value(Field::Double(f64::NAN)).kind(), "NaN, which is not a number");
        assert_eq!(value(Field::Bytes(vec![0xFF, b'8'].into())).kind(), "bytes that are not UTF-8 text");
    }
}
