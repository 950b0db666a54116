//! Adam's update on every backend: its formula, with clipping, and that a norm that is no number leaves everything alone.

use crate::support::{assert_close, tensor, values};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::adam::{AdamStep, AdamUpdate, adam, portable};

/// More than one task, and no multiple of a vector.
const N: usize = 20_011;

fn random(rng: &mut StdRng) -> Vec<f64> {
    (0..N).map(|_| f64::from(rng.random_range(-1.0f32..1.0))).collect()
}

fn step(max_norm: f64, updates: u64) -> AdamStep {
    AdamStep { lr: 1e-2, beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, max_norm, weight_decay: 0.1, updates }
}

/// The operation of one parameter, and its default body, which backends with kernels do not use.
type Update<B> = fn([Tensor<B, 1>; 5], &AdamStep) -> [Tensor<B, 1>; 3];

fn updates<B: RwkvBackend>() -> [(&'static str, Update<B>); 2] {
    [
        ("operation", |tensors, step| {
            let (update, norm) = of_tensors(tensors, *step);
            only(adam(vec![update], norm))
        }),
        ("body", |tensors, step| {
            let (update, norm) = of_tensors(tensors, *step);
            only(portable::updates::<B>(vec![update], &norm.into_primitive().tensor()))
        }),
    ]
}

/// An update of parameter, gradient and moments, and the norm.
fn of_tensors<B: RwkvBackend>(tensors: [Tensor<B, 1>; 5], step: AdamStep) -> (AdamUpdate<B>, Tensor<B, 1>) {
    let [param, grad, first, second, norm] = tensors;
    let [param, grad, first, second] = [param, grad, first, second].map(|x| x.into_primitive().tensor());
    (AdamUpdate { param, grad, first, second, step }, norm)
}

fn only<B: RwkvBackend>(after: Vec<[FloatTensor<B>; 3]>) -> [Tensor<B, 1>; 3] {
    let [after] = <[_; 1]>::try_from(after).expect("one parameter");
    after.map(|x| Tensor::from_primitive(TensorPrimitive::Float(x)))
}

/// In main memory also in f64, which has no kernel there.
fn dtypes<B: RwkvBackend>() -> &'static [DType] {
    if B::IN_MAIN_MEMORY { &[DType::F32, DType::F64] } else { &[DType::F32] }
}

/// Three steps against the formula in f64, with weight decay: the first is left as long as it is, the others are clipped.
fn adam_is_its_formula<B: RwkvBackend>(device: &B::Device) {
    for (&dtype, (name, update)) in dtypes::<B>().iter().flat_map(|dtype| updates::<B>().map(|x| (dtype, x))) {
        let mut rng = StdRng::seed_from_u64(9);
        let at = &(device, dtype);
        let mut param = random(&mut rng);
        let (mut first, mut second) = (vec![0.0; N], vec![0.0; N]);
        let mut on_device: [Tensor<B, 1>; 3] = [&param, &first, &second].map(|x| tensor(x, [N], at));
        for t in 1..=3 {
            let grad = random(&mut rng);
            let norm = grad.iter().map(|x| x * x).sum::<f64>().sqrt();
            let max_norm = [2.0 * norm, 0.25 * norm, 1e-3][t - 1];
            let clip = [1.0, max_norm / (norm + 1e-6), max_norm / (norm + 1e-6)][t - 1];
            let [p, m, v] = on_device;
            let given = [p, tensor(&grad, [N], at), m, v, tensor(&[norm], [1], at)];
            on_device = update(given, &step(max_norm, t as u64));
            for i in 0..N {
                let grad = clip * grad[i];
                first[i] = 0.9 * first[i] + 0.1 * grad;
                second[i] = 0.99 * second[i] + 0.01 * grad * grad;
                let m = first[i] / (1.0 - 0.9f64.powi(t as i32));
                let v = second[i] / (1.0 - 0.99f64.powi(t as i32));
                param[i] = param[i] * (1.0 - 1e-2 * 0.1) - 1e-2 * m / (v.sqrt() + 1e-8);
            }
        }
        let [p, m, v] = on_device;
        assert_close(&format!("{name}, {dtype:?}: parameters"), &values(p), &param, 1e-6);
        assert_close(&format!("{name}, {dtype:?}: first moments"), &values(m), &first, 1e-6);
        assert_close(&format!("{name}, {dtype:?}: second moments"), &values(v), &second, 1e-6);
    }
}

