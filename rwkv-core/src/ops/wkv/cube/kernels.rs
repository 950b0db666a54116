//! The WKV kernels, written once for every CubeCL runtime.
//!
//! `F` is the dtype of the activations in memory, `S` that of the state and of all arithmetic. The only constants
//! are 0 and 1: the sentinel of the empty state arrives as data, because WGSL refuses some extreme literals.

use cubecl::prelude::*;

/// One unit runs one batch row and channel from the first token to the last.
#[cube(launch)]
pub(super) fn wkv_forward<F: Float, S: Float>(
    w: &Tensor<S>,             // [C]
    u: &Tensor<S>,             // [C]
    k: &Tensor<F>,             // [B, T, C]
    v: &Tensor<F>,             // [B, T, C]
    state: &Tensor<S>,         // [B, 3, C]
    y: &mut Tensor<F>,         // [B, T, C]
    new_state: &mut Tensor<S>, // [B, 3, C]
    lse: &mut Tensor<S>,       // [B, T, C], or one element when not wanted
    #[comptime] with_lse: bool,
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let unit = ABSOLUTE_POS;
    if unit >= k.shape(0) * channels {
        terminate!();
    }
    let batch = unit / channels;
    let channel = unit % channels;
    let row = batch * 3 * channels + channel;

    let w = w[channel];
    let u = u[channel];
    let mut a = state[row];
    let mut b = state[row + channels];
    // The exponent p is base + age·w: the key that last led and how many tokens ago that was. A single number would be
    // rounded every token, and a slow decay would drift.
    let mut base = state[row + 2 * channels];
    let mut age = S::new(0.0);
    let mut at = batch * time * channels + channel;
    for _ in 0..time {
        let k_t = S::cast_from(k[at]);
        let v_t = S::cast_from(v[at]);

        let lead = (k_t - base) + (u - age * w);
        let smaller = S::exp(-S::abs(lead));
        let past = select(lead > S::new(0.0), smaller, S::new(1.0));
        let now = select(lead > S::new(0.0), S::new(1.0), smaller);
        let denominator = past * b + now;
        y[at] = F::cast_from((past * a + now * v_t) / denominator);
        if with_lse {
            let log = S::ln(denominator);
            lse[at] = select(lead > S::new(0.0), k_t + (u + log), base + (age * w + log));
        }

        let older = age + S::new(1.0);
        let lead = (k_t - base) - older * w;
        let smaller = S::exp(-S::abs(lead));
        let past = select(lead > S::new(0.0), smaller, S::new(1.0));
        let now = select(lead > S::new(0.0), S::new(1.0), smaller);
        a = past * a + now * v_t;
        b = past * b + now;
        base = select(lead > S::new(0.0), k_t, base);
        age = select(lead > S::new(0.0), S::new(0.0), older);
        at += channels;
    }
    // One number for p again. An integer near base + age·w loses nothing: the difference goes into a and b.
    let p = S::floor(base + age * w);
    let scale = S::exp((base - p) + age * w);
    new_state[row] = a * scale;
    new_state[row + channels] = b * scale;
    new_state[row + 2 * channels] = p;
}

/// One unit runs one batch row and channel from the last token to the first.
#[cube(launch)]
pub(super) fn wkv_backward<F: Float, S: Float>(
    w: &Tensor<S>,           // [C]
    u: &Tensor<S>,           // [C]
    k: &Tensor<F>,           // [B, T, C]
    v: &Tensor<F>,           // [B, T, C]
    state: &Tensor<S>,       // [B, 3, C]
    y: &Tensor<F>,           // [B, T, C]
    lse: &Tensor<S>,         // [B, T, C]
    gy: &Tensor<F>,          // [B, T, C]
    adjoint: &Tensor<S>,     // [B, 3, C]
    gk: &mut Tensor<F>,      // [B, T, C]
    gv: &mut Tensor<F>,      // [B, T, C]
    g_state: &mut Tensor<S>, // [B, 3, C]
    partial: &mut Tensor<S>, // [B, 2, C]: of w and of u
    #[define(F, S)] _dtypes: [StorageType; 2],
) {
    let channels = k.shape(2);
    let time = k.shape(1);
    let unit = ABSOLUTE_POS;
    if unit >= k.shape(0) * channels {
        terminate!();
    }
    let batch = unit / channels;
    let channel = unit % channels;
    let row = batch * 3 * channels + channel;

    let w = w[channel];
    let u = u[channel];
    let mut ga = adjoint[row];
    let mut gb = adjoint[row + channels];
    // The exponent m is base + age·w, as p in the forward pass.
    let mut base = adjoint[row + 2 * channels];
    let mut age = S::new(0.0);
    let mut ha = S::new(0.0);
    let mut hb = S::new(0.0);
    let mut gw = S::new(0.0);
    let mut gu = S::new(0.0);
    for step in 0..time {
        let at = (batch * time + time - 1 - step) * channels + channel;
        let k_t = S::cast_from(k[at]);
        let v_t = S::cast_from(v[at]);
        let y_t = S::cast_from(y[at]);
        let gy_t = S::cast_from(gy[at]);
        let lse_t = lse[at];

        let direct = gy_t * S::exp((k_t - lse_t) + u);
        let direct_k = direct * (v_t - y_t);
        let carried = S::exp((k_t + base) + age * w);
        gk[at] = F::cast_from(direct_k + carried * (ga * v_t + gb));
        gv[at] = F::cast_from(direct + carried * ga);
        gu += direct_k;
        gw += carried * (ha * v_t + hb);

        let older = age + S::new(1.0);
        let lead = (-lse_t - base) - older * w;
        let smaller = S::exp(-S::abs(lead));
        let old = select(lead > S::new(0.0), smaller, S::new(1.0));
        let new = gy_t * select(lead > S::new(0.0), S::new(1.0), smaller);
        ha = old * (ga + ha);
        hb = old * (gb + hb);
        ga = old * ga + new;
        gb = old * gb - new * y_t;
        base = select(lead > S::new(0.0), -lse_t, base);
        age = select(lead > S::new(0.0), S::new(0.0), older);
    }
    let a = state[row];
    let b = state[row + channels];
    let scale = S::exp((base + state[row + 2 * channels]) + age * w);
    let to_a = scale * ga;
    let to_b = scale * gb;
    g_state[row] = to_a;
    g_state[row + channels] = to_b;
    g_state[row + 2 * channels] = a * to_a + b * to_b;
    let row = batch * 2 * channels + channel;
    partial[row] = gw + scale * (a * ha + b * hb);
    partial[row + channels] = gu;
}
