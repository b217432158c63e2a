use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::flow::Message;

/// A row to write: turns as `(role, content)`, an optional answer, and an index.
type Written<'a, T> = (&'a [(&'a str, &'a str)], Option<T>, i64);

/// Writes a file in verl's format; `kind` declares the answers' Parquet type.
fn write<D: DataType>(path: &Path, kind: &str, rows: &[Written<D::T>], compression: Compression) {
    let schema = format!(
        "message m {{
            required group prompt (LIST) {{ repeated group list {{ required group element {{
                required binary role (UTF8); required binary content (UTF8); }} }} }}
            required group reward_model {{ required binary style (UTF8); optional {kind} ; }}
            required group extra_info {{ required int64 index; required binary split (UTF8); }} }}"
    );
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(64)).build();
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let text = |text: &str| ByteArray::from(text);
    for rows in rows.chunks(50) {
        let mut group = writer.next_row_group().unwrap();
        let turns: Vec<(&str, &str)> = rows.iter().flat_map(|(turns, ..)| turns.iter().copied()).collect();
        let starts: Vec<i16> = rows.iter().flat_map(|(turns, ..)| (0..turns.len()).map(|number| i16::from(number > 0))).collect();
        let levels = vec![1; turns.len()];
        let constant = |value: &str| vec![text(value); rows.len()];
        let texts = |values: Vec<ByteArray>,
                     levels: Option<(&[i16], &[i16])>,
                     group: &mut ::parquet::file::writer::SerializedRowGroupWriter<File>| {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, levels.map(|(own, _)| own), levels.map(|(_, starts)| starts)).unwrap();
            column.close().unwrap();
        };
        texts(turns.iter().map(|(role, _)| text(role)).collect(), Some((&levels, &starts)), &mut group);
        texts(turns.iter().map(|(_, content)| text(content)).collect(), Some((&levels, &starts)), &mut group);
        texts(constant("rule"), None, &mut group);
        let golds: Vec<D::T> = rows.iter().filter_map(|(_, gold, _)| gold.clone()).collect();
        let present: Vec<i16> = rows.iter().map(|(_, gold, _)| i16::from(gold.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<D>().write_batch(&golds, Some(&present), None).unwrap();
        column.close().unwrap();
        let indices: Vec<i64> = rows.iter().map(|(.., index)| *index).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&indices, None, None).unwrap();
        column.close().unwrap();
        texts(constant("train"), None, &mut group);
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const QUESTION: &[(&str, &str)] = &[("user", "q")];
const TEXT: &str = "binary ground_truth (UTF8)";

fn problems(path: &Path) -> Result<Vec<Problem>> {
    match read(path, true)? {
        Contents::Problems(problems) => Ok(problems),
        Contents::Rows(_) => bail!("a table"),
    }
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("a.parquet")
}

#[test]
fn read_keeps_every_turn() {
    let folder = tempfile::tempdir().unwrap();
    let turns: &[(&str, &str)] =
        &[("system", "In French."), ("user", "1+1?"), ("assistant", "2"), ("user", &format!("q{PUBLISHED_INSTRUCTION}")), ("gpt", "Let")];
    write::<ByteArrayType>(&file(&folder), TEXT, &[(turns, Some("7".into()), 5)], Compression::UNCOMPRESSED);
    let found = problems(&file(&folder)).unwrap();
    let context = vec![Message::new("system", "In French."), Message::new("user", "1+1?"), Message::new("assistant", "2")];
    let expected =
        Problem { id: "a/5".into(), question: "q".into(), context, prefill: "Let".into(), answer: "7".into(), ..Problem::default() };
    assert_eq!(found, [expected]);
    write::<ByteArrayType>(
        &file(&folder),
        TEXT,
        &[(QUESTION, Some("7".into()), 5), (&[("user", "q"), ("tool", "4")], Some("7".into()), 6)],
        Compression::UNCOMPRESSED,
    );
    let error = problems(&file(&folder)).unwrap_err().to_string();
    assert!(error.contains("a.parquet, row 2: `prompt[1].role` is \"tool\""), "{error}");
}

#[test]
fn read_supports_every_codec_and_skips_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let (gzip, brotli) = (Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default()));
    for codec in [Compression::SNAPPY, zstd, gzip, brotli, Compression::LZ4, Compression::LZ4_RAW] {
        let rows: Vec<Written<ByteArray>> = (0..300).map(|row| (QUESTION, Some("7".into()), row % 3)).collect();
        write::<ByteArrayType>(&file(&folder), TEXT, &rows, codec);
        let ids: Vec<String> = problems(&file(&folder)).unwrap().into_iter().map(|problem| problem.id).collect();
        assert_eq!(ids, ["a/0", "a/1", "a/2"], "{codec:?}");
    }
}

#[test]
fn read_keeps_the_digits_of_every_answer_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let answer = || problems(&path).map(|problems| problems[0].answer.clone());
    write::<FloatType>(&path, "float ground_truth", &[(QUESTION, Some(12.8), 0)], Compression::SNAPPY);
    assert_eq!(answer().unwrap(), "12.8");
    write::<Int64Type>(&path, "int64 ground_truth", &[(QUESTION, Some(9_007_199_254_740_993), 0)], Compression::SNAPPY);
    assert_eq!(answer().unwrap(), "9007199254740993");
    write::<BoolType>(&path, "boolean ground_truth", &[(QUESTION, Some(true), 0)], Compression::SNAPPY);
    let error = answer().unwrap_err().to_string();
    assert!(error.contains("row 1: `reward_model.ground_truth` is true (true or false); expected text"), "{error}");
    write::<ByteArrayType>(&path, TEXT, &[(QUESTION, Some("['70', '71']".into()), 0)], Compression::SNAPPY);
    assert_eq!(problems(&path).unwrap()[0].alternatives, ["71"]);
}

#[test]
fn read_describes_the_value_of_a_missing_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    for (gold, expected) in [
        (None, "row 1: `reward_model.ground_truth` is null, so there is no answer"),
        (Some("nan"), "row 1: `reward_model.ground_truth` is \"nan\", so there is no answer"),
        (Some(""), "row 1: `reward_model.ground_truth` is \"\", so there is no answer"),
    ] {
        write::<ByteArrayType>(&path, TEXT, &[(QUESTION, gold.map(ByteArray::from), 0)], Compression::SNAPPY);
        let error = problems(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(matches!(read(&path, false).unwrap(), Contents::Problems(problems) if problems[0].answer.is_empty()));
    }
}

/// A flipped bit anywhere leads to other text or to an error that names the file, never to a panic.
#[test]
fn read_does_not_panic_on_flipped_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    write::<ByteArrayType>(
        &path,
        TEXT,
        &[(QUESTION, Some("7".into()), 0), (&[("user", "r")], Some("8".into()), 1)],
        Compression::UNCOMPRESSED,
    );
    let whole = std::fs::read(&path).unwrap();
    let mut rejected = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = problems(&path) {
            rejected += 1;
            assert!(format!("{error:#}").contains("a.parquet"), "byte {at}: {error:#}");
        }
    }
    assert!(rejected > 100, "{rejected} of {} changed files were rejected", whole.len());
}
