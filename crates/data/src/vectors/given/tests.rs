use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{TextChunk, VectorParts};

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn fixture(name: &str) -> VectorFile {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors").join(name);
    let beside = |name: &str| Some(file.with_file_name(name));
    let column = Some("clip".to_owned());
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => VectorFile { ids: beside("ids.txt"), ..VectorFile::new("image", file) },
        Some("safetensors") => VectorFile { ids: beside("ids.jsonl"), column, ..VectorFile::new("image", file) },
        _ => VectorFile { id_column: Some("sku".into()), column, ..VectorFile::new("image", file) },
    }
}

/// A file as `embed` writes it.
fn write(path: &Path, width: usize, rows: &[(String, Vec<f32>)]) {
    let mut parts = VectorParts::open(path, "").unwrap();
    for rows in rows.chunks(3) {
        let texts = vec![String::new(); rows.len()];
        let chunk = TextChunk { texts, ids: rows.iter().map(|(id, _)| id.clone()).collect() };
        let vectors: Vec<f32> = rows.iter().flat_map(|(_, row)| row.clone()).collect();
        assert_eq!(vectors.len(), width * rows.len());
        parts.push(&chunk, &vectors, 0).unwrap();
    }
    parts.finish(&[]).unwrap();
}

#[track_caller]
fn refused(spec: &VectorFile, says: &[&str]) {
    let message = spec.read(&ids(&["cup", "mug", "7"])).unwrap_err().to_string();
    says.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not said: {message}"));
}

#[test]
fn what_other_tools_write_is_read_to_the_last_bit() {
    let expected: Value = serde_json::from_slice(include_bytes!("../../../fixtures/vectors/expected.json")).unwrap();
    let mut files = 0;
    for (name, rows) in expected.as_object().unwrap().iter().filter(|(name, _)| *name != "versions") {
        let table = fixture(name).read(&ids(&["cup", "mug", "7"])).unwrap();
        assert_eq!(table.present(), [false, true, true], "{name}");
        assert_eq!((table.width(), table.unknown(), table.found()), (3, 1, 2), "{name}");
        let row = |row: usize| rows[row].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32);
        let values: Vec<f32> = [0.0; 3].into_iter().chain(row(1)).chain(row(0)).collect();
        assert_eq!(table.values(), values, "{name}");
        files += 1;
    }
    assert_eq!(files, 11);
    // The same numbers are the same vectors, whatever file holds them.
    let checksum = |name: &str| fixture(name).read(&ids(&["cup", "mug", "7"])).unwrap().checksum;
    assert_eq!(checksum("f4.npy"), checksum("fixed.parquet"));
    assert_eq!(checksum("f4.npy"), checksum("f32.safetensors"));
    assert_ne!(checksum("f4.npy"), checksum("f2.npy"));
}

#[test]
fn vectors_of_length_one_keep_their_direction() {
    let spec = VectorFile { unit: true, ..fixture("f8.npy") };
    let table = spec.read(&ids(&["7", "cup"])).unwrap();
    let length = (1.0f64 / 9.0 + 6.25).sqrt();
    let expected = [(1.0 / 3.0 / length) as f32, (-2.5 / length) as f32, 0.0, 0.0, 0.0, 0.0];
    for (found, expected) in table.values().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{found} and {expected}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_a_way_out() {
    refused(&fixture("fortran.npy"), &["fortran.npy", "ascontiguousarray"]);
    refused(&fixture("big.npy"), &["`>f4`", "astype"]);
    refused(&fixture("integers.npy"), &["`<i8`"]);
    refused(&fixture("flat.npy"), &["shape is [9]", "matrix"]);
    refused(&fixture("integers.safetensors"), &["I64", "F32"]);
    refused(&VectorFile { column: None, ..fixture("f32.safetensors") }, &["no tensor `embeddings`", "a, clip, z"]);
    refused(&VectorFile { column: None, ..fixture("fixed.parquet") }, &["no column `embedding`", "`clip`"]);
    refused(&VectorFile { column: Some("extra".into()), ..fixture("fixed.parquet") }, &["`extra`", "lists of floats"]);
    let plain = |name: &str| VectorFile { id_column: None, column: None, ..fixture(name) };
    refused(&plain("ragged.parquet"), &["ragged.parquet, row 2", "1 numbers, where rows before have 2"]);
    refused(&plain("holes.parquet"), &["row 2", "number 2 of the vector is null"]);
    refused(&VectorFile { ids: None, ..fixture("f4.npy") }, &["f4.npy.ids.jsonl is not there", "--id-column"]);
    refused(&VectorFile { file: "nowhere.npy".into(), ..fixture("f4.npy") }, &["nowhere.npy"]);
    refused(&VectorFile { file: "a.csv".into(), ..fixture("f4.npy") }, &["a.csv", ".npy"]);
    let strange = fixture("f4.npy").read(&ids(&["B001", "B002"])).unwrap_err().to_string();
    assert!(strange.contains("none of its 3 rows") && strange.contains("B001") && strange.contains("`7`"), "{strange}");
}

#[test]
fn rows_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.npy");
    let spec = VectorFile::new("image", &path);
    let rows = |ids: [&str; 3], odd: f32| -> Vec<(String, Vec<f32>)> {
        ids.iter().map(|id| ((*id).to_owned(), vec![1.0, if *id == "mug" { odd } else { 2.0 }])).collect()
    };
    write(&path, 2, &rows(["cup", "mug", "cup"], 0.0));
    refused(&spec, &["row 3", "`cup` has a vector already"]);
    for odd in [f32::NAN, f32::INFINITY] {
        write(&path, 2, &rows(["cup", "gone", "mug"], odd));
        refused(&spec, &["row 3", "number 2 of the vector of `mug`"]);
    }
    write(&path, 2, &rows(["cup", "gone", "mug"], 0.0));
    let names = VectorParts::ids_path(&path);
    fs::write(&names, "\"cup\"\n\"mug\"\n").unwrap();
    refused(&spec, &["it has 3 rows", "names 2"]);
    fs::write(&names, "\"cup\"\n\"mug\"\n\"7\"\n\"8\"\n").unwrap();
    refused(&spec, &["it has 3 rows", "names more"]);
    fs::write(&names, "\"cup\"\nmug\n\"7\"\n").unwrap();
    refused(&spec, &["ids.jsonl, line 2", "`mug` is no JSON string"]);
    fs::write(&names, "\"cup\"\n\"\"\n\"7\"\n").unwrap();
    refused(&spec, &["line 2", "the id is empty"]);
}

