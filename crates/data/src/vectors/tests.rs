use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::SafeTensors;

use super::*;

const WIDTH: usize = 3;

/// Chunks of these sizes, with or without ids.
fn chunks(sizes: &[usize], ids: bool) -> Vec<TextChunk> {
    let mut row = 0;
    let chunk = |size: &usize| {
        let rows = row..row + size;
        row += size;
        let texts = rows.clone().map(|row| format!("text {row}")).collect();
        TextChunk { texts, ids: rows.filter(|_| ids).map(|row| format!("id \"{row}\"\né")).collect() }
    };
    sizes.iter().map(chunk).collect()
}

/// Vectors that tell which row they belong to, with numbers that only their bits tell apart.
fn vectors(chunk: &TextChunk) -> Vec<f32> {
    let number = |text: &String| text.trim_start_matches("text ").parse::<f32>().unwrap();
    chunk.texts.iter().flat_map(|text| [number(text), -0.0, number(text) / 3.0]).collect()
}

/// Makes a file of vectors; gives how many parts were kept.
fn make(target: &Path, settings: &str, chunks: &[TextChunk]) -> usize {
    let mut parts = VectorParts::open(target, settings).unwrap();
    let kept = fill(&mut parts, chunks);
    parts.finish(&[("b", "2".into()), ("a", "1".into())]).unwrap();
    kept
}

fn fill(parts: &mut VectorParts, chunks: &[TextChunk]) -> usize {
    let mut kept = 0;
    for chunk in chunks {
        if parts.keep(chunk).unwrap() {
            kept += 1;
        } else {
            parts.push(chunk, &vectors(chunk), 1).unwrap();
        }
    }
    kept
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn all(chunks: &[TextChunk]) -> Vec<u32> {
    chunks.iter().flat_map(vectors).map(f32::to_bits).collect()
}

fn ids(chunks: &[TextChunk]) -> Vec<String> {
    chunks.iter().flat_map(|chunk| chunk.ids.clone()).collect()
}

fn little_endian(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

#[test]
fn safetensors_read_the_tensor_and_its_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("v.safetensors");
    let chunks = chunks(&[4, 1], false);
    make(&target, "", &chunks);
    assert_eq!(names(folder.path()), ["v.safetensors"]);
    let bytes = fs::read(&target).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["embeddings"]);
    let tensor = file.tensor("embeddings").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &[5, WIDTH][..]));
    assert_eq!(little_endian(tensor.data()), all(&chunks));
    let (head, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(head % 8, 0);
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!((metadata["a"].as_str(), metadata["b"].as_str(), metadata.len()), ("1", "2", 2));
}

#[test]
fn npy_is_as_numpy_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep/er/v.npy");
    let chunks = chunks(&[2, 2, 1], true);
    make(&target, "", &chunks);
    assert_eq!(names(target.parent().unwrap()), ["v.npy", "v.npy.ids.jsonl"]);
    let bytes = fs::read(&target).unwrap();
    // numpy.save of numpy 2.4.6: np.zeros((5, 3), dtype="<f4").
    let mut head = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }".to_vec();
    head.resize(127, b' ');
    head.push(b'\n');
    assert_eq!(bytes[..128], head);
    assert_eq!(little_endian(&bytes[128..]), all(&chunks));
    let lines = fs::read_to_string(VectorParts::ids_path(&target)).unwrap();
    let read: Vec<String> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, ids(&chunks));

    // Ids of an older file are not left beside one that has none.
    make(&target, "", &self::chunks(&[2], false));
    assert_eq!(names(target.parent().unwrap()), ["v.npy"]);
}

#[test]
fn the_head_of_an_array_is_aligned_whatever_its_size() {
    for shape in [(0, 1), (1, 384), (123_456_789_012, 1024), (u64::MAX / 8192, 1024)] {
        let shape = Shape { rows: shape.0, width: shape.1, ids: false };
        let head = array::npy_header(shape);
        assert_eq!(head.len() % 64, 0);
        assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])), head.len() - 10);
        assert_eq!(array::safetensors_header(shape, &BTreeMap::new()).unwrap().len() % 8, 0);
    }
}

