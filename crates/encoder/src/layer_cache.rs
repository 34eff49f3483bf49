//! What frozen lower layers make of a text is always the same: it is computed once and remembered.
//!
//! An entry is the `[tokens, hidden]` matrix that enters the first trained layer. Entries live in memory up to a bound, further ones in
//! a file, whose name holds a fingerprint of the frozen weights; a later run with the same weights finds it. With AVX-512 a text's
//! numbers are the same bits in any batch, so that remembering changes nothing; elsewhere the last digits may depend on the batch.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use paretune_features::Packed;
use sha2::{Digest, Sha256};

use crate::error::EncoderError;
use crate::kernels::gemm::Arithmetic;
use crate::network::Network;
use crate::parameter::Pass;
use crate::tokens::{parts, sequence};

/// Where outputs of frozen layers are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes of memory.
    pub memory: usize,
    /// Folder for what memory cannot hold; without one, the rest is computed every time.
    pub folder: Option<PathBuf>,
}

impl Default for CacheOptions {
    /// 1 GiB of memory, no folder.
    fn default() -> Self {
        Self { memory: 1 << 30, folder: None }
    }
}

/// A text's tokens, hashed.
type Key = [u8; 16];

/// Tokens of the batches in which missing entries are computed.
const BATCH: usize = 8192;

#[derive(Debug)]
pub(crate) struct LayerCache {
    /// Layers below this one are remembered.
    layers: usize,
    hidden: usize,
    arithmetic: Arithmetic,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memory: HashMap<Key, Box<[f32]>>,
    /// Bytes still free.
    free: usize,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    file: File,
    /// Where the numbers of an entry begin, and how many there are.
    entries: BTreeMap<Key, (u64, usize)>,
    end: u64,
}

impl LayerCache {
    /// A cache for what `network` freezes; none if that is nothing or all.
    pub(crate) fn open(
        network: &Network,
        arithmetic: Arithmetic,
        options: &CacheOptions,
    ) -> Result<Option<Self>, EncoderError> {
        if network.embeddings.is_trained() || network.first_trained == 0 {
            return Ok(None);
        }
        let disk = match &options.folder {
            Some(folder) => Disk::open(folder.join(format!("layers-{}-{arithmetic}.bin", fingerprint(network)?)))?,
            None => None,
        };
        let state = State { memory: HashMap::new(), free: options.memory, disk };
        Ok(Some(Self {
            layers: network.first_trained,
            hidden: network.architecture.hidden,
            arithmetic,
            state: Mutex::new(state),
        }))
    }

    /// Number of the first layer above what is remembered.
    pub(crate) fn layers(&self) -> usize {
        self.layers
    }

    /// What enters layer [`layers`](Self::layers), `[tokens, hidden]`; a constant.
    pub(crate) fn get(&self, network: &Network, packed: &Packed) -> Result<Tensor, EncoderError> {
        let keys: Vec<Key> = (0..packed.len()).map(|at| key(sequence(packed, at))).collect();
        let mut out = vec![0f32; packed.tokens() * self.hidden];
        let mut missing = Vec::new();
        let mut state = self.lock();
        for (at, key) in keys.iter().enumerate() {
            let rows = packed.offsets[at] as usize * self.hidden..packed.offsets[at + 1] as usize * self.hidden;
            if !state.read(key, &mut out[rows])? {
                missing.push(at);
            }
        }
        // Not held while computing: a thread that waits for others may take up work that asks this cache.
        drop(state);
        let wanted = Packed::from_sequences(missing.iter().map(|&at| sequence(packed, at)));
        let mut missing = missing.into_iter();
        for (_, part) in parts(&wanted, BATCH) {
            let offsets = part.offsets.as_slice().into();
            let pass = Pass { arithmetic: self.arithmetic, ..Pass::INFERENCE };
            let x = network.embed(&part, pass)?;
            let x = network.layers(&x, 0..self.layers, &offsets, pass)?.flatten_all()?.to_vec1::<f32>()?;
            let mut state = self.lock();
            for (pair, at) in part.offsets.windows(2).zip(&mut missing) {
                let rows = &x[pair[0] as usize * self.hidden..pair[1] as usize * self.hidden];
                out[packed.offsets[at] as usize * self.hidden..][..rows.len()].copy_from_slice(rows);
                state.write(keys[at], rows)?;
            }
        }
        Ok(Tensor::from_vec(out, (packed.tokens(), self.hidden), &Device::Cpu)?)
    }
}

