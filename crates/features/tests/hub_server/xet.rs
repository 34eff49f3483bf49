//! The storage of large files: pieces of contents in xorbs, and shards that say which pieces make up a file.

use std::collections::BTreeMap;
use std::io::Cursor;

use xet_core_structures::metadata_shard::streaming_shard::MDBMinimalShard;
use xet_core_structures::xorb_object::deserialize_chunk;

use super::Answer;

/// The token that opens it.
pub(super) const TOKEN: &str = "xet-token";

#[derive(Default)]
pub(crate) struct Storage {
    /// The pieces of each xorb, by its hash.
    xorbs: BTreeMap<String, Vec<Vec<u8>>>,
    /// Whole files by their SHA-256.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

pub(super) fn answer(
    storage: &mut Storage,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: &[u8],
) -> Answer {
    if authorization != Some(&format!("Bearer {TOKEN}")) {
        return Answer::new(401, "");
    }
    match (method, path.strip_prefix("v1/xorbs/default/")) {
        ("POST", Some(hash)) => {
            storage.xorbs.insert(hash.to_owned(), pieces(body));
            Answer::new(200, r#"{"was_inserted":true}"#)
        }
        ("POST", None) if path == "v1/shards" => {
            let shard = MDBMinimalShard::from_reader(&mut Cursor::new(body), true, false).unwrap();
            for file in (0..shard.num_files()).filter_map(|at| shard.file(at)) {
                let mut contents = Vec::new();
                for part in (0..file.num_entries()).map(|at| file.entry(at)) {
                    let pieces = &storage.xorbs[&part.xorb_hash.hex()];
                    contents.extend(pieces[part.chunk_index_start as usize..part.chunk_index_end as usize].concat());
                }
                let hash = file.metadata_ext().expect("a shard names the SHA-256 of its files").sha256;
                storage.files.insert(hash.hex(), contents);
            }
            Answer::new(200, r#"{"result":1}"#)
        }
        // Newer ways of uploading, and questions for pieces that are there already: clients go on without.
        _ => Answer::new(404, ""),
    }
}

/// The pieces of a xorb, up to its footer if it has one.
fn pieces(xorb: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut pieces) = (Cursor::new(xorb), Vec::new());
    while let Some(rest) = xorb.get(reader.position() as usize..).filter(|rest| !rest.is_empty())
        && !rest.starts_with(b"XETBLOB")
    {
        pieces.push(deserialize_chunk(&mut reader).unwrap().0);
    }
    pieces
}