/// No bytes make it panic, or reserve memory for numbers that are not there.
#[test]
fn broken_heads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["f4.npy", "version2.npy", "f32.safetensors", "fixed.parquet"] {
        let whole = fixture(name);
        let bytes = fs::read(&whole.file).unwrap();
        let spec = VectorFile { file: folder.path().join(name), ..whole };
        for length in (0..bytes.len()).step_by(if name.ends_with("parquet") { 13 } else { 1 }) {
            fs::write(&spec.file, &bytes[..length]).unwrap();
            assert!(spec.read(&ids(&["mug"])).is_err(), "{length} bytes of {name}");
        }
    }
    let spec = VectorFile { file: folder.path().join("huge.npy"), ..fixture("f4.npy") };
    for shape in ["(0, 3)", "(3, 0)", "(0, 9999999999999)", "(4000000000000, 4000000000000)", "(3, x)", "(3,)", "()"] {
        let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
        text.resize(117, b' ');
        text.push(b'\n');
        let head = [b"\x93NUMPY\x01\x00".to_vec(), 118u16.to_le_bytes().to_vec(), text].concat();
        fs::write(&spec.file, head).unwrap();
        assert!(spec.read(&ids(&["mug"])).is_err(), "{shape}");
    }
    let spec = VectorFile { file: folder.path().join("huge.safetensors"), column: None, ..fixture("f32.safetensors") };
    for (shape, offsets) in [("[3,2]", "[0,25]"), ("[3,2]", "[24,0]"), ("[3,2]", "[0,24]"), ("[0,7777777777]", "[0,0]")]
    {
        let head = format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}");
        fs::write(&spec.file, [(head.len() as u64).to_le_bytes().to_vec(), head.into_bytes()].concat()).unwrap();
        assert!(spec.read(&ids(&["mug"])).is_err(), "{shape} {offsets}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the order of rows and of items, and whatever format, each item gets its own row.
    #[test]
    fn rows_find_their_items(
        rows in proptest::sample::subsequence((0..40).collect::<Vec<u32>>(), 1..40).prop_shuffle(),
        items in proptest::sample::subsequence((0..40).collect::<Vec<u32>>(), 1..40).prop_shuffle(),
        width in 1usize..5,
    ) {
        let name = |number: &u32| format!("item \"{number}\"");
        let row = |number: u32| -> Vec<f32> { (0..width).map(|at| number as f32 / 3.0 - at as f32).collect() };
        let written: Vec<_> = rows.iter().map(|number| (name(number), row(*number))).collect();
        let catalogue: Vec<String> = items.iter().map(name).collect();
        let expected: Vec<f32> =
            items.iter().flat_map(|item| if rows.contains(item) { row(*item) } else { vec![0.0; width] }).collect();
        let present: Vec<bool> = items.iter().map(|item| rows.contains(item)).collect();
        let folder = tempfile::tempdir().unwrap();
        for file in ["v.npy", "v.safetensors", "v.parquet"] {
            let path = folder.path().join(file);
            write(&path, width, &written);
            let read = VectorFile::new("image", &path).read(&catalogue);
            if !present.contains(&true) {
                let strange = matches!(read, Err(DataError::Strangers { .. }));
                prop_assert!(strange);
                continue;
            }
            let read = read.unwrap();
            let unknown = rows.iter().filter(|row| !items.contains(row)).count() as u64;
            prop_assert_eq!((read.present(), read.values(), read.unknown()), (&present[..], &expected[..], unknown));
            let own: Vec<Option<Vec<f32>>> = items.iter().map(|item| rows.contains(item).then(|| row(*item))).collect();
            let own: Vec<Option<&[f32]>> = own.iter().map(Option::as_deref).collect();
            let in_memory = VectorTable::from_rows(&own).unwrap();
            prop_assert_eq!(in_memory.checksum(), read.checksum());
        }
    }
}
