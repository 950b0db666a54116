//! The initial weights, against reference §3.1 and §2.2.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rwkv_core::checkpoint::schema;
use rwkv_core::config::{PILE_VOCAB, RwkvConfig, WORLD_VOCAB};
use rwkv_core::model::Rwkv;

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().to_vec().expect("f32")
}

#[test]
fn all_twelve_presets_have_the_published_parameter_counts() {
    type Preset = fn(usize) -> RwkvConfig;
    let presets: [(Preset, usize, usize); 6] = [
        (RwkvConfig::rwkv4_169m, 169_342_464, 192_780_288),
        (RwkvConfig::rwkv4_430m, 430_397_440, 461_647_872),
        (RwkvConfig::rwkv4_1b5, 1_515_106_304, 1_577_607_168),
        (RwkvConfig::rwkv4_3b, 2_984_627_200, 3_062_753_280),
        (RwkvConfig::rwkv4_7b, 7_392_649_216, 7_517_650_944),
        (RwkvConfig::rwkv4_14b, 14_148_597_760, 14_304_849_920),
    ];
    for (preset, pile, world) in presets {
        for (vocab, expected) in [(PILE_VOCAB, pile), (WORLD_VOCAB, world)] {
            let config = preset(vocab);
            // 14 B parameters are 57 GB: counting must not allocate them.
            let model = Rwkv::<Flex>::new(&config, 0, &Default::default());
            assert_eq!(model.num_params_lazy(), expected, "{config:?}");
            assert_eq!(config.num_params(), expected, "{config:?}");
            let listed: usize = schema::tensors(&config).values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(listed, expected, "{config:?}");
            assert_eq!(model.config(), config);
        }
    }
}

#[test]
fn parameter_names_are_the_official_ones() {
    let config = RwkvConfig { dim_att: 48, dim_ffn: 80, ..RwkvConfig::new(11, 3, 32) };
    let model = Rwkv::<Flex>::new(&config, 0, &Default::default());
    let mut names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, schema::tensors(&config).into_keys().collect::<Vec<_>>());
}

/// The spot values of reference §3.1: 12 layers of width 768.
#[test]
fn time_parameters_have_the_reference_values() {
    let model = Rwkv::<Flex>::new(&RwkvConfig::new(7, 12, 768), 0, &Default::default());
    let near = |got: f32, want: f32| assert!((got - want).abs() < 2e-6, "{got}, expected {want}");
    let decay = |layer: usize| values(model.blocks[layer].att.rwkv4().expect("RWKV-4").time_decay.val());
    for (h, want) in [(0, -5.0), (1, -4.923_487), (2, -4.875_705), (383, -0.079_918), (766, 2.992_697), (767, 3.0)] {
        near(decay(0)[h], want);
    }
    near(decay(11)[383], -3.005_212);
    near(values(model.blocks[1].att.rwkv4().expect("RWKV-4").time_mix_k.val())[1], 0.002_265);
    near(values(model.blocks[11].att.rwkv4().expect("RWKV-4").time_mix_v.val())[767], 1.299_891);
    near(values(model.blocks[1].att.rwkv4().expect("RWKV-4").time_mix_r.val())[384], 0.727_827);
    near(values(model.blocks[5].ffn.rwkv4().expect("RWKV-4").time_mix_k.val())[0], 0.0);
    let first = values(model.blocks[3].att.rwkv4().expect("RWKV-4").time_first.val());
    for (i, want) in [(0, -1.203_973), (1, -0.703_973), (2, -1.703_973), (3, -1.203_973)] {
        near(first[i], want);
    }
}

