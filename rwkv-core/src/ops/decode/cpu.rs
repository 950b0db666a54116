//! The decoding step on the CPU.
//!
//! A block is four phases, at whose ends the threads meet: keys, values and receptance of the time-mix; its output; keys and
//! receptance of the channel-mix; its values. Portions of a phase are rows of the weights. What lies between the matrices is
//! so little that every thread computes all of it for itself, which is cheaper than to meet once more.

use super::crew::{Crew, Work};
use super::cut::{Cut, TILE};
use super::{DecodeBlock, DecodeInputs, DecodeOutputs, MAX_BATCH};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::cpu::vectors::{exp, load, store};
use crate::ops::cpu::{kernel, run};
use crate::ops::gate::cpu::gate;
use crate::ops::layer_norm::cpu::normalise;
use crate::ops::packed::PackedMatrix;
use crate::ops::packed::dots::dots;
use crate::ops::squared_relu::cpu::relu;
use crate::ops::wkv::cpu::forward::{Inputs, token};
use burn::tensor::{DType, TensorMetadata};
use pulp::Simd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Phases of a block.
const PHASES: usize = 4;

/// Nothing for matrices that are not packed, or a stream that is rescaled.
pub(in crate::ops) fn step<B: CpuBackend>(inputs: DecodeInputs<'_, B>) -> Option<DecodeOutputs<B>> {
    let DecodeInputs { x, blocks, ln_out, head, epsilon } = inputs;
    let device = B::float_device(&x);
    let [batch, width] = x.shape().dims();
    assert!(batch <= MAX_BATCH, "a decoding step of {batch} sequences");
    let x = read::<B>(x);
    if blocks.iter().any(|block| block.scale != 1.0) {
        return None;
    }
    let held = blocks.into_iter().map(|block| block.map(&mut (), |(), t| read::<B>(t), |(), matrix| matrix.packed()));
    let held: Vec<_> = held.collect::<Option<_>>()?;
    let blocks = held.iter().map(|block| block.each_ref().map(&mut (), |(), t| t.as_ref(), |(), matrix| Some(*matrix)));
    let blocks: Vec<Block<'_>> = blocks.collect::<Option<_>>()?;
    let head = head.packed()?;
    let ln_out = ln_out.map(read::<B>);
    let sizes = blocks.first().map_or([0, 0], |block| [block.att_output.columns(), block.ffn_value.columns()]);
    let [att, ffn] = sizes;
    let cut = Cut::new(batch);
    let step = Step {
        batch,
        width,
        att,
        ffn,
        epsilon: epsilon as f32,
        cut,
        crew: Crew::new(cut.portions(&blocks, head)),
        blocks,
        ln_out: [ln_out[0].as_ref(), ln_out[1].as_ref()],
        head,
        stream: x.as_ref().iter().map(|x| AtomicU32::new(x.to_bits())).collect(),
        projected: empty(3 * batch * att),
        hidden: empty(batch * ffn),
        gates: empty(batch * width),
        logits: empty(batch * head.rows()),
        after: Mutex::new(Vec::new()),
    };
    run_all(&step);
    let shapes = [vec![batch, width], vec![batch, width], vec![batch, 3, att]];
    let after = step.after.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut written = after.into_iter().map(|numbers| {
        let mut shapes = shapes.iter();
        numbers.map(|numbers| {
            let shape = shapes.next().map_or_else(Vec::new, Clone::clone);
            write::<B>(numbers, shape, DType::F32, &device)
        })
    });
    let state = written.by_ref().collect();
    let logits = step.logits.into_iter().map(|bits| f32::from_bits(bits.into_inner())).collect();
    Some(DecodeOutputs { logits: write::<B>(logits, [batch, head.rows()], DType::F32, &device), state })
}

/// All threads' work. A function of no backend is compiled here, not once more in every program.
#[inline(never)]
fn run_all(step: &Step<'_>) {
    run(Members, usize::MAX, 0..rayon::current_num_threads(), step);
}

