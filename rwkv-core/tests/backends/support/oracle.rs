//! WKV in scalar f64, by the paper's recurrence and differentiated numerically: shares no code with the library. (The
//! sums themselves are in the PyTorch fixture, see `golden.rs`.)

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The range of the inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Everything within ±1.
    Unit,
    /// Decay and bonus within ±10, keys within ±40.
    Large,
    /// Keys within ±1000: a naive exponential overflows.
    Extreme,
}

/// One WKV problem with a loss: fixed weights on the outputs and on the final state.
#[derive(Debug, Clone)]
pub struct Case {
    pub batch: usize,
    pub time: usize,
    pub channels: usize,
    pub time_decay: Vec<f64>, // [C]
    pub time_first: Vec<f64>, // [C]
    pub k: Vec<f64>,          // [B, T, C]
    pub v: Vec<f64>,          // [B, T, C]
    pub state: Vec<f64>,      // [B, 3, C]
    pub weight_y: Vec<f64>,   // [B, T, C]
    pub weight_s: Vec<f64>,   // [B, 2, C]
}

/// Outputs, log-denominators and the final state as logarithms and signs, of one channel.
struct Channel {
    y: Vec<f64>,
    /// `(A, B)` after the last token, as multiples of `e^exponent`.
    a: f64,
    b: f64,
    exponent: f64,
}

impl Case {
    /// Random inputs, each a number that `f32` holds exactly.
    pub fn random(seed: u64, [batch, time, channels]: [usize; 3], range: Range) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut uniform = |n: usize, low: f64, high: f64| -> Vec<f64> {
            (0..n).map(|_| f64::from(rng.random_range(low..high) as f32)).collect()
        };
        let (parameters, keys) = match range {
            Range::Unit => (1.0, 1.0),
            Range::Large => (10.0, 40.0),
            Range::Extreme => (1.0, 1000.0),
        };
        let n = batch * time * channels;
        let mut state = Vec::new();
        for _ in 0..batch {
            state.extend(uniform(channels, -1.0, 1.0));
            state.extend(uniform(channels, 0.5, 2.0));
            state.extend(uniform(channels, -keys, keys));
        }
        Self {
            batch,
            time,
            channels,
            time_decay: uniform(channels, -parameters, parameters),
            time_first: uniform(channels, -parameters, parameters),
            k: uniform(n, -keys, keys),
            v: uniform(n, -1.0, 1.0),
            state,
            weight_y: uniform(n, -1.0, 1.0),
            weight_s: uniform(batch * 2 * channels, -1.0, 1.0),
        }
    }

    /// The same inputs with the empty state in front.
    pub fn after_empty_state(mut self) -> Self {
        let empty = f64::from(rwkv_core::ops::wkv::EMPTY_EXPONENT);
        for (i, x) in self.state.iter_mut().enumerate() {
            *x = if i / self.channels % 3 == 2 { empty } else { 0.0 };
        }
        self
    }

    fn at(&self, b: usize, t: usize, c: usize) -> usize {
        (b * self.time + t) * self.channels + c
    }

    /// One channel, relative to the largest exponent so far.
    fn channel(&self, b: usize, c: usize) -> Channel {
        let w = -self.time_decay[c].exp();
        let u = self.time_first[c];
        let state = |row: usize| self.state[(b * 3 + row) * self.channels + c];
        let (mut a, mut den, mut p) = (state(0), state(1), state(2));
        let mut y = Vec::with_capacity(self.time);
        for t in 0..self.time {
            let (k, v) = (self.k[self.at(b, t, c)], self.v[self.at(b, t, c)]);
            let top = p.max(u + k);
            let (past, now) = ((p - top).exp(), (u + k - top).exp());
            y.push((past * a + now * v) / (past * den + now));
            let top = (p + w).max(k);
            let (past, now) = ((p + w - top).exp(), (k - top).exp());
            (a, den, p) = (past * a + now * v, past * den + now, top);
        }
        Channel { y, a, b: den, exponent: p }
    }

    /// The loss's share of one channel: `Σ weight_y·y + weight_s·(A, B)·e^{−exponent}`.
    fn channel_loss(&self, b: usize, c: usize, exponent: f64) -> f64 {
        let channel = self.channel(b, c);
        let outputs: f64 = (0..self.time).map(|t| self.weight_y[self.at(b, t, c)] * channel.y[t]).sum();
        let scale = (channel.exponent - exponent).exp();
        let weight = |row: usize| self.weight_s[(b * 2 + row) * self.channels + c];
        outputs + scale * (weight(0) * channel.a + weight(1) * channel.b)
    }

    /// Outputs, `[B, T, C]`.
    pub fn outputs(&self) -> Vec<f64> {
        let mut y = vec![0.0; self.k.len()];
        for b in 0..self.batch {
            for c in 0..self.channels {
                for (t, value) in self.channel(b, c).y.into_iter().enumerate() {
                    y[self.at(b, t, c)] = value;
                }
            }
        }
        y
    }

    /// Exponents near the final state's that `f32` holds exactly, `[B, C]`, and `(A, B)` as multiples of their
    /// exponentials, `[B, 2, C]`.
    pub fn final_state(&self) -> (Vec<f64>, Vec<f64>) {
        let mut exponents = Vec::new();
        let mut values = vec![0.0; self.batch * 2 * self.channels];
        for b in 0..self.batch {
            for c in 0..self.channels {
                let channel = self.channel(b, c);
                let exponent = f64::from(channel.exponent as f32);
                let scale = (channel.exponent - exponent).exp();
                exponents.push(exponent);
                values[b * 2 * self.channels + c] = scale * channel.a;
                values[(b * 2 + 1) * self.channels + c] = scale * channel.b;
            }
        }
        (exponents, values)
    }

    /// Central differences of the loss in every input: `time_decay`, `time_first`, `k`, `v`, `state`.
    pub fn gradients(&self) -> [Vec<f64>; 5] {
        let (exponents, _) = self.final_state();
        let mut case = self.clone();
        let fields: [fn(&mut Self) -> &mut Vec<f64>; 5] =
            [|s| &mut s.time_decay, |s| &mut s.time_first, |s| &mut s.k, |s| &mut s.v, |s| &mut s.state];
        fields.map(|field| {
            let len = field(&mut case).len();
            (0..len)
                .map(|i| {
                    let x = field(&mut case)[i];
                    if x < -1e30 {
                        return 0.0; // the empty state's exponent: nothing near it is any less empty
                    }
                    // Channels do not touch each other, and `[C]` parameters reach every batch row.
                    let c = i % self.channels;
                    let rows = if len == self.channels { 0..self.batch } else { one_row(i, len / self.batch) };
                    let h = 1e-6;
                    let mut loss = |x: f64| -> f64 {
                        field(&mut case)[i] = x;
                        rows.clone().map(|b| case.channel_loss(b, c, exponents[b * self.channels + c])).sum()
                    };
                    let slope = (loss(x + h) - loss(x - h)) / ((x + h) - (x - h));
                    field(&mut case)[i] = x;
                    slope
                })
                .collect()
        })
    }
}

fn one_row(i: usize, row_len: usize) -> std::ops::Range<usize> {
    i / row_len..i / row_len + 1
}