#[test]
fn matrices_are_zero_or_orthogonal_with_their_gains() {
    let config = RwkvConfig { dim_att: 48, dim_ffn: 96, ..RwkvConfig::new(80, 2, 32) };
    let model = Rwkv::<Flex>::new(&config, 1, &Default::default());
    let (att, ffn) = (model.blocks[1].att.rwkv4().expect("RWKV-4"), model.blocks[1].ffn.rwkv4().expect("RWKV-4"));
    for zero in [&att.key, &att.receptance, &att.output, &ffn.value, &ffn.receptance] {
        assert!(values(zero.weight().expect("a parameter").val()).iter().all(|&x| x == 0.0));
    }
    // Burn keeps [in, out]; the narrower side is orthonormal up to the gain.
    let check = |name: &str, weight: Tensor<Flex, 2>, gain: f32| {
        let [inputs, out] = weight.dims();
        let gram = if out >= inputs {
            weight.clone().matmul(weight.transpose())
        } else {
            weight.clone().transpose().matmul(weight)
        };
        let n = inputs.min(out);
        let eye = Tensor::<Flex, 2>::eye(n, &Default::default()) * gain.powi(2);
        let error = values((gram - eye).abs().max())[0];
        assert!(error < 1e-5 * gain.powi(2), "{name}: {error}");
    };
    check("att.value", att.value.weight().expect("a parameter").val(), 1.5f32.sqrt());
    check("ffn.key", ffn.key.weight().expect("a parameter").val(), 3.0f32.sqrt());
    check("head", model.head().weight().expect("a parameter").val(), 0.5 * 2.5f32.sqrt());
    let emb = values(model.emb.weight().expect("a parameter").val());
    let largest = emb.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert!(largest <= 1e-4 && largest > 0.9e-4, "{largest}");
}

#[test]
fn an_orthogonal_matrix_wider_than_tall_has_orthonormal_rows() {
    // head [V, C] with V < C has gain 0.5.
    let model = Rwkv::<Flex>::new(&RwkvConfig::new(20, 1, 32), 1, &Default::default());
    let head = model.head().weight().expect("a parameter").val(); // [32, 20]
    let gram = head.clone().transpose().matmul(head);
    let error = values((gram - Tensor::<Flex, 2>::eye(20, &Default::default()) * 0.25).abs().max())[0];
    assert!(error < 1e-6, "{error}");
}

#[test]
fn one_layer_and_one_channel_do_not_divide_by_zero() {
    for config in [RwkvConfig::new(5, 1, 32), RwkvConfig { dim_att: 1, ..RwkvConfig::new(5, 1, 1) }] {
        let model = Rwkv::<Flex>::new(&config, 0, &Default::default());
        let tokens = Tensor::from_data(TensorData::new(vec![1i32, 2, 3], [1, 3]), &Default::default());
        let (logits, _) = model.forward(tokens, model.zero_state(1));
        assert!(values(logits).iter().all(|x| x.is_finite()));
        assert!(values(model.blocks[0].att.rwkv4().expect("RWKV-4").time_decay.val())[0] == -5.0);
    }
}

#[test]
fn the_seed_decides_and_the_order_of_use_does_not() {
    let config = RwkvConfig::new(30, 2, 32);
    let model = |seed| Rwkv::<Flex>::new(&config, seed, &Default::default());
    let (one, two, other) = (model(0), model(0), model(1));
    let head_first = values(one.head().weight().expect("a parameter").val());
    let emb = values(two.emb.weight().expect("a parameter").val());
    assert_eq!(values(two.head().weight().expect("a parameter").val()), head_first);
    assert_eq!(values(one.emb.weight().expect("a parameter").val()), emb);
    assert_ne!(values(other.emb.weight().expect("a parameter").val()), emb);
}

#[test]
fn a_fresh_model_predicts_without_looking_back() {
    // All block outputs start at zero, so the logits depend on the last token alone.
    let model = Rwkv::<Flex>::new(&RwkvConfig::new(30, 3, 32), 0, &Default::default());
    let logits = |tokens: [i32; 3]| {
        let tokens = Tensor::from_data(TensorData::new(tokens.to_vec(), [1, 3]), &Default::default());
        values(model.forward_last(tokens, model.zero_state(1)).0)
    };
    assert_eq!(logits([1, 2, 3]), logits([9, 8, 3]));
    assert_ne!(logits([1, 2, 3]), logits([1, 2, 4]));
}
