//! Other mixers in the shell: against transformers, in both modes, and with several texts in a row.

use crate::support::fixture::Fixture;
use crate::support::{assert_close, through_softmax, values};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor, TensorData};
use rwkv_core::checkpoint;
use rwkv_core::config::RwkvConfig;
use rwkv_core::loss::token_nll;
use rwkv_core::model::{
    AttentionSettings, ChannelMixerKind, Mixers, MlpSettings, NoHook, Precision, Restarts, Rwkv, SequenceMixerKind,
};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;

fn transformer<B: RwkvBackend>(device: &B::Device) -> Rwkv<B> {
    checkpoint::load(&Fixture::path("gpt_neox"), device).expect("the fixture loads")
}

fn ids<B: RwkvBackend>(tokens: &[i64], batch: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(tokens.to_vec(), [batch, tokens.len() / batch]), device)
}

fn tokens() -> Vec<i64> {
    Fixture::open("gpt_neox_expected").values("tokens").into_iter().map(|token| token as i64).collect()
}

/// Logits, loss and every gradient of a `GPTNeoXForCausalLM`.
fn the_transformer_is_gpt_neox<B: RwkvBackend>(device: &B::Device) {
    let fixture = Fixture::open("gpt_neox_expected");
    let model = transformer::<Autodiff<B>>(device);
    assert_eq!(model.config().mixers, Mixers::gpt_neox(2));
    let all = ids::<Autodiff<B>>(&tokens(), 2, device);
    let (logits, _) = model.forward(all.clone(), model.zero_state(2));
    assert_close("logits", &values(logits.clone()), &fixture.values("logits"), 2e-5);
    let (inputs, targets) = (logits.narrow(1, 0, 22), all.narrow(1, 1, 22));
    let loss = token_nll(inputs, targets).mean();
    assert_close("loss", &values(loss.clone()), &fixture.values("loss"), 1e-5);
    let grads = loss.backward();
    struct Gradients<'a, B: RwkvBackend> {
        names: Vec<(String, ParamId)>,
        grads: &'a <Autodiff<B> as AutodiffBackend>::Gradients,
        found: Vec<(String, Vec<f64>, Vec<usize>)>,
    }
    impl<B: RwkvBackend> ModuleVisitor<Autodiff<B>> for Gradients<'_, B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
            let name = self.names.iter().find(|(_, id)| *id == param.id).expect("named").0.clone();
            let grad = param.val().grad(self.grads).expect("tracked");
            self.found.push((name, values(grad.clone()), grad.dims().to_vec()));
        }
    }
    let mut gradients = Gradients::<B> { names: model.named_parameters(), grads: &grads, found: Vec::new() };
    model.visit(&mut gradients);
    assert_eq!(gradients.found.len(), 4 + 3 * 16);
    for (name, got, shape) in gradients.found {
        let want = fixture.values(&format!("grad.{name}"));
        // Matrices are [out, in] there and [in, out] here.
        let want = match shape[..] {
            [inputs, out] if name != "emb.weight" => {
                (0..inputs).flat_map(|i| (0..out).map(move |o| (i, o))).map(|(i, o)| want[o * inputs + i]).collect()
            }
            _ => want,
        };
        assert_close(&name, &got, &want, through_softmax::<B>(device));
    }
}

