//! Whole sentence-transformers models: texts in, vectors out.

mod dense;
mod head;
mod options;
mod similarity;
mod vectors;

use std::borrow::Cow;
use std::path::Path;

use paretune_features::{
    FeatureError, FetchOptions, ModelFiles, ModelSource, SentenceSettings, TextTokenizer, Tokenized,
};

use crate::embedder::Embedder;
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::kernels::gemm::Arithmetic;
use crate::load::{LoadOptions, Trainable};
use crate::pooling::Pooling;
use crate::sentence::head::Head;
use crate::weights::Precision;

pub use options::{EncodeOptions, Prompt, SentenceOptions};
pub use similarity::Similarity;
pub use vectors::Vectors;

/// A whole model that embeds texts as `sentence-transformers` does: tokenizer, prompts, transformer, pooling, dense layers and
/// scaling, all as the model's files say.
///
/// ```no_run
/// use paretune_encoder::SentenceEncoder;
///
/// let model = SentenceEncoder::from_hub("sentence-transformers/all-MiniLM-L6-v2")?;
/// let vectors = model.encode(&["a mug", "a cup"])?;
/// println!("{} numbers; alike: {}", vectors.width(), model.similarity(&vectors, &vectors)?[0][1]);
/// # Ok::<(), paretune_encoder::EncoderError>(())
/// ```
///
/// Models that tell questions from answers have a prompt for each, which [`encode_query`](Self::encode_query) and
/// [`encode_document`](Self::encode_document) put before the texts. To train a model, see [`Encoder`]; what was trained becomes a
/// `SentenceEncoder` again with [`from_encoder`](Self::from_encoder).
///
/// The weights of the transformer's layers are held twice: laid out for the processor, and as they are to be saved.
pub struct SentenceEncoder {
    encoder: Encoder,
    embedder: Embedder,
    tokenizer: TextTokenizer,
    head: Head,
    files: ModelFiles,
    settings: SentenceSettings,
    similarity: Similarity,
    width: usize,
    normalizes: bool,
    /// Whether pooling counts a prompt's tokens.
    pools_prompt: bool,
}

impl std::fmt::Debug for SentenceEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentenceEncoder")
            .field("dir", &self.files.dir)
            .field("width", &self.width)
            .field("normalizes", &self.normalizes)
            .field("similarity", &self.similarity)
            .field("embedder", &self.embedder)
            .finish_non_exhaustive()
    }
}

impl SentenceEncoder {
    /// Loads a model by its name on the Hugging Face Hub (`org/name`, `org/name@revision`) or from a folder, with default options. A
    /// model of the Hub is fetched into the cache that Python uses too; [`FetchOptions::default`] says which variables it follows.
    ///
    /// # Errors
    /// Those of [`ModelSource::fetch`] and of [`load`](Self::load).
    pub fn from_hub(name: &str) -> Result<Self, EncoderError> {
        let files = name.parse::<ModelSource>()?.fetch(&FetchOptions::default())?;
        Self::load(&files, &SentenceOptions::default())
    }

    /// Loads a model from its files.
    ///
    /// # Errors
    /// Those of [`Encoder::load`] and of [`TextTokenizer::load`]; [`EncoderError::UnsupportedPart`] if the model has other parts than a
    /// transformer, a pooling, and then any of `Dense` and `Normalize`; [`EncoderError::Config`] if a part is set up in a way that is
    /// not supported, or takes vectors of another width than the part before it gives.
    pub fn load(files: &ModelFiles, options: &SentenceOptions) -> Result<Self, EncoderError> {
        let device = options.device.open()?;
        let load = LoadOptions { trainable: Trainable::Nothing, device, ..LoadOptions::default() };
        Self::from_encoder(Encoder::load_transformer(files, &load)?, files, options)
    }

