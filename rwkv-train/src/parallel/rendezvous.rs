//! How processes find each other: the first listens, the others knock until it answers.

use super::error::{Error, Result};
use super::nodes::Nodes;
use super::wire::{self, Hello, Kind, Surroundings, Trouble};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a new connection may take to say who it is: only strangers need longer.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// The pause between two looks at something that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);

/// The first process's part of the rendezvous: connections with ranks 1, 2, …
pub(super) fn listen(nodes: &Nodes, threads: usize, patience: Duration) -> Result<Vec<TcpStream>> {
    let address = &nodes.rendezvous;
    let failed = |error: std::io::Error| address_error(address, &error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let deadline = Instant::now() + patience;
    let own = Hello::new(nodes.count, 0, threads);
    let mut came: Vec<Option<TcpStream>> = (1..nodes.count).map(|_| None).collect();
    let turn_away = |came: Vec<Option<TcpStream>>, error: Error| {
        for mut stream in came.into_iter().flatten() {
            let _ = wire::write_farewell(&mut stream, &error);
        }
        error
    };
    while came.iter().any(Option::is_none) {
        if Instant::now() >= deadline {
            let missing: Vec<usize> = (1..nodes.count).filter(|rank| came[rank - 1].is_none()).collect();
            let (address, expected) = (address.clone(), nodes.count);
            let error =
                Error::NeverCame { address, expected, came: expected - missing.len(), missing, waited: patience };
            return Err(turn_away(came, error));
        }
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // A connection that broke before it was accepted is nobody yet.
            Err(_) => {
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let Ok(hello) = set(&stream, INTRODUCTION).map_err(Trouble::Io).and_then(|()| wire::read_hello(&mut stream))
        else {
            continue;
        };
        let rank = hello.rank as usize;
        let problem = if (Hello { rank: 0, ..hello }) != own {
            Some(format!(
                "node {rank} wants {} nodes of {} workers, node 0 wants {} of {} (protocols {} and {})",
                hello.count, hello.threads, own.count, own.threads, hello.version, own.version
            ))
        } else if rank == 0 || rank >= nodes.count || came[rank - 1].is_some() {
            Some(format!("two processes say that they are node {rank}"))
        } else {
            None
        };
        match problem {
            None => came[rank - 1] = Some(stream),
            Some(problem) => {
                came.push(Some(stream));
                return Err(turn_away(came, Error::Refused { address: address.clone(), problem }));
            }
        }
    }
    let mut streams: Vec<TcpStream> = came.into_iter().flatten().collect();
    for stream in &mut streams {
        // Whoever left in the meantime is found missing at the first sum.
        let _ = wire::write_welcome(stream);
    }
    Ok(streams)
}

/// Any other process's part of the rendezvous: a connection with the first.
pub(super) fn find(nodes: &Nodes, threads: usize, patience: Duration) -> Result<TcpStream> {
    let address = &nodes.rendezvous;
    let started = Instant::now();
    let mut problem = None;
    while started.elapsed() < patience {
        match knock(nodes, threads, patience) {
            Ok(Some(stream)) => return Ok(stream),
            Ok(None) => {}
            Err(Knock::Refused(error)) => return Err(error),
            Err(Knock::Unusable(error)) => problem = Some(error),
        }
        std::thread::sleep(PAUSE);
    }
    // An address that never could be used is another mistake than a process that was not started.
    if let Some(error) = problem {
        return Err(address_error(address, &error));
    }
    let (address, expected) = (address.clone(), nodes.count);
    Err(Error::NeverCame { address, expected, came: 1, missing: vec![0], waited: patience })
}

enum Knock {
    /// The first process said no.
    Refused(Error),
    /// The address names no place.
    Unusable(std::io::Error),
}

/// One try: `None` when nobody is there yet.
fn knock(nodes: &Nodes, threads: usize, patience: Duration) -> std::result::Result<Option<TcpStream>, Knock> {
    let places = nodes.rendezvous.to_socket_addrs().map_err(Knock::Unusable)?;
    let Some(mut stream) = places.into_iter().find_map(|place| TcpStream::connect_timeout(&place, INTRODUCTION).ok())
    else {
        return Ok(None);
    };
    let hello = Hello::new(nodes.count, nodes.rank, threads);
    // The first process waits for the others as long as this one does, and then says who is missing.
    let wait = patience + INTRODUCTION;
    let answer = set(&stream, wait)
        .and_then(|()| wire::write_hello(&mut stream, hello))
        .map_err(Trouble::Io)
        .and_then(|()| wire::read_header(&mut stream));
    let known =
        Surroundings { address: &nodes.rendezvous, nodes: nodes.count, world: nodes.count * threads, waited: patience };
    match answer {
        Ok(header) if header.kind == Kind::Welcome => Ok(Some(stream)),
        Ok(header) if header.kind == Kind::Farewell => match wire::read_farewell(&mut stream, header.length, &known) {
            Ok(error) => Err(Knock::Refused(error)),
            Err(_) => Ok(None),
        },
        Ok(_) | Err(Trouble::Stranger) => Err(Knock::Refused(Error::Refused {
            address: nodes.rendezvous.clone(),
            problem: "something else than a training process answers there".to_owned(),
        })),
        Err(Trouble::Io(_)) => Ok(None),
    }
}

/// How long one reading or writing may take.
pub(super) fn set(stream: &TcpStream, wait: Duration) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))
}

pub(super) fn address_error(address: &str, error: &std::io::Error) -> Error {
    Error::Address { address: address.to_owned(), problem: error.to_string() }
}
