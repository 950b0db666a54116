//! From logits to losses and their gradient at once, against scalar f64: rows with columns beyond the vocabulary, ties, L2Wrap.

use crate::fused_ops::random;
use crate::support::{assert_close, say, tensor, values};
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::head_loss::LogitRows;

const L2_WRAP: f64 = 0.125; // large enough to show beside the softmax

/// Some rows of logits in f64, each as wide as `width`.
struct Case {
    logits: Vec<f64>,
    vocab: usize,
    width: usize,
    targets: Vec<usize>,
    weights: Vec<f64>,
}

impl Case {
    fn random(count: usize, vocab: usize, width: usize, scale: f64) -> Self {
        let mut rng = StdRng::seed_from_u64(vocab as u64);
        let mut logits = vec![0.0; count * width];
        for row in logits.chunks_mut(width) {
            row[..vocab].copy_from_slice(&random(&mut rng, vocab, scale));
            // The largest logit twice or thrice: L2Wrap is for the first one.
            let highest = row[..vocab].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for place in [vocab / 2, (vocab / 2 + 1) % vocab, vocab - 1] {
                row[place] = highest;
            }
        }
        let targets = (0..count).map(|_| rng.random_range(0..vocab)).collect();
        let weights = (0..count).map(|i| [1.0, 0.0, 0.375][i % 3]).collect();
        Self { logits, vocab, width, targets, weights }
    }

    /// The losses, and the gradient.
    fn expected(&self, l2_wrap: f64) -> (Vec<f64>, Vec<f64>) {
        let mut losses = Vec::new();
        let mut gradient = vec![0.0; self.logits.len()];
        let rows = self.logits.chunks(self.width).zip(gradient.chunks_mut(self.width));
        for ((row, gradient), (&target, &weight)) in rows.zip(self.targets.iter().zip(&self.weights)) {
            let row = &row[..self.vocab];
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
            losses.push(weight * (lse - row[target]));
            let highest = row.iter().position(|&x| x == top).expect("one is the largest");
            for (token, (x, to_x)) in row.iter().zip(gradient).enumerate() {
                let is = |other| f64::from(u8::from(token == other));
                *to_x = weight * ((x - lse).exp() - is(target) + l2_wrap * top * is(highest));
            }
        }
        (losses, gradient)
    }

    fn rows<B: RwkvBackend>(&self, l2_wrap: f64, device: &B::Device) -> LogitRows<B> {
        let (count, at) = (self.targets.len(), &(device, DType::F32));
        let targets: Vec<i32> = self.targets.iter().map(|&id| id as i32).collect();
        LogitRows {
            logits: tensor::<B, 2>(&self.logits, [count, self.width], at).into_primitive().tensor(),
            vocab: self.vocab,
            targets: Tensor::<B, 1, Int>::from_data(TensorData::new(targets, [count]), device).into_primitive(),
            weights: tensor::<B, 1>(&self.weights, [count], at).into_primitive().tensor(),
            l2_wrap: l2_wrap as f32,
        }
    }
}

fn one<B: RwkvBackend>(losses: B::FloatTensorPrimitive) -> Vec<f64> {
    values(Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(losses)))
}

fn two<B: RwkvBackend>(logits: B::FloatTensorPrimitive) -> Vec<f64> {
    values(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(logits)))
}

fn rows_of_logits_match_f64<B: RwkvBackend>(device: &B::Device) {
    let shapes = [
        (1, 2, 8, 1.0),
        (5, 16, 16, 3.0),
        (40, 65, 72, 8.0),
        (3, 1100, 1152, 30.0),
        (9, 33, 40, 300.0),
        (2, 5000, 5056, 30.0),
        (2, 20_000, 20_032, 3.0), // several rounds for as many units as any GPU has
        (2, 37, 37, 3.0),
    ];
    for (count, vocab, width, scale) in shapes {
        let case = Case::random(count, vocab, width, scale);
        let name = format!("{count} rows, {vocab} of {width} logits up to ±{scale}");
        for l2_wrap in [0.0, L2_WRAP] {
            let (losses, gradient) = case.expected(l2_wrap);
            let (alone, none) = B::losses_of_rows(case.rows::<B>(l2_wrap, device), false);
            assert!(none.is_none(), "{name}: no gradient was wanted");
            assert_close(&format!("{name}: losses alone"), &one::<B>(alone), &losses, 1e-5);
            let rows = case.rows::<B>(l2_wrap, device);
            let held = rows.logits.clone();
            let (beside, while_held) = B::losses_of_rows(rows, true);
            assert_close(&format!("{name}: losses"), &one::<B>(beside), &losses, 1e-5);
            let while_held = two::<B>(while_held.expect("wanted"));
            assert_close(&format!("{name}: gradient"), &while_held, &gradient, 1e-5);
            assert_eq!(two::<B>(held), case.logits, "{name}: logits that another holds");
            let (_, in_place) = B::losses_of_rows(case.rows::<B>(l2_wrap, device), true);
            assert_eq!(two::<B>(in_place.expect("wanted")), while_held, "{name}: over logits that nobody holds");
        }
    }
}

