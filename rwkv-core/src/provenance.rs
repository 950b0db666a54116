//! Where a result comes from.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// What computed a result, where and when: the part of a run or a report that no setting tells.
///
/// # Example
/// ```
/// use rwkv_core::provenance::Provenance;
/// let provenance = Provenance::of_this_process("flex");
/// assert_eq!((provenance.backend.as_str(), provenance.version.as_str()), ("flex", env!("CARGO_PKG_VERSION")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The library's version.
    pub version: String,
    /// The commit of the checkout that the program ran in, with `+` when files were changed; nothing outside one.
    pub commit: Option<String>,
    /// The backend's name.
    pub backend: String,
    /// The command line.
    pub command: Vec<String>,
    /// When this was made, in seconds since 1970; 0 in files of versions that did not write it.
    #[serde(default)]
    pub unix_time: u64,
}

impl Provenance {
    /// Of this process, on this backend, now.
    #[must_use]
    pub fn of_this_process(backend: &str) -> Self {
        let git = |args: &[&str]| {
            let output = std::process::Command::new("git").args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"]).map(|commit| {
            let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|status| status.is_empty());
            if clean { commit } else { commit + "+" }
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit,
            backend: backend.to_owned(),
            // An argument need not be UTF-8.
            command: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            // A clock before 1970 tells nothing.
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_json_and_older_files_are_read() {
        let provenance = Provenance::of_this_process("flex");
        let json = serde_json::to_string(&provenance).expect("JSON");
        assert_eq!(serde_json::from_str::<Provenance>(&json).expect("itself"), provenance);
        assert!(provenance.unix_time > 1_700_000_000);
        let old = r#"{"version":"0.1.0","commit":null,"backend":"flex","command":["train"]}"#;
        assert_eq!(serde_json::from_str::<Provenance>(old).expect("an older file").unix_time, 0);
    }
}
