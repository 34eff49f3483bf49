//! Damage to safetensors files: headers that lie, and tensors that are not what the configuration says.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::super::{corpus::Corpus, folder::Folder};
use super::json;

/// A tensor as it lies in a file.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

/// Bytes of a number.
fn width(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" | "U64" => 8,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 1,
        _ => 4,
    }
}

/// Numbers in a tensor of a shape that may be impossible.
pub(super) fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |size, &side| size.saturating_mul(side))
}

fn header(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, data) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(header).ok()?, data))
}

/// The tensors of a file, in the order of their places.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Stored>> {
    let (header, data) = header(bytes)?;
    let mut all = Vec::new();
    for (name, entry) in header.as_object()? {
        if name == "__metadata__" {
            continue;
        }
        let place = |at: usize| entry["data_offsets"][at].as_u64().and_then(|at| usize::try_from(at).ok());
        let (start, end) = (place(0)?, place(1)?);
        let shape = entry["shape"].as_array()?.iter().map(|size| size.as_u64().map(|size| size as usize));
        all.push((
            start,
            Stored {
                name: name.clone(),
                dtype: entry["dtype"].as_str()?.to_owned(),
                shape: shape.collect::<Option<_>>()?,
                data: data.get(start..end)?.to_vec(),
            },
        ));
    }
    all.sort_by(|(left, one), (right, two)| (left, &one.name).cmp(&(right, &two.name)));
    Some(all.into_iter().map(|(_, stored)| stored).collect())
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

pub(super) fn write(tensors: &[Stored]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for Stored { name, dtype, shape, data: own } in tensors {
        let start = data.len();
        data.extend(own);
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
    }
    with_header(Value::Object(header).to_string().as_bytes(), &data)
}

/// Damages the header and leaves the numbers.
fn lie(bytes: &[u8], corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<(Vec<u8>, String)> {
    let (mut header, data) = header(bytes)?;
    if random.random_bool(0.2) {
        let mut bytes = bytes.to_vec();
        let length = [0, 1, 7, u64::MAX, 1 << 63, 1 << 32, bytes.len() as u64, bytes.len() as u64 - 8]
            [random.random_range(0..8)];
        bytes.get_mut(..8)?.copy_from_slice(&length.to_le_bytes());
        return Some((bytes, format!("the header is said to have {length} bytes")));
    }
    let object = header.as_object()?;
    let name = object.keys().nth(random.random_range(0..object.len().max(1)))?.clone();
    let entry = &mut header[&name];
    let field = ["shape", "dtype", "data_offsets", ""][random.random_range(0..4)];
    let place = if field.is_empty() || entry.get(field).is_none() { entry } else { &mut entry[field] };
    let done = json::change(place, corpus, random)?;
    Some((with_header(&json::written(&header), data), format!("header {name}/{field}{done}")))
}

pub(super) fn mutate(folder: &mut Folder, corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<String> {
    let path = folder.ending(".safetensors").choose(random)?.clone();
    let bytes = folder.bytes(&path)?;
    if random.random_bool(0.35) {
        let (changed, done) = lie(bytes, corpus, random)?;
        folder.put(&path, changed);
        return Some(format!("{path}: {done}"));
    }
    let mut tensors = read(bytes)?;
    if tensors.is_empty() {
        return None;
    }
    let (at, other) = (random.random_range(0..tensors.len()), random.random_range(0..tensors.len()));
    let name = tensors[at].name.clone();
    let done = match random.random_range(0..8) {
        0 => {
            tensors.remove(at);
            "is missing".to_owned()
        }
        1 => {
            let stems =
                ["x", "", "../x", "bert.", "model.", "transformer.", "encoder.layer.99999999999999999999.x", "\u{0}"];
            let stem = stems[random.random_range(0..stems.len())];
            let new = if stem.ends_with('.') { format!("{stem}{name}") } else { stem.to_owned() };
            if tensors.iter().any(|tensor| tensor.name == new) {
                return None;
            }
            let mut copy = tensors[at].clone();
            copy.name.clone_from(&new);
            match random.random_bool(0.5) {
                true => tensors.push(copy),
                false => tensors[at] = copy,
            }
            format!("is also or only called {new:?}")
        }
        2 => {
            let (one, two) = (tensors[at].name.clone(), tensors[other].name.clone());
            tensors[at].name.clone_from(&two);
            tensors[other].name = one;
            format!("has the name of {two}")
        }
        3 => {
            let count = tensors[at].data.len() / width(&tensors[at].dtype);
            let shapes = [
                vec![count],
                vec![count, 1],
                vec![1, count],
                vec![1; 40],
                tensors[at].shape.iter().rev().copied().collect(),
                vec![0],
                vec![],
                vec![0, usize::MAX],
                vec![0, usize::MAX, 2],
            ];
            let shape = shapes[random.random_range(0..shapes.len())].clone();
            let bytes = elements(&shape).saturating_mul(width(&tensors[at].dtype)).min(1 << 20);
            tensors[at].data.resize(bytes, 0);
            tensors[at].shape = shape;
            format!("has shape {:?}", tensors[at].shape)
        }
        4 => {
            let dtypes = ["F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "X"];
            let dtype = dtypes[random.random_range(0..dtypes.len())];
            let elements = tensors[at].data.len() / width(&tensors[at].dtype);
            tensors[at].data.resize(elements * width(dtype), 0x3c);
            dtype.clone_into(&mut tensors[at].dtype);
            format!("is of type {dtype}")
        }
        5 => {
            let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, 0.0, -1e30];
            let value = values[random.random_range(0..values.len())];
            let every = [1, 3, 50][random.random_range(0..3)];
            for number in tensors[at].data.chunks_exact_mut(4).step_by(every) {
                number.copy_from_slice(&value.to_le_bytes());
            }
            format!("has {value} at every {every}. place")
        }
        6 => {
            tensors[at].data.clear();
            let axis = random.random_range(0..tensors[at].shape.len().max(1));
            *tensors[at].shape.get_mut(axis)? = 0;
            "is empty".to_owned()
        }
        _ => {
            tensors.truncate(at);
            "and all after it are missing".to_owned()
        }
    };
    folder.put(&path, write(&tensors));
    Some(format!("{path}: {name} {done}"))
}
