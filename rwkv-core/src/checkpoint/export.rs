//! From a checkpoint to a file of another format, without a model in between.

use super::dtype::{FileDtype, TranscodeError, transcode};
use super::stored::{Checkpoint, StoredTensor};
use super::{MODEL_FILE, ggmf, names, safetensors};
use crate::config::{LAYER_NORM_EPSILON, RwkvConfig};
use crate::error::{Error, Result};
use crate::files::{replace_atomic, write_atomic};
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Hugging Face's description of a model, beside its weights.
pub const HUGGING_FACE_CONFIG: &str = "config.json";

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A safetensors file under the official names, which this library trains and runs.
    Official,
    /// A folder that `transformers` opens as `RwkvForCausalLM`: `model.safetensors` under Hugging Face's names and
    /// `config.json`.
    HuggingFace,
    /// A file of rwkv.cpp, `f32` or `f16`.
    RwkvCpp,
}

/// What may be chosen when a checkpoint is written.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// The number format. Without one every tensor keeps its own, bit for bit; rwkv.cpp's files, which know no `bf16`,
    /// are then `f16` if all matrices are, and `f32` otherwise, which holds every `bf16` exactly.
    pub dtype: Option<FileDtype>,
    /// What Hugging Face's `config.json` says of the longest text in training. It does not change the numbers;
    /// [`DEFAULT_CONTEXT_LENGTH`] without a choice.
    pub context_length: Option<usize>,
}

/// Tokens in a training window of the published Pile models, before they were tuned to longer ones.
pub const DEFAULT_CONTEXT_LENGTH: usize = 1024;

/// Layers after which `transformers` halves the residual stream of an `f16` model, which would overflow otherwise.
const RESCALE_EVERY: usize = 6;

impl Checkpoint {
    /// Writes the checkpoint in another format and returns the file with the weights.
    ///
    /// Going to and fro gives the same bits, with one exception: rwkv.cpp stores `−exp(time_decay)`, so its way back, by
    /// a logarithm, returns `time_decay` with an error of up to `6.1e-8·(1 + |time_decay|)` for `time_decay ≥ −87`,
    /// below which the stored number is subnormal. (rwkv.cpp also keeps vectors in `f32`.)
    ///
    /// `transformers` opens a model whose `dim_att` is not its `n_embd`, but cannot run it: its state has `n_embd` channels.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] when the format cannot hold the model: a number too large for `f16`, or
    /// `bf16` asked of rwkv.cpp. What was there before stays then.
    ///
    /// # Example
    /// ```
    /// use rwkv_core::checkpoint::{Checkpoint, ExportOptions, FileDtype, Format};
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let (file, out) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/model.safetensors"), folder.path().join("x"));
    /// let checkpoint = Checkpoint::open(file.as_ref())?;
    /// let options = ExportOptions { dtype: Some(FileDtype::Bf16), ..ExportOptions::default() };
    /// checkpoint.export(&out, Format::HuggingFace, &options)?;
    /// assert!(out.join("config.json").exists());
    /// assert_eq!(Checkpoint::open(&out)?.config(), checkpoint.config());
    /// # Ok::<_, rwkv_core::error::Error>(())
    /// ```
    pub fn export(&self, out: &Path, format: Format, options: &ExportOptions) -> Result<PathBuf> {
        if format != Format::Official && !self.config().mixers.are_rwkv4() {
            return Err(Error::config(
                "format",
                "official, for a model with other mixers than RWKV-4's",
                format!("{format:?}"),
            ));
        }
        match format {
            Format::Official => {
                self.write_safetensors(out, options.dtype, str::to_owned)?;
                Ok(out.to_path_buf())
            }
            Format::HuggingFace => {
                std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
                let weights = out.join(MODEL_FILE);
                self.write_safetensors(&weights, options.dtype, names::hugging_face)?;
                let config = HuggingFaceConfig::of(self, options);
                let config_file = out.join(HUGGING_FACE_CONFIG);
                let json = serde_json::to_string_pretty(&config)
                    .map_err(|error| Error::format(&config_file, format!("cannot be written: {error}")))?;
                write_atomic(&config_file, format!("{json}\n").as_bytes())?;
                Ok(weights)
            }
            Format::RwkvCpp => {
                self.write_ggmf(out, options.dtype)?;
                Ok(out.to_path_buf())
            }
        }
    }

    fn write_safetensors(&self, path: &Path, dtype: Option<FileDtype>, rename: impl Fn(&str) -> String) -> Result<()> {
        // Wide numbers first, as the `safetensors` crate writes them, so that every tensor lies on a multiple of its own.
        let mut tensors: Vec<_> =
            self.tensors().map(|(name, tensor)| (rename(name), name, tensor, dtype.unwrap_or(tensor.dtype))).collect();
        tensors.sort_by_key(|(_, _, _, dtype)| std::cmp::Reverse(dtype.size()));
        let header = safetensors::header(
            self.config(),
            tensors.iter().map(|(new, _, tensor, dtype)| (new.as_str(), *dtype, tensor.shape)),
        );
        write(path, &header, |file| {
            tensors.iter().try_for_each(|(_, name, tensor, dtype)| {
                write_numbers(path, file, name, *tensor, *dtype, None)?;
                self.release(name);
                Ok(())
            })
        })
    }