fn empty(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// A block's numbers.
pub(super) type Block<'a> = DecodeBlock<&'a [f32], &'a PackedMatrix>;

/// What all threads share. Numbers that go from one phase to the next are atomic, which costs nothing on the processors
/// that there are; [`Crew`] orders them.
struct Step<'a> {
    batch: usize,
    width: usize,
    att: usize,
    ffn: usize,
    epsilon: f32,
    cut: Cut,
    crew: Crew,
    blocks: Vec<Block<'a>>,
    ln_out: [&'a [f32]; 2],
    head: &'a PackedMatrix,
    stream: Vec<AtomicU32>,    // [B, C]
    projected: Vec<AtomicU32>, // [3, B, A]: keys, values, receptance
    hidden: Vec<AtomicU32>,    // [B, F]
    gates: Vec<AtomicU32>,     // [B, C]: the channel-mix's receptance
    logits: Vec<AtomicU32>,    // [B, V]
    after: Mutex<Vec<[Vec<f32>; 3]>>,
}

kernel!(Members on simd = member<'a>(Step<'a>, usize));

/// What one thread does. The first to start drives the others.
#[inline(always)]
fn member<S: Simd>(simd: S, step: &Step<'_>, number: usize) {
    let widest = step.width.max(step.att);
    let zeros = |count: usize| vec![0.0; step.batch * count];
    let mut hand = Hand {
        step,
        stream: zeros(step.width),
        inputs: [(); 3].map(|()| zeros(widest)),
        projected: [(); 3].map(|()| zeros(step.att)),
        decay: vec![0.0; step.att],
        hidden: zeros(step.ffn),
        after: Vec::new(),
        simd,
    };
    if number > 0 {
        return step.crew.help(&mut hand);
    }
    step.crew.drive(&mut hand);
    *step.after.lock().unwrap_or_else(PoisonError::into_inner) = hand.after;
}

/// One thread's own numbers.
struct Hand<'a, S> {
    step: &'a Step<'a>,
    stream: Vec<f32>,         // [B, C]
    inputs: [Vec<f32>; 3],    // [B, C] or [B, A]: what the open phase's matrices multiply
    projected: [Vec<f32>; 3], // [B, A]
    decay: Vec<f32>,          // [A]
    hidden: Vec<f32>,         // [B, F]
    /// The states of the blocks so far. A thread that missed a phase misses some, but the driver misses none.
    after: Vec<[Vec<f32>; 3]>,
    simd: S,
}

impl<S: Simd> Work for Hand<'_, S> {
    #[inline(always)]
    fn prepare(&mut self, phase: usize) {
        let step = self.step;
        let Some(block) = step.blocks.get(phase / PHASES) else {
            fetch(&mut self.stream, &step.stream);
            let [weight, bias] = step.ln_out;
            return normalise(&(weight, bias, step.epsilon), (&mut self.inputs[0][..self.stream.len()], &self.stream));
        };
        match phase % PHASES {
            0 => {
                let att_x = self.normalised(block.ln1);
                for (input, mu) in self.inputs.iter_mut().zip(block.att_mix) {
                    shift(input, &att_x, block.att_x, mu);
                }
                self.after.push([att_x, Vec::new(), Vec::new()]);
            }
            1 => {
                let memory = self.attend(block);
                self.keep(2, memory);
            }
            2 => {
                let ffn_x = self.normalised(block.ln2);
                for (input, mu) in self.inputs.iter_mut().zip(block.ffn_mix) {
                    shift(input, &ffn_x, block.ffn_x, mu);
                }
                self.keep(1, ffn_x);
            }
            _ => fetch(&mut self.hidden, &step.hidden),
        }
    }

    #[inline(always)]
    fn portion(&mut self, phase: usize, portion: usize) {
        let step = self.step;
        let (weight, x, portion, product) = match (step.blocks.get(phase / PHASES), phase % PHASES) {
            (None, _) => (step.head, &self.inputs[0], portion, Product::Logits),
            (Some(block), 0) => {
                let each = step.cut.count(block.att[0]);
                let which = portion / each;
                (block.att[which], &self.inputs[which], portion % each, Product::Projected(which))
            }
            (Some(block), 1) => (block.att_output, &self.inputs[0], portion, Product::Attended),
            (Some(block), 2) => {
                let of_key = step.cut.count(block.ffn_key);
                match portion.checked_sub(of_key) {
                    None => (block.ffn_key, &self.inputs[0], portion, Product::Hidden),
                    Some(portion) => (block.ffn_receptance, &self.inputs[1], portion, Product::Gates),
                }
            }
            (Some(block), _) => (block.ffn_value, &self.hidden, portion, Product::Values),
        };
        let (start, len) = step.cut.rows(weight, portion);
        let mut out = [0.0; TILE];
        let out = &mut out[..len];
        for (b, x) in x.chunks_exact(weight.columns()).take(step.batch).enumerate() {
            dots(self.simd, out, weight, start, x); // in one place, for it is long once it is inlined
            match product {
                Product::Logits => put(&step.logits[b * step.head.rows() + start..], out),
                Product::Projected(which) => put(&step.projected[(which * step.batch + b) * step.att + start..], out),
                Product::Attended => add(&step.stream[b * step.width + start..], out),
                Product::Hidden => {
                    for x in &mut *out {
                        *x = relu(*x) * relu(*x);
                    }
                    put(&step.hidden[b * step.ffn + start..], out);
                }
                Product::Gates => put(&step.gates[b * step.width + start..], out),
                Product::Values => {
                    let mut r = [0.0; TILE];
                    fetch(&mut r[..len], &step.gates[b * step.width + start..]);
                    gate(self.simd, out, &r[..len]);
                    add(&step.stream[b * step.width + start..], out);
                }
            }
        }
    }
}

