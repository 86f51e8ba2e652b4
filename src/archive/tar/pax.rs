//! PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record, so a value may hold any bytes.

use super::member::{Timestamp, Xattr};

const XATTR: &[u8] = b"SCHILY.xattr.";
const NANOSECONDS: i128 = 1_000_000_000;

/// What the records of one extended header said.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timestamp>,
    pub xattrs: Vec<Xattr>,
    /// The real length of a sparse file in GNU's format 1.0.
    pub sparse_length: Option<u64>,
    pub sparse_path: Option<Vec<u8>>,
}

/// Appends one record to `out`.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Blank, `=` and newline.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Appends the record of an extended attribute. `=` and `%` in its name are written as GNU tar writes them.
pub(super) fn push_xattr(out: &mut Vec<u8>, xattr: &Xattr) {
    let mut key = XATTR.to_vec();
    for &byte in &xattr.name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            other => key.push(other),
        }
    }
    push(out, &key, &xattr.value);
}

fn xattr_name(encoded: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', &rest[3..]),
            Some(b"%25") => (b'%', &rest[3..]),
            _ => (first, tail),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// A time as PAX writes it: decimal seconds with a fraction, negative before 1970.
pub(super) fn format_time(time: Timestamp) -> String {
    let total = i128::from(time.seconds) * NANOSECONDS + i128::from(time.nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    let (seconds, fraction) = (total / NANOSECONDS as u128, total % NANOSECONDS as u128);
    match fraction {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{fraction:09}"),
    }
}

fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i128 = format!("{fraction:0<9}").parse().ok()?;
    let total = i128::from(number(seconds.as_bytes())?) * NANOSECONDS + nanoseconds;
    let total = if negative { -total } else { total };
    Some(Timestamp {
        seconds: i64::try_from(total.div_euclid(NANOSECONDS)).ok()?,
        nanoseconds: u32::try_from(total.rem_euclid(NANOSECONDS)).ok()?,
    })
}

pub(super) fn number(text: &[u8]) -> Option<u64> {
    // `parse` alone would take a sign.
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads the records of one extended header; the error says what is wrong.
pub(super) fn parse(mut data: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::default();
    while !data.is_empty() {
        let (record, rest) = split_record(data).ok_or("malformed PAX record")?;
        let equals = record.iter().position(|b| *b == b'=').ok_or("PAX record without a value")?;
        take(&mut records, &record[..equals], &record[equals + 1..])?;
        data = rest;
    }
    Ok(records)
}

/// The first record without length and newline, and what follows it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(number(&data[..blank])?).ok()?;
    if blank == 0 || length <= blank + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[blank + 1..length - 1], &data[length..]))
}

fn take(records: &mut Records, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let bytes = || Some(value.to_vec());
    let count = || number(value).map(Some).ok_or("malformed number in a PAX record");
    match key {
        b"path" => records.path = bytes(),
        b"linkpath" => records.link = bytes(),
        b"size" => records.size = count()?,
        b"uid" => records.uid = count()?,
        b"gid" => records.gid = count()?,
        b"mtime" => records.mtime = Some(parse_time(value).ok_or("malformed time in a PAX record")?),
        b"GNU.sparse.name" => records.sparse_path = bytes(),
        b"GNU.sparse.realsize" => records.sparse_length = count()?,
        b"GNU.sparse.major" if value != b"1" => {
            return Err("sparse file in another format than 1.0");
        }
        b"GNU.sparse.minor" if value != b"0" => {
            return Err("sparse file in another format than 1.0");
        }
        b"GNU.sparse.major" | b"GNU.sparse.minor" | b"hdrcharset" => {}
        _ => match key.strip_prefix(XATTR) {
            Some(name) if !name.is_empty() => {
                records.xattrs.push(Xattr { name: xattr_name(name), value: value.to_vec() });
            }
            _ => return Err("unknown PAX record"),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_any_bytes(name in vec(1u8.., 1..300), value in vec(any::<u8>(), 0..2000)) {
            let xattr = Xattr { name, value: value.clone() };
            let mut data = Vec::new();
            push_xattr(&mut data, &xattr);
            push(&mut data, b"path", &value);
            let records = parse(&data).unwrap();
            prop_assert_eq!(records.xattrs, vec![xattr]);
            prop_assert_eq!(records.path, Some(value));
        }

        #[test]
        fn times_survive(seconds in any::<i64>(), nanoseconds in 0u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(parse_time(format_time(time).as_bytes()), Some(time));
        }

        #[test]
        fn garbage_never_panics(data in vec(any::<u8>(), 0..100), text in "[0-9 a-z=\\n.-]{0,40}") {
            let _ = parse(&data);
            let _ = parse(text.as_bytes());
            let _ = parse_time(text.as_bytes());
        }
    }

    #[test]
    fn lengths_count_their_own_digits() {
        for value in 0..1100 {
            let mut data = Vec::new();
            push(&mut data, b"k", &vec![b'x'; value]);
            assert_eq!(number(&data[..data.iter().position(|b| *b == b' ').unwrap()]), Some(data.len() as u64));
        }
    }
}
