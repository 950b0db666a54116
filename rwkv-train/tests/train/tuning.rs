//! Fine-tuning: what trains learns a task that the frozen model fails, and nothing else changes by a bit.

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rwkv_core::chat::Format;
use rwkv_core::checkpoint::{self, Checkpoint};
use rwkv_core::config::RwkvConfig;
use rwkv_core::generate::prefill;
use rwkv_core::loss::token_nll;
use rwkv_core::model::{Lora, LoraConfig, NoHook, Restarts, Rwkv};
use rwkv_core::state::{InitialState, State};
use rwkv_core::tokenizer::{CharTokenizer, Tokenizer};
use rwkv_train::config::Stage;
use rwkv_train::data::instructions::{Example, Examples, Instructions, Template, Tokens, Turn};
use rwkv_train::data::{Batch, Samples};
use rwkv_train::optim::{Adam, AdamConfig, Groups, Update, global_norm};
use std::sync::{Arc, LazyLock};

type B = Autodiff<Flex>;

const LETTERS: &[u8] = b"abcdefgh";
/// Longer than any example here, shorter than two.
const ONE_EXAMPLE: usize = 31;
/// Rows to train with, of three or four examples.
const CTX_LEN: usize = 96;

/// Two letters, and what to make of them: every letter moved on by `shift`.
fn example(system: Option<usize>, pair: usize, shift: usize) -> Example {
    let letters = [pair / LETTERS.len(), pair % LETTERS.len()];
    let text = |shift: usize| letters.map(|i| char::from(LETTERS[(i + shift) % LETTERS.len()])).iter().collect();
    let turns = vec![Turn { message: text(0), reply: text(shift), ..Turn::default() }];
    Example { system: system.map(|shift| shift.to_string()), turns }
}

fn tokenizer() -> CharTokenizer {
    CharTokenizer::from_text("User: \n\nAssistant: abcdefgh 0123")
}

fn examples(list: impl Iterator<Item = Example>) -> Examples {
    let template = Template::new(Format::World);
    let encode = |example| Arc::new(Tokens::encode(&tokenizer(), &template.render(&example)).expect("known letters"));
    Examples { list: list.map(encode).collect(), unanswered: 0 }
}

/// What the model is trained on at first: letters move on by what the system says, and stay where it says nothing.
fn task_a() -> Examples {
    examples((0..64).flat_map(|pair| {
        let told = (0..4).map(move |shift| example(Some(shift), pair, shift));
        told.chain([example(None, pair, 0), example(None, pair, 0)])
    }))
}

/// The task to tune for: letters move on by `shift` without anyone saying so. Every fourth pair is held out.
fn task_b(shift: usize, held_out: bool) -> Examples {
    examples((0..64).filter(|pair| (pair % 4 == 1) == held_out).map(|pair| example(None, pair, shift)))
}

/// The mean loss of what is to be learnt; every example begins with `fresh`, wherever in a row it is.
fn loss(model: &Rwkv<B>, fresh: State<B>, batch: &Batch) -> Tensor<B, 1> {
    let (device, size) = (model.device(), batch.size());
    let (inputs, targets) = batch.tensors::<B>(&device);
    let weights = batch.weights.clone().expect("answers are learnt");
    let weights = Tensor::from_data(TensorData::new(weights, [size, batch.ctx_len]), &device);
    let begin = fresh.select(&vec![0; size]);
    let restarts = Restarts::new(&batch.resets, size, fresh);
    let (x, _) = model.hidden(inputs, begin, Some(&restarts), &mut NoHook);
    model.head_loss(x, targets, Some(weights), 0.0, 0, &mut NoHook).div_scalar(batch.weight())
}