/// What a product with one of the matrices is.
enum Product {
    /// The time-mix's keys, values or receptance.
    Projected(usize),
    /// What the time-mix adds to the stream.
    Attended,
    /// The channel-mix's keys.
    Hidden,
    /// The channel-mix's receptance.
    Gates,
    /// The channel-mix's values.
    Values,
    /// What the head says of the next token.
    Logits,
}

impl<S: Simd> Hand<'_, S> {
    /// The stream as it is, normalised: `[B, C]`.
    #[inline(always)]
    fn normalised(&mut self, [weight, bias]: [&[f32]; 2]) -> Vec<f32> {
        fetch(&mut self.stream, &self.step.stream);
        let mut out = vec![0.0; self.stream.len()];
        normalise(&(weight, bias, self.step.epsilon), (&mut out, &self.stream));
        out
    }

    /// WKV and its gate, which become the first input; returns the new state, `[B, 3, A]`.
    #[inline(always)]
    fn attend(&mut self, block: &Block<'_>) -> Vec<f32> {
        let (batch, att) = (self.step.batch, self.step.att);
        for (which, projected) in self.projected.iter_mut().enumerate() {
            fetch(projected, &self.step.projected[which * batch * att..]);
        }
        let (simd, lanes) = (self.simd, S::F32_LANES);
        for (decay, time_decay) in self.decay.chunks_mut(lanes).zip(block.time_decay.chunks(lanes)) {
            store(simd, decay, simd.neg_f32s(exp(simd, load(simd, time_decay))));
        }
        let [k, v, r] = &self.projected;
        let (mut y, mut memory) = (vec![0.0; batch * att], vec![0.0; batch * 3 * att]);
        let inputs = Inputs { w: &self.decay, u: block.time_first, k, v, state: block.memory };
        token(simd, (batch, att), inputs, &mut y, &mut memory);
        gate(simd, &mut y, r);
        self.inputs[0][..batch * att].copy_from_slice(&y);
        memory
    }

    /// Keeps a part of the last block's state.
    #[inline(always)]
    fn keep(&mut self, part: usize, numbers: Vec<f32>) {
        if let Some(last) = self.after.last_mut() {
            last[part] = numbers;
        }
    }
}

/// `last + (x − last)·μ` for every row.
#[inline(always)]
fn shift(out: &mut [f32], x: &[f32], last: &[f32], mu: &[f32]) {
    let width = mu.len();
    for ((out, x), last) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(last.chunks_exact(width)) {
        for (((out, x), last), mu) in out.iter_mut().zip(x).zip(last).zip(mu) {
            *out = last + (x - last) * mu;
        }
    }
}

#[inline(always)]
fn fetch(out: &mut [f32], shared: &[AtomicU32]) {
    for (out, shared) in out.iter_mut().zip(shared) {
        *out = f32::from_bits(shared.load(Ordering::Relaxed));
    }
}

#[inline(always)]
fn put(shared: &[AtomicU32], numbers: &[f32]) {
    for (shared, number) in shared.iter().zip(numbers) {
        shared.store(number.to_bits(), Ordering::Relaxed);
    }
}

/// Adds to numbers that no other thread writes in this phase.
#[inline(always)]
fn add(shared: &[AtomicU32], numbers: &[f32]) {
    for (shared, number) in shared.iter().zip(numbers) {
        shared.store((f32::from_bits(shared.load(Ordering::Relaxed)) + number).to_bits(), Ordering::Relaxed);
    }
}
