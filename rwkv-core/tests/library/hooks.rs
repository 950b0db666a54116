//! Hooks see every intermediate in both modes, can replace each, and change nothing by being there.

use burn::backend::Flex;
use burn::tensor::{Int, Tensor};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{Capture, NoHook, Rwkv};
use std::collections::BTreeMap;
use std::fmt::Display;

type T3 = Tensor<Flex, 3>;

/// Two layers whose every matrix is alive: a fresh model's blocks add nothing yet.
fn model() -> Rwkv<Flex> {
    use burn::module::{Module, ModuleMapper, Param};
    struct Shake;
    impl ModuleMapper<Flex> for Shake {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<Flex, D>>) -> Param<Tensor<Flex, D>> {
            param.map(|x| {
                let n = x.shape().num_elements();
                let noise = Tensor::<Flex, 1, Int>::arange(0..n as i64, &x.device()).float() * 0.37;
                x.clone() + noise.sin().reshape(x.dims()) * 0.2
            })
        }
    }
    let mut config = RwkvConfig::new(13, 2, 16);
    config.dim_att = 24;
    config.dim_ffn = 40;
    Rwkv::new(&config, 0, &Default::default()).map(&mut Shake)
}

fn tokens() -> Tensor<Flex, 2, Int> {
    Tensor::from_data([[1, 7, 3, 12, 0], [5, 5, 2, 9, 11]], &Default::default())
}

fn all_names() -> Vec<String> {
    let mut names = vec!["emb".to_owned(), "blocks.0.ln0".to_owned(), "ln_out".to_owned(), "head".to_owned()];
    for l in 0..2 {
        names.push(format!("blocks.{l}"));
        let local = [
            "ln1",
            "ln2",
            "att.shift_k",
            "att.shift_v",
            "att.shift_r",
            "att.key",
            "att.value",
            "att.receptance",
            "att.wkv",
            "att.output",
            "att",
            "ffn.shift_k",
            "ffn.shift_r",
            "ffn.key",
            "ffn.receptance",
            "ffn.value",
            "ffn.output",
        ];
        names.extend(local.map(|name| format!("blocks.{l}.{name}")));
    }
    names.sort();
    names
}

/// All intermediates of the pass over [`tokens`].
fn intermediates(model: &Rwkv<Flex>) -> BTreeMap<String, T3> {
    let mut found = BTreeMap::new();
    let mut keep = |name: &dyn Display, x: T3| {
        assert!(found.insert(name.to_string(), x.clone()).is_none(), "{name} arises once");
        x
    };
    model.forward_hooked(tokens(), model.zero_state(2), &mut keep);
    found
}

fn values(x: T3) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[test]
fn every_documented_name_arises_and_no_other() {
    assert_eq!(intermediates(&model()).into_keys().collect::<Vec<_>>(), all_names());
}

#[test]
fn a_hook_that_only_looks_changes_no_bit() {
    let model = model();
    let (plain, _) = model.forward(tokens(), model.zero_state(2));
    let (none, _) = model.forward_hooked(tokens(), model.zero_state(2), &mut NoHook);
    let mut capture = Capture::new(all_names());
    let (looked_at, _) = model.forward_hooked(tokens(), model.zero_state(2), &mut capture);
    assert_eq!(values(plain.clone()), values(none));
    assert_eq!(values(plain.clone()), values(looked_at));
    assert_eq!(values(plain), values(capture.get("head").expect("captured").clone()));
    assert!(capture.get("blocks.7").is_none());
}

#[test]
fn both_modes_show_the_same_intermediates() {
    let model = model();
    let parallel = intermediates(&model);
    let mut state = model.zero_state(2);
    for t in 0..5 {
        let mut capture = Capture::new(all_names());
        let token = tokens().narrow(1, t, 1).squeeze_dim(1);
        state = model.step_hooked(token, state, &mut capture).1;
        for (name, step) in capture.into_found() {
            let difference = (step - parallel[&name].clone().narrow(1, t, 1)).abs().max().into_scalar();
            assert!(difference < 1e-5, "{name} at token {t}: {difference:e}");
        }
    }
}

#[test]
fn replacing_any_intermediate_reaches_the_logits() {
    let model = model();
    let plain = values(model.forward(tokens(), model.zero_state(2)).0);
    for wanted in all_names() {
        // Not zero: the layer norm after `emb` would undo a scale, and a shift alone is undone too.
        let mut bend = |name: &dyn Display, x: T3| if name.to_string() == wanted { x.clone() * x } else { x };
        let bent = values(model.forward_hooked(tokens(), model.zero_state(2), &mut bend).0);
        let difference = plain.iter().zip(&bent).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(difference > 1e-4, "{wanted} changed the logits by {difference:e} only");
    }
}

/// A pass whose residual stream is replaced by another one's at every token goes on as that other one.
#[test]
fn a_transplanted_stream_goes_on_as_where_it_came_from() {
    let model = model();
    let donor = intermediates(&model);
    let other = Tensor::<Flex, 2, Int>::from_data([[2, 2, 2, 2, 2], [0, 1, 0, 1, 0]], &Default::default());
    let mut transplant =
        |name: &dyn Display, x: T3| if name.to_string() == "blocks.0" { donor["blocks.0"].clone() } else { x };
    let (logits, _) = model.forward_hooked(other, model.zero_state(2), &mut transplant);
    assert_eq!(values(logits), values(donor["head"].clone()));
}
