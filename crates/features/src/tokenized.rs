//! The tokens of many texts, and how they are grouped into batches.

use crate::Packed;

/// The token ids of many texts, stored end to end in the order of the texts.
///
/// Made by [`TextTokenizer::encode`](crate::TextTokenizer::encode) once for a whole catalogue; batches are then
/// cut from it with [`pack`](Self::pack), which copies ids and needs no tokenizer.
///
/// ```
/// use paretune_features::Tokenized;
///
/// let tokenized = Tokenized::from_sequences([&[101, 7, 102][..], &[101, 102], &[101, 8, 9, 102]]);
/// assert_eq!((tokenized.len(), tokenized.tokens()), (3, 9));
/// assert_eq!(tokenized.batches(6), [vec![2], vec![0, 1]]);
/// assert_eq!(tokenized.pack(&[1, 0]).offsets, [0, 2, 5]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    ids: Vec<u32>,
    offsets: Vec<u32>,
    truncated: usize,
}

impl Default for Tokenized {
    fn default() -> Self {
        Self { ids: Vec::new(), offsets: vec![0], truncated: 0 }
    }
}

impl Tokenized {
    /// Collects token sequences that were made elsewhere; none counts as truncated.
    pub fn from_sequences<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut tokenized = Self::default();
        for sequence in sequences {
            tokenized.push(sequence.as_ref(), false);
        }
        tokenized
    }

    /// Appends one sequence; `truncated` says whether its text was longer than what is stored.
    pub fn push(&mut self, sequence: &[u32], truncated: bool) {
        self.ids.extend_from_slice(sequence);
        self.offsets.push(self.ids.len() as u32);
        self.truncated += usize::from(truncated);
    }

    /// Appends the sequences of `other` after these, as when new items join a catalogue.
    pub fn append(&mut self, other: &Self) {
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(&other.ids);
        self.offsets.extend(other.offsets[1..].iter().map(|offset| start + offset));
        self.truncated += other.truncated;
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens in all sequences together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many texts were cut at the maximum length.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// Number of tokens of sequence `index`; 0 if there is no such sequence.
    pub fn length(&self, index: usize) -> usize {
        self.get(index).map_or(0, <[u32]>::len)
    }

    /// The ids of sequence `index`, or `None` if there are not so many.
    pub fn get(&self, index: usize) -> Option<&[u32]> {
        let (start, end) = (self.offsets.get(index)?, self.offsets.get(index + 1)?);
        self.ids.get(*start as usize..*end as usize)
    }

    /// The ids of sequence `index`.
    ///
    /// # Panics
    /// Like indexing a slice, if `index` is not below [`len`](Self::len); [`get`](Self::get) asks first.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.ids[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// Packs the named sequences, in the order in which they are named; a sequence may be named twice.
    ///
    /// # Panics
    /// Like indexing a slice, if an index is not below [`len`](Self::len).
    pub fn pack(&self, which: &[u32]) -> Packed {
        Packed::from_sequences(which.iter().map(|&index| self.sequence(index as usize)))
    }

    /// Groups all sequences into batches of at most `token_budget` tokens, each sequence in exactly one batch.
    ///
    /// Sequences are taken longest first (equal lengths by index), so that the batch that needs most memory is the
    /// first one and lengths within a batch are alike. A sequence longer than the budget gets a batch of its own.
    /// The result depends on the lengths and the budget only.
    pub fn batches(&self, token_budget: usize) -> Vec<Vec<u32>> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(self.length(index as usize)), index));

        let mut batches = Vec::new();
        let mut batch = Vec::new();
        let mut tokens = 0;
        for index in order {
            let length = self.length(index as usize);
            if !batch.is_empty() && tokens + length > token_budget {
                batches.push(std::mem::take(&mut batch));
                tokens = 0;
            }
            batch.push(index);
            tokens += length;
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }
}

#[cfg(test)]
mod tests;
