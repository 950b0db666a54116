//! Products with parameters and with packed weights on every backend, against scalar f64.

use crate::fused_ops::{FORWARD, compare, random};
use crate::support::{assert_close, tensor, values};
use burn::backend::Autodiff;
use burn::tensor::{DType, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rwkv_core::ops::RwkvBackend;
use rwkv_core::ops::linear::linear;
use rwkv_core::ops::packed::{PackedMatrix, Packing, packed_linear};

/// One row, sizes within a tile and several tiles of every kind of product.
fn linear_matches_f64<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    for [count, inputs, outputs] in [[1, 5, 3], [7, 33, 20], [130, 70, 90], [700, 40, 70], [40, 300, 150]] {
        let mut rng = StdRng::seed_from_u64(7);
        let [x, weight, loss] =
            [count * inputs, inputs * outputs, count * outputs].map(|numbers| random(&mut rng, numbers, 1.0));
        let sums = |rows: usize, columns: usize, depth: usize, term: &dyn Fn(usize, usize, usize) -> f64| -> Vec<f64> {
            let each = (0..rows * columns).map(|i| (i / columns, i % columns));
            each.map(|(row, column)| (0..depth).map(|k| term(row, column, k)).sum()).collect()
        };
        let y = sums(count, outputs, inputs, &|n, o, i| x[n * inputs + i] * weight[i * outputs + o]);
        let to_x = sums(count, inputs, outputs, &|n, i, o| loss[n * outputs + o] * weight[i * outputs + o]);
        let to_weight = sums(inputs, outputs, count, &|i, o, n| x[n * inputs + i] * loss[n * outputs + o]);
        for [x_learns, weight_learns] in [[true, true], [true, false], [false, true]] {
            let x = tensor::<Autodiff<B>, 2>(&x, [count, inputs], at).set_require_grad(x_learns);
            let weight = tensor::<Autodiff<B>, 2>(&weight, [inputs, outputs], at).set_require_grad(weight_learns);
            let out = linear(x.clone(), weight.clone());
            let grads = (out.clone() * tensor(&loss, [count, outputs], at)).sum().backward();
            let name = format!("linear {:?}", [count, inputs, outputs]);
            assert_close(&name, &values(out), &y, FORWARD);
            let gradients = [(x.grad(&grads), x_learns, &to_x), (weight.grad(&grads), weight_learns, &to_weight)];
            for (gradient, learns, want) in gradients {
                assert_eq!(gradient.is_some(), learns);
                if let Some(gradient) = gradient {
                    assert_close(&format!("{name}: gradient"), &values(gradient), want, FORWARD);
                }
            }
        }
    }
}

/// Rows in several dimensions, or a single one in none, are multiplied as those of a matrix are, forward and backward; in
/// main memory also in f64, which has no kernels there.
fn rows_of_all_dimensions_are_projected<B: RwkvBackend>(device: &B::Device) {
    let mut rng = StdRng::seed_from_u64(8);
    let [sequences, time, inputs, outputs] = [3, 5, 33, 20];
    let [x, weight, loss] = [sequences * time * inputs, inputs * outputs, sequences * time * outputs]
        .map(|numbers| random(&mut rng, numbers, 1.0));
    let packed = PackedMatrix::pack(Packing::F32, outputs, inputs, |row, out| {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = weight[i * outputs + row] as f32);
    });
    let dtypes: &[DType] = if B::IN_MAIN_MEMORY { &[DType::F32, DType::F64] } else { &[DType::F32] };
    for &dtype in dtypes {
        let at = &(device, dtype);
        let flat = projected::<B, 2>([sequences * time, inputs], &x, &weight, &packed, &loss, at);
        let deep = projected::<B, 4>([sequences, 1, time, inputs], &x, &weight, &packed, &loss, at);
        let first = [&x[..inputs], &loss[..outputs]];
        let row = projected::<B, 2>([1, inputs], first[0], &weight, &packed, first[1], at);
        let vector = projected::<B, 1>([inputs], first[0], &weight, &packed, first[1], at);
        for (which, (got, want)) in deep.iter().zip(&flat).chain(vector.iter().zip(&row)).enumerate() {
            let name = ["linear", "∂x", "∂W", "packed", "∂x of packed"][which % 5];
            assert_close(&format!("{name} of {} dimensions", if which < 5 { 4 } else { 1 }), got, want, 1e-6);
        }
    }
}

