use super::*;
use crate::store::testing::{entry, manifest};
use proptest::prelude::*;
use serde_json::json;

fn value() -> serde_json::Value {
    serde_json::to_value(manifest()).unwrap()
}

fn read(value: &serde_json::Value) -> Result<Manifest, ManifestError> {
    Manifest::from_json(value.to_string().as_bytes())
}

#[test]
fn a_manifest_survives_and_unknown_fields_are_passed_over() {
    let manifest = manifest();
    assert_eq!(Manifest::from_json(&manifest.to_json().unwrap()).unwrap(), manifest);
    let mut newer = serde_json::to_value(&manifest).unwrap();
    newer["later"] = json!({"field": [1, 2]});
    newer["origin"]["later"] = json!(1);
    assert_eq!(read(&newer).unwrap(), manifest);
}

#[test]
fn a_number_in_the_specification_is_the_same_however_often_it_is_written_and_read() {
    let mut manifest = manifest();
    // One that the shortest way to read it is wrong about.
    manifest.container.spec["number"] = serde_json::from_str(&("4".repeat(63) + "7")).unwrap();
    assert_eq!(Manifest::from_json(&manifest.to_json().unwrap()).unwrap(), manifest);
}

#[test]
fn the_format_is_looked_at_before_the_rest() {
    assert!(matches!(Manifest::from_json(b"{\"format\": 7, \"id\": 12}"), Err(ManifestError::Format { found: 7 })));
    assert!(matches!(Manifest::from_json(b"{\"id\": 12}"), Err(ManifestError::Json(_))));
}

#[test]
fn contradictory_lists_are_refused() {
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest();
        change(&mut changed);
        let json = serde_json::to_vec(&changed).unwrap();
        assert!(matches!(Manifest::from_json(&json), Err(ManifestError::Inconsistent(_))));
        assert!(changed.to_json().is_err());
    };
    refused(&|m| m.images = vec![entry("a", b""), entry("a", b"")]);
    refused(&|m| m.images = vec![entry("a", b""), entry("a-b", b""), entry("a/b", b"")]);
    refused(&|m| m.images.iter_mut().for_each(|e| e.length = u64::MAX));
    refused(&|m| m.rootfs = Some(RootfsEntry { base: entry("images", b""), delta: None }));
    refused(&|m| m.group = vec!["00000000000000aa".parse().unwrap()]);
    refused(&|m| m.parents = vec![ParentLink { path: "parent".parse().unwrap(), sibling: "x".parse().unwrap() }]);
}

#[test]
fn hostile_paths_and_digests_are_refused() {
    for path in ["../../etc/passwd", "/etc/passwd", "a//b", "a\u{0}b", ""] {
        let mut hostile = value();
        hostile["images"][0]["path"] = json!(path);
        assert!(matches!(read(&hostile), Err(ManifestError::Json(_))), "{path:?}");
    }
    let mut hostile = value();
    hostile["images"][0]["blake3"] = json!("00");
    assert!(read(&hostile).is_err());
    hostile = value();
    hostile["id"] = json!("../0000000000000");
    assert!(read(&hostile).is_err());
}

#[test]
fn only_criu_s_own_links_are_links_to_parents() {
    let link = |path: &str, target| ParentLink::new(path.parse().unwrap(), target);
    assert_eq!(link("final/parent", "../pre-1/").unwrap().target(), "../pre-1");
    for (path, target) in [
        ("parent", "../pre"),
        ("final/parent", "../../etc"),
        ("final/parent", "/etc"),
        ("final/other", "../pre"),
        ("final/parent", ".."),
        ("final/parent", "../a/b"),
    ] {
        assert!(link(path, target).is_none(), "{path} {target}");
    }
}

proptest! {
    #[test]
    fn cut_or_flipped_manifests_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = manifest().to_json().unwrap();
        prop_assert!(Manifest::from_json(&bytes[..at.index(bytes.len() - 2)]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = Manifest::from_json(&bytes);
    }
}
