//! Item text to packed tokens.
//!
//! The way of an item's text to a language model, in the order of the modules:
//!
//! 1. a [`ModelSource`] names a model, and [`fetch`](ModelSource::fetch) finds its [`ModelFiles`] in a directory, in
//!    the cache, or on the Hugging Face Hub;
//! 2. a [`Template`] turns an item's fields into one text;
//! 3. the model's [`TextTokenizer`] turns all texts into a [`Tokenized`] catalogue, in parallel, and says how many it cut;
//! 4. [`Tokenized::batches`] groups sequences by a token budget, and [`Tokenized::pack`] lays a batch out as
//!    [`Packed`]: end to end, without padding.
//!
//! The crate knows nothing of tables, of losses, or of what computes vectors from tokens. It is the only one of the
//! workspace that opens a network connection for a model, and it never reads weights: it only says where they are.
//!
//! ```
//! use paretune_features::{Template, Tokenized};
//!
//! // The text of an item that has no year.
//! let template = Template::parse("{title} ({year}). {genres}")?;
//! let text = template.render(|field| match field {
//!     "title" => Some("Metropolis"),
//!     "genres" => Some("Drama, Sci-Fi"),
//!     _ => None,
//! });
//! assert_eq!(text, "Metropolis. Drama, Sci-Fi");
//!
//! // Token ids as `TextTokenizer::encode` makes them, in batches of at most eight tokens.
//! let catalogue = Tokenized::from_sequences([&[101, 4956, 102][..], &[101, 2227, 4471, 7, 102], &[101, 3, 102]]);
//! let batches = catalogue.batches(8);
//! assert_eq!(batches, [vec![1, 0], vec![2]]);
//! let packed = catalogue.pack(&batches[0]);
//! assert_eq!(packed.offsets, [0, 5, 8]);
//! assert_eq!(packed.positions, [0, 1, 2, 3, 4, 0, 1, 2]);
//! # Ok::<(), paretune_features::FeatureError>(())
//! ```

mod error;
mod files;
mod gguf;
mod hub;
mod modules;
mod options;
mod packed;
mod settings;
mod source;
mod template;
mod tokenized;
mod tokenizer;
mod upload;
mod vocabulary;

pub use error::FeatureError;
pub use files::{ModelFiles, ModelPart};
pub use gguf::{Gguf, GgufTensor, GgufValue};
pub use options::FetchOptions;
pub use packed::Packed;
pub use settings::SentenceSettings;
pub use source::ModelSource;
pub use template::Template;
pub use tokenized::Tokenized;
pub use tokenizer::TextTokenizer;
pub use upload::{RepoName, Upload, UploadFile, Uploaded};
pub use vocabulary::{PrunedTokenizer, prune_vocabulary};
