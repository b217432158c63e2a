//! Tests the files by reading them back with an independent decoder of the wire format.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use super::*;

/// The value of a field, by wire type.
#[derive(Debug, PartialEq)]
enum Field {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Varint(take_varint(&mut bytes)),
            1 => Field::Fixed64(take(&mut bytes, 8).try_into().unwrap()),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Field::Fixed32(take(&mut bytes, 4).try_into().unwrap()),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

/// Returns the events of a file without their times, after checking the checksums.
fn events(path: &Path) -> Vec<Vec<(u64, Field)>> {
    let content = fs::read(path).unwrap();
    let mut bytes = content.as_slice();
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8);
        assert_eq!(take(&mut bytes, 4), masked_crc32c(length).to_le_bytes());
        let data = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        assert_eq!(take(&mut bytes, 4), masked_crc32c(data).to_le_bytes());
        let mut event = fields(data);
        let (number, Field::Fixed64(time)) = event.remove(0) else {
            panic!("an event starts with its time");
        };
        assert_eq!(number, 1);
        assert!(f64::from_le_bytes(time) > 1.7e9);
        events.push(event);
    }
    events
}

#[test]
fn event_file_write_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = EventFile::create(folder.path()).unwrap();
    let values = [("actor/entropy", 0.25), ("reward/mean", f32::NAN)].map(|(tag, number)| SummaryValue::scalar(tag, number));
    file.write(300, 1.8e9, &values).unwrap();
    let found = events(&file.path);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], [(3, Field::Bytes(b"brain.Event:2".to_vec()))]);
    assert_eq!(found[1][0], (2, Field::Varint(300)));
    let (5, Field::Bytes(summary)) = &found[1][1] else {
        panic!("a summary");
    };
    let values = fields(summary);
    assert_eq!(values.len(), 2);
    for ((number, value), (tag, scalar)) in values.iter().zip([("actor/entropy", 0.25_f32), ("reward/mean", f32::NAN)]) {
        let Field::Bytes(value) = value else {
            panic!("a value");
        };
        assert_eq!(*number, 1);
        let expected = [(1, Field::Bytes(tag.as_bytes().to_vec())), (2, Field::Fixed32(scalar.to_le_bytes()))];
        assert_eq!(fields(value), expected);
    }
}

#[test]
fn event_file_resume_starts_a_session_at_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventFile::create(folder.path()).unwrap();
    let second = EventFile::resume(folder.path(), 21).unwrap();
    assert!(first.path < second.path, "read in the order of names");
    let found = events(&second.path);
    assert_eq!(found[1][0], (2, Field::Varint(21)));
    assert_eq!(found[1][1], (7, Field::Bytes(vec![8, 1])));
}

#[test]
fn event_file_create_names_a_missing_folder() {
    let message = format!("{:#}", EventFile::create(Path::new("no/folder")).unwrap_err());
    assert!(message.contains("no/folder"), "{message}");
}

#[test]
fn masked_crc32c_matches_rfc_3720() {
    // RFC 3720, B.4: 32 bytes of zeroes, of ones, and ascending.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c::crc32c(&ascending), 0x46dd_794e);
    // The mask of 0 is its constant.
    assert_eq!(masked_crc32c(b""), 0xa282_ead8);
}
