//! Trains RWKV-4 and a Transformer at several sizes on the same tokens, and compares their losses.

use crate::train::{Jobs, Recipe, set};
use crate::{Backend, Failure, allocator, report, run, with_backend};
use burn::backend::Autodiff;
use clap::{Parser, ValueEnum};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Mixers;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_core::provenance::Provenance;
use rwkv_core::tokenizer::{AnyTokenizer, Tokenizer};
use rwkv_eval::scaling::{Family, OnTheWay, Run, Scaling};
use rwkv_train::config::RunConfig;
use rwkv_train::flops;
use rwkv_train::metrics::Metrics;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// Every held-out window counts.
const ALL: usize = 1 << 40;

/// Trains RWKV-4 and a Transformer of equal size, at several sizes, on the same tokens, and compares their losses.
///
/// Writes scaling.json, .md, .html and charts into --out, and every run into a folder there. What is trained already is not trained
/// again, and a run that was interrupted goes on. The recipe is that of `train` and takes its flags, but for the sizes; without
/// --config the held-out text is looked at ten times, all of it.
#[derive(Parser)]
struct Args {
    /// Layers and widths, from small to large.
    #[arg(long, value_name = "LxC,…", value_delimiter = ',', default_value = "2x64,3x96,4x128,6x192")]
    sizes: Vec<Size>,
    /// How many seeds each, from --seed on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Channels of an attention head; at most the width.
    #[arg(long, value_name = "D", default_value_t = 32)]
    head_size: usize,
    /// What the two have in common at a size: as many parameters, by units of the Transformer's MLP, or all widths.
    #[arg(long, value_enum, default_value_t = Match::Params)]
    r#match: Match,
    /// A key of the configuration for RWKV-4 alone.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set_rwkv: Vec<String>,
    /// A key of the configuration for the Transformer alone.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set_transformer: Vec<String>,
    /// TOML file that describes what the runs have in common; unknown keys are errors.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: Recipe,
    /// Folder for the report and the runs.
    #[arg(long, value_name = "DIR", default_value = "runs/scaling")]
    out: PathBuf,
    /// Backend: flex, ndarray, wgpu or cuda, as far as compiled in.
    #[arg(long)]
    backend: Option<Backend>,
    /// Print the result as JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Match {
    Params,
    Width,
}

/// Layers and width.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size(usize, usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes =
            text.split_once('x').and_then(|(layers, width)| Some(Self(layers.parse().ok()?, width.parse().ok()?)));
        sizes.filter(|size| size.0 > 0 && size.1 > 0).ok_or_else(|| "expected layers and width, as 4x128".to_owned())
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    allocator::for_training();
    let args = Args::parse();
    let backend = Backend::or_default(args.backend);
    run(|| with_backend!(backend, |B, device| scaling::<Autodiff<B>>(&args, backend, &device)))
}

fn scaling<B: RwkvAutodiffBackend>(args: &Args, backend: Backend, device: &B::Device) -> Result<(), Failure> {
    let mut common = args.recipe.config(args.config.as_deref())?;
    let (train, usual) = (&mut common.train, RunConfig::default().train);
    if args.config.is_none() {
        // Ten looks on the way, at all of the held-out text, unless something else is asked for.
        let steps = train.steps;
        let or = |asked: &mut usize, usual: usize, here: usize| *asked = if *asked == usual { here } else { *asked };
        or(&mut train.val_every, usual.val_every, (steps / 10).max(1));
        or(&mut train.val_windows, usual.val_windows, ALL);
        or(&mut train.save_every, usual.save_every, (steps / 4).max(1));
        or(&mut train.keep, usual.keep, 1);
    }
    if let Some(twice) = args.sizes.iter().enumerate().find(|(i, size)| args.sizes[..*i].contains(size)) {
        return Err(Failure(format!("--sizes names {}x{} twice", twice.1.0, twice.1.1)));
    }
    let plans = plans(args, &common)?;
    let jobs = Jobs::new(backend)?;
    let mut runs = Vec::new();
    for (i, plan) in plans.iter().enumerate() {
        let name = format!("{}-{}-seed{}", folder_name(plan.family), plan.size, plan.config.train.seed);
        eprintln!("run {} of {}: {name}", i + 1, plans.len());
        let folder = args.out.join(name);
        let rows = jobs.finish::<B>(&plan.config, &folder, device)?;
        runs.push(result(plan, &folder, &rows)?);
    }
    let provenance = Provenance::of_this_process(backend.name());
    let scaling = Scaling { runs, settings: settings(args, &common)?, provenance };
    let document = scaling.document();
    let written = document.write(&args.out, "scaling", &scaling)?;
    report::print(args.json, &scaling, describe(&scaling, &document.summary[0], &written.html))
}

