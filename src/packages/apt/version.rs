//! Debian's version numbers: their order (deb-version(7)) and the upstream version in them.

use std::cmp::Ordering;

/// Which of two full versions is newer, as `dpkg --compare-versions` has it.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (one_epoch, one_rest) = split_epoch(one);
    let (other_epoch, other_rest) = split_epoch(other);
    let (one_upstream, one_revision) = split_revision(one_rest);
    let (other_upstream, other_revision) = split_revision(other_rest);
    compare_part(one_epoch, other_epoch)
        .then_with(|| compare_part(one_upstream, other_upstream))
        .then_with(|| compare_part(one_revision, other_revision))
}

/// Whether `wanted` names `version`: it is the version in full, with or without its epoch, or begins it and ends
/// where a number does. `28`, `28.5`, `28.5.2` and `28.5.2-1` all name `5:28.5.2-1~debian.13~trixie`; `28.5` does not
/// name `28.51.0`.
///
/// A release candidate is named only by those who say so: `29` does not name `29.0.0~rc.1-1`.
pub(super) fn names(wanted: &str, version: &str) -> bool {
    if wanted == version {
        return true;
    }
    let Some(rest) = without_epoch(version).strip_prefix(wanted) else { return false };
    let ends_where_a_number_does = rest.is_empty() || rest.starts_with(['.', '-', '+', '~']);
    ends_where_a_number_does && !is_prerelease(rest)
}

fn is_prerelease(version: &str) -> bool {
    ["~rc", "~beta", "~alpha"].iter().any(|mark| version.contains(mark))
}

/// `28.5.2-1~debian.13~trixie` of `5:28.5.2-1~debian.13~trixie`.
pub fn without_epoch(version: &str) -> &str {
    split_epoch(version).1
}

fn split_epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

fn split_revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// As `verrevcmp` in dpkg's lib/dpkg/version.c: texts and numbers by turns.
fn compare_part(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while !one.is_empty() || !other.is_empty() {
        let (one_text, one_rest) = split_where(one, u8::is_ascii_digit);
        let (other_text, other_rest) = split_where(other, u8::is_ascii_digit);
        let (one_number, one_rest) = split_where(one_rest, |byte| !byte.is_ascii_digit());
        let (other_number, other_rest) = split_where(other_rest, |byte| !byte.is_ascii_digit());
        let order = compare_texts(one_text, other_text).then_with(|| compare_numbers(one_number, other_number));
        if order.is_ne() {
            return order;
        }
        (one, other) = (one_rest, other_rest);
    }
    Ordering::Equal
}

fn split_where(bytes: &[u8], ends: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(ends).unwrap_or(bytes.len()))
}

/// `~` comes before the end, the end before letters, letters before all else.
fn compare_texts(one: &[u8], other: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let length = one.len().max(other.len());
    (0..length)
        .map(|at| weight(one.get(at)).cmp(&weight(other.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Of any length, so not as integers.
fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    let (_, one) = split_where(one, |digit| *digit != b'0');
    let (_, other) = split_where(other, |digit| *digit != b'0');
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "1.7.24~ds1-6",
            "1.7.24~ds1-6+deb13u1",
            "1.7.24-1",
            "2.1.9+ds1-1",
            "20.10.24+dfsg1-1+deb12u1+b2",
            "26.1.5+dfsg1-9+deb13u1+b1",
            "28.5.2+dfsg4-5~bpo13+1",
            "28.5.2+dfsg4-5",
            "28.10.0-1",
            "5:29.0.0~rc.1-1~debian.13~trixie",
            "5:29.0.0-1~debian.13~trixie",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (one, same) in [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("1.a0", "1.a")] {
            assert_eq!(compare(one, same), Ordering::Equal, "{one} {same}");
        }
    }

    #[test]
    fn a_version_is_named_in_full_or_by_its_beginning() {
        for version in ["28.5.2+dfsg4-5", "5:28.5.2-1~debian.13~trixie", "28.5.2-0ubuntu1~24.04.1"] {
            for wanted in ["28", "28.5", "28.5.2", version] {
                assert!(names(wanted, version), "{wanted} {version}");
            }
            for wanted in ["2", "8", "28.", "28.5.20", "28.5.1", "5", ""] {
                assert!(!names(wanted, version), "{wanted} {version}");
            }
        }
        assert!(names("28.5.2-1", "5:28.5.2-1~debian.13~trixie"));
        assert!(names("28.5.2+dfsg4", "28.5.2+dfsg4-5"));
        assert!(!names("28.5", "28.51.0-1"));
    }

    #[test]
    fn a_release_candidate_is_only_taken_by_name() {
        let version = "5:29.0.0~rc.1-1~debian.13~trixie";
        assert!(!names("29", version) && !names("29.0.0", version));
        assert!(names("29.0.0~rc.1", version) && names(version, version));
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_one(
            one in "[0-9][0-9a-z.+~-]{0,8}",
            other in "[0-9][0-9a-z.+~-]{0,8}",
            third in "[0-9][0-9a-z.+~-]{0,8}",
        ) {
            proptest::prop_assert_eq!(compare(&one, &one), Ordering::Equal);
            proptest::prop_assert_eq!(compare(&one, &other), compare(&other, &one).reverse());
            if compare(&one, &other).is_le() && compare(&other, &third).is_le() {
                proptest::prop_assert!(compare(&one, &third).is_le());
            }
        }
    }
}