/// Where the norm is no number, neither it nor the gradient reaches anything, be the inputs somebody else's too or not.
fn adam_leaves_out_what_has_no_norm<B: RwkvBackend>(device: &B::Device) {
    for (&dtype, (name, update)) in dtypes::<B>().iter().flat_map(|dtype| updates::<B>().map(|x| (dtype, x))) {
        let mut rng = StdRng::seed_from_u64(10);
        let at = &(device, dtype);
        let mut old = [(); 3].map(|()| random(&mut rng));
        old[0][0] = -0.0;
        old[2].iter_mut().for_each(|x| *x = x.abs());
        let good = random(&mut rng);
        let mut bad = good.clone();
        (bad[0], bad[7], bad[N - 1]) = (f64::NAN, f64::INFINITY, f64::NAN);
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let norms = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for (norm, grad) in norms.into_iter().flat_map(|norm| [(norm, &good), (norm, &bad)]) {
            for held in [false, true] {
                let given: [Tensor<B, 1>; 3] = old.each_ref().map(|x| tensor(x, [N], at));
                let beside = held.then(|| given.clone());
                let [p, m, v] = given;
                let new = update([p, tensor(grad, [N], at), m, v, tensor(&[norm], [1], at)], &step(1.0, 3));
                for (new, old) in new.into_iter().zip(&old) {
                    assert!(bits(&values(new)) == bits(old), "{name}, {dtype:?}, norm {norm}, held {held}");
                }
                drop(beside);
            }
        }
        // A loss that is no number makes the norm none, as training adds them.
        for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let [p, m, v] = old.each_ref().map(|x| tensor(x, [N], at));
            let norm = tensor::<B, 1>(&[1.5], [1], at) + tensor::<B, 1>(&[loss], [1], at).mul_scalar(0.0);
            let new = update([p, tensor(&good, [N], at), m, v, norm], &step(1.0, 3));
            for (new, old) in new.into_iter().zip(&old) {
                assert!(bits(&values(new)) == bits(old), "{name}, {dtype:?}, loss {loss}");
            }
        }
        // The largest norm that is one, and none at all, are no reason to leave anything out.
        for norm in [f64::from(f32::MAX), 0.0] {
            let [p, m, v] = old.each_ref().map(|x| tensor(x, [N], at));
            let [p, m, v] = update([p, tensor(&good, [N], at), m, v, tensor(&[norm], [1], at)], &step(1.0, 3));
            for (new, old) in [p, m, v].into_iter().zip(&old) {
                let new = values(new);
                assert!(new != *old && new.iter().all(|x| x.is_finite()), "{name}, {dtype:?}, norm {norm}");
            }
        }
    }
}

/// Parameters of many sizes together, of several rates and decays, each as if it were alone.
fn adam_of_many_is_adam_of_each<B: RwkvBackend>(device: &B::Device) {
    let mut rng = StdRng::seed_from_u64(11);
    // More than a launch takes; one element, whole vectors and parts of them, cubes that fill and that do not, and more elements
    // than are put together.
    let sizes =
        [1, 4, 3, 256, 4, 1025, 7, 64, 128, 4096, 1 << 20, 12, 8, 20, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 512, 16, 24];
    let given = sizes.map(|size| [(); 4].map(|()| random(&mut rng).into_iter().cycle().take(size).collect::<Vec<_>>()));
    let steps = [0.0, 0.1]
        .into_iter()
        .flat_map(|weight_decay| [1e-2, 2e-2].map(|lr| AdamStep { lr, weight_decay, ..step(1.0, 3) }));
    let steps: Vec<AdamStep> = steps.cycle().take(sizes.len()).collect();
    let update = |which: usize| {
        let [param, grad, first, second] = &given[which];
        let second: Vec<f64> = second.iter().map(|x| x.abs()).collect();
        let tensors = [param, grad, first, &second, &vec![2.5]];
        of_tensors::<B>(tensors.map(|x| tensor(x, [x.len()], &(device, DType::F32))), steps[which])
    };
    let all = || (0..sizes.len()).map(|which| update(which).0).collect::<Vec<_>>();
    let flat = |after: Vec<[FloatTensor<B>; 3]>| -> Vec<Vec<f64>> {
        after.into_iter().flat_map(|tensors| only::<B>(vec![tensors]).map(values)).collect()
    };
    let norm = |norm: f64| tensor::<B, 1>(&[norm], [1], &(device, DType::F32));
    let together = flat(adam(all(), norm(2.5)));
    let plain = flat(portable::updates::<B>(all(), &norm(2.5).into_primitive().tensor()));
    let alone = all().into_iter().flat_map(|update| flat(adam(vec![update], norm(2.5)))).collect::<Vec<_>>();
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), sizes.map(|size| [size; 3]).concat());
    for (i, ((together, plain), alone)) in together.iter().zip(&plain).zip(&alone).enumerate() {
        let of = format!("tensor {} of parameter {} of {}", i % 3, i / 3, sizes[i / 3]);
        assert_close(&format!("{of}, beside plain operations"), together, plain, 1e-6);
        assert_close(&format!("{of}, beside itself alone"), together, alone, 1e-7);
    }
    let left_out = flat(adam(all(), norm(f64::NAN)));
    let given = all().into_iter().map(|AdamUpdate { param, first, second, .. }| [param, first, second]).collect();
    assert_eq!(left_out, flat(given), "a norm that is none");
}

on_every_backend!(adam_is_its_formula, adam_leaves_out_what_has_no_norm, adam_of_many_is_adam_of_each);
