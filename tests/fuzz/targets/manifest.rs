//! What a checkpoint says about itself, and about its network.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transship::network::remembered::Remembered;
use transship::store::Manifest;
use transship::store::claims::Claim;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::from_json(data) {
        manifest.total_bytes();
        let json = manifest.to_json().expect("what was read can be written");
        let again = Manifest::from_json(&json).expect("what was written can be read");
        assert_eq!(again.to_json().unwrap(), json, "and says the same");
        for entry in manifest.images.iter().chain(manifest.tars()).chain(&manifest.extra) {
            let root = std::path::Path::new("/nowhere");
            let below = entry.path.below(root);
            let plain = below.components().all(|part| !matches!(part, std::path::Component::ParentDir));
            assert!(plain && below.starts_with(root) && below != root, "{below:?}");
        }
    }
    if let Ok(remembered) = serde_json::from_slice::<Remembered>(data) {
        remembered.addresses();
        remembered.outbound();
    }
    if let Ok(claim) = serde_json::from_slice::<Claim>(data) {
        assert!(!claim.checkpoint.as_str().contains('/') && !claim.container.as_str().contains('/'));
    }
});