/// Rows that lie apart, in a table that nobody else holds or somebody does, and one row in the place of all.
fn rows_may_lie_apart<B: RwkvBackend>(device: &B::Device) {
    let case = Case::random(5, 60, 64, 3.0);
    let (losses, gradient) = case.expected(L2_WRAP);
    let check = |name: &str, logits: Tensor<B, 2>, losses: &[f64], gradient: &[f64]| {
        let rows = LogitRows { logits: logits.into_primitive().tensor(), ..case.rows::<B>(L2_WRAP, device) };
        let (got, to_logits) = B::losses_of_rows(rows, true);
        assert_close(&format!("{name}: losses"), &one::<B>(got), losses, 1e-5);
        assert_close(&format!("{name}: gradient"), &two::<B>(to_logits.expect("wanted")), gradient, 1e-5);
    };
    let table: Vec<f64> = case.logits.chunks(64).flat_map(|row| [row, &[7.0; 64]].concat()).collect();
    let at = &(device, DType::F32);
    check("alone", tensor::<B, 2>(&table, [5, 128], at).narrow(1, 0, 64), &losses, &gradient);
    let held = tensor::<B, 2>(&table, [5, 128], at);
    check("held", held.clone().narrow(1, 0, 64), &losses, &gradient);
    assert_eq!(values(held), table);
    let mut repeated = Case { logits: case.logits[..64].repeat(5), targets: case.targets.clone(), ..case };
    repeated.weights = vec![1.0; 5];
    let (losses, gradient) = repeated.expected(L2_WRAP);
    let rows = LogitRows {
        logits: tensor::<B, 2>(&repeated.logits[..64], [1, 64], at).expand([5, 64]).into_primitive().tensor(),
        ..repeated.rows::<B>(L2_WRAP, device)
    };
    let (got, to_logits) = B::losses_of_rows(rows, true);
    assert_close("repeated: losses", &one::<B>(got), &losses, 1e-5);
    assert_close("repeated: gradient", &two::<B>(to_logits.expect("wanted")), &gradient, 1e-5);
}

/// Rows of a narrower type have the losses of the numbers that they hold; the gradient is rounded once.
fn half_precision_stays_f32_inside<B: RwkvBackend>(device: &B::Device) {
    for (dtype, unit) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        if !B::supports_dtype(device, dtype) {
            say(&format!("SKIPPED {dtype:?} on {}: it has no such type", B::name(device)));
            continue;
        }
        let mut case = Case::random(5, 3000, 3008, 8.0);
        let numbers = tensor::<B, 1>(&case.logits, [case.logits.len()], &(device, dtype));
        case.logits = values(numbers.clone().cast(DType::F32));
        let rows = LogitRows {
            logits: numbers.reshape([5, case.width]).into_primitive().tensor(),
            ..case.rows::<B>(L2_WRAP, device)
        };
        let (losses, gradient) = B::losses_of_rows(rows, true);
        let (want, want_gradient) = case.expected(L2_WRAP);
        assert_close(&format!("{dtype:?} losses"), &one::<B>(losses), &want, 1e-5);
        let gradient = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(gradient.expect("wanted")));
        assert_eq!(gradient.dtype(), dtype);
        assert_close(&format!("{dtype:?} gradient"), &values(gradient.cast(DType::F32)), &want_gradient, unit);
    }
}

/// A logit that is no number leaves no number for its row's loss, wherever in the row it stands, and stays in its row.
fn nan_is_in_the_loss<B: RwkvBackend>(device: &B::Device) {
    for place in [0, 1, 700, 1099] {
        let mut case = Case::random(3, 1100, 1152, 1.0);
        case.weights = vec![1.0; 3];
        case.logits[case.width + place] = f64::NAN;
        let (losses, gradient) = B::losses_of_rows(case.rows::<B>(0.0, device), true);
        let broken: Vec<bool> = one::<B>(losses).iter().map(|loss| loss.is_nan()).collect();
        assert_eq!(broken, [false, true, false], "logit {place}");
        let gradient = two::<B>(gradient.expect("wanted"));
        let rows: Vec<bool> = gradient.chunks(case.width).map(|row| row.iter().all(|x| x.is_finite())).collect();
        assert_eq!(rows, [true, false, true], "logit {place}");
    }
}

/// Tokens that cannot be, at the beginning of a row and elsewhere.
fn logits_may_be_minus_infinity<B: RwkvBackend>(device: &B::Device) {
    let mut case = Case::random(3, 1100, 1152, 1.0);
    case.weights = vec![1.0; 3];
    case.targets = vec![600; 3];
    for place in (0..500).chain([700, 1099]) {
        case.logits[case.width + place] = f64::NEG_INFINITY;
    }
    let (losses, gradient) = B::losses_of_rows(case.rows::<B>(L2_WRAP, device), true);
    let (want, want_gradient) = case.expected(L2_WRAP);
    assert_close("losses beside −∞", &one::<B>(losses), &want, 1e-5);
    assert_close("gradient beside −∞", &two::<B>(gradient.expect("wanted")), &want_gradient, 1e-5);
}

on_every_backend!(
    rows_of_logits_match_f64,
    rows_may_lie_apart,
    half_precision_stays_f32_inside,
    nan_is_in_the_loss,
    logits_may_be_minus_infinity,
);
