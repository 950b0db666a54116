//! Models that are not RWKV-4 but look like it: each gives itself away by a tensor.

use crate::error::Error;
use std::path::Path;

const READS_RWKV_4: &str = "this library reads plain RWKV-4";

/// Parts of tensors' names, and what has them; later generations keep the marks of earlier ones, so they come first.
const MARKS: [(&str, &str); 17] = [
    (".att.r_k", "an RWKV-7 model"),
    (".att.w0", "an RWKV-7 model"),
    (".att.time_maa_", "an RWKV-6 model"),
    (".att.gate.", "an RWKV-5.2 model"),
    (".att.ln_x.", "an RWKV-5 model"),
    (".tiny_", "an RWKV-4a model, which has a tiny attention beside a block"),
    (".att.qq.", "an RWKV-4b model, whose time-mix has attention beside it"),
    (".att.kk.", "an RWKV-4b model, whose time-mix has attention beside it"),
    (".att.vv.", "an RWKV-4b model, whose time-mix has attention beside it"),
    (".att.oo.", "an RWKV-4b model, whose time-mix has attention beside it"),
    (".att.att_mask", "an RWKV-4b model, whose time-mix has attention beside it"),
    (".ffnPre.", "an RWKV-4 variant with a channel-mix in the place of the first time-mix"),
    (".ffn.aa.", "an RWKV-4 variant with gated channel-mixes"),
    ("head_q.", "an RWKV-4 variant whose head looks back at the tokens"),
    ("copy_mask", "an RWKV-4 variant whose head looks back at the tokens"),
    ("pos_emb_", "an RWKV-4 variant for images"),
    ("lora_", "LoRA adapters without, or beside, their model"),
];

/// The refusal of a file with these official names, if they are not an RWKV's or one of them belongs to another model.
pub(super) fn refusal<'a>(path: &Path, mut names: impl Iterator<Item = &'a str> + Clone) -> Option<Error> {
    if !names.clone().any(|name| name == "emb.weight" || name.starts_with("blocks.") || name.contains("lora_")) {
        let problem = match names.next() {
            Some(first) => format!("holds no RWKV model: its tensors are called {}, …", first.escape_debug()),
            None => "holds no tensors".to_owned(),
        };
        return Some(Error::format(path, problem));
    }
    MARKS.iter().find_map(|(mark, found)| {
        let name = names.clone().find(|name| name.contains(mark))?;
        Some(Error::OtherModel {
            path: path.to_path_buf(),
            found,
            evidence: format!("its tensor {}", name.escape_debug()),
            remedy: READS_RWKV_4,
        })
    })
}

/// The refusal of a file with an entry that is no tensor, if that tells where it comes from.
pub(super) fn refusal_of_entry(path: &Path, entry: &str) -> Option<Error> {
    ["_strategy", "_version", "_rescale_layer"].contains(&entry).then(|| Error::OtherModel {
        path: path.to_path_buf(),
        found: "a model that the Python package rwkv has converted for itself",
        evidence: format!("its entry {entry}"),
        remedy: "its matrices are transposed and rescaled, so use the file from which it was converted",
    })
}
