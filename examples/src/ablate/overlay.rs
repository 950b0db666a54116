//! One table of a configuration laid over another.

use toml::{Table, Value};

/// `over` laid over `base`: tables are merged key by key, other values replaced.
///
/// A merged table may be nonsense: two mixers side by side where one is to be chosen. `fits` says whether a whole is sensible;
/// where the merged table is not and `over`'s own is, that replaces.
pub(super) fn overlay(base: &Table, over: &Table, fits: &dyn Fn(&Table) -> bool) -> Table {
    let mut whole = base.clone();
    for (key, value) in over {
        let merged = match (base.get(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => {
                // One change at a time, so that what is wrong elsewhere has no say here.
                let fits = |inner: &Table| {
                    let mut alone = base.clone();
                    alone.insert(key.clone(), Value::Table(inner.clone()));
                    fits(&alone)
                };
                let merged = overlay(old, new, &fits);
                Value::Table(if !fits(&merged) && fits(new) { new.clone() } else { merged })
            }
            (_, value) => value.clone(),
        };
        whole.insert(key.clone(), merged);
    }
    whole
}

/// All keys of a table and of the tables in it, with dots between.
pub(super) fn flat(table: &Table) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                keys.extend(flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            Value::String(text) => keys.push((key.clone(), text.clone())),
            other => keys.push((key.clone(), other.to_string())),
        }
    }
    keys
}