/// Token by token, and in pieces, as in one pass; also for two sequences of different lengths that go on as one batch.
fn a_cache_of_keys_goes_on_where_it_stopped<B: RwkvBackend>(device: &B::Device) {
    let model = transformer::<B>(device);
    let tokens = tokens();
    let (whole, _) = model.forward(ids(&tokens, 2, device), model.zero_state(2));
    let whole = values(whole);
    for pieces in [vec![1; 23], vec![7, 1, 15], vec![22, 1]] {
        let (mut state, mut at, mut got) = (model.zero_state(2), 0, Vec::new());
        for length in pieces {
            let (logits, next) = model.forward(ids(&tokens, 2, device).narrow(1, at, length), state);
            got.push(logits);
            (state, at) = (next, at + length);
        }
        assert_close("pieces", &values(Tensor::cat(got, 1)), &whole, 2e-5);
        assert_eq!(state.layers[0].memory.dims(), [2, 24, 65]);
    }
    // The first sequence after 9 tokens, the second after 4, each twice; one of the copies is dropped again.
    let after = |row: usize, length: usize| {
        let row = ids::<B>(&tokens[23 * row..23 * row + length], 1, device);
        model.forward(row, model.zero_state(1)).1
    };
    let batch = State::cat(vec![after(0, 9), after(1, 4), after(1, 4)]).select(&[2, 0]);
    let next = [&tokens[23 + 4..23 + 9], &tokens[9..14]].concat();
    let (logits, state) = model.forward(ids(&next, 2, device), batch);
    let (_, late) = model.step(Tensor::from_data([1, 1], device), state);
    assert_eq!(late.layers[2].memory.dims(), [2, 16, 65]);
    let row = |row: usize, from: usize| whole[(23 * row + from) * 37..(23 * row + from + 5) * 37].to_vec();
    assert_close("rows of different lengths", &values(logits), &[row(1, 4), row(0, 9)].concat(), 2e-5);
}

/// Texts side by side in a row do not see each other.
fn texts_in_a_row_are_apart<B: RwkvBackend>(device: &B::Device) {
    let model = transformer::<B>(device);
    let tokens = tokens();
    let before = model.forward(ids(&[3, 1, 4, 1], 2, device), model.zero_state(2)).1;
    let restarts = Restarts::new(&[(5, 0), (11, 0), (11, 1), (0, 1)], 2, model.zero_state(1));
    let (x, after) = model.hidden(ids(&tokens, 2, device), before.clone(), Some(&restarts), &mut NoHook);
    let alone = |row: usize, from: usize, to: usize, state: State<B>| {
        let part = ids::<B>(&tokens[23 * row + from..23 * row + to], 1, device);
        values(model.hidden(part, state, None, &mut NoHook).0)
    };
    let empty = || model.zero_state(1);
    let want = [
        alone(0, 0, 5, before.select(&[0])),
        alone(0, 5, 11, empty()),
        alone(0, 11, 23, empty()),
        alone(1, 0, 11, empty()),
        alone(1, 11, 23, empty()),
    ];
    assert_close("texts", &values(x), &want.concat(), 2e-5);
    // Nor do those that come after them.
    let next = |state: State<B>| values(model.step(Tensor::from_data([8], device), state).0);
    let last = ids::<B>(&tokens[11..23], 1, device);
    let want = next(model.forward(last, empty()).1);
    assert_close("after the texts", &next(after.select(&[0])), &want, 2e-5);
}

/// Attention between RWKV's other parts, and RWKV's time-mix with an MLP: both modes agree, and every part learns.
fn parts_can_be_mixed<B: RwkvBackend>(device: &B::Device) {
    let attention = SequenceMixerKind::Attention(AttentionSettings { n_head: 4 });
    for mixers in [
        Mixers { sequence: attention, ..Mixers::default() },
        Mixers { channel: ChannelMixerKind::Mlp(MlpSettings {}), ..Mixers::default() },
        Mixers { sequence: attention, channel: ChannelMixerKind::Mlp(MlpSettings {}), ..Mixers::default() },
    ] {
        let config = RwkvConfig { dim_att: 32, dim_ffn: 40, mixers, ..RwkvConfig::new(13, 2, 24) };
        let model = Rwkv::<B>::new(&config, 3, device);
        assert_eq!((model.num_params_lazy(), model.config().mixers), (config.num_params(), mixers));
        let tokens = ids::<B>(&[1, 5, 12, 0, 3, 7, 7, 2], 2, device);
        let (whole, _) = model.forward(tokens.clone(), model.zero_state(2));
        let (first, state) = model.forward(tokens.clone().narrow(1, 0, 3), model.zero_state(2));
        let (last, _) = model.step(tokens.narrow(1, 3, 1).reshape([2]), state);
        let pieces = Tensor::cat(vec![first, last.unsqueeze_dim(1)], 1);
        assert_close("modes", &values(pieces), &values(whole), 1e-5);
    }
}

