//! LightGCN over users, items and attributes, with item vectors that may come from anywhere.

use candle_core::{DType, Device, Tensor, Var};
use paretune_encoder::Embedding;

use super::{EdgeDropout, Graph, GraphError, propagate};

/// Standard deviation of fresh rows, as in the code of LightGCN's authors.
const DEVIATION: f64 = 0.1;

/// What propagation makes of users and items.
#[derive(Debug, Clone)]
pub struct NodeVectors {
    /// `[users, dim]`.
    pub users: Tensor,
    /// `[items, dim]`.
    pub items: Tensor,
}

/// A row for each user and each attribute, propagated together with the items' vectors (see [`propagate`]).
///
/// The items' vectors are an argument: rows of a table, projected texts, or a fusion of both. Where they come from a text, an item
/// without any interaction has a vector as well, and its attributes connect it to the others.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use paretune_recommender::{Graph, LightGcn};
///
/// let graph = Graph::interactions(2, 3, [(0, 0), (0, 1), (1, 1)])?;
/// let model = LightGcn::new(graph, 8, 2, 7, &Device::Cpu)?;
/// let items = Tensor::ones((3, 8), DType::F32, &Device::Cpu)?;
/// let known = model.forward(&items, None)?;
/// assert_eq!((known.users.dims(), known.items.dims()), (&[2, 8][..], &[3, 8][..]));
/// // Somebody new who dealt with the first two items.
/// let messages = model.messages(&items)?;
/// assert_eq!(model.newcomers(&messages, &[&[0, 1]])?.dims(), [1, 8]);
/// # Ok::<(), paretune_recommender::GraphError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LightGcn {
    graph: Graph,
    users: Option<Embedding>,
    attributes: Option<Embedding>,
    layers: usize,
    dim: usize,
}

