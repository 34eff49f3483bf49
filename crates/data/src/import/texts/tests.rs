use std::sync::Arc;

use arrow_array::{Float64Array, ListArray, RecordBatch, StringArray, types::Int32Type};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::*;

fn at_most(rows: usize) -> NonZeroUsize {
    NonZeroUsize::new(rows).unwrap()
}

fn joined(fields: &[Option<&str>]) -> String {
    fields.iter().map(|field| field.unwrap_or("-")).collect::<Vec<_>>().join("|")
}

fn written(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn read(path: &Path, fields: &[&str], id: Option<&str>, rows: usize) -> Result<Vec<TextChunk>, DataError> {
    let table = TextTable::open(path, fields, id)?;
    let count = table.count(&mut |_| ())?;
    let mut chunks = Vec::new();
    table.chunks(at_most(rows), &joined, &mut |chunk| {
        chunks.push(chunk);
        Ok::<(), DataError>(())
    })?;
    assert_eq!(chunks.iter().map(|chunk| chunk.texts.len() as u64).sum::<u64>(), count);
    Ok(chunks)
}

#[track_caller]
fn refused(path: &Path, fields: &[&str], id: Option<&str>, parts: &[&str]) {
    let message = read(path, fields, id, 2).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not said: {message}");
    }
    assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
}

fn chunk(texts: &[&str], ids: &[&str]) -> TextChunk {
    let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    TextChunk { texts: owned(texts), ids: owned(ids) }
}

