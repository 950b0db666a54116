//! What processes say to each other over TCP: frames of a fixed header and a payload whose length the reader knows.

use super::error::Error;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};

/// Tells a stranger's connection from a worker's.
const MAGIC: [u8; 4] = *b"rwdp";
const VERSION: u32 = 1;
const HEADER: usize = 24;
/// The longest farewell that is read.
const MAX_FAREWELL: u64 = 1 << 16;
/// How many bytes are decoded at a time.
const CHUNK: usize = 1 << 18;

/// A number that travels.
pub(super) trait Number: Copy {
    const BYTES: usize;
    fn write(self, bytes: &mut [u8]);
    fn read(bytes: &[u8]) -> Self;
    fn add(&mut self, other: Self);
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            const BYTES: usize = size_of::<$type>();
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("chunks have the number's size"))
            }
            fn add(&mut self, other: Self) {
                *self += other;
            }
        }
    };
}
number!(f32);
number!(f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Welcome,
    Numbers,
    Farewell,
}

/// What stands before every payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// What is being summed, so that two different sums never meet.
    pub(super) signature: u64,
    pub(super) length: u64,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) count: u32,
    pub(super) rank: u32,
    pub(super) threads: u32,
}

impl Hello {
    pub(super) fn new(count: usize, rank: usize, threads: usize) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { version: VERSION, count: small(count), rank: small(rank), threads: small(threads) }
    }
}

/// Why somebody leaves, in the form that travels.
#[derive(Debug, Serialize, Deserialize)]
enum Farewell {
    Lost { ranks: Vec<usize>, reason: String },
    NeverCame { came: usize, missing: Vec<usize> },
    Refused(String),
    Disagree(String),
}

/// Why nothing could be read or written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection.
    Io(std::io::Error),
    /// What came is no frame.
    Stranger,
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stranger => write!(f, "it sent something unintelligible"),
            Self::Io(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => write!(f, "it was silent for too long"),
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe => write!(f, "it closed the connection"),
                _ => write!(f, "{error}"),
            },
        }
    }
}

fn write_header(to: &mut impl Write, kind: Kind, signature: u64, length: u64) -> std::io::Result<()> {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = kind as u8;
    bytes[8..16].copy_from_slice(&signature.to_le_bytes());
    bytes[16..].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)
}

pub(super) fn read_header(from: &mut impl Read) -> Result<Header, Trouble> {
    let mut bytes = [0; HEADER];
    from.read_exact(&mut bytes)?;
    let kinds = [Kind::Hello, Kind::Welcome, Kind::Numbers, Kind::Farewell];
    let kind = kinds.into_iter().find(|kind| *kind as u8 == bytes[4]);
    let (Some(kind), true) = (kind, bytes[..4] == MAGIC) else {
        return Err(Trouble::Stranger);
    };
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Ok(Header { kind, signature: word(8), length: word(16) })
}

pub(super) fn write_hello(to: &mut impl Write, hello: Hello) -> std::io::Result<()> {
    let mut bytes = [0; 16];
    for (bytes, number) in bytes.chunks_exact_mut(4).zip([hello.version, hello.count, hello.rank, hello.threads]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    write_header(to, Kind::Hello, 0, bytes.len() as u64)?;
    to.write_all(&bytes)
}

pub(super) fn read_hello(from: &mut impl Read) -> Result<Hello, Trouble> {
    let header = read_header(from)?;
    let mut bytes = [0; 16];
    if header.kind != Kind::Hello || header.length != bytes.len() as u64 {
        return Err(Trouble::Stranger);
    }
    from.read_exact(&mut bytes)?;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    Ok(Hello { version: word(0), count: word(4), rank: word(8), threads: word(12) })
}

pub(super) fn write_welcome(to: &mut impl Write) -> std::io::Result<()> {
    write_header(to, Kind::Welcome, 0, 0)
}

pub(super) fn write_numbers<T: Number>(to: &mut impl Write, signature: u64, numbers: &[T]) -> std::io::Result<()> {
    write_header(to, Kind::Numbers, signature, (numbers.len() * T::BYTES) as u64)?;
    let mut buffer = Vec::with_capacity(CHUNK);
    for numbers in numbers.chunks(CHUNK / T::BYTES) {
        buffer.resize(numbers.len() * T::BYTES, 0);
        for (bytes, number) in buffer.chunks_exact_mut(T::BYTES).zip(numbers) {
            number.write(bytes);
        }
        to.write_all(&buffer)?;
    }
    Ok(())
}

/// Reads as many numbers as there are, and hands each with its new value to `merge`.
pub(super) fn read_numbers<T: Number>(
    from: &mut impl Read,
    numbers: &mut [T],
    merge: impl Fn(&mut T, T),
) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    for numbers in numbers.chunks_mut(CHUNK / T::BYTES) {
        buffer.resize(numbers.len() * T::BYTES, 0);
        from.read_exact(&mut buffer)?;
        for (bytes, number) in buffer.chunks_exact(T::BYTES).zip(numbers) {
            merge(number, T::read(bytes));
        }
    }
    Ok(())
}

pub(super) fn write_farewell(to: &mut impl Write, error: &Error) -> std::io::Result<()> {
    let farewell = match error {
        Error::LostPeer { ranks, reason, .. } => Farewell::Lost { ranks: ranks.clone(), reason: reason.clone() },
        Error::NeverCame { came, missing, .. } => Farewell::NeverCame { came: *came, missing: missing.clone() },
        Error::Refused { problem, .. } => Farewell::Refused(problem.clone()),
        Error::Disagree(what) => Farewell::Disagree(what.clone()),
        other => Farewell::Lost { ranks: Vec::new(), reason: other.to_string() },
    };
    let bytes = serde_json::to_vec(&farewell).map_err(std::io::Error::other)?;
    write_header(to, Kind::Farewell, 0, bytes.len() as u64)?;
    to.write_all(&bytes)
}

/// What a reader of farewells knows itself.
pub(super) struct Surroundings<'a> {
    pub(super) address: &'a str,
    pub(super) nodes: usize,
    pub(super) world: usize,
    pub(super) waited: std::time::Duration,
}

/// The error that another process ended with.
pub(super) fn read_farewell(from: &mut impl Read, length: u64, known: &Surroundings<'_>) -> Result<Error, Trouble> {
    if length > MAX_FAREWELL {
        return Err(Trouble::Stranger);
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    let address = known.address.to_owned();
    Ok(match serde_json::from_slice(&bytes).map_err(|_| Trouble::Stranger)? {
        Farewell::Lost { ranks, reason } => Error::LostPeer { ranks, world: known.world, reason },
        Farewell::NeverCame { came, missing } => {
            Error::NeverCame { address, expected: known.nodes, came, missing, waited: known.waited }
        }
        Farewell::Refused(problem) => Error::Refused { address, problem },
        Farewell::Disagree(what) => Error::Disagree(what),
    })
}
