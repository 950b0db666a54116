//! The sections of a run's file and their keys.

use super::choices::{Bptt, Precision, Stage, TokenizerKind, TuneMethod};
use crate::data::Order;
use crate::data::tasks::Task;
use crate::schedule::Decay;
use rwkv_core::model::{InitRatios, LoraTarget, Mixers};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The model's sizes and where its weights come from; the vocabulary's size is the tokenizer's or the data's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Channels of the time-mix; `n_embd` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim_att: Option<usize>,
    /// Hidden units of the channel-mix; `4·n_embd` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim_ffn: Option<usize>,
    /// The numbers in the initial values of RWKV-4's parameters; the official trainer's when absent.
    #[serde(skip_serializing_if = "InitRatios::are_official")]
    pub init: InitRatios,
    /// What the model consists of; RWKV-4's own parts when absent.
    #[serde(skip_serializing_if = "Mixers::are_rwkv4")]
    pub mixers: Mixers,
    /// Half-width of the embedding's initial distribution; `lr_init`, as in the official trainer, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emb_init_scale: Option<f64>,
    /// Rows of the embedding and the head; as many as the tokenizer or the data needs, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// A checkpoint to go on from; its sizes are the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// A checkpoint of a smaller model, of whose tensors a fresh model takes those that fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_from: Option<PathBuf>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            n_layer: 4,
            n_embd: 128,
            dim_att: None,
            dim_ffn: None,
            init: InitRatios::default(),
            mixers: Mixers::default(),
            emb_init_scale: None,
            vocab_size: None,
            start_from: None,
            transfer_from: None,
        }
    }
}

/// Where the tokens come from: one of `text`, `tokens`, `instructions` and `task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// The training text, UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<PathBuf>,
    /// A held-out text; without one the end of `text` is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_text: Option<PathBuf>,
    /// A token file, without `.bin` or `.idx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// A held-out token file; without one the end of `tokens` is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_tokens: Option<PathBuf>,
    /// Instructions or conversations, JSONL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<PathBuf>,
    /// The prompts around them, `raven` or `world`; the tokenizer's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A generated task: its name, or `{ NAME = { … } }` with some of its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The share of the data that is held out.
    pub val_fraction: f64,
    /// How `text` becomes tokens: `char`, `byte`, or a vocabulary file.
    pub tokenizer: TokenizerKind,
    /// The order of the windows: `random`, `shuffled`, `magic_prime` or `sequential`.
    pub order: Order,
    /// Whether the state starts anew where a document does.
    pub document_reset: bool,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            text: None,
            val_text: None,
            tokens: None,
            val_tokens: None,
            instructions: None,
            prompt: None,
            task: None,
            val_fraction: 0.1,
            tokenizer: TokenizerKind::Char,
            order: Order::Random,
            document_reset: false,
        }
    }
}

