//! What can go wrong between an item's text and its tokens.

use std::path::PathBuf;

/// Why model files could not be had, read or used. Every message says where it happened and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// A model name that is neither a directory nor `org/name[@revision]`.
    #[error(
        "`{name}` is not a model: {reason}; give a directory (starting with `.` or `/`) or a Hub name `org/name` or \
         `org/name@revision`"
    )]
    ModelName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The model directory does not exist.
    #[error("no model directory at {}; check the path, or give a Hub name such as `sentence-transformers/all-MiniLM-L6-v2`", dir.display())]
    NoDirectory {
        /// Where it was looked for.
        dir: PathBuf,
    },

    /// A file that every model needs is missing.
    #[error("{model} has no `{file}`: {advice}")]
    MissingFile {
        /// Directory or Hub name of the model.
        model: String,
        /// The missing file, relative to the model.
        file: String,
        /// How to mend it.
        advice: String,
    },

    /// The weights exist only in a format that can run code when it is opened.
    #[error(
        "{model} has its weights only as `{file}`, a pickle, which can run any code when it is opened; it is not read. \
         Convert it to `model.safetensors` (in Python: `AutoModel.from_pretrained(…).save_pretrained(…, \
         safe_serialization=True)`), or pin a revision that has one"
    )]
    UnsafeWeights {
        /// Directory or Hub name of the model.
        model: String,
        /// The pickle file.
        file: String,
    },

    /// A file of the model cannot be understood.
    #[error("{} is not valid: {reason}; fetch the model again or mend the file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        reason: String,
    },

    /// Reading or writing a file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A template that cannot be read.
    #[error("template `{template}`, character {at}: {reason}")]
    Template {
        /// The template.
        template: String,
        /// Position of the mistake in characters, from 1.
        at: usize,
        /// What is wrong there, and how to write it.
        reason: String,
    },

    /// A maximum length that the model cannot take.
    #[error("a maximum length of {asked} tokens does not fit {}: {reason}", model.display())]
    MaxLength {
        /// The length asked for, in tokens.
        asked: usize,
        /// The model's folder.
        model: PathBuf,
        /// Which limit it breaks.
        reason: String,
    },

    /// Tokenizer and weights are not of the same model.
    #[error(
        "{} knows token {highest}, but the model has only {rows} word vectors (`vocab_size` in config.json); take \
         tokenizer and weights from the same model", path.display()
    )]
    VocabularyMismatch {
        /// The tokenizer.
        path: PathBuf,
        /// Its greatest token id.
        highest: u32,
        /// Rows in the model's table of word vectors.
        rows: usize,
    },

    /// One text could not be tokenized.
    #[error("text {index} (`{start}…`) cannot be tokenized with {}: {reason}", path.display())]
    Tokenizing {
        /// The tokenizer.
        path: PathBuf,
        /// Which of the texts, from 0.
        index: usize,
        /// How it begins.
        start: String,
        /// The tokenizer's answer.
        reason: String,
    },

    /// More tokens than offsets of 32 bits can count.
    #[error("the texts have more than {} tokens; tokenize them in parts", u32::MAX)]
    TooManyTokens,

    /// The address of the Hub is not one.
    #[error("`{endpoint}` is not an address of a Hub; give one such as `https://huggingface.co` (HF_ENDPOINT)")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },

    /// No connection to the Hub, and the cache does not have the model.
    #[error(
        "cannot reach the Hub at {endpoint} for {repo}: {reason}. Check the network or set HF_ENDPOINT to a mirror; \
         without a network, copy the model's folder here and give its path, or fill the cache elsewhere"
    )]
    HubUnreachable {
        /// Model name, with the revision if one was given.
        repo: String,
        /// Address of the Hub.
        endpoint: String,
        /// Why there was no connection.
        reason: String,
    },

    /// Working offline, and the cache does not have the model.
    #[error(
        "{repo} is not complete in the cache {} ({reason}) and offline mode is on; fetch it once with a network \
         (unset HF_HUB_OFFLINE), or give the path of a directory that holds it", cache.display()
    )]
    NotCached {
        /// Model name, with the revision if one was given.
        repo: String,
        /// The cache that was searched.
        cache: PathBuf,
        /// What is missing.
        reason: String,
    },

    /// The Hub refuses access (401 or 403).
    #[error("the Hub at {endpoint} refuses {repo} ({status}): {advice}")]
    HubDenied {
        /// Model name, with the revision if one was given.
        repo: String,
        /// Address of the Hub.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// What to check.
        advice: String,
    },

    /// The Hub does not know the model or the revision (404).
    #[error(
        "the Hub at {endpoint} has no {repo}; check the spelling of name and revision (private models also need a token: \
         set HF_TOKEN)"
    )]
    HubNotFound {
        /// Model name, with the revision if one was given.
        repo: String,
        /// Address of the Hub.
        endpoint: String,
    },

    /// The connection broke during a download.
    #[error("the download of {repo} broke off: {reason}; run again, files that are complete are kept")]
    Interrupted {
        /// Model name, with the revision if one was given.
        repo: String,
        /// What happened.
        reason: String,
    },

    /// A downloaded file has not the size that the Hub announces; it was removed from the cache.
    #[error("{file} of {repo} came with {found} bytes instead of {expected}; it was removed from the cache, run again")]
    Incomplete {
        /// Model name, with the revision if one was given.
        repo: String,
        /// The file.
        file: String,
        /// Bytes that the Hub announces.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },

    /// The Hub failed, or something else answers at its address.
    #[error("the Hub at {endpoint} failed for {repo}: {reason}; try again later, and check that HF_ENDPOINT is a Hub")]
    HubFailed {
        /// Model name, with the revision if one was given.
        repo: String,
        /// Address of the Hub.
        endpoint: String,
        /// Its answer.
        reason: String,
    },

    /// A name under which nothing can be uploaded.
    #[error("`{name}` cannot name a repository: {reason}; give `ORG/NAME`, as in `my-team/my-encoder`")]
    RepoName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The upload cannot be done as it was asked for, and nothing of it is on the Hub.
    #[error("cannot upload to {repo}: {reason}")]
    UploadRefused {
        /// `ORG/NAME`.
        repo: String,
        /// Why, and how to mend it.
        reason: String,
    },

    /// The upload failed on the way.
    #[error("uploading to {repo} at {endpoint} failed: {reason}. {left}")]
    UploadFailed {
        /// `ORG/NAME`.
        repo: String,
        /// Address of the Hub.
        endpoint: String,
        /// What went wrong.
        reason: String,
        /// What is on the Hub now, and what to do.
        left: String,
    },
}