    fn write_ggmf(&self, path: &Path, dtype: Option<FileDtype>) -> Result<()> {
        let bad = |problem: String| Error::format(path, problem);
        let is_matrix = |tensor: &StoredTensor<'_>| matches!(tensor.shape, [_, _]);
        let all_half = || self.tensors().all(|(_, tensor)| !is_matrix(&tensor) || tensor.dtype == FileDtype::F16);
        let matrices = dtype.unwrap_or_else(|| if all_half() { FileDtype::F16 } else { FileDtype::F32 });
        let header = ggmf::header(self.config(), matrices).map_err(bad)?;
        write(path, &header, |file| {
            for (name, tensor) in self.tensors() {
                let dtype = if is_matrix(&tensor) { matrices } else { FileDtype::F32 };
                // [1, 1, C] becomes [C].
                let shape: Vec<usize> = match tensor.shape {
                    [1, 1, width] => vec![*width],
                    shape => shape.to_vec(),
                };
                let header = ggmf::tensor_header(name, &shape, dtype).map_err(bad)?;
                file.write_all(&header).map_err(Error::io("write", path))?;
                let map = name.ends_with(".time_decay").then_some(ggmf::stored_decay as fn(f32) -> f32);
                write_numbers(path, file, name, tensor, dtype, map)?;
                self.release(name);
            }
            Ok(())
        })
    }
}

type Output = BufWriter<std::fs::File>;

/// Writes a file: its first part, and what `body` adds.
fn write(path: &Path, header: &[u8], body: impl FnOnce(&mut Output) -> Result<()>) -> Result<()> {
    replace_atomic(path, |temporary| {
        let mut file = BufWriter::new(std::fs::File::create(temporary).map_err(Error::io("write", path))?);
        file.write_all(header).map_err(Error::io("write", path))?;
        body(&mut file)?;
        file.flush().map_err(Error::io("write", path))
    })
}

/// Writes a tensor's numbers, each changed by `map` if there is one; as they are if nothing changes.
fn write_numbers(
    path: &Path,
    file: &mut Output,
    name: &str,
    tensor: StoredTensor<'_>,
    dtype: FileDtype,
    map: Option<fn(f32) -> f32>,
) -> Result<()> {
    let StoredTensor { bytes, dtype: from, .. } = tensor;
    if map.is_none() && from == dtype {
        return file.write_all(bytes).map_err(Error::io("write", path));
    }
    transcode(bytes, from, dtype, map.unwrap_or(|x| x), |bytes| file.write_all(bytes)).map_err(|error| match error {
        TranscodeError::Writer(error) => Error::io("write", path)(error),
        TranscodeError::TooLarge(value) => {
            let problem = format!("cannot hold the model: {name} has {value:e}, too large for {}", dtype.name());
            Error::format(path, problem)
        }
    })
}

/// `config.json` as `transformers` reads it.
#[derive(Serialize)]
struct HuggingFaceConfig {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    attention_hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    layer_norm_epsilon: f64,
    context_length: usize,
    rescale_every: usize,
    tie_word_embeddings: bool,
    bos_token_id: u32,
    eos_token_id: u32,
    use_cache: bool,
    torch_dtype: &'static str,
}

impl HuggingFaceConfig {
    fn of(checkpoint: &Checkpoint, options: &ExportOptions) -> Self {
        let RwkvConfig { vocab_size, n_layer, n_embd, dim_att, dim_ffn, .. } = *checkpoint.config();
        let stored = checkpoint.tensor("head.weight").map_or(FileDtype::F32, |tensor| tensor.dtype);
        let dtype = options.dtype.unwrap_or(stored);
        Self {
            architectures: ["RwkvForCausalLM"],
            model_type: "rwkv",
            vocab_size,
            hidden_size: n_embd,
            attention_hidden_size: dim_att,
            intermediate_size: dim_ffn,
            num_hidden_layers: n_layer,
            layer_norm_epsilon: LAYER_NORM_EPSILON,
            context_length: options.context_length.unwrap_or(DEFAULT_CONTEXT_LENGTH),
            // Halving the stream changes the numbers a little, as the norms' epsilon stays: only where f16 needs it.
            rescale_every: if dtype == FileDtype::F16 { RESCALE_EVERY } else { 0 },
            tie_word_embeddings: false,
            // Token 0 is <|endoftext|> in both published vocabularies.
            bos_token_id: 0,
            eos_token_id: 0,
            use_cache: true,
            torch_dtype: match dtype {
                FileDtype::F32 => "float32",
                FileDtype::F16 => "float16",
                FileDtype::Bf16 => "bfloat16",
            },
        }
    }
}