/// The recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Seeds the initial weights, the order of the samples and dropout.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Samples per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per step; their gradients are averaged.
    pub accumulate: usize,
    /// Tokens per sample.
    pub ctx_len: usize,
    /// Longer contexts from some step on, in rising order of steps.
    pub extend: Vec<Extension>,
    /// Learning rate after the warm-up.
    pub lr_init: f64,
    /// Learning rate at the end.
    pub lr_final: f64,
    /// Steps of warm-up.
    pub warmup_steps: usize,
    /// Steps at `lr_init` between the warm-up and the decay.
    pub constant_steps: usize,
    /// `constant`, `exponential`, `cosine`, `linear` or `wsd`.
    pub lr_schedule: Decay,
    /// Steps of the decay at the end of `wsd`; a tenth of all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<usize>,
    /// Adam's β₁.
    pub beta_1: f64,
    /// Adam's β₂.
    pub beta_2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f64,
    /// Weight decay at the end, approached exponentially; constant when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay_final: Option<f64>,
    /// Whether `time_decay`, `time_first` (and in stage 2 `time_mix`) learn faster.
    pub layerwise_lr: bool,
    /// `main`, or `time` for the short phase in which the time parameters learn five times as fast.
    pub stage: Stage,
    /// L2Wrap's factor; 0 leaves it out.
    pub l2_wrap: f64,
    /// Share of the residual stream that is dropped.
    pub dropout: f64,
    /// Decay of the moving average of the weights; 0 keeps none.
    pub ema_decay: f64,
    /// Largest norm of the whole gradient.
    pub grad_clip: f64,
    /// `f32`, or `bf16` for matrices and activations in the passes; weights and optimizer stay `f32`.
    pub precision: Precision,
    /// Whether activations inside blocks are computed again in the backward pass instead of kept.
    pub checkpoint_blocks: bool,
    /// Positions whose logits exist at the same time; 0 for all.
    pub loss_chunk: usize,
    /// Tokens per pass of back-propagation through time; 0 for whole samples.
    pub bptt_chunk: usize,
    /// `exact`, or `truncated` to cut the gradient between chunks.
    pub bptt: Bptt,
    /// Steps in a row that may be left out because their loss or gradient is no number.
    pub max_skips: usize,
    /// A loss this many standard deviations above its moving mean is reported; 0 reports none.
    pub spike_factor: f64,
    /// Steps between two looks at loss and gradient norm, for each of which the host waits for the device; 0 looks at every
    /// step where tensors are in main memory, elsewhere once a row of metrics. Several workers look at every step, and
    /// everybody before a row, a validation and a checkpoint.
    ///
    /// Between looks the device itself leaves out a step whose loss or gradient is no number. The next look reports it,
    /// without the first bad tensor; until then Adam's bias correction counts the step, and the moving average takes in
    /// weights that did not change.
    pub check_every: usize,
    /// Steps between two rows of metrics.
    pub log_every: usize,
    /// Steps between two validations; 0 validates at the end only.
    pub val_every: usize,
    /// How many held-out samples a validation takes at most.
    pub val_windows: usize,
    /// Steps between two checkpoints; 0 saves at the end only.
    pub save_every: usize,
    /// How many checkpoints stay; 0 for all.
    pub keep: usize,
    /// What the device computes at best, in FLOP/s, for the MFU; not reported when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_flops: Option<f64>,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 2000,
            batch_size: 12,
            accumulate: 1,
            ctx_len: 64,
            extend: Vec::new(),
            lr_init: 1e-3,
            lr_final: 1e-4,
            warmup_steps: 50,
            constant_steps: 0,
            lr_schedule: Decay::Cosine,
            decay_steps: None,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
            weight_decay_final: None,
            layerwise_lr: true,
            stage: Stage::Main,
            l2_wrap: 1e-4,
            dropout: 0.0,
            ema_decay: 0.0,
            grad_clip: 1.0,
            precision: Precision::F32,
            checkpoint_blocks: false,
            loss_chunk: 1024,
            bptt_chunk: 0,
            bptt: Bptt::Exact,
            max_skips: 3,
            spike_factor: 6.0,
            check_every: 0,
            log_every: 10,
            val_every: 250,
            val_windows: 1000,
            save_every: 1000,
            keep: 0,
            peak_flops: None,
        }
    }
}

/// A longer context from some step on: the published models went from 1024 to 2048, 4096 and 8192 tokens (reference §4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The first step with this context, counted from 0.
    pub step: usize,
    /// Tokens per sample from then on.
    pub ctx_len: usize,
    /// Samples per micro-batch from then on; as before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
}

/// What of a model learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuneSection {
    /// `full`, `lora` or `state`.
    pub method: TuneMethod,
    /// The inner size of the adapters.
    pub lora_rank: usize,
    /// Their outputs are multiplied by `lora_alpha/lora_rank`.
    pub lora_alpha: f64,
    /// The matrices that get one.
    pub lora_targets: Vec<LoraTarget>,
}

impl Default for TuneSection {
    fn default() -> Self {
        let lora = rwkv_core::model::LoraConfig::default();
        Self { method: TuneMethod::Full, lora_rank: lora.rank, lora_alpha: lora.alpha, lora_targets: lora.targets }
    }
}
