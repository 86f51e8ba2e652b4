use std::io::{Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::File),
        Just(Kind::HardLink),
        Just(Kind::Symlink),
        Just(Kind::Directory),
        Just(Kind::Fifo),
        (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
    ]
}

prop_compose! {
    fn metas()(
        path in vec(1u8.., 1..250), link in vec(1u8.., 1..250), kind in kinds(), mode in 0u32..0o10000,
        uid in any::<u32>(), gid in any::<u32>(), seconds in any::<i64>(), nanoseconds in 0u32..1_000_000_000,
        xattrs in vec((vec(1u8.., 1..40), vec(any::<u8>(), 0..200)), 0..3),
    ) -> Meta {
        let link = if matches!(kind, Kind::HardLink | Kind::Symlink) { link } else { Vec::new() };
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
        let mtime = Timestamp { seconds, nanoseconds };
        Meta { path, kind, link, mode, uid: uid.into(), gid: gid.into(), mtime, xattrs }
    }
}

fn write(members: &[(Meta, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (meta, data) in members {
        let data = if meta.kind == Kind::File {
            data.as_slice()
        } else {
            &[]
        };
        tar.member(meta, data.len() as u64).unwrap();
        tar.write_all(data).unwrap();
    }
    tar.finish().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Meta, Vec<u8>)>, TarError> {
    let mut tar = TarReader::new(Cursor::new(bytes));
    let mut members = Vec::new();
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        tar.read_to_end(&mut data)
            .map_err(|source| TarError::Read { offset: 0, source })?;
        members.push((member.meta, data));
    }
    tar.finish()?;
    Ok(members)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn members_survive_the_round_trip(members in vec((metas(), vec(any::<u8>(), 0..1500)), 0..5)) {
        let read = read_all(&write(&members)).unwrap();
        prop_assert_eq!(read.len(), members.len());
        for ((meta, data), (found, contents)) in members.iter().zip(&read) {
            prop_assert_eq!(meta, found);
            prop_assert!(meta.kind != Kind::File || data == contents);
        }
    }

    #[test]
    fn every_truncation_is_an_error(members in vec((metas(), vec(any::<u8>(), 0..600)), 1..3), cut in any::<u16>()) {
        let bytes = write(&members);
        // The second block of the end marker may be missing: everything was read by then.
        let cut = usize::from(cut) % (bytes.len() - 1023);
        prop_assert!(read_all(&bytes[..cut]).is_err());
    }

    #[test]
    fn flipped_bits_never_panic(members in vec((metas(), vec(any::<u8>(), 0..600)), 1..3), at in any::<u16>(), bit in 0u8..8) {
        let mut bytes = write(&members);
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = read_all(&bytes);
    }
}

#[test]
fn sizes_claimed_by_a_stream_are_not_allocated() {
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(::tar::EntryType::XHeader);
    header.set_size(1 << 40);
    header.set_cksum();
    let fault = read_all(header.as_bytes()).unwrap_err();
    assert!(
        matches!(
            fault,
            TarError::Malformed {
                fault: "extended header over the limit",
                ..
            }
        ),
        "{fault:?}"
    );
}

#[test]
fn a_sparse_file_carries_its_map_and_gnu_tar_agrees() {
    let meta = Meta::plain_file("sparse");
    let contents = [vec![b'a'; 512], vec![b'b'; 1024]].concat();
    let mut tar = TarWriter::new(Vec::new());
    tar.sparse_file(&meta, 3 << 20, &[(4096, 512), (1 << 20, 1024)])
        .unwrap();
    tar.write_all(&contents).unwrap();
    let bytes = tar.finish().unwrap();

    let mut reader = TarReader::new(bytes.as_slice());
    let member = reader.next_member().unwrap().unwrap();
    let mut data = Vec::new();
    reader.read_to_end(&mut data).unwrap();
    let segments = [(4096, 512), (1 << 20, 1024), (3 << 20, 0)];
    assert_eq!(
        (member.length, member.segments.as_deref()),
        (3 << 20, Some(segments.as_slice()))
    );
    assert_eq!((member.meta, &data), (meta, &contents));

    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar");
    std::fs::write(&archive, &bytes).unwrap();
    let status = std::process::Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .arg("-xf")
        .arg(archive)
        .status();
    assert!(status.unwrap().success());
    let found = std::fs::read(dir.path().join("sparse")).unwrap();
    let mut expected = vec![0; 3 << 20];
    expected[4096..4608].fill(b'a');
    expected[1 << 20..(1 << 20) + 1024].fill(b'b');
    assert!(found == expected);
}

#[test]
fn a_hostile_sparse_map_is_refused() {
    for map in [
        "99999999999\n",
        "1\n5\n18446744073709551615\n",
        "2\n10\n5\n12\n1\n",
        "x",
        "1\n0\n9\n",
    ] {
        let mut records = Vec::new();
        pax::push(&mut records, b"GNU.sparse.realsize", b"100");
        let mut tar = TarWriter::new(Vec::new());
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(::tar::EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        records.resize(512, 0);
        tar.member(&Meta::plain_file("x"), 512).unwrap();
        tar.write_all(&data).unwrap();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(records);
        bytes.extend(tar.finish().unwrap());
        assert!(read_all(&bytes).is_err(), "{map:?}");
    }
}
