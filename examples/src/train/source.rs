//! What a run learns from: the data, the tokenizer and the first weights that its configuration names.

use crate::Failure;
use rwkv_core::chat::Format;
use rwkv_core::checkpoint;
use rwkv_core::error::Error;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::tokenizer::{AnyTokenizer, ByteTokenizer, CharTokenizer, Tokenizer};
use rwkv_train::config::{RunConfig, TokenizerKind};
use rwkv_train::data::instructions::{Examples, Instructions, Template};
use rwkv_train::data::tasks::Task;
use rwkv_train::data::{Dataset, Tokens, WindowOptions};
use rwkv_train::error::Result as TrainResult;
use rwkv_train::transfer::transfer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Data and tokenizer of a run, shared by its workers.
pub(super) struct Source {
    pub dataset: Dataset,
    /// None for tasks, and for token files whose tokenizer is not named.
    pub tokenizer: Option<AnyTokenizer>,
    pub vocab_size: usize,
}

impl Source {
    /// What the configuration names. `tokenizer` is that of a run that goes on.
    pub(super) fn open(config: &RunConfig, tokenizer: Option<AnyTokenizer>) -> Result<Self, Failure> {
        let data = &config.data;
        match (&data.text, &data.tokens, &data.instructions, &data.task) {
            (Some(text), None, None, None) => Self::text(config, text, tokenizer),
            (None, Some(tokens), None, None) => Self::tokens(config, tokens, tokenizer),
            (None, None, Some(instructions), None) => Self::instructions(config, instructions, tokenizer),
            (None, None, None, Some(task)) => Self::task(config, task),
            (None, None, None, None) => Err(Failure(
                "no training data: give --text FILE, --tokens PREFIX, --instructions FILE or --task NAME, or one of them \
                 under [data] in --config"
                    .into(),
            )),
            _ => Err(Failure("text, tokens, instructions and task under [data] exclude each other".into())),
        }
    }

    fn text(config: &RunConfig, file: &Path, tokenizer: Option<AnyTokenizer>) -> Result<Self, Failure> {
        let text = read(file)?;
        let tokenizer = match (tokenizer, &config.data.tokenizer) {
            (Some(tokenizer), _) => tokenizer,
            (None, TokenizerKind::Char) => CharTokenizer::from_text(&text).into(),
            (None, TokenizerKind::Byte) => ByteTokenizer {}.into(),
            (None, TokenizerKind::File(file)) => AnyTokenizer::load(file)?,
        };
        // Published vocabularies have a token that ends a document, 0.
        let ends = matches!(config.data.tokenizer, TokenizerKind::File(_));
        let stream = |text: &str, file: &Path| -> Result<Tokens, Failure> {
            let tokens = Tokens::from(encode(&tokenizer, text, file)?);
            Ok(if ends { tokens.with_end_of_document(0) } else { tokens })
        };
        let tokens = stream(&text, file)?;
        let dataset = match &config.data.val_text {
            None => Dataset::split(tokens, config.data.val_fraction, windows(config))?,
            Some(file) => Dataset::from_parts(tokens, stream(&read(file)?, file)?, windows(config))?,
        };
        let vocab_size = tokenizer.vocab_size();
        Ok(Self { dataset, tokenizer: Some(tokenizer), vocab_size })
    }

    fn tokens(config: &RunConfig, prefix: &Path, tokenizer: Option<AnyTokenizer>) -> Result<Self, Failure> {
        let tokenizer = match (tokenizer, &config.data.tokenizer) {
            (None, TokenizerKind::File(file)) => Some(AnyTokenizer::load(file)?),
            (None, TokenizerKind::Byte) => Some(ByteTokenizer {}.into()),
            (tokenizer, _) => tokenizer,
        };
        let of_model = match &config.model.start_from {
            Some(path) => Some(checkpoint::read_config(&checkpoint::model_file(path))?.vocab_size),
            None => config.model.vocab_size,
        };
        let vocab_size = of_model.or(tokenizer.as_ref().map(Tokenizer::vocab_size)).ok_or_else(|| {
            Failure(
                "a token file does not say how large its vocabulary is: give --tokenizer FILE, or model.vocab_size"
                    .into(),
            )
        })?;
        let (val, options) = (config.data.val_tokens.as_deref(), windows(config));
        let dataset = Dataset::from_files(prefix, val, config.data.val_fraction, vocab_size, options)?;
        Ok(Self { dataset, tokenizer, vocab_size })
    }

