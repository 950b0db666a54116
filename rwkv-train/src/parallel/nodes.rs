//! Several processes: a star of TCP connections around the first one.
//!
//! Burn 0.21.0 has operations between processes too, but the second sum of two processes never ends there, and a lost peer
//! leaves the others waiting for ever; so this part is our own.

use super::error::{Error, Result};
use super::rendezvous::{address_error, find, listen, set};
use super::wire::{self, Kind, Number, Surroundings, Trouble};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a farewell may hold up somebody who is ending anyway.
const FAREWELL: Duration = Duration::from_secs(1);

/// One process of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// How many processes there are.
    pub count: usize,
    /// Which of them this is, from 0.
    pub rank: usize,
    /// `HOST:PORT`, where the process of rank 0 listens and all others connect.
    pub rendezvous: String,
}

impl Nodes {
    /// # Errors
    /// [`Error::Nobody`] and [`Error::Rank`].
    pub(super) fn validate(&self) -> Result<()> {
        match (self.count, self.rank) {
            (0, _) => Err(Error::Nobody("node")),
            (count, rank) if rank >= count => Err(Error::Rank { rank, count }),
            _ => Ok(()),
        }
    }
}

/// A process's connections with the others.
pub(super) struct Link {
    nodes: Nodes,
    threads: usize,
    patience: Duration,
    ends: Ends,
    /// How many sums there were: part of the signature of the next.
    sums: u64,
    broken: Option<Error>,
}

enum Ends {
    /// The first process: connections with ranks 1, 2, …
    Centre(Vec<TcpStream>),
    /// Any other: its connection with the first.
    Tip(TcpStream),
}

impl Link {
    /// Meets the other processes.
    pub(super) fn connect(nodes: &Nodes, threads: usize, patience: Duration) -> Result<Self> {
        nodes.validate()?;
        let ends = if nodes.rank == 0 {
            Ends::Centre(listen(nodes, threads, patience)?)
        } else {
            Ends::Tip(find(nodes, threads, patience)?)
        };
        let link = Self { nodes: nodes.clone(), threads, patience, ends, sums: 0, broken: None };
        let (streams, wait) = match &link.ends {
            Ends::Centre(streams) => (streams.as_slice(), patience),
            // The first process may come late by its own patience, and then wait for another that is late.
            Ends::Tip(stream) => (std::slice::from_ref(stream), patience * 2 + FAREWELL),
        };
        for stream in streams {
            set(stream, wait).map_err(|error| address_error(&nodes.rendezvous, &error))?;
        }
        Ok(link)
    }

