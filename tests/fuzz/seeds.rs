//! Where the targets begin: what transship itself writes. Makes `$TRANSSHIP_CORPUS/TARGET/...`.
//!
//! To be linked with what it is compiled for it has to be a target itself, though nothing is tried.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use transship::archive::blocks::{BlockDigest, BlockStream, Cutting, KnownBlocks, PAGE};
use transship::archive::export::export;
use transship::archive::images::{Compression, Watch, pack};
use transship::archive::rootfs::{capture, capture_delta};
use transship::archive::tar::{Meta, TarReader, TarWriter};
use transship::archive::{Digest, FileEntry, RelPath};
use transship::store::staging::Durability;
use transship::store::{Catalog, Layout, Manifest};
use transship_fuzz::{IMAGE, as_one, pages};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

static GO: AtomicBool = AtomicBool::new(false);
const WATCH: Watch<'static> = Watch { progress: &|_| (), cancel: &GO };

fuzz_target!(init: make(), |_data: &[u8]| {});

fn make() {
    seeds().expect("seeds can be made");
    std::process::exit(0);
}

fn seeds() -> Outcome {
    let corpus = PathBuf::from(std::env::var_os("TRANSSHIP_CORPUS").ok_or("TRANSSHIP_CORPUS is not set")?);
    let around = tempfile::tempdir()?;
    let (base, delta) = layer(&around.path().join("layer"))?;
    seed(&corpus, "tar", "base", &base)?;
    seed(&corpus, "tar", "delta", &delta)?;
    seed(&corpus, "rootfs", "both", &as_one(&delta, &base))?;
    seed(&corpus, "rootfs", "base", &as_one(&[], &base))?;
    for flags in 0..16u8 {
        let tar = images(&around.path().join(flags.to_string()))?;
        let input = if flags & 1 == 0 { zstd::decode_all(tar.as_slice())? } else { tar };
        seed(&corpus, "images", &flags.to_string(), &[&[flags], input.as_slice()].concat())?;
    }
    for from in [0, 4096, 9000] {
        seed(&corpus, "blocks", &from.to_string(), &blocks(&around.path().join("pages-1.img"), from)?)?;
    }
    seed(&corpus, "image", "saved", &image()?)?;
    seed(&corpus, "pagemap", "two", &pagemap())?;
    let (manifest, rest) = checkpoint(&around.path().join("store"))?;
    seed(&corpus, "export", "whole", &as_one(&manifest, &rest))?;
    seed(&corpus, "manifest", "manifest", &manifest)?;
    for (number, said) in network().iter().enumerate() {
        seed(&corpus, "manifest", &number.to_string(), said.to_string().as_bytes())?;
    }
    for (which, said) in said() {
        seed(&corpus, "protocol", &which.to_string(), &[&[which], said.as_slice()].concat())?;
    }
    for flag in 0..2u8 {
        let packed = zstd::encode_all(base.as_slice(), 3)?;
        seed(&corpus, "body", &flag.to_string(), &[&[flag], packed.as_slice()].concat())?;
    }
    Ok(())
}

fn seed(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> Outcome {
    let dir = corpus.join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(name), bytes)?)
}

/// A writable layer with one of everything, and what changed in it.
fn layer(dir: &Path) -> Outcome<(Vec<u8>, Vec<u8>)> {
    fs::create_dir_all(dir.join("dir/sub"))?;
    fs::write(dir.join("dir/a"), "text")?;
    fs::write(dir.join("b".repeat(120)), "a long name")?;
    fs::hard_link(dir.join("dir/a"), dir.join("dir/b"))?;
    symlink("../elsewhere", dir.join("dir/sub/link"))?;
    let sparse = fs::File::create(dir.join("sparse"))?;
    sparse.write_all_at(b"one", 0)?;
    sparse.write_all_at(b"two", 1 << 20)?;
    let status = std::process::Command::new("mknod").arg(dir.join("gone")).args(["c", "0", "0"]).status()?;
    if !status.success() {
        return Err("mknod failed".into());
    }
    let (base, snapshot, _) = capture(dir, Vec::new())?;
    fs::remove_file(dir.join("dir/b"))?;
    fs::remove_file(dir.join("gone"))?;
    fs::write(dir.join("dir/a"), "another text")?;
    fs::create_dir(dir.join("gone"))?;
    let (delta, ..) = capture_delta(dir, Vec::new(), &snapshot, &HashSet::new())?;
    Ok((base, delta))
}

