//! Which tensors a checkpoint has, by their official names and shapes.

use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::Shell;
use std::collections::BTreeMap;
use std::path::Path;

/// Every tensor of a model of these sizes: official name and shape (matrices `[out, in]`).
///
/// # Source
/// Reference §2.1.
///
/// # Example
/// ```
/// use rwkv_core::{checkpoint::schema, config::RwkvConfig};
/// let tensors = schema::tensors(&RwkvConfig::new(65, 3, 32));
/// assert_eq!(tensors.len(), 18 * 3 + 6);
/// assert_eq!(tensors["blocks.2.att.time_mix_k"], [1, 1, 32]);
/// ```
#[must_use]
pub fn tensors(config: &RwkvConfig) -> BTreeMap<String, Vec<usize>> {
    let RwkvConfig { vocab_size: v, n_layer, n_embd: c, .. } = *config;
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| tensors.insert(name, shape.to_vec());
    add("emb.weight".into(), &[v, c]);
    if !config.mixers.tied_head {
        add("head.weight".into(), &[v, c]);
    }
    for part in ["weight", "bias"] {
        add(format!("ln_out.{part}"), &[c]);
        if config.mixers.shell == Shell::Rwkv4 {
            add(format!("blocks.0.ln0.{part}"), &[c]);
        }
    }
    for l in 0..n_layer {
        for part in ["weight", "bias"] {
            add(format!("blocks.{l}.ln1.{part}"), &[c]);
            add(format!("blocks.{l}.ln2.{part}"), &[c]);
        }
        for (name, shape) in config.mixers.parameters(config, l) {
            add(format!("blocks.{l}.{name}"), &shape);
        }
    }
    tensors
}

/// The sizes of the model that has exactly these tensors; `said` is what the file itself says of them.
///
/// # Errors
/// [`Error::Format`] when the tensors are no model's, and [`Error::Tensor`] for a missing, extra or misshapen one.
pub(super) fn config_of(
    path: &Path,
    found: &BTreeMap<String, Vec<usize>>,
    said: Option<RwkvConfig>,
) -> Result<RwkvConfig> {
    let config = said.map_or_else(|| sizes(found), Ok).map_err(|problem| Error::format(path, problem))?;
    // A file with one wrong size must not make a list of billions of names.
    if config.n_layer > found.len() {
        return Err(Error::format(
            path,
            format!("says that it has {} layers in {} tensors", config.n_layer, found.len()),
        ));
    }
    config.validate().map_err(|error| Error::format(path, format!("is no usable model: {error}")))?;
    let wanted = tensors(&config);
    let mismatch = |key: &str, expected: String, found: String| {
        let key = key.escape_debug().to_string();
        Err(Error::Tensor { path: path.to_path_buf(), key, expected, found })
    };
    for (key, shape) in &wanted {
        match found.get(key) {
            Some(other) if other == shape => {}
            Some(other) => return mismatch(key, format!("shape {shape:?}"), format!("{other:?}")),
            None => return mismatch(key, format!("shape {shape:?}"), "no such tensor".into()),
        }
    }
    match found.iter().find(|(key, _)| !wanted.contains_key(*key)) {
        None => Ok(config),
        Some((key, shape)) => {
            mismatch(key, "no tensor of this name in an RWKV-4 model".into(), format!("shape {shape:?}"))
        }
    }
}

/// The shape under which a tensor of this name is known: mixes are `[1, 1, C]`, and flat in some files.
pub(super) fn usual_shape(name: &str, shape: Vec<usize>) -> Vec<usize> {
    match shape.as_slice() {
        &[width] if name.contains(".time_mix_") => vec![1, 1, width],
        _ => shape,
    }
}

/// Whether the parameter of this name and number of dimensions is a projection, `[out, in]` in files and `[in, out]` in
/// Burn's `Linear`: all matrices are but the embedding table, which is `[V, C]` in both.
pub(super) fn is_projection(name: &str, dimensions: usize) -> bool {
    dimensions == 2 && name != "emb.weight"
}

/// The sizes that these tensors say, as far as they say any; [`tensors`] of the result tells whether they agree.
fn sizes(tensors: &BTreeMap<String, Vec<usize>>) -> std::result::Result<RwkvConfig, String> {
    let shape = |name: &str| match tensors.get(name) {
        Some(shape) => Ok(shape.as_slice()),
        None => Err(format!("lacks the tensor {name}, which every RWKV-4 checkpoint has")),
    };
    let matrix = |name: &str| match shape(name)? {
        &[rows, columns] => Ok((rows, columns)),
        other => Err(format!("has {name} of shape {other:?} where a matrix belongs")),
    };
    let (vocab_size, n_embd) = matrix("emb.weight")?;
    let (dim_att, _) = matrix("blocks.0.att.key.weight")?;
    let (dim_ffn, _) = matrix("blocks.0.ffn.key.weight")?;
    let layer = |name: &String| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
    let last = tensors.keys().filter_map(layer).max().unwrap_or(0);
    // A file with one stray index must not make a list of billions of names.
    if last >= tensors.len() {
        return Err(format!("names a layer {last} in {} tensors", tensors.len()));
    }
    Ok(RwkvConfig { vocab_size, n_embd, dim_att, dim_ffn, n_layer: last + 1, ..RwkvConfig::new(1, 1, 1) })
}