#[test]
fn every_format_gives_the_same_rows() {
    let expected = [chunk(&["Tea, pot|Ann", "-|Bob"], &["7", "8"]), chunk(&["Mug|-"], &["x 9"])];
    let csv = written("a.csv", "sku,name,maker\n7,\"Tea, pot\",Ann\n\n8,,Bob\nx 9,Mug,\n");
    let tsv = written("a.tsv", "maker\tsku\tname\nAnn\t7\tTea, pot\nBob\t8\t \n\tx 9\tMug\n");
    let jsonl = written(
        "a.jsonl",
        "{\"sku\":7,\"name\":\"Tea, pot\",\"maker\":\"Ann\"}\n\n{\"sku\":8,\"name\":null,\"maker\":\"Bob\"}\n{\"name\":\"Mug\",\"sku\":\"x 9\"}",
    );
    let parquet = written("a.parquet", "");
    let column = |values: [Option<&str>; 3]| Arc::new(StringArray::from(values.to_vec())) as _;
    let batch = RecordBatch::try_from_iter([
        ("sku", column([Some("7"), Some("8"), Some("x 9")])),
        ("name", column([Some("Tea, pot"), None, Some("Mug")])),
        ("maker", column([Some("Ann"), Some("Bob"), None])),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(&parquet.1).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for (_folder, path) in [csv, tsv, jsonl, parquet] {
        assert_eq!(read(&path, &["name", "maker"], Some("sku"), 2).unwrap(), expected, "{}", path.display());
        let without = read(&path, &["name"], None, 100).unwrap();
        assert_eq!(without, [chunk(&["Tea, pot", "-", "Mug"], &[])]);
    }
}

#[test]
fn every_line_is_a_text_and_an_empty_one_too() {
    let (_folder, path) = written("a.TXT", "\u{feff}one\r\n\ntwo, \"2\"\n  \nlast");
    assert_eq!(
        read(&path, &[], None, 3).unwrap(),
        [chunk(&["one", "-", "two, \"2\""], &[]), chunk(&["-", "last"], &[])]
    );
    let (_folder, path) = written("a.txt", "");
    assert!(read(&path, &[], None, 3).unwrap().is_empty());
}

#[test]
fn long_texts_end_a_chunk_early() {
    let long = "x".repeat(LONGEST_TEXT);
    let (_folder, path) = written("a.txt", format!("{long}\n").repeat(9));
    let sizes: Vec<usize> = read(&path, &[], None, 100).unwrap().iter().map(|chunk| chunk.texts.len()).collect();
    assert_eq!(sizes, [4, 4, 1]);
}

#[test]
fn what_cannot_be_read_is_said_with_file_line_and_column() {
    let refuse = |name: &str, content: &[u8], id, parts: &[&str]| {
        let (_folder, path) = written(name, content);
        refused(&path, &["name"], id, parts);
    };
    refuse("a.csv", b"sku,title\n1,x\n", None, &["no column `name`", "`sku`, `title`"]);
    refuse("a.csv", b"", None, &["no column `name`"]);
    refuse("a.csv", b"sku,name\n1,x\n2,y,z\n", None, &["line 3", "3 fields instead of 2"]);
    refuse("a.csv", b"sku,name\n1,x\n2,\"y\n3,z\n", None, &["line 3", "never closed"]);
    refuse("a.csv", b"sku,name\n1,x\n,y\n", Some("sku"), &["line 3", "column `sku`", "id is missing"]);
    refuse("a.tsv", b"sku\tname\n1\t\xff\n", None, &["line 2", "UTF-8"]);
    refuse("a.txt", b"fine\n\xc3\x28\n", None, &["line 2", "UTF-8"]);
    refuse("a.txt", format!("fine\n{}", "x".repeat(LONGEST_TEXT + 1)).as_bytes(), None, &["line 2", "1048577 bytes"]);
    refuse("a.txt", b"fine\n", Some("sku"), &["`sku`", "lines"]);
    refuse("a.jsonl", b"{\"name\":\"x\"}\n{\"name\":\n", None, &["line 2", "JSON", "at column"]);
    refuse("a.jsonl", b"{\"name\":\"x\"}\n[1]\n", None, &["line 2", "not an object"]);
    refuse("a.jsonl", b"{\"title\":\"x\"}\n", None, &["no column `name`", "`title`"]);
    refuse("a.parquet", b"PAR1 and no more", None, &["not a whole Parquet file"]);
    refuse("a.xlsx", b"", None, &["a.xlsx", ".parquet"]);
    let folder = tempfile::tempdir().unwrap();
    refused(&folder.path().join("absent.csv"), &["name"], None, &["cannot read", "No such file"]);
    let path = folder.path().join("folder.csv");
    fs::create_dir(&path).unwrap();
    refused(&path, &["name"], None, &["no regular file"]);
}

#[test]
fn columns_of_parquet_are_named_when_they_hold_no_text() {
    let (_folder, path) = written("a.parquet", "");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None]);
    let batch = RecordBatch::try_from_iter([
        ("name", Arc::new(lists) as _),
        ("price", Arc::new(Float64Array::from(vec![Some(1.5), None])) as _),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    refused(&path, &["name"], None, &["column `name`", "List"]);
    assert_eq!(read(&path, &["price"], None, 2).unwrap(), [chunk(&["1.5", "-"], &[])]);
    refused(&path, &["name"], Some("price"), &["column `name`"]);
    refused(&path, &["price"], Some("price"), &["row 2", "column `price`", "id is missing"]);
}

#[test]
fn an_error_of_the_receiver_ends_the_reading() {
    #[derive(Debug)]
    struct Own(u32);
    impl From<DataError> for Own {
        fn from(error: DataError) -> Self {
            panic!("{error}")
        }
    }
    let (_folder, path) = written("a.txt", "1\n2\n3\n4\n5\n");
    let table = TextTable::open(&path, &[], None).unwrap();
    for last in [2, 3] {
        let mut seen = 0;
        let stopped = table.chunks(at_most(2), &joined, &mut |_| {
            seen += 1;
            if seen == last { Err(Own(seen)) } else { Ok(()) }
        });
        assert_eq!(stopped.unwrap_err().0, last);
        assert_eq!(seen, last);
    }
}

proptest! {
    #[test]
    fn chunks_are_the_rows_in_order(
        rows in proptest::collection::vec(("[ -~\"\n,é]{0,12}", "[a-z]{1,3}"), 0..40), size in 1usize..12
    ) {
        let (_folder, path) = written("a.csv", "");
        let mut writer = csv::Writer::from_path(&path).unwrap();
        writer.write_record(["id", "text"]).unwrap();
        for (text, id) in &rows {
            writer.write_record([id, text]).unwrap();
        }
        writer.flush().unwrap();
        let chunks = read(&path, &["text"], Some("id"), size).unwrap();
        prop_assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.texts.len() == size));
        let texts: Vec<String> = chunks.iter().flat_map(|chunk| chunk.texts.clone()).collect();
        let ids: Vec<String> = chunks.into_iter().flat_map(|chunk| chunk.ids).collect();
        let expected = |text: &str| if text.trim().is_empty() { "-".to_owned() } else { text.trim().to_owned() };
        prop_assert_eq!(texts, rows.iter().map(|(text, _)| expected(text)).collect::<Vec<_>>());
        prop_assert_eq!(ids, rows.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }
}
