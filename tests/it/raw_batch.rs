//! Record batches made by hand, as no client library writes them, and a raw Produce request for them.

use crate::acl::{ask, text};

const PRODUCE: i16 = 0;

/// The first one with zstd.
const VERSION: i16 = 7;

/// The offset of the attributes in a batch: what the checksum is about begins there.
const CHECKED_FROM: usize = 21;

/// A codec's number in a batch's attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Codec {
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Writes a batch of `count` records, in the form that `compressed` has; the broker's error code, 0 if it takes it.
pub(crate) fn produce(
    broker: &str,
    topic: &str,
    partition: i32,
    codec: Codec,
    count: usize,
    compressed: &[u8],
) -> i16 {
    let batch = batch(codec, count, compressed);
    let size = i32::try_from(batch.len()).expect("a small batch");
    let mut body = Vec::new();
    // No transaction, every replica, half a minute; one topic with one partition.
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(30_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(text(topic));
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(size.to_be_bytes());
    body.extend(batch);
    let answer = ask(broker, PRODUCE, VERSION, &body);
    // The topic's name stands before the partition, its code behind it.
    let code = 4 + text(topic).len() + 4 + 4;
    i16::from_be_bytes([answer[code], answer[code + 1]])
}

fn batch(codec: Codec, count: usize, compressed: &[u8]) -> Vec<u8> {
    let count = i32::try_from(count).expect("a count");
    let now = crate::world::now();
    let mut checked = Vec::new();
    checked.extend((codec as i16).to_be_bytes());
    checked.extend((count - 1).to_be_bytes());
    checked.extend(now.to_be_bytes());
    checked.extend(now.to_be_bytes());
    // No producer's id, epoch and sequence.
    checked.extend((-1_i64).to_be_bytes());
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(count.to_be_bytes());
    checked.extend(compressed);
    let behind_length = CHECKED_FROM - 12 + checked.len();
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    batch.extend(i32::try_from(behind_length).expect("small").to_be_bytes());
    // No leader's epoch, format 2.
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// Records without key and headers, of less than 60 bytes each.
pub(crate) fn records(values: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in values.iter().enumerate() {
        // Attributes, time, offset, no key, the value, no headers; numbers are zigzag.
        let small = |number: usize| u8::try_from(2 * number).expect("a small number");
        let mut record = vec![0, 0, small(number), 1, small(value.len())];
        record.extend(*value);
        record.push(0);
        bytes.push(small(record.len()));
        bytes.extend(record);
    }
    bytes
}

/// By Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc = crc >> 1 ^ if odd { 0x82F6_3B78 } else { 0 };
        }
    }
    !crc
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The checksum of the content.
    Checksum,
    /// The end is not there.
    CutShort,
    /// More stands behind the end.
    Trailing,
    /// It says that it inflates to more than it does.
    Size,
}

/// `content` in a form of the codec that does not compress it, damaged so.
pub(crate) fn damaged(codec: Codec, damage: Damage, content: &[u8]) -> Vec<u8> {
    let size = u8::try_from(content.len()).expect("a short content");
    let more = if damage == Damage::Size { 1 } else { 0 };
    // Where it need not be wrong there is none, but for gzip.
    let has_checksum = damage == Damage::Checksum;
    let wrong = [1, 2, 3, 4];
    let mut bytes = match codec {
        Codec::Gzip => {
            let mut bytes = vec![
                0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, size, 0, !size, 0xff,
            ];
            bytes.extend(content);
            let checksum = crc32(content).to_le_bytes();
            bytes.extend(if has_checksum { wrong } else { checksum });
            bytes.extend([size + more, 0, 0, 0]);
            bytes
        }
        // As Java's library frames it; there is no checksum.
        Codec::Snappy => {
            let mut block = vec![size + more, (60 << 2), size - 1];
            block.extend(content);
            let mut bytes = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0".to_vec();
            bytes.push(u8::try_from(block.len()).expect("a short block"));
            bytes.extend(block);
            bytes
        }
        // Blocks of 64 KiB, and one of them that is not compressed. Its size is not told.
        Codec::Lz4 => {
            let mut bytes = vec![0x04, 0x22, 0x4d, 0x18];
            bytes.extend(if has_checksum {
                [0x64, 0x40, 0xa7]
            } else {
                [0x60, 0x40, 0x82]
            });
            bytes.extend([size, 0, 0, 0x80]);
            bytes.extend(content);
            bytes.extend([0; 4]);
            bytes.extend(has_checksum.then_some(wrong).into_iter().flatten());
            bytes
        }
        // One segment of a size that is told, and one block as it is, which is the last.
        Codec::Zstd => {
            let header = (u32::from(size) << 3 | 1).to_le_bytes();
            let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd];
            bytes.extend([if has_checksum { 0x24 } else { 0x20 }, size + more]);
            bytes.extend(&header[..3]);
            bytes.extend(content);
            bytes.extend(has_checksum.then_some(wrong).into_iter().flatten());
            bytes
        }
    };
    match damage {
        Damage::CutShort => bytes.truncate(bytes.len() - 3),
        Damage::Trailing => bytes.extend(b"more"),
        Damage::Checksum | Damage::Size => {}
    }
    bytes
}

/// Gzip's.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc = crc >> 1 ^ if odd { 0xEDB8_8320 } else { 0 };
        }
    }
    !crc
}
