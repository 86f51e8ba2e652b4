//! Images on their way between hosts, as `docker save` writes them and `docker load` reads them.
//!
//! What leaves lacks the layers that the other host has: `docker load` does not open a layer that it has in the same place
//! (moby's `tarexport/load.go`). What comes is written anew, member by member, without the names that it would give an image:
//! a peer's tar must not move a name of another image here. It holds the one image that was asked for and nothing else.

use crate::archive::tar::{Kind, Meta, TarReader, TarWriter};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, BufWriter, PipeReader, Read, Write};
use std::thread::JoinHandle;

/// Says which layers with which configurations are the images, and how they are called.
const MANIFEST: &str = "manifest.json";
/// The same for other programs; containerd's image store reads names here.
const INDEX: &str = "index.json";
/// The names alone, for engines of long ago.
const REPOSITORIES: &str = "repositories";
/// Longest of these that is read.
const LONGEST: u64 = 4 << 20;

/// An image's tar without these layers, which are told by their content's digests (`sha256:…`).
pub fn without_layers(tar: impl Read + Send + 'static, layers: &[String]) -> impl Read + Send + 'static {
    let left_out: HashSet<String> = layers.iter().map(|layer| format!("blobs/{}", layer.replace(':', "/"))).collect();
    rewritten(tar, move |path, _| match left_out.contains(path) {
        true => Ok(Edit::LeaveOut),
        false => Ok(Edit::Keep),
    })
}

/// An image's tar without any name; an error where it holds another image than `image` (`sha256:…`).
pub fn without_names(tar: impl Read + Send + 'static, image: &str) -> impl Read + Send + 'static {
    let image = image.to_owned();
    let mut seen = HashSet::new();
    rewritten(tar, move |path, kind| {
        let is_plain = matches!(kind, Kind::File | Kind::Directory);
        // One name a file, and no way to another name for it.
        if !is_plain || path.split('/').any(|part| matches!(part, "" | "." | "..")) || !seen.insert(path.to_owned()) {
            return Err(refused(format!("{path:?} is nothing that an image's tar has")));
        }
        let image = image.clone();
        Ok(match path {
            MANIFEST => Edit::Replace(Box::new(move |bytes| nameless_manifest(bytes, &image))),
            INDEX => Edit::Replace(Box::new(nameless_index)),
            REPOSITORIES => Edit::LeaveOut,
            _ => Edit::Keep,
        })
    })
}

type Replace = Box<dyn FnOnce(&[u8]) -> io::Result<Vec<u8>>>;

/// What becomes of a member.
enum Edit {
    Keep,
    LeaveOut,
    Replace(Replace),
}

fn nameless_manifest(bytes: &[u8], image: &str) -> io::Result<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(bytes)?;
    let digest = image.rsplit(':').next().unwrap_or_default();
    let [one] = manifest.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default() else {
        return Err(refused(format!("{MANIFEST} tells of other than one image")));
    };
    let config = one["Config"].as_str().unwrap_or_default();
    let named = config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if named != digest {
        return Err(refused(format!("{MANIFEST} tells of the image {named:?}, and {image} was announced")));
    }
    if let Some(one) = one.as_object_mut() {
        one.insert("RepoTags".to_owned(), json!([]));
    }
    Ok(serde_json::to_vec(&manifest)?)
}

fn nameless_index(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut index: Value = serde_json::from_slice(bytes)?;
    let manifests = index.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten();
    for manifest in manifests.filter_map(Value::as_object_mut) {
        manifest.remove("annotations");
    }
    Ok(serde_json::to_vec(&index)?)
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The tar with some members changed, as it comes.
fn rewritten(
    tar: impl Read + Send + 'static,
    edit: impl FnMut(&str, Kind) -> io::Result<Edit> + Send + 'static,
) -> impl Read + Send + 'static {
    match io::pipe() {
        Ok((out, into)) => {
            let thread = std::thread::Builder::new().name("image".into());
            match thread.spawn(move || rewrite(tar, BufWriter::with_capacity(1 << 20, into), edit)) {
                Ok(thread) => Rewritten { out: Some(out), thread: Some(thread), failed: None },
                Err(error) => Rewritten { out: None, thread: None, failed: Some(error) },
            }
        }
        Err(error) => Rewritten { out: None, thread: None, failed: Some(error) },
    }
}

/// What comes out of the thread that rewrites. It does not end before that has come to its end well.
struct Rewritten {
    out: Option<PipeReader>,
    thread: Option<JoinHandle<io::Result<()>>>,
    failed: Option<io::Error>,
}

impl Read for Rewritten {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let count = self.out.as_mut().map_or(Ok(0), |out| out.read(buffer))?;
        if count == 0 && !buffer.is_empty() {
            let ended = self.thread.take().map(JoinHandle::join);
            ended
                .transpose()
                .map_err(|_| io::Error::other("the thread that rewrites an image's tar has failed"))?
                .transpose()?;
        }
        Ok(count)
    }
}

