//! A small model, a batch, and training on a share of it.
#![allow(dead_code, reason = "not every test file uses all of it")]

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rwkv_core::config::RwkvConfig;
use rwkv_core::loss::training_loss;
use rwkv_core::model::Rwkv;
use rwkv_train::config::Stage;
use rwkv_train::data::{Batch, Sample};
use rwkv_train::error::Result;
use rwkv_train::optim::{Adam, AdamConfig, Groups, Update, global_norm};
use rwkv_train::parallel::Worker;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub type B = Autodiff<Flex>;

/// Burn has room for one group of workers in a process.
pub fn alone_in_this_process() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of the whole batch: a multiple of every world here.
pub const ROWS: usize = 12;
pub const STEPS: usize = 4;
const TIME: usize = 12;
const VOCAB: usize = 29;

pub fn batch(step: usize) -> Batch {
    let ids: Vec<u32> = (0..ROWS * (TIME + 1)).map(|at| ((at * at + 7 * at + 3 * step) % VOCAB) as u32).collect();
    Batch::new(ids.chunks_exact(TIME + 1).map(|row| Sample::plain(row.to_vec())), TIME)
}

/// A worker's rows.
fn share(whole: &Batch, worker: &Worker) -> Batch {
    let rows = worker.share(ROWS).expect("ROWS is a multiple");
    let tokens = rows.start * TIME..rows.end * TIME;
    let (inputs, targets) = (whole.inputs[tokens.clone()].to_vec(), whole.targets[tokens].to_vec());
    Batch { inputs, targets, weights: None, resets: Vec::new(), ctx_len: TIME }
}

fn adam(model: &Rwkv<B>) -> Adam<B> {
    let groups = Groups { layerwise_lr: true, stage: Stage::Main };
    let config = AdamConfig { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, groups };
    Adam::new(config, model.named_parameters())
}

/// A model whose every parameter has a gradient: fresh ones have matrices of zeros.
pub fn model() -> Rwkv<B> {
    let config = RwkvConfig { emb_init_scale: 0.5, ..RwkvConfig::new(VOCAB, 3, 24) };
    let mut model = Rwkv::new(&config, 5, &Default::default());
    let mut adam = adam(&model);
    for step in 100..104 {
        let grads = gradients(&model, step, &Worker::alone());
        let norm = global_norm(&model, &grads, &Default::default());
        model = adam.step(Update { lr: 1e-2, weight_decay: 0.0, max_norm: 1e9 }, model, grads, norm);
    }
    model
}

/// The gradient of a worker's part of the whole batch's mean loss.
pub fn gradients(model: &Rwkv<B>, step: usize, worker: &Worker) -> GradientsParams {
    let share = share(&batch(step), worker);
    let (inputs, targets) = share.tensors::<B>(&Default::default());
    let (logits, _) = model.forward(inputs, model.zero_state(share.size()));
    let loss = training_loss(logits, targets).div_scalar(worker.world() as f64);
    GradientsParams::from_grads(loss.backward(), model)
}

/// A few steps together: the weights after them.
pub fn train(worker: &mut Worker, between: impl Fn(usize, &Worker)) -> Result<Vec<f32>> {
    let mut model = model();
    let mut adam = adam(&model);
    for step in 0..STEPS {
        let own = gradients(&model, step, worker);
        let grads = worker.sum_gradients::<B, _>(&model, own)?;
        let norm = global_norm(&model, &grads, &Default::default());
        model = adam.step(Update { lr: 1e-3, weight_decay: 0.0, max_norm: 1.0 }, model, grads, norm);
        between(step, worker);
    }
    Ok(weights(&model))
}

pub fn weights<M: Module<B>>(model: &M) -> Vec<f32> {
    let mut read = Read { grads: None, values: Vec::new() };
    model.visit(&mut read);
    read.values
}

/// All gradients in the order of the module's fields.
pub fn values<M: Module<B>>(model: &M, grads: &GradientsParams) -> Vec<f32> {
    let mut read = Read { grads: Some(grads), values: Vec::new() };
    model.visit(&mut read);
    read.values
}

struct Read<'a> {
    grads: Option<&'a GradientsParams>,
    values: Vec<f32>,
}

impl ModuleVisitor<B> for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = match self.grads {
            None => Some(param.val().inner()),
            Some(grads) => grads.get::<Flex, D>(param.id),
        };
        self.values.extend(tensor.into_iter().flat_map(|tensor| tensor.into_data().to_vec::<f32>().expect("f32")));
    }
}

/// The largest difference, in units of the largest entry.
pub fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    largest_difference(got, want) / want.iter().fold(0.0, |max, x| x.abs().max(max))
}

pub fn largest_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
