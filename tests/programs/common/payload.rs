//! Bytes that say where they belong: any byte that is wrong, lost or twice is seen.

/// A well mixed number of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The payload of a connection's `number`th request: letters, of a length of its own up to 2000.
pub fn letters(connection: u64, number: u64) -> String {
    let seed = mix(connection ^ mix(number));
    let length = (seed % 2000) as usize;
    let letter = |at: usize| char::from(b'a' + (mix(seed ^ (at as u64 / 8)).to_le_bytes()[at % 8] % 26));
    (0..length).map(letter).collect()
}

/// Fills `block` with what a stream has at `offset`.
pub fn stream(offset: u64, block: &mut [u8]) {
    for (index, byte) in block.iter_mut().enumerate() {
        let at = offset + index as u64;
        *byte = mix(at / 8).to_le_bytes()[(at % 8) as usize];
    }
}

/// Fills a page with what its `version`th state is.
pub fn page(number: u64, version: u64, page: &mut [u8]) {
    let seed = mix(number ^ mix(version));
    for (index, word) in page.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
    }
}
