//! Values that options of several verbs take.

use crate::helper::protocol::{Bind, Compress, Course};
use std::num::NonZeroU64;

/// How hard what is sent is compressed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Word {
    /// As network and processors ask for it.
    Auto,
    Off,
    Fast,
    Best,
}

impl From<Word> for Option<Compress> {
    fn from(word: Word) -> Self {
        match word {
            Word::Auto => None,
            Word::Off => Some(Compress::Off),
            Word::Fast => Some(Compress::Fast),
            Word::Best => Some(Compress::Best),
        }
    }
}

/// Bytes a second, in thousands (k), millions (M) or milliards (G) where a letter says so.
pub fn rate(text: &str) -> Result<NonZeroU64, String> {
    let (digits, times) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(times));
    number.and_then(NonZeroU64::new).ok_or_else(|| "a number, with k, M or G behind it or nothing".into())
}

/// `copy` or `shared`, and the path that is meant.
pub fn bind(text: &str) -> Result<Bind, String> {
    let (course, path) = text.split_once('=').map_or((text, None), |(course, path)| (course, Some(path)));
    let course = match course {
        "copy" => Course::Copy,
        "shared" => Course::Shared,
        _ => return Err("copy or shared, and =PATH behind it or nothing".into()),
    };
    match path {
        Some(path) if !path.starts_with('/') => Err(format!("{path:?} is no absolute path")),
        path => Ok(Bind { course, path: path.map(Into::into) }),
    }
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_is_a_number_with_a_letter_or_without() {
        let read = |text| rate(text).map(u64::from).ok();
        assert_eq!(
            [read("65536"), read("500k"), read("20M"), read("1G")],
            [65536, 500_000, 20_000_000, 1_000_000_000].map(Some)
        );
        assert_eq!([read("0"), read("k"), read("-1"), read("1T"), read("99999999999G"), read("é")], [None; 6]);
    }
}
