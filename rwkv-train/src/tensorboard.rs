//! The rows of metrics as scalars in event files, which TensorBoard shows.
//!
//! An event file is a sequence of records, each an `Event` in protocol buffers' wire format:
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length's bytes | the event | u32 masked CRC-32C of the event
//! ```
//!
//! all little-endian, the mask being `rotate_right(crc, 15) + 0xa282ead8`. An event is `wall_time = 1 (double)`,
//! `step = 2 (int64)` and one of `file_version = 3 (string)`, `summary = 5`, `session_log = 7`. A scalar is a `float`.
//!
//! # Source
//! TensorFlow's `record_writer.h`, `event.proto` and `summary.proto`.

use crate::metrics::Metrics;
use rwkv_core::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "events.out.tfevents.";
/// `SessionLog::START`.
const START: u64 = 1;

/// Writes the rows of a run to an event file in its folder.
///
/// Tags are `train/loss`, `val/loss`, `train/lr`, `train/grad_norm`, `train/tokens_per_second` and `train/mfu`.
///
/// # Example
/// ```
/// use rwkv_train::{metrics::Metrics, tensorboard::EventWriter};
/// let folder = tempfile::tempdir().unwrap();
/// let mut events = EventWriter::create(folder.path(), 0).unwrap();
/// # let row = r#"{"step":10,"loss":2.5,"val_loss":null,"tokens_per_second":900.0,"lr":0.001,"grad_norm":0.7}"#;
/// # let row: Metrics = serde_json::from_str(row).unwrap();
/// events.write(&row).unwrap();
/// assert!(events.path().file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Begins a new event file in `folder`, for a run whose first `done` steps are done.
    ///
    /// The file says so to TensorBoard, which then forgets what earlier files of the folder hold of later steps: a
    /// resumed run writes them again. Its name sorts after theirs.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, done: usize) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut time = newest(folder)?.map_or(now, |newest| now.max(newest.saturating_add(1)));
        let host = gethostname::gethostname().to_string_lossy().replace(['/', '\\'], "-");
        let (file, path) = loop {
            let path = folder.join(format!("{PREFIX}{time:010}.{host}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => time += 1,
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        };
        let mut writer = Self { file, path };
        writer.event(0, |event| bytes(event, 3, b"brain.Event:2"))?;
        writer.event(done + 1, |event| {
            let mut session = Vec::new();
            varint_field(&mut session, 1, START);
            bytes(event, 7, &session);
        })?;
        Ok(writer)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a row, in one write.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, row: &Metrics) -> Result<()> {
        let scalars = [
            ("train/loss", Some(row.loss)),
            ("val/loss", row.val_loss),
            ("val/accuracy", row.val_accuracy),
            ("val/exact", row.val_exact),
            ("train/lr", Some(row.lr)),
            ("train/grad_norm", Some(row.grad_norm)),
            ("train/tokens_per_second", Some(row.tokens_per_second)),
            ("train/mfu", row.mfu),
        ];
        self.event(row.step, |event| {
            let mut summary = Vec::new();
            for (tag, value) in scalars.iter().filter_map(|(tag, value)| Some((tag, (*value)?))) {
                let mut scalar = Vec::new();
                bytes(&mut scalar, 1, tag.as_bytes());
                key(&mut scalar, 2, Wire::Fixed32);
                scalar.extend_from_slice(&(value as f32).to_le_bytes());
                bytes(&mut summary, 1, &scalar);
            }
            bytes(event, 5, &summary);
        })
    }

    fn event(&mut self, step: usize, rest: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let event = event(time.as_secs_f64(), step, rest);
        self.file.write_all(&record(&event)).map_err(Error::io("write", &self.path))
    }
}

/// The time in the name of the folder's newest event file.
fn newest(folder: &Path) -> Result<Option<u64>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let time = |name: std::ffi::OsString| name.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok();
    Ok(entries.filter_map(|entry| time(entry.ok()?.file_name())).max())
}

