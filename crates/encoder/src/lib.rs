//! Transformers that can be trained, on packed token sequences, reading and writing Hugging Face files.
//!
//! Bird's-eye view:
//!
//! - [`SentenceEncoder`] is a whole model for who wants vectors of texts: tokenizer, prompts, transformer, pooling, dense layers,
//!   scaling, and similarities, from a Hub name or a folder ([`SentenceEncoder::from_hub`]);
//! - [`Encoder`] is its trainable part: it loads a model ([`Encoder::load`]), turns packed tokens into differentiable vectors
//!   ([`Encoder::encode`]), embeds whole catalogues without a graph ([`Encoder::embed`]), gives its parameters to an
//!   optimizer ([`Encoder::parameters`]) and saves itself as `sentence-transformers` reads it ([`Encoder::save`]);
//! - [`LoraConfig`] and [`Ia3Config`] are adapters, which [`Encoder::add_adapter`] puts on it and `peft` reads ([`Encoder::save_adapter`]);
//! - [`ModelConfig`] says which families there are: BERT and its kin, ModernBERT, GPT-2, Llama and its kin;
//! - [`SequenceEncoder`] is a network over sequences of any vectors: causal and bidirectional transformers, GRU and LSTM;
//! - [`Bags`] are sets of rows of a table, pooled by their mean or by attention;
//! - [`Linear`], [`LayerNorm`], [`gelu`] and [`dropout`] are its parts, for networks on top of it;
//! - `kernels` (private) holds the fused operations with their hand-written backward passes.
//!
//! Sequences lie end to end in one `[tokens, hidden]` matrix, with no padding and no mask. Gradients are computed only
//! for what is trained ([`Trainable`]). Results are the same bits whatever the number of threads.
//!
//! The crate knows nothing of items, users, objectives or recommendation, and it makes no tokens: those come from
//! `paretune-features`.
//!
//! ```
//! use candle_core::Device;
//! use paretune_encoder::{BertConfig, Encoder, Pooling};
//! use paretune_features::Packed;
//!
//! let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
//! let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2]]);
//! let vectors = encoder.encode(&packed, None)?;
//! assert_eq!(vectors.dims(), [2, 32]);
//!
//! // Training: dropout with a seed of this step, a loss, and gradients by Hub name.
//! let loss = encoder.encode(&packed, Some(1))?.sqr()?.sum_all()?;
//! let gradients = loss.backward()?;
//! for (name, var) in encoder.parameters() {
//!     assert!(gradients.get(&var).is_some(), "{name}");
//! }
//! # Ok::<(), paretune_encoder::EncoderError>(())
//! ```

mod adapter;
mod checkpoint;
mod device;
mod embedder;
mod embedding;
mod encoder;
mod error;
mod family;
mod file;
mod gguf;
mod gradient_cache;
mod graph;
mod kernels;
mod layer_cache;
mod layers;
mod load;
mod lookup;
mod network;
mod parameter;
mod pooling;
mod product;
mod save;
mod sentence;
mod sequence;
mod tokens;
mod weights;

pub use adapter::{AdapterConfig, Bias, Ia3Config, LoraConfig, Targets};
pub use device::{DeviceChoice, Kernels, device_name};
pub use embedder::{Embedder, scale_to_unit_length};
pub use embedding::Embedding;
pub use encoder::Encoder;
pub use error::EncoderError;
pub use family::{BertConfig, ModelConfig};
pub use gradient_cache::{Chunks, backward_in_chunks};
pub use graph::{Gradients, RowGradient, backward, backward_from};
pub use kernels::activation::gelu;
pub use kernels::bags::{BagAttention, Bags, EntryFeatures};
pub use kernels::contrast::{Contrast, ContrastLoss, Exempt, Rivals};
pub use kernels::cross_entropy::cross_entropy;
pub use kernels::dropout::dropout;
pub use kernels::gemm::{Arithmetic, product_ceiling};
pub use kernels::unit::unit_rows;
pub use layer_cache::CacheOptions;
pub use layers::{LayerNorm, Linear};
pub use load::{LoadOptions, Trainable};
pub use pooling::Pooling;
pub use sentence::{EncodeOptions, Prompt, SentenceEncoder, SentenceOptions, Similarity, Vectors};
pub use sequence::{SequenceActivation, SequenceConfig, SequenceEncoder, SequenceKind};
pub use weights::Precision;
