//! One part: a head of fixed size, the vectors in little-endian `f32`, the ids as one JSON string a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// SHA-256 of what a part is made of.
pub(super) type Key = [u8; 32];

/// Begins every part, and changes when their layout does.
const MAGIC: [u8; 8] = *b"vectors1";
/// Bytes of the head: magic, key, rows, width, ids, truncated, length.
const HEAD: usize = 8 + 32 + 8 + 8 + 8 + 8 + 8;
/// Numbers that are turned to bytes at a time.
const NUMBERS: usize = 1 << 14;

/// The head of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) key: Key,
    pub(super) rows: u64,
    pub(super) width: u64,
    pub(super) ids: bool,
    /// Texts that were cut.
    pub(super) truncated: u64,
}

impl Part {
    /// Reads the head; `None` where there is no such file, or none that is a whole part.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut head = [0; HEAD];
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (magic, rest) = head.split_at(8);
        let (key, numbers) = rest.split_at(32);
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let part = Self {
            key: key.try_into().unwrap_or_default(),
            rows: next(),
            width: next(),
            ids: next() == 1,
            truncated: next(),
        };
        let whole = magic == MAGIC && next() == file.metadata()?.len();
        Ok(whole.then_some(part))
    }

    /// Writes the whole part.
    pub(super) fn write(&self, out: &mut impl Write, vectors: &[f32], ids: &[String]) -> io::Result<()> {
        let mut lines = Vec::new();
        for id in ids {
            serde_json::to_writer(&mut lines, id)?;
            lines.push(b'\n');
        }
        let length = HEAD as u64 + 4 * vectors.len() as u64 + lines.len() as u64;
        out.write_all(&MAGIC)?;
        out.write_all(&self.key)?;
        for number in [self.rows, self.width, u64::from(self.ids), self.truncated, length] {
            out.write_all(&number.to_le_bytes())?;
        }
        let mut bytes = Vec::with_capacity(4 * NUMBERS.min(vectors.len()));
        for numbers in vectors.chunks(NUMBERS) {
            bytes.clear();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            out.write_all(&bytes)?;
        }
        out.write_all(&lines)
    }

    fn vector_bytes(&self) -> u64 {
        self.rows * self.width * 4
    }

    /// Copies the vectors as they are: little-endian `f32`.
    pub(super) fn copy_vectors(&self, mut file: File, out: &mut impl Write) -> io::Result<()> {
        file.seek(SeekFrom::Start(HEAD as u64))?;
        let copied = io::copy(&mut file.take(self.vector_bytes()), out)?;
        if copied == self.vector_bytes() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Copies the ids as they are: one JSON string a line.
    pub(super) fn copy_ids(&self, mut file: File, out: &mut impl Write) -> io::Result<()> {
        file.seek(SeekFrom::Start(HEAD as u64 + self.vector_bytes()))?;
        io::copy(&mut file, out).map(|_| ())
    }

    /// The vectors, end to end, and the ids.
    pub(super) fn read(&self, mut file: File) -> io::Result<(Vec<f32>, Vec<String>)> {
        file.seek(SeekFrom::Start(HEAD as u64))?;
        let mut file = BufReader::new(file);
        let mut bytes = vec![0; self.vector_bytes() as usize];
        file.read_exact(&mut bytes)?;
        let vectors = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let ids = file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<io::Result<_>>()?;
        Ok((vectors, ids))
    }
}