impl LayerCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, key: &Key, rows: &mut [f32]) -> Result<bool, EncoderError> {
        if let Some(found) = self.memory.get(key) {
            rows.copy_from_slice(found);
            return Ok(true);
        }
        let Some(disk) = &mut self.disk else { return Ok(false) };
        if !disk.read(key, rows)? {
            return Ok(false);
        }
        self.remember(*key, rows);
        Ok(true)
    }

    fn write(&mut self, key: Key, rows: &[f32]) -> Result<(), EncoderError> {
        self.remember(key, rows);
        match &mut self.disk {
            Some(disk) if !disk.entries.contains_key(&key) => disk.append(key, rows),
            _ => Ok(()),
        }
    }

    fn remember(&mut self, key: Key, rows: &[f32]) {
        let size = size_of_val(rows);
        if size <= self.free && self.memory.insert(key, rows.into()).is_none() {
            self.free -= size;
        }
    }
}

/// The bytes of an entry's head: its key, the number of its values and their check.
const HEAD: u64 = 32;

impl Disk {
    /// Opens the file, or makes it. None if another process has it: that one fills it.
    fn open(path: PathBuf) -> Result<Option<Self>, EncoderError> {
        let failed = |source| EncoderError::Cache { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let length = file.metadata().map_err(failed)?.len();
        let mut disk = Self { path: path.clone(), file, entries: BTreeMap::new(), end: 0 };
        // An entry that was cut off by a crash ends the list; what follows is written over.
        while disk.end + HEAD <= length {
            let mut head = [0u8; HEAD as usize];
            disk.file.seek(SeekFrom::Start(disk.end)).map_err(failed)?;
            disk.file.read_exact(&mut head).map_err(failed)?;
            let (key, count) = (head.first_chunk::<16>(), head[16..].first_chunk::<8>());
            let (Some(key), Some(count)) = (key, count) else { break };
            let count = u64::from_le_bytes(*count);
            let start = disk.end + HEAD;
            let Some(end) = count.checked_mul(4).and_then(|bytes| start.checked_add(bytes)) else { break };
            if count == 0 || end > length {
                break;
            }
            disk.entries.insert(*key, (start, count as usize));
            disk.end = end;
        }
        Ok(Some(disk))
    }

    fn read(&mut self, key: &Key, rows: &mut [f32]) -> Result<bool, EncoderError> {
        let Some(&(start, count)) = self.entries.get(key) else { return Ok(false) };
        if count != rows.len() {
            return Ok(false);
        }
        let mut bytes = vec![0u8; 8 + 4 * count];
        let read = self.file.seek(SeekFrom::Start(start - 8)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|source| EncoderError::Cache { path: self.path.clone(), source })?;
        let (stored, bytes) = bytes.split_at(8);
        if stored != check(bytes) {
            // Damaged, as after a power cut: it is computed and written anew.
            self.entries.remove(key);
            return Ok(false);
        }
        for (value, bytes) in rows.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(true)
    }

    fn append(&mut self, key: Key, rows: &[f32]) -> Result<(), EncoderError> {
        let mut bytes = Vec::with_capacity(HEAD as usize + 4 * rows.len());
        bytes.extend_from_slice(&key);
        bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        rows.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        let sum = check(&bytes[HEAD as usize..]);
        bytes[HEAD as usize - 8..HEAD as usize].copy_from_slice(&sum);
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&bytes));
        written.map_err(|source| EncoderError::Cache { path: self.path.clone(), source })?;
        self.entries.insert(key, (self.end + HEAD, rows.len()));
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// The first bytes of the numbers' digest.
fn check(bytes: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|at| digest[at])
}

fn key(tokens: &[u32]) -> Key {
    let mut hash = Sha256::new();
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    let digest = hash.finalize();
    std::array::from_fn(|at| digest[at])
}

/// Of the frozen weights that the entries depend on, and of the sizes.
fn fingerprint(network: &Network) -> Result<String, EncoderError> {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", network.architecture));
    let mut add = |values: &[f32]| {
        for chunk in values.chunks(4096) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(bytes);
        }
    };
    network.embeddings.each(&mut add)?;
    for layer in &network.layers[..network.first_trained] {
        layer.each(&mut add)?;
    }
    Ok(hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect())
}
