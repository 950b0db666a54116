//! Time and memory against length, of a model and of a Transformer of equal size.

use super::{Args, Which, load};
use crate::{Backend, Failure, report};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{Precision, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::provenance::Provenance;
use rwkv_eval::speed::{Curves, OfModel, Options, measure};
use std::path::Path;
use std::process::{Command, Stdio};

/// Measures each model in a process of its own, so that neither finds memory that the other left, and reports both.
pub(super) fn compare(args: &Args, backend: Backend, out: &Path) -> Result<(), Failure> {
    if args.dtype != Precision::F32 {
        return Err(Failure("curves are measured in f32, as the paper's are; leave --dtype out".to_owned()));
    }
    let (own, other) = (args.sizes()?, equal(&args.sizes()?)?);
    let models = [Which::Itself, Which::Transformer].map(child).into_iter().collect::<Result<Vec<_>, _>>()?;
    let settings = vec![
        ("tokens written".to_owned(), args.tokens.to_string()),
        ("repetitions".to_owned(), args.repeats.to_string()),
        ("precision".to_owned(), args.dtype.name().to_owned()),
        ("the model".to_owned(), serde_json::to_string(&own)?),
        ("the Transformer".to_owned(), serde_json::to_string(&other)?),
        (
            "weights".to_owned(),
            if args.model.is_some() { "a file's; the Transformer's random" } else { "random" }.to_owned(),
        ),
        ("seed".to_owned(), args.seed.to_string()),
        ("threads".to_owned(), std::thread::available_parallelism().map_or(1, usize::from).to_string()),
    ];
    let curves = Curves { models, settings, provenance: Provenance::of_this_process(backend.name()) };
    let document = curves.document();
    let written = document.write(out, "speed", &curves)?;
    let text = format!("{}\nthe report is {}", document.summary.join("\n"), written.html.display());
    report::print(args.json, &curves, text)
}

/// This program once more, with the same arguments, for one of the models.
fn child(which: Which) -> Result<OfModel, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--curves-of").arg(which.name());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(Failure(format!("the measurement of the {} ended early; what it said is above", which.name())));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The child's part: its curves on stdout as JSON.
pub(super) fn measure_one<B: RwkvBackend>(args: &Args, which: Which, device: &B::Device) -> Result<(), Failure> {
    let (model, label) = match which {
        Which::Itself => {
            let model = load::<B>(args, device)?;
            let label = if model.config().mixers.are_rwkv4() { "RWKV-4" } else { "the model" };
            (model, label)
        }
        Which::Transformer => {
            let config = args.sizes()?;
            // Only shapes matter.
            let model = Rwkv::new(&equal(&config)?, args.seed, device);
            (super::randomised(model), "Transformer")
        }
    };
    let longest = args.tokens.next_power_of_two();
    let prompts = (0..6).rev().map(|i| longest >> i).filter(|&length| length > 0).collect();
    let options = Options { tokens: args.tokens, prompts, repeats: args.repeats };
    let mut tenths = 0;
    let curves = measure(&model, label, &options, &mut |done, total| {
        if 10 * done / total > tenths {
            tenths = 10 * done / total;
            eprintln!("{label}: {} %", 10 * tenths);
        }
    })?;
    report::print(true, &curves, "")
}

/// A Transformer of as many layers, of the same width and with as many parameters.
fn equal(config: &RwkvConfig) -> Result<RwkvConfig, Failure> {
    let RwkvConfig { vocab_size, n_layer, n_embd, .. } = *config;
    // Pythia's heads have 64 channels; here they have as many or more, in even numbers.
    let heads = (1..=(n_embd / 64).max(1)).rev().find(|heads| n_embd.is_multiple_of(2 * heads)).unwrap_or(1);
    let config = RwkvConfig::gpt_neox(vocab_size, n_layer, n_embd, heads).with_params_near(config.num_params());
    config.validate()?;
    Ok(config)
}