impl LightGcn {
    /// Fresh rows of width `dim`, drawn from N(0, 0.1²) by `seed`, for the users and the attributes of `graph`. With no `layers` it is
    /// matrix factorization.
    ///
    /// # Errors
    /// When `dim` is 0 or the device is out of memory.
    pub fn new(graph: Graph, dim: usize, layers: usize, seed: u64, device: &Device) -> Result<Self, GraphError> {
        if dim == 0 {
            return Err(GraphError::Setting { field: "dim", value: "0".to_owned(), problem: "must be above 0" });
        }
        let table = |rows: usize, seed: u64| {
            let table = (rows > 0).then(|| Embedding::normal(rows, dim, DEVIATION, seed, device));
            table.transpose()
        };
        let users = table(graph.users(), seed)?;
        let attributes = table(graph.attributes().len(), seed.wrapping_add(1))?;
        Ok(Self { graph, users, attributes, layers, dim })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Users and items after propagation, from the items' vectors `[items, dim]`; without some edges in training.
    ///
    /// # Errors
    /// When `items` is not `[items, dim]`, or the probability of the dropout is not in `[0, 1)`.
    pub fn forward(&self, items: &Tensor, dropout: Option<EdgeDropout>) -> Result<NodeVectors, GraphError> {
        let nodes = self.nodes(items)?;
        let nodes = match dropout {
            Some(dropout) => propagate(&nodes, &self.graph.thinned(dropout)?, self.layers)?,
            None => propagate(&nodes, &self.graph, self.layers)?,
        };
        Ok(NodeVectors { users: nodes.narrow(0, 0, self.graph.users())?, items: self.items_of(&nodes)? })
    }

    /// What each item tells a newcomer, `[items, dim]`: `m_i = 1/(L + 1) · Σ_{l<L} e_i⁽ˡ⁾`, the items' vectors of all layers but the last.
    /// Computed once for a catalogue, it serves any number of [`Self::newcomers`].
    ///
    /// # Errors
    /// When `items` is not `[items, dim]`, or the model has no layers, so that a user is the own row and nothing else.
    pub fn messages(&self, items: &Tensor) -> Result<Tensor, GraphError> {
        let Some(before) = self.layers.checked_sub(1) else {
            return Err(GraphError::Setting {
                field: "layers",
                value: "0".to_owned(),
                problem: "leaves users without a row of their own with nothing; give the graph a layer or more",
            });
        };
        let nodes = propagate(&self.nodes(items)?, &self.graph, before)?;
        Ok((self.items_of(&nodes)? * (self.layers as f64 / (self.layers + 1) as f64))?)
    }

    /// Users who were not in the graph, `[histories, dim]`, from the items they dealt with and the items' [`Self::messages`]:
    ///
    /// ```text
    /// u = Σ_{i ∈ H} m_i / √(|H| · (D_i + 1))
    /// ```
    ///
    /// This is what [`Self::forward`] would make of a user with these edges and a row of zeros, but that the newcomer does not act back
    /// on the items; with one layer it is the very same. `D_i + 1` is the item's degree once the newcomer is there. An item counts once
    /// however often it occurs; without history the vector is zero.
    ///
    /// # Errors
    /// When `messages` is not `[items, dim]`, or an item is past the end.
    pub fn newcomers(&self, messages: &Tensor, histories: &[&[u32]]) -> Result<Tensor, GraphError> {
        self.check("the messages of the items", messages)?;
        let (mut rows, mut items, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let degrees = &self.graph.degrees()[self.graph.users()..];
        for (row, history) in (0u32..).zip(histories) {
            let mut distinct = history.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            for item in &distinct {
                if *item as usize >= self.graph.items() {
                    return Err(GraphError::OutOfRange {
                        kind: "item",
                        index: *item,
                        count: self.graph.items(),
                        edge: row as usize,
                        relation: "histories".to_owned(),
                    });
                }
                rows.push(row);
                shares.push(((distinct.len() as f64) * (degrees[*item as usize] + 1.0)).sqrt().recip() as f32);
            }
            items.append(&mut distinct);
        }
        let device = messages.device();
        let nobody = Tensor::zeros((histories.len(), self.dim), messages.dtype(), device)?;
        if items.is_empty() {
            return Ok(nobody);
        }
        let count = shares.len();
        let shares = Tensor::from_vec(shares, (count, 1), device)?.to_dtype(messages.dtype())?;
        let told = messages.index_select(&Tensor::new(items, device)?, 0)?.broadcast_mul(&shares)?;
        Ok(nobody.index_add(&Tensor::new(rows, device)?, &told, 0)?)
    }

    /// The tables by name, in a fixed order: `PREFIX.users.weight`, `PREFIX.attributes.weight`.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        let tables = [("users", &self.users), ("attributes", &self.attributes)];
        let tables = tables.into_iter().filter_map(|(name, table)| Some((name, table.as_ref()?)));
        tables.flat_map(|(name, table)| table.parameters(&format!("{prefix}.{name}"))).collect()
    }

    /// The vectors of all nodes before propagation.
    fn nodes(&self, items: &Tensor) -> Result<Tensor, GraphError> {
        self.check("the vectors of the items", items)?;
        let mut parts = Vec::with_capacity(3);
        parts.extend(self.users.as_ref().map(|table| table.table().as_tensor()));
        if self.graph.items() > 0 {
            parts.push(items);
        }
        parts.extend(self.attributes.as_ref().map(|table| table.table().as_tensor()));
        match parts.is_empty() {
            true => Ok(Tensor::zeros((0, self.dim), DType::F32, items.device())?),
            false => Ok(Tensor::cat(&parts, 0)?),
        }
    }

    fn items_of(&self, nodes: &Tensor) -> Result<Tensor, GraphError> {
        Ok(nodes.narrow(0, self.graph.users(), self.graph.items())?)
    }

    fn check(&self, what: &'static str, items: &Tensor) -> Result<(), GraphError> {
        let (rows, width) = (self.graph.items(), self.dim);
        match items.dims() == [rows, width] {
            true => Ok(()),
            false => Err(GraphError::Shape { what, found: items.dims().to_vec(), rows, width: width.to_string() }),
        }
    }
}