    /// A model of an encoder that was trained, with the tokenizer, the prompts and the parts after the pooling from `files`.
    ///
    /// ```
    /// use candle_core::Device;
    /// use paretune_encoder::{BertConfig, Encoder, Pooling, SentenceEncoder, SentenceOptions};
    /// use paretune_features::ModelFiles;
    ///
    /// let files = ModelFiles::unweighted(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny"));
    /// let encoder = Encoder::random(BertConfig::tiny(), Pooling::Mean, 42, &Device::Cpu)?;
    /// let options = SentenceOptions { normalize: true, max_length: Some(16), ..SentenceOptions::default() };
    /// let model = SentenceEncoder::from_encoder(encoder, &files, &options)?;
    /// let vectors = model.encode(&["w7 w8", "w9", "w7 w8"])?;
    /// assert_eq!((vectors.len(), vectors.width()), (3, 32));
    /// assert_eq!(vectors[0], vectors[2]);
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load); the encoder stays on its device.
    pub fn from_encoder(encoder: Encoder, files: &ModelFiles, options: &SentenceOptions) -> Result<Self, EncoderError> {
        let hidden = encoder.hidden_size();
        let mut pools_prompt = true;
        if let Some(path) = &files.pooling {
            let (included, width) = Pooling::details(path)?;
            pools_prompt = included;
            if let Some(width) = width.filter(|width| *width != hidden) {
                let reason = format!("it is for vectors of {width} numbers, but the transformer gives {hidden}");
                return Err(EncoderError::Config { path: path.clone(), reason });
            }
        }
        let head = Head::read(files, hidden)?;
        let settings = files.sentence_settings()?;
        let in_settings =
            |reason: String| EncoderError::Config { path: files.dir.join("config_sentence_transformers.json"), reason };
        let similarity = match &settings.similarity_fn_name {
            Some(name) => name.parse().map_err(in_settings)?,
            None => Similarity::default(),
        };
        let full = head.width();
        let width = match (options.truncate_dim, settings.truncate_dim) {
            (Some(asked), _) if asked == 0 || asked > full => {
                let reason = format!("truncate_dim is {asked}; the model's vectors have {full} numbers");
                return Err(EncoderError::InvalidConfig { reason });
            }
            (None, Some(0)) => return Err(in_settings("truncate_dim is 0; it must be positive".to_owned())),
            (Some(asked), _) | (None, Some(asked)) => asked.min(full),
            (None, None) => full,
        };
        // Texts are cut at what the network has positions for, however its family spells their number.
        let longest = encoder.config().longest();
        if let Some(asked) = options.max_length.filter(|asked| *asked > longest) {
            let reason = format!("it has {longest} positions");
            return Err(FeatureError::MaxLength { asked, model: files.dir.clone(), reason }.into());
        }
        let length = options.max_length.or(files.max_length()).unwrap_or(longest).min(longest);
        let tokenizer = TextTokenizer::load(files, Some(length))?;
        let (highest, rows) = (tokenizer.highest_id(), encoder.config().vocab_size());
        if highest as usize >= rows {
            return Err(FeatureError::VocabularyMismatch { path: files.tokenizer.clone(), highest, rows }.into());
        }
        Ok(Self {
            embedder: encoder.embedder(options.arithmetic)?,
            encoder,
            tokenizer,
            normalizes: options.normalize || head.normalizes(),
            head,
            files: files.clone(),
            settings,
            similarity,
            width,
            pools_prompt,
        })
    }

    /// One vector per text, in the order of the texts, with the model's default prompt if it has one.
    ///
    /// # Errors
    /// Those of [`encode_with`](Self::encode_with).
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vectors, EncoderError> {
        self.encode_with(texts, &EncodeOptions::default())
    }

    /// One vector per text that asks for something, with the model's prompt `query`, which may be empty.
    ///
    /// # Errors
    /// Those of [`encode_with`](Self::encode_with).
    pub fn encode_query<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vectors, EncoderError> {
        self.encode_with(texts, &EncodeOptions { prompt: Prompt::Named("query"), ..EncodeOptions::default() })
    }

    /// One vector per text that is searched, with the model's prompt `document`, which may be empty. A model that calls it otherwise,
    /// such as `passage`, is to be asked for [`Prompt::Named`]: sentence-transformers too does not look further than `document`.
    ///
    /// # Errors
    /// Those of [`encode_with`](Self::encode_with).
    pub fn encode_document<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vectors, EncoderError> {
        self.encode_with(texts, &EncodeOptions { prompt: Prompt::Named("document"), ..EncodeOptions::default() })
    }

    /// One vector per text, in the order of the texts; texts of similar length are embedded together. The same texts and options
    /// give the same bits, whatever the number of threads.
    ///
    /// # Errors
    /// Those of [`tokenize`](Self::tokenize) and of [`embed`](Self::embed).
    pub fn encode_with<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        options: &EncodeOptions<'_>,
    ) -> Result<Vectors, EncoderError> {
        self.embed(&self.tokenize(texts, options.prompt)?, options.token_budget, options.progress)
    }

    /// The tokens of each text with a prompt before it: the first half of [`encode_with`](Self::encode_with), for callers who ask how many
    /// texts were cut, or go through more texts than fit in memory.
    ///
    /// ```no_run
    /// use paretune_encoder::{Prompt, SentenceEncoder};
    ///
    /// let model = SentenceEncoder::from_hub("intfloat/e5-small-v2")?;
    /// let tokens = model.tokenize(&["a mug", "a cup"], Prompt::Text("passage: "))?;
    /// println!("{} of {} texts were cut", tokens.truncated(), tokens.len());
    /// let vectors = model.embed(&tokens, 8192, None)?;
    /// assert_eq!(vectors.len(), 2);
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// [`EncoderError::UnknownPrompt`]; [`EncoderError::Config`] for a prompt where the model's pooling leaves prompts out, which is
    /// not supported; those of [`TextTokenizer::encode`].
    pub fn tokenize<S: AsRef<str> + Sync>(&self, texts: &[S], prompt: Prompt<'_>) -> Result<Tokenized, EncoderError> {
        let prompt = self.prompt(prompt)?;
        if prompt.is_empty() {
            return Ok(self.tokenizer.encode(texts)?);
        }
        if let (false, Some(path)) = (self.pools_prompt, &self.files.pooling) {
            let reason =
                "include_prompt is false: leaving a prompt's tokens out is not supported; encode with Prompt::None";
            return Err(EncoderError::Config { path: path.clone(), reason: reason.to_owned() });
        }
        let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{}", text.as_ref())).collect();
        Ok(self.tokenizer.encode(&texts)?)
    }

    /// One vector per text of [`tokenize`](Self::tokenize), in the order of the texts: pooled, through the dense layers, cut and scaled. At
    /// most `token_budget` tokens go through the model at once; `progress` hears after each batch how many texts are done.
    ///
    /// # Errors
    /// Those of [`Embedder::embed`].
    pub fn embed(
        &self,
        tokens: &Tokenized,
        token_budget: usize,
        progress: Option<&dyn Fn(usize)>,
    ) -> Result<Vectors, EncoderError> {
        let pooled = self.embedder.embed(tokens, token_budget, progress)?;
        let whole = self.head.apply(Vectors::shaped(tokens.len(), self.embedder.hidden_size(), pooled));
        let cut = self.width < whole.width();
        let vectors = whole.truncated(self.width);
        Ok(match self.normalizes && (cut || !self.head.normalizes()) {
            true => vectors.normalized(),
            false => vectors,
        })
    }

    /// The text that is put before each text for `prompt`, empty for none.
    ///
    /// # Errors
    /// [`EncoderError::UnknownPrompt`].
    pub fn prompt_text(&self, prompt: Prompt<'_>) -> Result<String, EncoderError> {
        Ok(self.prompt(prompt)?.into_owned())
    }

    fn prompt<'a>(&'a self, prompt: Prompt<'a>) -> Result<Cow<'a, str>, EncoderError> {
        let name = match prompt {
            Prompt::None => None,
            Prompt::Text(text) => return Ok(Cow::Borrowed(text)),
            Prompt::Default => self.settings.default_prompt_name.as_deref(),
            Prompt::Named(name) => Some(name),
        };
        let Some(name) = name else {
            return Ok(Cow::Borrowed(""));
        };
        let prompts = &self.settings.prompts;
        prompts.get(name).map(|prompt| Cow::Borrowed(prompt.as_str())).ok_or_else(|| EncoderError::UnknownPrompt {
            name: name.to_owned(),
            known: prompts.keys().cloned().collect(),
        })
    }

    /// The similarities of each row of `left` with each row of `right` in the measure of the model: row `i` of the answer has those of
    /// row `i` of `left`.
    ///
    /// # Errors
    /// [`EncoderError::DifferentWidths`].
    pub fn similarity(&self, left: &Vectors, right: &Vectors) -> Result<Vectors, EncoderError> {
        self.similarity.between(left, right)
    }

    /// The measure that the model was trained for: `similarity_fn_name` of its settings, else cosine.
    pub fn similarity_measure(&self) -> Similarity {
        self.similarity
    }

    /// How matrices are multiplied: what was asked for, if the processor has it.
    pub fn arithmetic(&self) -> Arithmetic {
        self.embedder.arithmetic()
    }

    /// Numbers in a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether vectors have length 1.
    pub fn normalizes(&self) -> bool {
        self.normalizes
    }

    /// The model's prompts, and what else it says of its use.
    pub fn settings(&self) -> &SentenceSettings {
        &self.settings
    }

    /// The tokenizer, which cuts texts at [`TextTokenizer::max_length`].
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The transformer and its pooling.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Saves the model to `dir` with weights in `f32`; see [`save_as`](Self::save_as).
    ///
    /// # Errors
    /// If a file cannot be written or the tokenizer's files cannot be copied.
    pub fn save(&self, dir: &Path) -> Result<(), EncoderError> {
        self.save_as(dir, Precision::F32)
    }

    /// Saves the model to `dir`, which is made if need be, as `sentence-transformers` loads it: what [`Encoder::save_as`] writes, and
    /// the dense layers and the scaling after the pooling. The [`SentenceOptions`] it was loaded with are not saved.
    ///
    /// # Errors
    /// If a file cannot be written or the tokenizer's files cannot be copied.
    pub fn save_as(&self, dir: &Path, precision: Precision) -> Result<(), EncoderError> {
        let parts = self.head.save(dir, precision)?;
        self.encoder.write(dir, &self.files, precision, &parts)
    }
}