fn event(wall_time: f64, step: usize, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, Wire::Fixed64);
    event.extend_from_slice(&wall_time.to_le_bytes());
    varint_field(&mut event, 2, step as u64);
    rest(&mut event);
    event
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(payload.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(payload);
    record.extend_from_slice(&masked_crc(payload).to_le_bytes());
    record
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// How a field's value is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn key(out: &mut Vec<u8>, field: u64, wire: Wire) {
    varint(out, (field << 3) | wire as u64);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, Wire::Varint);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, Wire::Bytes);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payloads of a file's records, whose lengths and checksums must be right.
    fn payloads(mut file: &[u8]) -> Vec<Vec<u8>> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let mut payloads = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
            assert_eq!(number(&file[8..12]), masked_crc(&file[..8]));
            let payload = &file[12..12 + length];
            assert_eq!(number(&file[12 + length..16 + length]), masked_crc(payload));
            payloads.push(payload.to_vec());
            file = &file[16 + length..];
        }
        payloads
    }

    fn row(step: usize) -> Metrics {
        serde_json::from_value(serde_json::json!({
            "step": step, "loss": 2.5, "val_loss": 2.75, "tokens_per_second": 900.0, "lr": 0.5, "grad_norm": 0.75, "mfu": 0.25
        }))
        .expect("a row")
    }

    #[test]
    fn checksums_are_those_of_rfc_3720_and_masked() {
        // RFC 3720, B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn a_record_is_what_tensorflow_writes() {
        // The first record of an event file: wall time 1, step 0, version 2.
        let event = event(1.0, 0, |event| bytes(event, 3, b"brain.Event:2"));
        assert_eq!(event, b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x00\x1a\x0dbrain.Event:2");
        let record = record(&event);
        assert_eq!(record[..8], 26u64.to_le_bytes());
        assert_eq!(record.len(), 8 + 4 + 26 + 4);
        assert_eq!(payloads(&record), [event]);
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (value, written) in [(0, &[0u8] as &[u8]), (127, &[127]), (128, &[128, 1]), (300, &[0xac, 2])] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, written);
        }
        let mut out = Vec::new();
        varint(&mut out, u64::MAX);
        assert_eq!(out.len(), 10);
    }

    #[test]
    fn a_file_holds_the_version_the_session_and_the_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = EventWriter::create(folder.path(), 20).expect("created");
        writer.write(&row(30)).expect("written");
        writer.write(&Metrics { val_loss: None, mfu: None, ..row(300) }).expect("written");
        let events = payloads(&std::fs::read(writer.path()).expect("the file"));
        assert_eq!(events.len(), 4);
        let after_time = |i: usize| &events[i][9..];
        assert_eq!(after_time(0), b"\x10\x00\x1a\x0dbrain.Event:2");
        assert_eq!(after_time(1), b"\x10\x15\x3a\x02\x08\x01", "step 21, START");
        assert!(after_time(2).starts_with(b"\x10\x1e\x2a"), "step 30, a summary");
        let loss = b"\x0a\x11\x0a\x0atrain/loss\x15\0\0\x20\x40"; // 2.5
        assert_eq!(after_time(2)[4..][..loss.len()], loss[..], "{:?}", after_time(2));
        let holds = |i: usize, tag: &str| events[i].windows(tag.len()).any(|window| window == tag.as_bytes());
        for tag in ["train/loss", "val/loss", "train/lr", "train/grad_norm", "train/tokens_per_second", "train/mfu"] {
            assert!(holds(2, tag), "{tag}");
            assert_eq!(holds(3, tag), tag != "val/loss" && tag != "train/mfu", "{tag}");
        }
    }

    #[test]
    fn a_resumed_runs_file_sorts_after_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("events.out.tfevents.7999999998.other.host"), []).expect("written");
        let first = EventWriter::create(folder.path(), 0).expect("created");
        let second = EventWriter::create(folder.path(), 5).expect("created");
        let name = |writer: &EventWriter| writer.path().file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name(&first).starts_with("events.out.tfevents.7999999999."), "{}", name(&first));
        assert!(name(&second).starts_with("events.out.tfevents.8000000000."), "{}", name(&second));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let said = EventWriter::create(Path::new("/no/such/folder"), 0).expect_err("no folder").to_string();
        assert!(said.contains("/no/such/folder"), "{said}");
    }
}
