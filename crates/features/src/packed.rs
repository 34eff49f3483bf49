//! Token sequences without padding: all of them end to end, with the places where each one begins.

/// A batch of token sequences laid end to end, with no padding.
///
/// For sequences of lengths `n₀, n₁, …` with `T = Σ nᵢ`, `ids` and `positions` hold `T` values and
/// `offsets` holds one more value than there are sequences: sequence `i` is `ids[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// `[T]` vocabulary ids.
    pub ids: Vec<u32>,
    /// `[T]` positions, counted from 0 within each sequence.
    pub positions: Vec<u32>,
    /// `[sequences + 1]` cumulative lengths, from 0 to `T`.
    pub offsets: Vec<u32>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { ids: Vec::new(), positions: Vec::new(), offsets: vec![0] }
    }
}

impl Packed {
    /// Packs the given sequences in their order.
    ///
    /// ```
    /// let packed = paretune_features::Packed::from_sequences([&[7, 8, 9][..], &[4, 5]]);
    /// assert_eq!(packed.ids, [7, 8, 9, 4, 5]);
    /// assert_eq!(packed.positions, [0, 1, 2, 0, 1]);
    /// assert_eq!(packed.offsets, [0, 3, 5]);
    /// ```
    pub fn from_sequences<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut packed = Self::default();
        for sequence in sequences {
            packed.push(sequence.as_ref());
        }
        packed
    }

    /// Appends one sequence.
    pub fn push(&mut self, sequence: &[u32]) {
        self.ids.extend_from_slice(sequence);
        self.positions.extend((0u32..).take(sequence.len()));
        self.offsets.push(self.ids.len() as u32);
    }

    /// The sequences, one after the other.
    pub fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|bounds| &self.ids[bounds[0] as usize..bounds[1] as usize])
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens in all sequences together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}