/// A run to be.
struct Plan {
    family: Family,
    size: String,
    config: RunConfig,
}

fn plans(args: &Args, common: &RunConfig) -> Result<Vec<Plan>, Failure> {
    let mut plans = Vec::new();
    for &Size(n_layer, n_embd) in &args.sizes {
        for family in Family::ALL {
            for seed in common.train.seed..common.train.seed + args.seeds {
                let mut config = common.clone();
                (config.model.n_layer, config.model.n_embd, config.train.seed) = (n_layer, n_embd, seed);
                let own = match family {
                    Family::Rwkv => &args.set_rwkv,
                    Family::Transformer => {
                        let heads = (n_embd / args.head_size.clamp(1, n_embd)).max(1);
                        config.model.mixers = Mixers::gpt_neox(heads);
                        if args.r#match == Match::Params {
                            // The vocabulary counts the same in both.
                            let rwkv = RwkvConfig::new(1, n_layer, n_embd).num_params();
                            let matched = RwkvConfig::gpt_neox(1, n_layer, n_embd, heads).with_params_near(rwkv);
                            config.model.dim_ffn = Some(matched.dim_ffn);
                        }
                        &args.set_transformer
                    }
                };
                for assignment in own {
                    config = set(&config, assignment)?;
                }
                config.validate()?;
                plans.push(Plan { family, size: format!("{n_layer}x{n_embd}"), config });
            }
        }
    }
    Ok(plans)
}

fn folder_name(family: Family) -> &'static str {
    match family {
        Family::Rwkv => "rwkv",
        Family::Transformer => "transformer",
    }
}

/// What a run's folder says.
fn result(plan: &Plan, folder: &Path, rows: &[Metrics]) -> Result<Run, Failure> {
    let tokenizer = folder.join(rwkv_core::checkpoint::TOKENIZER_FILE);
    let vocab_size = match plan.config.model.vocab_size {
        Some(size) => size,
        None => AnyTokenizer::load(&tokenizer)?.vocab_size(),
    };
    let config = plan.config.model_config(vocab_size);
    let per_token = flops::per_token(&config, plan.config.train.ctx_len);
    let on_the_way = rows.iter().filter_map(|row| {
        Some(OnTheWay { tokens: row.tokens, flops: row.tokens as f64 * per_token, loss: row.val_loss? })
    });
    let curve: Vec<OnTheWay> = on_the_way.collect();
    let (Some(last), Some(row)) = (curve.last(), rows.last()) else {
        return Err(Failure(format!("{} has no held-out loss", folder.display())));
    };
    Ok(Run {
        family: plan.family,
        size: plan.size.clone(),
        seed: plan.config.train.seed,
        params: config.num_params(),
        params_of_blocks: config.num_params() - 2 * config.vocab_size * config.n_embd,
        tokens: last.tokens,
        flops: last.flops,
        loss: last.loss,
        seconds: row.seconds.unwrap_or(f64::NAN),
        curve,
    })
}

/// What the runs have in common, key by key, and what is set for one family alone.
fn settings(args: &Args, common: &RunConfig) -> Result<Vec<(String, String)>, Failure> {
    let whole: toml::Table = toml::from_str(&common.to_toml())?;
    let mut settings = vec![
        ("equal at a size".to_owned(), if args.r#match == Match::Params { "parameters" } else { "widths" }.to_owned()),
        ("channels of a head".to_owned(), args.head_size.to_string()),
        ("seeds".to_owned(), args.seeds.to_string()),
        ("tokens of a run".to_owned(), common.tokens_before(common.train.steps, 1).to_string()),
    ];
    for (name, own) in [("RWKV-4 alone", &args.set_rwkv), ("Transformer alone", &args.set_transformer)] {
        if !own.is_empty() {
            settings.push((name.to_owned(), own.join(", ")));
        }
    }
    for section in ["data", "train"] {
        let keys = whole.get(section).and_then(toml::Value::as_table).into_iter().flatten();
        settings.extend(keys.map(|(key, value)| (format!("{section}.{key}"), value.to_string())));
    }
    Ok(settings)
}

fn describe(scaling: &Scaling, verdict: &str, html: &Path) -> String {
    let mut text = String::new();
    for group in scaling.groups() {
        let error = group.stderr.map_or_else(String::new, |error| format!(" ± {error:.4}"));
        let _ = writeln!(
            text,
            "{:<12} {:>7} {:>12} parameters  loss {:.4}{error}  {:.1} min",
            group.family.name(),
            group.size,
            group.params,
            group.loss,
            group.seconds / 60.0
        );
    }
    text + verdict + &format!("\nthe report is {}", html.display())
}
