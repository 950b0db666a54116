//! The two namings of an RWKV-4's tensors: the official one, and that of Hugging Face's `RwkvForCausalLM`.
//!
//! | official | Hugging Face |
//! |---|---|
//! | `emb.` | `rwkv.embeddings.` |
//! | `blocks.0.ln0.` | `rwkv.blocks.0.pre_ln.` |
//! | `blocks.N.att.` | `rwkv.blocks.N.attention.` |
//! | `blocks.N.ffn.` | `rwkv.blocks.N.feed_forward.` |
//! | `time_mix_k`, `_v`, `_r` | `time_mix_key`, `_value`, `_receptance` |
//! | `ln_out.` | `rwkv.ln_out.` |
//! | `head.weight` | `head.weight` |
//!
//! # Source
//! `convert_rwkv_checkpoint_to_hf.py` of the package `transformers`.

/// What Hugging Face puts before every name but the head's.
const PREFIX: &str = "rwkv.";
/// What the wrapper of DeepSpeed puts before every name.
const WRAPPER: &str = "_forward_module.";

/// Parts of a name, officially and in Hugging Face's naming.
const PARTS: [(&str, &str); 7] = [
    ("emb", "embeddings"),
    ("ln0", "pre_ln"),
    ("att", "attention"),
    ("ffn", "feed_forward"),
    ("time_mix_k", "time_mix_key"),
    ("time_mix_v", "time_mix_value"),
    ("time_mix_r", "time_mix_receptance"),
];

/// Turns a file's names into official ones: the wrapper's prefix goes, and Hugging Face's naming, if the file has it.
pub(super) fn make_official<'a>(names: impl Iterator<Item = &'a mut String>) {
    let names: Vec<&mut String> = names
        .map(|name| {
            if let Some(rest) = name.strip_prefix(WRAPPER) {
                *name = rest.to_owned();
            }
            name
        })
        .collect();
    if names.iter().any(|name| name.starts_with(PREFIX)) {
        for name in names {
            let local = name.strip_prefix(PREFIX).unwrap_or(name);
            *name = rename(local, |part| PARTS.iter().find(|(_, other)| *other == part).map(|(official, _)| *official));
        }
    }
}

/// The name in Hugging Face's naming.
pub(super) fn hugging_face(official: &str) -> String {
    if official.starts_with("head.") {
        return official.to_owned();
    }
    let local = rename(official, |part| PARTS.iter().find(|(name, _)| *name == part).map(|(_, other)| *other));
    PREFIX.to_owned() + &local
}

fn rename(name: &str, new: impl Fn(&str) -> Option<&'static str>) -> String {
    name.split('.').map(|part| new(part).unwrap_or(part)).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::schema;
    use crate::config::RwkvConfig;

    #[test]
    fn every_name_goes_to_hugging_face_and_back() {
        let official: Vec<String> = schema::tensors(&RwkvConfig::new(5, 2, 4)).into_keys().collect();
        let mut names: Vec<String> = official.iter().map(|name| hugging_face(name)).collect();
        assert!(names.contains(&"rwkv.blocks.1.attention.time_mix_receptance".to_owned()));
        assert!(names.contains(&"rwkv.blocks.0.pre_ln.bias".to_owned()) && names.contains(&"head.weight".to_owned()));
        make_official(names.iter_mut());
        assert_eq!(names, official);
    }

    #[test]
    fn the_wrappers_prefix_goes_and_official_names_stay() {
        let mut names = ["_forward_module.emb.weight".to_owned(), "blocks.0.att.time_mix_k".to_owned()];
        make_official(names.iter_mut());
        assert_eq!(names, ["emb.weight", "blocks.0.att.time_mix_k"]);
    }
}