/// The share of examples of which every learnt token is the most probable one, and the mean loss. One example a row, from
/// its beginning to its end, as a chat reads it.
fn measure(model: &Rwkv<B>, initial: Option<&InitialState<B>>, examples: &Examples) -> (f64, f64) {
    let (model, rows) = (model.valid(), Instructions::new(examples, ONE_EXAMPLE, 0).expect("packs"));
    let batch = Batch::new((0..rows.len()).map(|i| rows.in_order(i)), ONE_EXAMPLE);
    assert!(batch.resets.is_empty(), "one example a row");
    let state = initial.map_or_else(|| model.zero_state(rows.len()), |initial| initial.valid().state(rows.len()));
    let (inputs, targets) = batch.tensors::<Flex>(&model.device());
    let (logits, _) = model.forward(inputs, state);
    let best = logits.clone().argmax(2).squeeze_dim::<2>(2).equal(targets.clone());
    let best: Vec<bool> = best.into_data().iter().collect();
    let nll: Vec<f64> = token_nll(logits, targets).into_data().iter().collect();
    let weight = batch.weight();
    let weights = batch.weights.expect("answers are learnt");
    let mean = nll.iter().zip(&weights).map(|(nll, &weight)| nll * f64::from(weight)).sum::<f64>() / weight;
    let right =
        |(best, weights): &(&[bool], &[f32])| best.iter().zip(*weights).all(|(best, weight)| *best || *weight == 0.0);
    let right = best.chunks(ONE_EXAMPLE).zip(weights.chunks(ONE_EXAMPLE)).filter(right).count();
    (right as f64 / rows.len() as f64, mean)
}

/// Steps of Adam on whatever part of `trained` asks for gradients.
fn train<M: AutodiffModule<B>>(
    mut trained: M,
    examples: &Examples,
    (steps, batch_size, lr): (u64, usize, f64),
    loss: impl Fn(&M, &Batch) -> Tensor<B, 1>,
) -> M {
    let rows = Instructions::new(examples, CTX_LEN, 1).expect("packs");
    let mut named = Named(vec![]);
    trained.visit(&mut named);
    let groups = Groups { layerwise_lr: false, stage: Stage::Main };
    let mut adam = Adam::<B>::new(AdamConfig { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-5, groups }, named.0);
    for step in 0..steps {
        let batch = rows.batch(step * batch_size as u64, batch_size);
        let grads = GradientsParams::from_grads(loss(&trained, &batch).backward(), &trained);
        let norm = global_norm(&trained, &grads, &Default::default());
        let (done, left) = ((step + 1) as f64, (steps - step) as f64);
        let lr = lr * (done / 20.0).min(1.0) * (3.0 * left / steps as f64).min(1.0);
        trained = adam.step(Update { lr, weight_decay: 0.0, max_norm: 1.0 }, trained, grads, norm);
    }
    trained
}

/// Names for all parameters.
struct Named(Vec<(String, ParamId)>);

impl ModuleVisitor<B> for Named {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push((param.id.to_string(), param.id));
    }
}

/// All numbers of a module, to the last bit.
fn bits<Any: Backend, M: Module<Any>>(module: &M) -> Vec<Vec<u32>> {
    struct Read(Vec<Vec<u32>>);
    impl<Any: Backend> ModuleVisitor<Any> for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Any, D>>) {
            self.0.push(param.val().into_data().iter::<f32>().map(f32::to_bits).collect());
        }
    }
    let mut read = Read(vec![]);
    module.visit(&mut read);
    read.0
}

/// A small model that has learnt [`task_a`], frozen.
static PRETRAINED: LazyLock<Rwkv<B>> = LazyLock::new(|| {
    let config = RwkvConfig { emb_init_scale: 1e-2, ..RwkvConfig::new(tokenizer().vocab_size(), 2, 32) };
    let model = Rwkv::new(&config, 1, &Default::default());
    let model = train(model, &task_a(), (600, 10, 5e-3), |model, batch| loss(model, model.zero_state(1), batch));
    let (right, nll) = measure(&model, None, &task_a());
    println!("pretrained: {:.0}% of task A right, loss {nll:.4}", 100.0 * right);
    assert!(right > 0.95, "{right}");
    model.frozen()
});

