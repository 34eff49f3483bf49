//! Goals of lists in training: what of the catalogue they look at, and their losses on a batch.
//!
//! A list goal is an objective of kind `list`: it has a weight and a gradient as any other, and so a place on the Pareto front. On a batch the
//! ranking that it shapes is relaxed to a policy over a sample of the catalogue ([`Policy`](paretune_objectives::Policy)); what it looks at of items (how unlike they are, who
//! provides them, how popular they are) are [`ListFacts`], which training does not move: else vectors would learn to look unlike, and lists stay as they are.

mod facts;
mod groups;
mod losses;

pub use facts::ListFacts;
pub use groups::ItemGroups;
pub(crate) use losses::ListPolicies;