impl Drop for Rewritten {
    fn drop(&mut self) {
        // Whoever writes into it hears that nobody reads any more.
        drop(self.out.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn rewrite(tar: impl Read, into: impl Write, mut edit: impl FnMut(&str, Kind) -> io::Result<Edit>) -> io::Result<()> {
    let mut reader = TarReader::new(tar);
    let mut writer = TarWriter::new(into);
    while let Some(mut member) = reader.next_member().map_err(io::Error::other)? {
        if member.segments.is_some() {
            return Err(refused(format!("{} is sparse", member.meta.display_path())));
        }
        let path = member.meta.display_path();
        let path = path.strip_prefix("./").unwrap_or(&path).trim_end_matches('/');
        let edit = edit(path, member.meta.kind)?;
        member.meta = Meta { path: path.as_bytes().to_vec(), ..member.meta };
        match edit {
            Edit::LeaveOut => {}
            Edit::Keep => {
                writer.member(&member.meta, member.length)?;
                io::copy(&mut reader, &mut writer)?;
            }
            Edit::Replace(replace) => {
                if member.length > LONGEST {
                    return Err(refused(format!("{path} has {} bytes", member.length)));
                }
                let mut bytes = Vec::new();
                reader.by_ref().read_to_end(&mut bytes)?;
                let bytes = replace(&bytes)?;
                writer.member(&member.meta, bytes.len() as u64)?;
                writer.write_all(&bytes)?;
            }
        }
    }
    writer.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "sha256:aaaa";

    fn tar(members: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (path, content) in members {
            writer.member(&Meta::plain_file(path), content.len() as u64).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    fn members(mut tar: impl Read) -> io::Result<Vec<(String, String)>> {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)?;
        let mut reader = TarReader::new(&bytes[..]);
        let mut found = Vec::new();
        while let Some(member) = reader.next_member().unwrap() {
            let mut content = String::new();
            reader.by_ref().read_to_string(&mut content).unwrap();
            found.push((member.meta.display_path(), content));
        }
        Ok(found)
    }

    const MANIFEST_OF_IT: &str =
        r#"[{"Config":"blobs/sha256/aaaa","RepoTags":["nginx:latest"],"Layers":["blobs/sha256/bbbb"]}]"#;

    fn come(members_of_tar: &[(&str, &str)]) -> io::Result<Vec<(String, String)>> {
        members(without_names(io::Cursor::new(tar(members_of_tar)), IMAGE))
    }

    #[test]
    fn layers_that_the_other_host_has_do_not_leave() {
        let image = tar(&[("blobs/sha256/bbbb", "base"), ("blobs/sha256/cccc", "top"), (MANIFEST, MANIFEST_OF_IT)]);
        let left = members(without_layers(io::Cursor::new(image), &["sha256:bbbb".into()])).unwrap();
        assert_eq!(left.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["blobs/sha256/cccc", MANIFEST]);
    }

    #[test]
    fn what_comes_gives_no_image_a_name() {
        let index =
            r#"{"manifests":[{"digest":"sha256:dddd","annotations":{"io.containerd.image.name":"nginx:latest"}}]}"#;
        let come = come(&[
            ("blobs/sha256/bbbb", "layer"),
            (INDEX, index),
            (MANIFEST, MANIFEST_OF_IT),
            (REPOSITORIES, r#"{"nginx":{"latest":"bbbb"}}"#),
        ]);
        let come = come.unwrap();
        assert!(come.iter().all(|(_, content)| !content.contains("nginx")), "{come:?}");
        assert_eq!(come[0], ("blobs/sha256/bbbb".into(), "layer".into()));
        assert_eq!(come.len(), 3);
    }

    /// Docker says what it thinks of it.
    #[test]
    fn an_index_that_is_none_has_no_names() {
        for index in ["6", "[]", r#"{"manifests":"many"}"#, r#"{"manifests":[6]}"#] {
            assert_eq!(come(&[(INDEX, index)]).unwrap(), [(INDEX.to_owned(), index.to_owned())]);
        }
    }

    #[test]
    fn a_tar_with_another_image_or_a_way_round_ends_as_an_error() {
        let other = MANIFEST_OF_IT.replace("aaaa", "eeee");
        let two = MANIFEST_OF_IT.replacen('[', &format!("[{},", &MANIFEST_OF_IT[1..MANIFEST_OF_IT.len() - 1]), 1);
        assert!(come(&[(MANIFEST, &other)]).is_err());
        assert!(come(&[(MANIFEST, &two)]).is_err());
        assert!(come(&[(MANIFEST, MANIFEST_OF_IT), (MANIFEST, MANIFEST_OF_IT)]).is_err());
        assert!(come(&[("blobs/../manifest.json", "[]")]).is_err());
        assert!(come(&[(MANIFEST, "[6]")]).is_err());
        let mut cut = tar(&[(MANIFEST, MANIFEST_OF_IT), ("blobs/sha256/bbbb", "layer")]);
        cut.truncate(cut.len() - 1024);
        assert!(members(without_names(io::Cursor::new(cut), IMAGE)).is_err(), "it has no end");
        let mut writer = TarWriter::new(Vec::new());
        let link = Meta { kind: Kind::Symlink, link: b".".to_vec(), ..Meta::plain_file("x") };
        writer.member(&link, 0).unwrap();
        assert!(members(without_names(io::Cursor::new(writer.finish().unwrap()), IMAGE)).is_err());
    }
}