/// A file says which mixers its model has; a state of a Transformer goes to a file and back.
fn files_know_their_mixers<B: RwkvBackend>(device: &B::Device) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = transformer::<B>(device);
    let path = folder.path().join("copy.safetensors");
    checkpoint::save(&model, &path).expect("written");
    let copy: Rwkv<B> = checkpoint::load(&path, device).expect("read");
    assert_eq!((copy.fingerprint(), copy.config()), (model.fingerprint(), model.config()));
    let tokens = ids::<B>(&tokens()[..9], 1, device);
    let (expected, state) = model.forward(tokens.clone(), model.zero_state(1));
    let file = folder.path().join("state.safetensors");
    state.save(&file, &model.fingerprint()).expect("written");
    let back = State::<B>::load(&file, &model.fingerprint(), device).expect("read");
    let go_on = |state: State<B>| values(model.step(Tensor::from_data([5], device), state).0);
    assert_eq!(go_on(back), go_on(state.clone()));
    assert!(state.to_official(rwkv_core::state::StateLayout::ChatRwkv).is_err());
    let packed: Rwkv<B> = checkpoint::load_in(&path, Precision::F32, device).expect("runs");
    assert_close("to run", &values(packed.forward(tokens, packed.zero_state(1)).0), &values(expected), 1e-5);
    // Another number of heads is another model of the same shapes, and what does not fit is refused.
    let bytes = std::fs::read(&path).expect("there");
    let with = |old: &[u8], new: &[u8]| {
        assert_eq!(old.len(), new.len());
        let at = bytes.windows(old.len()).position(|window| window == old).expect("in the header");
        let changed = [&bytes[..at], new, &bytes[at + old.len()..]].concat();
        checkpoint::Checkpoint::from_bytes("changed".as_ref(), changed)
    };
    let other = with(b"n_head\\\":2", b"n_head\\\":4").expect("also a model").model::<B>(device).expect("read");
    assert_ne!(other.fingerprint().to_string(), model.fingerprint().to_string());
    assert_eq!(with(b"n_head\\\":2", b"n_head\\\":4").expect("also a model").config().mixers, Mixers::gpt_neox(4));
    for (old, new, word) in [
        (&b"n_head\\\":2"[..], &b"n_head\\\":7"[..], "n_head"),
        (b"\\\"mlp\\\"", b"\\\"mla\\\"", "does not know"),
        (b"n_layer\\\":3", b"n_layer\\\":4", "blocks.3"),
    ] {
        let said = with(old, new).expect_err("refused").to_string();
        assert!(said.contains(word), "{said}");
    }
}

/// Memories of different lengths are only padded where they grow.
fn a_state_of_rwkv_stays_small<B: RwkvBackend>(device: &B::Device) {
    let bytes = |config: &RwkvConfig| {
        let model = Rwkv::<B>::new(config, 0, device);
        [1, 30].map(|length| model.read(ids(&vec![1; length], 1, device), model.zero_state(1)).size_bytes())
    };
    let [short, long] = bytes(&RwkvConfig::new(9, 2, 16));
    assert_eq!((short, long), (4 * 2 * 5 * 16, 4 * 2 * 5 * 16));
    let [short, long] = bytes(&RwkvConfig::gpt_neox(9, 2, 16, 2));
    assert_eq!(long - short, 29 * 2 * 4 * (2 * 16 + 1));
}

on_every_backend!(
    the_transformer_is_gpt_neox,
    a_cache_of_keys_goes_on_where_it_stopped,
    texts_in_a_row_are_apart,
    parts_can_be_mixed,
    files_know_their_mixers,
    a_state_of_rwkv_stays_small,
);