/// The frozen model's share of right answers; prints it.
fn frozen(examples: &Examples) -> f64 {
    let (right, nll) = measure(&PRETRAINED, None, examples);
    println!("frozen: {:.0}% of task B right, loss {nll:.3}", 100.0 * right);
    right
}

/// A state after 300 steps of training nothing else.
fn tuned(start: &InitialState<B>, examples: &Examples) -> InitialState<B> {
    train(start.clone(), examples, (300, 5, 3e-2), |initial, batch| loss(&PRETRAINED, initial.state(1), batch))
}

#[test]
fn state_tuning_learns_what_the_frozen_model_fails() {
    // A shift that the model knows, if only someone says so.
    let (seen, held_out) = (task_b(3, false), task_b(3, true));
    let (of_frozen, nll_of_frozen) = measure(&PRETRAINED, None, &held_out);
    println!("frozen: {:.0}% of task B right, loss {nll_of_frozen:.3}", 100.0 * of_frozen);
    assert!(of_frozen < 0.1, "{of_frozen}");
    let before = bits(&*PRETRAINED);

    // From nothing: how far it comes depends on the model.
    let new = InitialState::new(&PRETRAINED.config(), &PRETRAINED.device());
    let (_, disturbed) = measure(&PRETRAINED, Some(&new), &task_a());
    println!("new state: loss {disturbed:.4} of task A");
    assert!(disturbed < 0.2, "the start hardly disturbs the model");
    let initial = tuned(&new, &seen);
    let (right, nll) = measure(&PRETRAINED, Some(&initial), &held_out);
    println!("tuned from nothing: {:.0}% of what it never saw right, loss {nll:.4}", 100.0 * right);
    assert!(nll < 0.9 * nll_of_frozen, "{nll}");

    // From what the model has read of another task.
    let text = Template::new(Format::World).render(&example(Some(1), 0, 0)).swap_remove(0);
    let ids = Tokens::encode(&tokenizer(), &[text]).expect("known letters").ids;
    let start = InitialState::from_state(&prefill(&PRETRAINED, PRETRAINED.zero_state(1), &ids).expect("ids").1);
    let (of_start, _) = measure(&PRETRAINED, Some(&start), &held_out);
    assert!(of_start < 0.1, "{of_start}");
    let initial = tuned(&start, &seen);
    let (right, nll) = measure(&PRETRAINED, Some(&initial), &held_out);
    let (trained, all) = (initial.num_params(), PRETRAINED.num_params());
    println!(
        "tuned from a text: {:.0}% of what it never saw right, loss {nll:.4}; {trained} numbers beside {all}",
        100.0 * right
    );
    assert!(right > 0.9, "{right}");
    assert!(trained * 50 < all);
    assert_eq!(bits(&*PRETRAINED), before);
    let changed = bits(&initial).iter().zip(bits(&start)).filter(|(after, before)| *after != before).count();
    // The last layer's `ffn_x` reaches the first token's logits and no others, which nobody asks for.
    assert_eq!(changed, 4 * 2 - 1, "all of it trains");

    // Through a file, and as any other state.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.safetensors");
    let fingerprint = PRETRAINED.fingerprint();
    initial.state(1).save(&file, &fingerprint).expect("written");
    let loaded = State::<B>::load(&file, &fingerprint, &Default::default()).expect("read");
    assert_eq!(measure(&PRETRAINED, Some(&InitialState::from_state(&loaded)), &held_out), (right, nll));
}