#[test]
fn parquet_has_a_list_of_fixed_size_for_each_id_or_row() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("v.parquet");
    for with_ids in [true, false] {
        let chunks = chunks(&[3, 4], with_ids);
        make(&target, "", &chunks);
        assert_eq!(names(folder.path()), ["v.parquet"]);
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&target).unwrap()).unwrap();
        let metadata = builder.metadata().file_metadata().key_value_metadata().unwrap();
        let metadata: Vec<_> = metadata.iter().map(|entry| (entry.key.as_str(), entry.value.as_deref())).collect();
        assert_eq!(metadata[..2], [("a", Some("1")), ("b", Some("2"))]);
        let batch = builder.build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.num_rows(), 7);
        let lists = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
        assert_eq!((lists.value_length(), lists.null_count()), (WIDTH as i32, 0));
        let found: Vec<u32> =
            lists.values().as_primitive::<Float32Type>().values().iter().map(|n| n.to_bits()).collect();
        assert_eq!(found, all(&chunks));
        if with_ids {
            let found: Vec<_> = batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
            assert_eq!((batch.schema().field(0).name().as_str(), found), ("id", ids(&chunks)));
        } else {
            assert_eq!(batch.schema().field(0).name(), "row");
            assert_eq!(batch.column(0).as_primitive::<Int64Type>().values()[..], [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}

#[test]
fn a_job_that_was_cut_off_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = chunks(&[3, 3, 3, 2], true);
    for name in ["v.npy", "v.parquet", "v.safetensors"] {
        let whole = folder.path().join("whole").join(name);
        assert_eq!(make(&whole, "s", &chunks), 0);
        let result = |target: &Path| (fs::read(target).unwrap(), fs::read(VectorParts::ids_path(target)).ok());
        let target = folder.path().join("cut").join(name);
        let parts = VectorParts::folder(&target);
        for done in 0..=chunks.len() {
            // As a kill leaves it: some parts, half of the next one, half of the file itself.
            fill(&mut VectorParts::open(&target, "s").unwrap(), &chunks[..done]);
            fs::write(parts.join(format!(".{done:08}.1.partial")), b"half of a p").unwrap();
            fs::write(parts.join("assembled"), b"half of a file, or more than there will be".repeat(100)).unwrap();
            fs::write(parts.join("ids"), b"\"id").unwrap();
            assert_eq!(make(&target, "s", &chunks), done);
            assert_eq!(result(&target), result(&whole), "{name} after {done} parts");
            assert!(!parts.exists());
        }
    }
}

#[test]
fn parts_of_another_job_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("v.npy");
    let first = chunks(&[2, 2, 2], true);
    let leave = || {
        fill(&mut VectorParts::open(&target, "s").unwrap(), &first);
    };
    leave();
    assert_eq!(make(&target, "other settings", &first), 0);
    let mut other = first.clone();
    other[1].texts[0].push('!');
    leave();
    let mut parts = VectorParts::open(&target, "s").unwrap();
    let kept: Vec<bool> = other
        .iter()
        .map(|chunk| {
            let kept = parts.keep(chunk).unwrap();
            if !kept {
                parts.push(chunk, &[0.0; 2 * WIDTH], 0).unwrap();
            }
            kept
        })
        .collect();
    assert_eq!(kept, [true, false, true]);
    assert_eq!((parts.rows(), parts.width(), parts.truncated()), (6, WIDTH as u64, 2));
    drop(parts);
    other = first.clone();
    other[0].ids[1].push('!');
    leave();
    assert!(!VectorParts::open(&target, "s").unwrap().keep(&other[0]).unwrap());

    // A letter that moves from one text to the next, or from a text to its id, is a change.
    let parts = VectorParts::open(&target, "s").unwrap();
    let chunk = |texts: &[&str], ids: &[&str]| TextChunk {
        texts: texts.iter().map(|text| (*text).into()).collect(),
        ids: ids.iter().map(|id| (*id).into()).collect(),
    };
    let keys = [chunk(&["ab", "c"], &[]), chunk(&["a", "bc"], &[]), chunk(&["ab"], &["c"]), chunk(&["a"], &["bc"])];
    let keys: std::collections::BTreeSet<Key> = keys.iter().map(|chunk| parts.key(chunk)).collect();
    assert_eq!(keys.len(), 4);
}

#[test]
fn a_part_that_is_not_whole_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("v.npy");
    let chunks = chunks(&[2, 2], false);
    fill(&mut VectorParts::open(&target, "s").unwrap(), &chunks);
    let part = VectorParts::folder(&target).join("00000001");
    let bytes = fs::read(&part).unwrap();
    for length in [0, 20, bytes.len() - 1, bytes.len() + 1] {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        fs::write(&part, cut).unwrap();
        assert_eq!(fill(&mut VectorParts::open(&target, "s").unwrap(), &chunks), 1, "{length} bytes");
        assert_eq!(fs::read(&part).unwrap(), bytes);
    }
}

#[test]
fn a_part_that_somebody_changes_meanwhile_is_an_error_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("v.npy");
    fs::write(&target, b"old").unwrap();
    let chunks = chunks(&[2, 2], false);
    let mut parts = VectorParts::open(&target, "s").unwrap();
    fill(&mut parts, &chunks);
    fill(&mut VectorParts::open(&target, "other").unwrap(), &chunks);
    let message = parts.finish(&[]).unwrap_err().to_string();
    assert!(message.contains("cannot write") && message.contains("run again"), "{message}");
    assert_eq!(fs::read(&target).unwrap(), b"old");
}
