//! A compressed body from a peer: however much it swells, it comes in pieces.
#![no_main]

use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tokio::runtime::Runtime;
use transship::transport::port::body::whole;
use transship::transport::port::compress::{Level, compressed, decompressed};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap());

/// A short input can stand for gigabytes.
const ENOUGH: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((flag, data)) = data.split_first() else { return };
    RUNTIME.block_on(async {
        let (mut body, expected) = match flag % 4 {
            0 => (decompressed(compressed(whole(data.to_vec()), Level::Fast)), Some(data)),
            _ => (decompressed(whole(data.to_vec())), None),
        };
        let (mut length, mut failed) = (0, false);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                failed = true;
                break;
            };
            let piece = frame.into_data().expect("there are no trailers");
            if let Some(expected) = expected {
                assert_eq!(expected[length..][..piece.len()], piece[..]);
            }
            length += piece.len();
            if length > ENOUGH {
                return;
            }
        }
        assert!(expected.is_none_or(|expected| !failed && length == expected.len()));
    });
});
