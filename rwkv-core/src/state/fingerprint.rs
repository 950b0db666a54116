//! Which model a state belongs to.

use crate::config::RwkvConfig;
use crate::model::Rwkv;
use crate::model::names::ParameterPath;
use crate::model::precision;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// A model's identity: its sizes and a hash of all its weights.
///
/// Equal weights have equal fingerprints on every backend, whatever file they came from; any other weight gives another
/// one. The hash is
///
/// ```text
/// XXH3-128 over all parameters, sorted by official name, of
///     the name, a zero byte, the number of dimensions, the dimensions, XXH3-128 of the values
/// ```
///
/// and, where the model is not RWKV-4, its mixers as JSON;
/// with the dimensions and their number as `u64`, packed weights as the numbers that they stand for, the values as `f32` in the module's row-major order (which has matrices
/// as `[in, out]`), everything in little-endian order. XXH3 finds accidents, not forgeries.
///
/// It takes one pass over the weights, and the memory of two copies of the largest in `f32`: compute it once and keep it.
/// Weights that were divided to run in `f16` count as what they were.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::Rwkv};
/// # #[cfg(feature = "flex")] {
/// let model = |seed| Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), seed, &Default::default());
/// assert_eq!(model(0).fingerprint(), model(0).fingerprint());
/// assert_ne!(model(0).fingerprint(), model(1).fingerprint());
/// assert_eq!(model(0).fingerprint().to_string().len(), 32);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    config: RwkvConfig,
    hash: u128,
}

impl Fingerprint {
    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> &RwkvConfig {
        &self.config
    }

    /// That of a model with these sizes and weights.
    pub(crate) fn of(config: RwkvConfig, mut weights: Vec<Digest>) -> Self {
        weights.sort();
        let mut hash = Xxh3::new();
        for (name, shape, digest) in weights {
            hash.update(name.as_bytes());
            hash.update(&[0]);
            hash.update(&(shape.len() as u64).to_le_bytes());
            shape.iter().for_each(|&size| hash.update(&(size as u64).to_le_bytes()));
            hash.update(&digest.to_le_bytes());
        }
        if !config.mixers.are_rwkv4() {
            // Heads are in no shape.
            hash.update(serde_json::to_string(&config.mixers).expect("plain fields have a JSON form").as_bytes());
        }
        Self { config, hash: hash.digest128() }
    }
}

/// The hash in 32 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.hash)
    }
}

impl<B: Backend> Rwkv<B> {
    /// The model's [`Fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digests =
            Digests { path: ParameterPath::default(), rescale_every: self.rescale_every(), found: Vec::new() };
        self.visit(&mut digests);
        let mut parameters = digests.found;
        parameters.extend(self.other_digests());
        Fingerprint::of(self.config(), parameters)
    }
}

/// A weight's official name, its shape in the module and the hash of its values.
type Digest = (String, Vec<usize>, u128);

/// The [`Digest`] of a weight with these values, in the module's order.
pub(crate) fn digest(name: &str, shape: &[usize], values: &[f32]) -> Digest {
    (name.to_owned(), shape.to_vec(), hash(values))
}

impl<B: Backend> Rwkv<B> {
    /// Digests of the weights that are no parameters.
    fn other_digests(&self) -> Vec<Digest> {
        let table = self.emb.values().map(|values| digest("emb.weight", &self.emb.shape(), &values));
        let mut model = self.clone();
        let projections = model.projections_mut().into_iter().filter_map(|(name, projection)| {
            projection.values().map(|values| digest(&name, &projection.shape(), &values))
        });
        table.into_iter().chain(projections).collect()
    }
}

struct Digests {
    path: ParameterPath,
    rescale_every: usize,
    found: Vec<Digest>,
}

impl<B: Backend> ModuleVisitor<B> for Digests {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let data = param.val().into_data().convert_dtype(DType::F32);
        let name = self.path.name();
        let divisor = precision::divisor(&name, self.rescale_every);
        let values: Vec<f32> = data.iter::<f32>().map(|value| value * divisor).collect();
        let shape: Vec<usize> = data.shape.iter().copied().collect();
        self.found.push(digest(&name, &shape, &values));
    }
}

fn hash(values: &[f32]) -> u128 {
    let mut hash = Xxh3::new();
    let mut bytes = [0; 4 * 1024];
    for chunk in values.chunks(1024) {
        for (bytes, value) in bytes.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        hash.update(&bytes[..4 * chunk.len()]);
    }
    hash.digest128()
}
