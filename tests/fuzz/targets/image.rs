//! An image's tar from a peer, on its way to `docker load`: no name comes through, and nothing twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Cursor, Read};
use transship::archive::tar::TarReader;
use transship::operations::images::without_names;
use transship_fuzz::{IMAGE, with_checksums};

fuzz_target!(|data: &[u8]| {
    let bytes = with_checksums(data);
    let mut passed = Vec::new();
    let read = without_names(Cursor::new(bytes), IMAGE).read_to_end(&mut passed);
    let mut tar = TarReader::new(passed.as_slice());
    let mut seen = HashSet::new();
    while let Ok(Some(member)) = tar.next_member() {
        let path = String::from_utf8(member.meta.path).expect("a name that Docker can read");
        assert!(seen.insert(path.clone()), "{path} comes twice");
        assert_ne!(path, "repositories");
        let mut bytes = Vec::new();
        if tar.read_to_end(&mut bytes).is_err() {
            // It broke off, and so did the reader.
            assert!(read.is_err());
            return;
        }
        match path.as_str() {
            "manifest.json" => {
                let manifest: Value = serde_json::from_slice(&bytes).expect("it was written anew");
                let images = manifest.as_array().expect("a list");
                assert!(images.len() == 1 && images[0]["RepoTags"] == json!([]), "{manifest}");
            }
            "index.json" => {
                let index: Value = serde_json::from_slice(&bytes).expect("it was written anew");
                let mut manifests = index["manifests"].as_array().into_iter().flatten();
                assert!(manifests.all(|manifest| manifest.get("annotations").is_none()), "{index}");
            }
            _ => {}
        }
    }
    assert!(read.is_err() || tar.finish().is_ok(), "what was passed on in whole is whole");
});