#[test]
fn lora_learns_what_the_frozen_model_fails() {
    // A shift that the model has never seen.
    let (seen, held_out) = (task_b(5, false), task_b(5, true));
    assert!(frozen(&seen) < 0.1);
    let before = bits(&*PRETRAINED);
    let config = LoraConfig { rank: 2, alpha: 4.0, ..LoraConfig::default() };
    let start = PRETRAINED.clone().add_lora(&config, 0).expect("a plain model");
    let model = train(start, &seen, (400, 5, 1e-2), |model, batch| loss(model, model.zero_state(1), batch));
    let (right, nll) = measure(&model, None, &seen);
    let lora = model.lora().expect("adapters");
    let (trained, all) = (lora.num_params(), PRETRAINED.num_params());
    println!("LoRA: {:.0}% right, loss {nll:.4}; {trained} numbers beside {all}", 100.0 * right);
    println!("of what it never saw: {:.0}% right", 100.0 * measure(&model, None, &held_out).0);
    assert!(right > 0.9, "{right}");
    assert!(trained * 10 < all);
    assert_eq!(bits(&model.clone().remove_lora()), before);
    assert_eq!(model.clone().remove_lora().fingerprint(), PRETRAINED.fingerprint());

    // Merged, directly or through a file into a checkpoint, it answers the same.
    let (merged, of_merged) = measure(&model.clone().merge_lora().expect("a plain model"), None, &seen);
    assert_eq!(merged, right);
    assert!((of_merged - nll).abs() < 1e-5, "{of_merged} merged, {nll}");
    let folder = tempfile::tempdir().expect("a folder");
    let (base, adapter) = (folder.path().join("model.safetensors"), folder.path().join("adapter.safetensors"));
    checkpoint::save(&*PRETRAINED, &base).expect("written");
    lora.save(&adapter, &PRETRAINED.fingerprint()).expect("written");
    let mut base = Checkpoint::open(&base).expect("written");
    base.merge_lora(&Lora::load(&adapter, &base.fingerprint()).expect("written")).expect("fits");
    let (merged, of_merged) = measure(&base.model(&Default::default()).expect("whole"), None, &seen);
    assert_eq!(merged, right);
    assert!((of_merged - nll).abs() < 1e-5, "{of_merged} merged, {nll}");
}

/// Gradients of an initial state by the parameter, as numbers.
fn gradients(initial: &InitialState<B>, loss: Tensor<B, 1>) -> Vec<Vec<f64>> {
    let grads = GradientsParams::from_grads(loss.backward(), initial);
    let of = |param: &Param<Tensor<B, 1>>| -> Vec<f64> {
        grads.get::<Flex, 1>(param.id).expect("a gradient").into_data().iter().collect()
    };
    initial
        .layers
        .iter()
        .flat_map(|layer| [&layer.att_x, &layer.ffn_x, &layer.mean, &layer.log_weight].map(of))
        .collect()
}

#[test]
fn packed_examples_are_examples() {
    let initial = InitialState::new(&PRETRAINED.config(), &PRETRAINED.device());
    let few = Examples { list: task_b(5, false).list[..9].to_vec(), unanswered: 0 };
    let of = |ctx_len: usize| {
        let rows = Instructions::new(&few, ctx_len, 0).expect("packs");
        let batch = Batch::new((0..rows.len()).map(|i| rows.in_order(i)), ctx_len);
        println!("{} rows of {ctx_len}, restarts at {:?}", batch.size(), batch.resets);
        let loss = loss(&PRETRAINED, initial.state(1), &batch);
        (loss.clone().into_scalar(), gradients(&initial, loss))
    };
    let (alone, packed) = (of(ONE_EXAMPLE), of(CTX_LEN));
    println!("loss {} alone, {} packed", alone.0, packed.0);
    assert!((alone.0 - packed.0).abs() < 1e-5 * alone.0);
    for (alone, packed) in alone.1.iter().zip(&packed.1) {
        let scale = alone.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        let error = alone.iter().zip(packed).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        println!("gradient {scale:.2e}, largest error {error:.1e}");
        assert!(error < 1e-4 * scale + 1e-7, "{error}");
    }
}
