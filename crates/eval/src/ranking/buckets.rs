use crate::EvalError;

/// Ranges of a count, each with a name: how often an item was seen in training, how long a user's history is.
///
/// A bucket is the counts up to its upper end that no bucket before it holds; a last one holds all counts above.
///
/// ```
/// use paretune_eval::Buckets;
///
/// let buckets = Buckets::new(&[0, 5, 20])?;
/// assert_eq!(buckets.names(), ["0", "1-5", "6-20", ">20"]);
/// assert_eq!(buckets.of(6), 2);
///
/// let users = Buckets::named(&[0, 5], &["new", "few events", "many events"])?;
/// assert_eq!(users.names()[users.of(0)], "new");
/// # Ok::<(), paretune_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    /// Inclusive upper ends, ascending; the last bucket has none.
    upper: Vec<u32>,
    /// One more than upper ends.
    names: Vec<String>,
}

impl Default for Buckets {
    /// 0, 1–5, 6–20, 21–100 and more than 100.
    fn default() -> Self {
        Self::with_names_of_ranges(&[0, 5, 20, 100])
    }
}

impl Buckets {
    /// Buckets with these inclusive upper ends, named by their ranges. Without an upper end, one bucket named `all`.
    ///
    /// # Errors
    /// [`EvalError::Buckets`] if the ends do not ascend.
    pub fn new(upper: &[u32]) -> Result<Self, EvalError> {
        check(upper)?;
        Ok(Self::with_names_of_ranges(upper))
    }

    /// Buckets with these inclusive upper ends and names of one's own: one for each upper end, and one for all counts above.
    ///
    /// # Errors
    /// [`EvalError::Buckets`] if the ends do not ascend, [`EvalError::Length`] if there is not one name more than ends.
    pub fn named(upper: &[u32], names: &[&str]) -> Result<Self, EvalError> {
        check(upper)?;
        if names.len() != upper.len() + 1 {
            return Err(EvalError::Length {
                what: "the list of bucket names",
                found: names.len(),
                expected: upper.len() + 1,
                per: "upper end, and one for all counts above the last",
            });
        }
        Ok(Self { upper: upper.to_vec(), names: names.iter().map(ToString::to_string).collect() })
    }

    fn with_names_of_ranges(upper: &[u32]) -> Self {
        let mut names = Vec::with_capacity(upper.len() + 1);
        let mut lower = 0;
        for &end in upper {
            names.push(if lower == end { format!("{end}") } else { format!("{lower}-{end}") });
            lower = end.saturating_add(1);
        }
        names.push(upper.last().map_or_else(|| "all".to_owned(), |end| format!(">{end}")));
        Self { upper: upper.to_vec(), names }
    }

    /// The bucket of a count, as a place in [`Self::names`].
    #[must_use]
    pub fn of(&self, count: u32) -> usize {
        self.upper.partition_point(|end| *end < count)
    }

    /// The names, in ascending order of the counts.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn check(upper: &[u32]) -> Result<(), EvalError> {
    match upper.windows(2).position(|ends| ends[0] >= ends[1]) {
        None => Ok(()),
        Some(at) => Err(EvalError::Buckets { index: at + 1, end: upper[at + 1], before: upper[at] }),
    }
}
