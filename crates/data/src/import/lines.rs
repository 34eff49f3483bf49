//! Lines of a text file in any encoding.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::{DropReason, Fault};
use crate::DataError;
use crate::descriptor::FileSpec;

/// Bytes of the longest line that is read; a file without line ends must not fill the memory.
const LONGEST_LINE: u64 = 1 << 24;

/// One line, decoded and repaired.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) text: String,
    /// Set where some bytes mean nothing in the encoding.
    pub(super) fault: Option<Fault>,
}

/// Reads line by line, whatever the end of line.
pub(super) struct Lines<'a> {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    encoding: &'static Encoding,
    repair: &'a [(String, String)],
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
    returned: VecDeque<Line>,
    longest: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn open(path: &Path, spec: &'a FileSpec) -> Result<Self, DataError> {
        let failed = || DataError::io("read", path);
        let mut encoding = spec.encoding;
        let reader: Box<dyn BufRead> = if encoding == UTF_16LE || encoding == UTF_16BE {
            // The byte of "\n" also occurs inside other characters of UTF-16, so lines can only be told after decoding.
            let bytes = fs::read(path).map_err(failed())?;
            let (text, _, _) = encoding.decode(&bytes);
            encoding = UTF_8;
            Box::new(Cursor::new(text.into_owned()))
        } else {
            Box::new(BufReader::with_capacity(1 << 16, File::open(path).map_err(failed())?))
        };
        let mut lines = Self {
            path: path.to_owned(),
            reader,
            encoding,
            repair: &spec.repair,
            number: 0,
            bytes: 0,
            buffer: Vec::new(),
            returned: VecDeque::new(),
            longest: LONGEST_LINE,
        };
        for _ in 0..spec.skip {
            lines.next()?;
        }
        Ok(lines)
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives lines back: the first of them is the next to be read.
    pub(super) fn give_back(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().rev() {
            self.returned.push_front(line);
        }
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line>, DataError> {
        if let Some(line) = self.returned.pop_front() {
            return Ok(Some(line));
        }
        self.buffer.clear();
        let read = (&mut self.reader).take(self.longest).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(DataError::io("read", &self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.bytes += read as u64;
        self.number += 1;
        if read as u64 == self.longest && self.buffer.last() != Some(&b'\n') {
            self.bytes += skip_line(&mut self.reader).map_err(DataError::io("read", &self.path))?;
            let detail = format!("the line has more than {} bytes", self.longest);
            let fault = Some(Fault::new(DropReason::TooLong, detail));
            return Ok(Some(Line { number: self.number, text: "…".into(), fault }));
        }
        let mut bytes = self.buffer.as_slice();
        bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if self.number == 1 && self.encoding == UTF_8 {
            bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        }
        let (text, broken) = self.encoding.decode_without_bom_handling(bytes);
        Ok(Some(Line {
            number: self.number,
            text: self.mend(text),
            fault: broken.then(|| {
                let detail = format!("not {}: another `encoding` may be right", self.encoding.name());
                Fault::new(DropReason::Undecodable, detail)
            }),
        }))
    }

    #[cfg(test)]
    fn at_most(mut self, bytes: u64) -> Self {
        self.longest = bytes;
        self
    }

    fn mend(&self, text: Cow<'_, str>) -> String {
        let mut text = text.into_owned();
        for (from, to) in self.repair {
            if text.contains(from) {
                text = text.replace(from, to);
            }
        }
        text
    }
}

/// Leaves out the rest of a line; gives its bytes, the end of the line included.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let bytes = match reader.fill_buf() {
            Ok([]) => return Ok(skipped),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        reader.consume(taken);
        skipped += taken as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Format;

    #[test]
    fn a_line_without_end_costs_itself_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "12345678\n123456789\n1234567\n\n123456789").unwrap();
        let spec = FileSpec::plain("a.csv", Format::Csv);
        let mut lines = Lines::open(&path, &spec).unwrap().at_most(9);
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push((line.number, line.text, line.fault.map(|fault| fault.reason)));
        }
        let long = Some(DropReason::TooLong);
        let expected = [(1, "12345678", None), (2, "…", long), (3, "1234567", None), (4, "", None), (5, "…", long)];
        assert_eq!(read, expected.map(|(number, text, fault)| (number, text.to_owned(), fault)));
        assert_eq!(lines.bytes(), 37);
    }
}