/// Two images as they are packed.
fn images(dir: &Path) -> Outcome<Vec<u8>> {
    fs::create_dir_all(dir.join("sub"))?;
    let files = [("core-1.img", b"core".to_vec()), ("sub/pages-1.img", [vec![5; 9000], vec![0; 70_000]].concat())];
    let mut entries = Vec::new();
    for (path, bytes) in files {
        fs::write(dir.join(path), &bytes)?;
        entries.push(FileEntry { path: RelPath::new(path)?, length: bytes.len() as u64, blake3: Digest::of(&bytes) });
    }
    Ok(pack(dir, &entries, Vec::new(), Compression::default(), WATCH)?)
}

/// A file of which the receiver knows every other page.
fn blocks(path: &Path, from: u64) -> Outcome<Vec<u8>> {
    let pages = pages();
    let mut known = KnownBlocks::new();
    for page in pages.chunks(PAGE).step_by(2) {
        known.insert(BlockDigest::of(page));
    }
    let file = [&pages[..5 * PAGE], &[0; 2 * PAGE], &pages[5 * PAGE..], b"end"].concat();
    fs::write(path, &file)?;
    let cutting = Cutting::of("pages-1.img");
    let mut stream =
        BlockStream::new(&Arc::new(fs::File::open(path)?), from, file.len() as u64, cutting, Arc::new(known));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What `docker save` writes of an image with two names.
fn image() -> Outcome<Vec<u8>> {
    let manifest =
        json!([{ "Config": "blobs/sha256/aaaa", "RepoTags": ["web:1", "web:2"], "Layers": ["blobs/sha256/bb"] }]);
    let index = json!({ "manifests": [{ "digest": IMAGE, "annotations": { "io.containerd.image.name": "web:1" } }] });
    let mut tar = TarWriter::new(Vec::new());
    for (path, contents) in [
        ("blobs/sha256/aaaa", "{}".to_owned()),
        ("blobs/sha256/bb", "a layer".to_owned()),
        ("index.json", index.to_string()),
        ("manifest.json", manifest.to_string()),
        ("repositories", json!({ "web": { "1": "aaaa" } }).to_string()),
    ] {
        tar.member(&Meta::plain_file(path), contents.len() as u64)?;
        tar.write_all(contents.as_bytes())?;
    }
    Ok(tar.finish()?)
}

/// A head, pages that are there, and pages that are to come.
fn pagemap() -> Vec<u8> {
    let mut image = [0x5456_4319u32.to_le_bytes(), 0x5608_4025u32.to_le_bytes()].concat();
    for entry in [&[8, 1][..], &[8, 0x80, 0x80, 4, 32, 4, 40, 2], &[8, 0x80, 0x80, 8, 32, 2, 40, 3]] {
        image.extend((entry.len() as u32).to_le_bytes());
        image.extend(entry);
    }
    image
}

/// A checkpoint's manifest, and what follows it in an export.
fn checkpoint(store: &Path) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let catalog = Catalog::open(Layout::open(store)?);
    let manifest = Manifest::from_json(&serde_json::to_vec(&manifest())?)?;
    let staging = catalog.begin(&manifest.id)?;
    fs::write(staging.images().join("core-1.img"), b"core")?;
    fs::create_dir_all(staging.extra()?)?;
    fs::write(staging.extra()?.join("network.json"), network()[0].to_string())?;
    fs::write(staging.dir().join("rootfs.tar"), vec![1; 5000])?;
    let sealed = staging.seal(manifest, Durability::Deferred, &|_| ())?;
    let file = export(&sealed, Vec::new(), Compression::default(), WATCH)?;
    let mut tar = TarReader::new(file.as_slice());
    tar.next_member()?;
    tar.next_member()?;
    let mut manifest = Vec::new();
    tar.read_to_end(&mut manifest)?;
    let third = tar.next_member()?.ok_or("an export has a third member")?.offset;
    let mut rest = Vec::new();
    rest.write_all(&file[usize::try_from(third)?..])?;
    Ok((manifest, rest))
}

