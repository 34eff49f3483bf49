use std::path::PathBuf;

/// What can go wrong while measuring or reporting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Two inputs that describe the same things differ in length.
    #[error("{what} has {found} values where {expected} are needed: give one per {per}")]
    Length {
        /// The input that is too short or too long.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that it should have.
        expected: usize,
        /// What one value stands for.
        per: &'static str,
    },
    /// A point does not have one coordinate per objective.
    #[error(
        "point {index} has {found} coordinates, but there are {expected} objectives: give every point one value per objective"
    )]
    Dimension {
        /// Position of the point.
        index: usize,
        /// Its number of coordinates.
        found: usize,
        /// The number of objectives.
        expected: usize,
    },
    /// A recommended item is not in the catalogue.
    #[error(
        "a list recommends item {item}, but the catalogue has {size} items: items are numbered from 0, and the catalogue given to \
         `ListAccumulator::new` must hold all that is recommended"
    )]
    ItemOutOfRange {
        /// The item.
        item: u32,
        /// The size of the catalogue.
        size: usize,
    },
    /// The upper ends of buckets do not ascend.
    #[error(
        "bucket {index} ends at {end}, but the bucket before it at {before}: give ascending upper ends, such as 0, 5, 20, 100"
    )]
    Buckets {
        /// Position of the bucket, from 0.
        index: usize,
        /// Its upper end.
        end: u32,
        /// The upper end of the bucket before it.
        before: u32,
    },
    /// A number of a logged decision is none.
    #[error("{what} of row {row} is {value}: it {rule}")]
    Decision {
        /// Which number.
        what: &'static str,
        /// The decision, from 0.
        row: usize,
        /// The number.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// There is nothing to measure.
    #[error("{what} is empty, so there is nothing to measure: give at least one value")]
    Empty {
        /// The empty input.
        what: &'static str,
    },
    /// The page of a report could not be made.
    #[error("the report's template could not be filled: {source}")]
    Template {
        /// What the template engine said.
        #[from]
        source: minijinja::Error,
    },
    /// A report could not be written.
    #[error("cannot {action} `{}`: {source}; check that the folder exists, is writable and has space left", path.display())]
    Write {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