    /// Replaces the values by their sums over all processes, added in the order of ranks.
    pub(super) fn sum<T: Number>(&mut self, signature: u64, values: &mut [T]) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.sums += 1;
        let signature = signature.wrapping_mul(31).wrapping_add(self.sums);
        let outcome = match &mut self.ends {
            Ends::Centre(_) => self.sum_at_centre(signature, values),
            Ends::Tip(_) => self.sum_at_tip(signature, values),
        };
        outcome.map_err(|error| self.part(error))
    }

    /// Ends the connections, and tells the others why; returns why they ended.
    pub(super) fn part(&mut self, error: Error) -> Error {
        if let Some(earlier) = &self.broken {
            return earlier.clone();
        }
        self.broken = Some(error.clone());
        let streams = match &mut self.ends {
            Ends::Centre(streams) => streams.as_mut_slice(),
            Ends::Tip(stream) => std::slice::from_mut(stream),
        };
        for stream in streams {
            // Best effort: some of them are the reason.
            let _ = stream.set_write_timeout(Some(FAREWELL));
            let _ = wire::write_farewell(stream, &error);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        if let Ends::Centre(streams) = &mut self.ends {
            streams.clear();
        }
        error
    }

    fn sum_at_centre<T: Number>(&mut self, signature: u64, values: &mut [T]) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        for tip in 0..self.nodes.count - 1 {
            let Ends::Centre(streams) = &mut self.ends else { unreachable!("only the first process sums") };
            let stream = &mut streams[tip];
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let received = stream.set_read_timeout(Some(left)).map_err(Trouble::Io).and_then(|()| {
                let header = expect_numbers::<T>(stream, signature, values.len())?;
                stream.set_read_timeout(Some(self.patience))?;
                if let Reply::Numbers = header {
                    wire::read_numbers(stream, values, Number::add)?;
                }
                Ok(header)
            });
            self.judge(received, tip + 1)?;
        }
        for tip in 0..self.nodes.count - 1 {
            let Ends::Centre(streams) = &mut self.ends else { unreachable!("only the first process sums") };
            let sent = wire::write_numbers(&mut streams[tip], signature, values);
            sent.map_err(|error| self.lost(tip + 1, &Trouble::Io(error)))?;
        }
        Ok(())
    }

    fn sum_at_tip<T: Number>(&mut self, signature: u64, values: &mut [T]) -> Result<()> {
        let Ends::Tip(stream) = &mut self.ends else { unreachable!("the first process does not come here") };
        let sent = wire::write_numbers(stream, signature, values);
        // After a failed write, the reason may already wait to be read.
        let received = match sent {
            Ok(()) => expect_numbers::<T>(stream, signature, values.len()),
            Err(error) => {
                let _ = stream.set_read_timeout(Some(FAREWELL));
                match wire::read_header(stream) {
                    Ok(header) if header.kind == Kind::Farewell => Ok(Reply::Farewell(header.length)),
                    _ => Err(Trouble::Io(error)),
                }
            }
        };
        let received = match received {
            Ok(Reply::Numbers) => {
                wire::read_numbers(stream, values, |old, new| *old = new).map(|()| Reply::Numbers).map_err(Trouble::Io)
            }
            other => other,
        };
        self.judge(received, 0)
    }

    /// What a reply from a process means.
    fn judge(&mut self, received: std::result::Result<Reply, Trouble>, from: usize) -> Result<()> {
        let world = self.nodes.count * self.threads;
        match received {
            Ok(Reply::Numbers) => Ok(()),
            Ok(Reply::Other) => Err(Error::Disagree(format!(
                "what to sum, node {from} with node {}: they have different parameters, or one is steps ahead",
                self.nodes.rank
            ))),
            Ok(Reply::Farewell(length)) => {
                let known = Surroundings {
                    address: &self.nodes.rendezvous,
                    nodes: self.nodes.count,
                    world,
                    waited: self.patience,
                };
                let stream = match &mut self.ends {
                    Ends::Centre(streams) => &mut streams[from - 1],
                    Ends::Tip(stream) => stream,
                };
                let error = match wire::read_farewell(stream, length, &known) {
                    Ok(error) => error,
                    Err(trouble) => self.lost(from, &trouble),
                };
                Err(match error {
                    // Whoever did not say more is lost itself.
                    Error::LostPeer { ranks, reason, .. } if ranks.is_empty() => {
                        Error::LostPeer { ranks: self.ranks_of(from).collect(), world, reason }
                    }
                    error => error,
                })
            }
            Err(trouble) => Err(self.lost(from, &trouble)),
        }
    }

    fn ranks_of(&self, node: usize) -> Range<usize> {
        node * self.threads..(node + 1) * self.threads
    }

    fn lost(&self, node: usize, trouble: &Trouble) -> Error {
        Error::LostPeer {
            ranks: self.ranks_of(node).collect(),
            world: self.nodes.count * self.threads,
            reason: format!("node {node}: {trouble}"),
        }
    }
}

enum Reply {
    /// The numbers of the same sum come next.
    Numbers,
    /// Why the other one ends comes next, in so many bytes.
    Farewell(u64),
    /// Another sum, or no sum.
    Other,
}

fn expect_numbers<T: Number>(
    stream: &mut TcpStream,
    signature: u64,
    length: usize,
) -> std::result::Result<Reply, Trouble> {
    let header = wire::read_header(stream)?;
    Ok(match header.kind {
        Kind::Farewell => Reply::Farewell(header.length),
        Kind::Numbers if header.signature == signature && header.length == (length * T::BYTES) as u64 => Reply::Numbers,
        _ => Reply::Other,
    })
}