fn manifest() -> Value {
    json!({
        "format": 1, "id": "0123456789abcdef", "name": "before-upgrade", "created": "2026-01-02T03:04:05.678Z",
        "transship": "0.1.0", "origin": origin(),
        "container": { "id": "ab".repeat(32), "name": "web", "image": "nginx:1",
            "image_id": format!("sha256:{}", "cd".repeat(32)), "spec": { "Config": { "Tty": false } } },
        "group": [], "dump": { "tcp_established": true, "tty": false, "leave_running": false, "processes": 3,
            "stopped_pids": [7], "pages_bytes": 4096 },
        "network": { "hostname": "abababababab", "interfaces": [
            { "name": "eth0", "mac": "02:42:ac:11:00:02", "addresses": ["172.17.0.2/16"] }] },
        "timings": { "freeze": 1500 }, "images": [], "parents": [], "rootfs": null, "extra": [],
    })
}

fn origin() -> Value {
    json!({ "hostname": "alpha", "kernel": "6.12.0", "engine": "28.5.2", "containerd": "2.1.9", "runc": "1.3.6",
        "criu": "4.2.1", "cgroup": "v2", "architecture": "x86_64", "storage_driver": "overlay2" })
}

/// What is remembered of a network, and a claim.
fn network() -> [Value; 2] {
    [
        json!({ "spec": { "addresses": ["172.17.0.2"], "published": [], "outbound": [] }, "tracked": [], "queue": 7 }),
        json!({ "container": "ab".repeat(32), "checkpoint": "0123456789abcdef", "manifest": "00", "gate": "/run/gate" }),
    ]
}

/// What peers say, each for the decoder of its number in the target `protocol`.
fn said() -> Vec<(u8, Vec<u8>)> {
    let token = [&[0u8, 0, 0, 0, 0x70, 0, 0, 0][..], &[7; 64], &[1, 0x1c, 0xff, 8], b"10.0.0.2"].concat();
    let inspect = json!({ "Name": "/web", "Image": "sha256:00", "Config": { "Image": "nginx", "Labels": { "a": "b" } },
        "HostConfig": { "NetworkMode": "net", "RestartPolicy": { "Name": "always" }, "Binds": ["data:/data"],
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] } },
        "Mounts": [{ "Type": "volume", "Name": "data", "Destination": "/data" }],
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }] },
            "Networks": { "net": { "IPAddress": "10.1.0.2", "MacAddress": "02:42:ac:11:00:02", "Aliases": ["w"] } } } });
    let offer = json!({ "members": [{ "checkpoint": "0123456789abcdef", "inspect": inspect }], "networks": [{ "Name": "net" }], "volumes": [{ "Name": "data" }],
        "binds": [{ "path": "/srv", "is_brought": true }],
        "origin": origin(), "link": { "source": "10.0.0.1", "destination": "10.0.0.2" }, "needs": { "memory": 1, "disk": 2 },
        "processor": "AAAA", "memory": { "compress": "off", "rate": 1000 } });
    let fingerprint = "07".repeat(32);
    let standing = json!({ "arrival": "restored", "containers": ["ab".repeat(32)], "boot": "b",
        "problem": { "what": "w", "why": ["y"], "remedy": "r" } });
    let bodies = [
        (2, offer),
        (3, json!({ "secret": "AAAA", "name": "alpha", "addresses": ["10.0.0.1:7423"] })),
        (4, json!({ "fingerprint": fingerprint })),
        (5, json!({ "protocol": 1, "version": "0.1.0", "name": "beta" })),
        (6, json!({ "name": "beta" })),
        (7, json!({ "what": "beta does not answer", "why": ["y"], "remedy": "r" })),
        (8, json!({ "manifests": [manifest().to_string()] })),
        (9, standing),
        (10, json!({ "lacks_images": ["sha256:00"] })),
        (11, json!({ "boot": "b" })),
        (16, json!({ "layers": [IMAGE] })),
        (17, json!({ "there": 3 })),
        (18, json!({ "image": IMAGE, "reference": format!("web@{IMAGE}") })),
        (19, json!({ "under-way": { "done": 1, "total": 2 } })),
        (12, json!({ "verb": "check", "containers": ["web"], "canary": true })),
    ];
    let mut said: Vec<_> = bodies.into_iter().map(|(which, body)| (which, body.to_string().into_bytes())).collect();
    said.push((0, token));
    said.extend([b"[fe80::1]:7423".to_vec(), b"beta".to_vec(), fingerprint.into_bytes()].map(|word| (1, word)));
    said
}