/// Outputs and gradients of `linear` and `packed_linear` at rows of this shape.
fn projected<B: RwkvBackend, const D: usize>(
    shape: [usize; D],
    x: &[f64],
    weight: &[f64],
    packed: &PackedMatrix,
    loss: &[f64],
    at: &(&B::Device, DType),
) -> [Vec<f64>; 5] {
    let [inputs, outputs] = [packed.columns(), packed.rows()];
    let mut out_shape = shape;
    out_shape[D - 1] = outputs;
    let loss = tensor::<Autodiff<B>, D>(loss, out_shape, at);
    let x = tensor::<Autodiff<B>, D>(x, shape, at).require_grad();
    let weight = tensor::<Autodiff<B>, 2>(weight, [inputs, outputs], at).require_grad();
    let [by_parameter, by_packed] = [linear(x.clone(), weight.clone()), packed_linear(x.clone(), packed)];
    assert_eq!([by_parameter.dims(), by_packed.dims()], [out_shape; 2]);
    let of_parameter = (by_parameter.clone() * loss.clone()).sum().backward();
    let of_packed = (by_packed.clone() * loss).sum().backward();
    let gradient = |x: Option<Tensor<B, D>>| values(x.expect("tracked"));
    let to_weight = values(weight.grad(&of_parameter).expect("tracked"));
    [values(by_parameter), gradient(x.grad(&of_parameter)), to_weight, values(by_packed), gradient(x.grad(&of_packed))]
}

/// Products with packed weights against the unpacked ones in f64, and the gradient that arrives at `x`.
fn packed_linear_matches_f64<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    // Few and many rows of x; one output, a whole tile, and more; widths around the kernel's step.
    for [count, width, outputs] in
        [[1, 5, 3], [1, 200, 64], [4, 64, 130], [5, 63, 65], [70, 128, 20], [3, 530, 9], [2, 96, 7]]
    {
        for packing in [Packing::F32, Packing::Bf16, Packing::Bf16Products, Packing::F16, Packing::Int8] {
            let mut rng = StdRng::seed_from_u64(6);
            let weight = random(&mut rng, width * outputs, 1.0);
            let weight = PackedMatrix::pack(packing, outputs, width, |row, out| {
                out.iter_mut().zip(&weight[row * width..]).for_each(|(out, x)| *out = *x as f32);
            });
            let exact: Vec<f64> = weight.unpack().into_iter().map(f64::from).collect();
            let mut inputs = [random(&mut rng, count * width, 2.0)];
            if packing == Packing::Bf16Products {
                inputs[0].iter_mut().for_each(|x| *x = in_bf16(*x)); // which it would do itself
            }
            let loss = random(&mut rng, count * outputs, 1.0);
            let x = tensor::<Autodiff<B>, 2>(&inputs[0], [count, width], at).require_grad();
            let out = packed_linear(x.clone(), &weight);
            let grads = (out.clone() * tensor(&loss, [count, outputs], at)).sum().backward();
            let gradients = vec![values(x.grad(&grads).expect("tracked"))];
            let definition = |inputs: &[Vec<f64>]| -> Vec<f64> {
                let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
                inputs[0].chunks(width).flat_map(|x| exact.chunks(width).map(move |w| dot(x, w))).collect()
            };
            let name = format!("packed_linear {packing:?} {:?}", [count, width, outputs]);
            compare(&name, &inputs, &loss, &definition, (values(out), gradients));
        }
    }
}

fn in_bf16(x: f64) -> f64 {
    burn::tensor::bf16::from_f32(x as f32).to_f64()
}

/// Products of `bf16` round `x` where it has many rows, and not where it has few.
fn products_of_bf16_round_many_rows<B: RwkvBackend>(device: &B::Device) {
    let at = &(device, DType::F32);
    let [width, outputs] = [96, 40];
    let mut rng = StdRng::seed_from_u64(7);
    let numbers = random(&mut rng, width * outputs, 1.0);
    let weight = |packing| {
        PackedMatrix::pack(packing, outputs, width, |row, out| {
            out.iter_mut().zip(&numbers[row * width..]).for_each(|(out, x)| *out = *x as f32);
        })
    };
    for count in [1, 4, 5, 33] {
        let x = random(&mut rng, count * width, 2.0);
        let product =
            |packing, x: &[f64]| values(packed_linear(tensor::<B, 2>(x, [count, width], at), &weight(packing)));
        let got = product(Packing::Bf16Products, &x);
        let rounded: Vec<f64> = x.iter().map(|x| in_bf16(*x)).collect();
        let rounds = count > 4 && B::IN_MAIN_MEMORY;
        let want = product(Packing::Bf16, if rounds { &rounded } else { &x });
        assert_close(&format!("products of bf16, {count} rows"), &got, &want, FORWARD);
        if rounds {
            let exact = product(Packing::Bf16, &x);
            assert!(
                got.iter().zip(&exact).any(|(got, exact)| (got - exact).abs() > 1e-3),
                "{count} rows are not rounded"
            );
        }
    }
}

on_every_backend!(
    linear_matches_f64,
    rows_of_all_dimensions_are_projected,
    packed_linear_matches_f64,
    products_of_bf16_round_many_rows,
);