    fn instructions(config: &RunConfig, file: &Path, tokenizer: Option<AnyTokenizer>) -> Result<Self, Failure> {
        let tokenizer = match (tokenizer, &config.data.tokenizer, &config.model.start_from) {
            (Some(tokenizer), _, _) => tokenizer,
            (None, TokenizerKind::File(file), _) => AnyTokenizer::load(file)?,
            (None, TokenizerKind::Byte, _) => ByteTokenizer {}.into(),
            // A model that was trained here has its tokenizer beside it.
            (None, TokenizerKind::Char, Some(model)) => AnyTokenizer::load(&beside(model))?,
            (None, TokenizerKind::Char, None) => {
                return Err(Failure("instructions need --tokenizer FILE, or --start-from a run's folder".into()));
            }
        };
        let format = match &config.data.prompt {
            Some(name) => name.parse::<Format>()?,
            None => Format::of_vocab_size(tokenizer.vocab_size()).ok_or_else(|| {
                Failure(
                    "the tokenizer does not tell which prompts go with it: set data.prompt to raven or world".into(),
                )
            })?,
        };
        let examples = Examples::load(file, &tokenizer, &Template::new(format))?;
        let (train, val) = examples.split(config.data.val_fraction, config.train.seed)?;
        let pack = |examples: &Examples| Instructions::new(examples, config.train.ctx_len, config.train.seed);
        let (train, val) = (pack(&train)?, pack(&val)?);
        for (what, packed) in [("training", &train), ("held-out", &val)] {
            if packed.truncated() + packed.left_out() > 0 {
                eprintln!(
                    "note: of the {what} examples {} are cut at ctx_len {}, and {} left out because no part of their replies \
                     fits",
                    packed.truncated(),
                    config.train.ctx_len,
                    packed.left_out()
                );
            }
        }
        let dataset = Dataset { train: Arc::new(train), val: Arc::new(val) };
        let vocab_size = tokenizer.vocab_size();
        Ok(Self { dataset, tokenizer: Some(tokenizer), vocab_size })
    }

    fn task(config: &RunConfig, task: &Task) -> Result<Self, Failure> {
        let generator = task.generator();
        let vocab_size = generator.vocab_size();
        let dataset = Dataset::of_task(generator, config.train.ctx_len, config.train.seed)?;
        Ok(Self { dataset, tokenizer: None, vocab_size })
    }
}

/// How the configuration wants windows.
fn windows(config: &RunConfig) -> WindowOptions {
    WindowOptions {
        ctx_len: config.train.ctx_len,
        order: config.data.order,
        document_reset: config.data.document_reset,
        seed: config.train.seed,
    }
}

/// The first weights of a run: a checkpoint's, a fresh model's, or one's that took over from a smaller model.
pub(super) fn first_weights<B: RwkvAutodiffBackend>(
    config: &RunConfig,
    vocab_size: usize,
    device: &B::Device,
) -> TrainResult<Rwkv<B>> {
    if let Some(path) = &config.model.start_from {
        return Ok(checkpoint::load::<B>(&checkpoint::model_file(path), device)?);
    }
    let model = Rwkv::<B>::new(&config.model_config(vocab_size), config.train.seed, device);
    match &config.model.transfer_from {
        Some(path) => Ok(transfer(model, &checkpoint::model_file(path))?.0),
        None => Ok(model),
    }
}

/// Sizes of a checkpoint to go on from, written into the configuration, and whether its vocabulary is large enough.
pub(super) fn take_sizes(config: &mut RunConfig, vocab_size: usize) -> Result<(), Failure> {
    if let Some(path) = &config.model.start_from {
        let sizes = checkpoint::read_config(&checkpoint::model_file(path))?;
        let model = &mut config.model;
        (model.n_layer, model.n_embd, model.vocab_size) = (sizes.n_layer, sizes.n_embd, Some(sizes.vocab_size));
        (model.dim_att, model.dim_ffn, model.mixers) = (Some(sizes.dim_att), Some(sizes.dim_ffn), sizes.mixers);
    }
    match config.model.vocab_size {
        Some(size) if size < vocab_size => {
            Err(Error::config("vocab_size", format!("at least the data's {vocab_size}"), size).into())
        }
        _ => Ok(()),
    }
}

fn beside(model: &Path) -> PathBuf {
    let folder = if model.is_dir() { model } else { model.parent().unwrap_or(Path::new(".")) };
    folder.join(checkpoint::TOKENIZER_FILE)
}

fn read(file: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(file).map_err(Error::io("read", file))?)
}

fn encode(tokenizer: &AnyTokenizer, text: &str, file: &Path) -> Result<Vec<u32>, Failure> {
    tokenizer.encode(text).map_err(|error| Failure(format!("{}: {error}", file.display())))
}
