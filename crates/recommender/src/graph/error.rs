//! What can be wrong with a graph, and how to mend it.

/// An error of the graph of users and items.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An edge ends at a node that does not exist.
    #[error("edge {edge} of `{relation}` names {kind} {index}, of which there are {count}; they are numbered from 0")]
    OutOfRange {
        /// `user` or `item`.
        kind: &'static str,
        /// The index that was given.
        index: u32,
        /// How many there are.
        count: usize,
        /// Place of the edge in what was given, from 0.
        edge: usize,
        /// The relation the edge belongs to.
        relation: String,
    },
    /// A weight that no edge can have.
    #[error(
        "an edge of `{relation}` weighs {weight}; weights are above 0 and at most {most}, and an edge that should not count is left out"
    )]
    Weight {
        /// The relation.
        relation: String,
        /// The weight that was given.
        weight: f32,
        /// The largest weight there is.
        most: f32,
    },
    /// One name for two relations.
    #[error(
        "the relation `{name}` is there twice, with weights {first} and {second}; give it one weight, or the second another name"
    )]
    TwoWeights {
        /// Its name.
        name: String,
        /// The weight it has.
        first: f32,
        /// The weight it was given afterwards.
        second: f32,
    },
    /// More nodes than there are numbers for.
    #[error("{nodes} nodes are more than the {most} that a graph numbers; leave out rare users or attributes")]
    TooLarge {
        /// Users, items and attributes.
        nodes: usize,
        /// The most there can be.
        most: usize,
    },
    /// A row of item relations could not be read.
    #[error("row {row} of the item relations could not be read: {problem}")]
    Row {
        /// Place of the row, from 1.
        row: usize,
        /// What the reader said.
        problem: String,
    },
    /// A relation without a weight.
    #[error(
        "row {row} of the item relations has the relation `{name}`, which is not configured ({known} are); add it with its weight, or skip what is unknown"
    )]
    UnknownRelation {
        /// Place of the row, from 1.
        row: usize,
        /// Its relation.
        name: String,
        /// The relations there are.
        known: String,
    },
    /// A related item that is not in the catalogue.
    #[error(
        "row {row} of the item relations names the item `{id}`, which is not in the catalogue; add it to the items, or skip what is unknown"
    )]
    UnknownItem {
        /// Place of the row, from 1.
        row: usize,
        /// The id.
        id: String,
    },
    /// A setting that makes no model.
    #[error("graph.{field} = {value} {problem}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Vectors that do not fit the graph.
    #[error("{what} have the shape {found:?}, and this graph needs [{rows}, {width}]")]
    Shape {
        /// Which vectors.
        what: &'static str,
        /// Their shape.
        found: Vec<usize>,
        /// Rows they should have.
        rows: usize,
        /// Columns they should have: a number, or `any width`.
        width: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
