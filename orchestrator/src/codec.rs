//! MessagePack inside: named maps, bounded in depth and size, walked before they are trusted.
//!
//! **Invariant:** whatever passes [`walk`] can be decoded without deep recursion and without allocating more than its
//! own length allows.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Deepest nesting of a payload or result.
pub const DEPTH_MAX: usize = 64;
/// Largest payload of a task, in bytes of MessagePack.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Largest result of a task, in bytes of MessagePack.
pub const RESULT_BYTES_MAX: usize = 1 << 20;

/// `value` as MessagePack with named fields, so that a field added later does not break an old reader.
///
/// # Errors
/// [`Error::Invalid`] when the value cannot be written, is deeper than [`DEPTH_MAX`] or larger than `bytes_max`.
pub fn encode<T: Serialize + ?Sized>(what: &str, value: &T, bytes_max: usize) -> Result<Vec<u8>> {
    let bytes = rmp_serde::to_vec_named(value)
        .map_err(|error| Error::invalid(format!("the {what} cannot be written as MessagePack: {error}")))?;
    check(what, &bytes, bytes_max)?;
    Ok(bytes)
}

/// Refuses bytes that are not exactly one MessagePack value within the bounds.
///
/// # Errors
/// [`Error::Invalid`], saying which bound was crossed.
pub fn check(what: &str, bytes: &[u8], bytes_max: usize) -> Result<()> {
    if bytes.len() > bytes_max {
        return Err(Error::invalid(format!(
            "the {what} has {} bytes; at most {bytes_max} are allowed. Keep large data elsewhere and pass a reference",
            bytes.len()
        )));
    }
    match walk(bytes) {
        Ok(length) if length == bytes.len() => Ok(()),
        Ok(_) => Err(Error::invalid(format!("the {what} is followed by stray bytes"))),
        Err(fault) => Err(Error::invalid(format!("the {what} {fault}"))),
    }
}

/// Decodes one value.
///
/// # Errors
/// [`Error::Corrupt`] when the bytes do not hold a `T`.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    walk(bytes).map_err(|fault| Error::corrupt(format!("{what} {fault}")))?;
    rmp_serde::from_slice(bytes).map_err(|error| Error::corrupt(format!("{what}: {error}")))
}

/// Decodes one value that a handler noted.
///
/// # Errors
/// [`Error::Corrupt`] with the path to the first mistake.
#[doc(hidden)]
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    walk(bytes).map_err(|fault| Error::corrupt(format!("the value {fault}")))?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| Error::corrupt(error.to_string()))
}

/// Splits `bytes` behind its first MessagePack value.
pub(crate) fn split_value<'b>(what: &str, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8])> {
    let length = walk(bytes).map_err(|fault| Error::corrupt(format!("{what} {fault}")))?;
    Ok(bytes.split_at(length))
}

/// The length of the first MessagePack value in `bytes`, found without recursion or allocation by length.
///
/// # Errors
/// Says what is wrong: cut short, too deep, or a reserved marker.
fn walk(bytes: &[u8]) -> Result<usize, String> {
    let mut at = 0;
    // For each open container, how many values are still to come.
    let mut open: Vec<u64> = Vec::with_capacity(8);
    loop {
        let marker = *bytes.get(at).ok_or("is cut short")?;
        at += 1;
        let mut children = None;
        let mut number = |width: usize| -> Result<u64, String> {
            let raw = bytes.get(at..at + width).ok_or("is cut short")?;
            at += width;
            Ok(raw.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
        };
        let skip = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
            0x80..=0x8f => (children = Some(u64::from(marker & 0x0f) * 2), 0).1,
            0x90..=0x9f => (children = Some(u64::from(marker & 0x0f)), 0).1,
            0xa0..=0xbf => u64::from(marker & 0x1f),
            0xc4 | 0xd9 => number(1)?,
            0xc5 | 0xda => number(2)?,
            0xc6 | 0xdb => number(4)?,
            0xc7 => number(1)? + 1,
            0xc8 => number(2)? + 1,
            0xc9 => number(4)? + 1,
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 => 2,
            0xca | 0xce | 0xd2 => 4,
            0xcb | 0xcf | 0xd3 => 8,
            0xd4..=0xd8 => (1 << (marker - 0xd4)) + 1,
            0xdc => (children = Some(number(2)?), 0).1,
            0xdd => (children = Some(number(4)?), 0).1,
            0xde => (children = Some(number(2)? * 2), 0).1,
            0xdf => (children = Some(number(4)? * 2), 0).1,
            0xc1 => return Err("holds the reserved marker 0xc1".into()),
        };
        let skip = usize::try_from(skip).map_err(|_| "is cut short")?;
        at = at.checked_add(skip).filter(|end| *end <= bytes.len()).ok_or("is cut short")?;
        if let Some(children) = children {
            open.push(children);
            if open.len() > DEPTH_MAX {
                return Err(format!("is nested deeper than {DEPTH_MAX}"));
            }
        } else if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        while open.last() == Some(&0) {
            open.pop();
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
        }
        if open.is_empty() {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x91; depth];
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn every_kind_of_value_is_measured() {
        let value = serde_json::json!({
            "null": null, "flags": [true, false], "ints": [0, -1, 127, 128, 300, 70_000, -70_000, u64::MAX, i64::MIN],
            "float": 1.5, "text": ["", "short", "x".repeat(40), "y".repeat(300), "z".repeat(70_000)],
            "long": (0..70_000).collect::<Vec<_>>(), "map": {"a": {}, "b": []},
        });
        let bytes = encode("payload", &value, PAYLOAD_BYTES_MAX).expect("a fair value");
        assert_eq!(walk(&bytes), Ok(bytes.len()));
        for cut in [0, 1, 5, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(walk(&bytes[..cut]), Err("is cut short".into()), "cut at {cut}");
        }
    }

    #[test]
    fn depth_size_and_stray_bytes_are_refused_by_name() {
        assert!(check("payload", &nested(DEPTH_MAX), 1000).is_ok());
        let fault = |bytes: &[u8], max| check("payload", bytes, max).expect_err("a fault").to_string();
        assert_eq!(fault(&nested(DEPTH_MAX + 1), 1000), "the payload is nested deeper than 64");
        assert_eq!(fault(&nested(100_000), 1 << 20), "the payload is nested deeper than 64");
        assert_eq!(fault(&[0xc0, 0xc0], 10), "the payload is followed by stray bytes");
        assert!(fault(&[0xc0; 11], 10).contains("has 11 bytes; at most 10"));
        assert_eq!(fault(&[0xdd, 0xff, 0xff, 0xff, 0xff], 10), "the payload is cut short");
        assert_eq!(fault(&[0xc6, 0xff, 0xff, 0xff, 0xff], 10), "the payload is cut short");
        assert_eq!(fault(&[0xc1], 10), "the payload holds the reserved marker 0xc1");
    }
}
