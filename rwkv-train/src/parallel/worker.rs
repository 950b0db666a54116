//! One of several workers.

use super::buckets::Buckets;
use super::error::{Error, Result};
use super::meeting::{Heard, Note};
use super::nodes::{Link, Nodes};
use super::team::{Team, teams};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long workers wait for each other unless told otherwise: longer than the slowest step, validation or checkpoint.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A worker's place among the others, and its way to them.
///
/// Dropping a worker tells the others that it ended; see [`Self::leave`].
pub struct Worker {
    rank: usize,
    world: usize,
    team: Option<Team>,
    /// Whether there are other processes; then the first thread of each has the link.
    far: bool,
    link: Option<Link>,
}

/// The workers of this process, one for every device, in the order of ranks.
///
/// `nodes` are the processes, if there is more than one: each must have as many devices. This waits until all have come.
/// A device may be named more than once, which makes sense on a CPU only.
///
/// # Errors
/// [`Error::NeverCame`] when not all processes came within `patience`; [`Error::Busy`] when the process has another group
/// of workers on this backend; [`Error::NotCompiled`] for several devices without the feature `collective`; what is wrong
/// with ranks, counts and addresses.
pub fn workers<B: AutodiffBackend>(
    devices: &[B::Device],
    nodes: Option<&Nodes>,
    patience: Duration,
) -> Result<Vec<Worker>> {
    let threads = devices.len();
    if threads == 0 {
        return Err(Error::Nobody("device"));
    }
    if let Some(nodes) = nodes {
        nodes.validate()?;
    }
    let nodes = nodes.filter(|nodes| nodes.count > 1);
    let (world, first_rank) = nodes.map_or((threads, 0), |nodes| (nodes.count * threads, nodes.rank * threads));
    let mut teams = teams::<B::InnerBackend>(devices, patience, first_rank, world)?.into_iter();
    let mut link = nodes.map(|nodes| Link::connect(nodes, threads, patience)).transpose()?;
    let worker = |thread| Worker {
        rank: first_rank + thread,
        world,
        team: teams.next(),
        far: nodes.is_some(),
        link: link.take(),
    };
    Ok((0..threads).map(worker).collect())
}

impl Worker {
    /// A worker without others: its sums are what it gives, and cost nothing.
    #[must_use]
    pub fn alone() -> Self {
        Self { rank: 0, world: 1, team: None, far: false, link: None }
    }

    /// This worker's rank, from 0. The first one logs, validates and saves.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many workers there are, in all processes.
    #[must_use]
    pub fn world(&self) -> usize {
        self.world
    }

    /// This worker's rows of a batch.
    ///
    /// ```
    /// use rwkv_train::parallel::Worker;
    /// assert_eq!(Worker::alone().share(12)?, 0..12);
    /// # Ok::<(), rwkv_train::parallel::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Uneven`] when the workers cannot have equally many.
    pub fn share(&self, rows: usize) -> Result<Range<usize>> {
        if !rows.is_multiple_of(self.world) {
            return Err(Error::Uneven { rows, world: self.world });
        }
        let each = rows / self.world;
        Ok(self.rank * each..(self.rank + 1) * each)
    }

    /// The sums of all workers' gradients, the same bits for everybody.
    ///
    /// Parameters without a gradient stay without one; they must be the same parameters everywhere. Sums are made in `f32`
    /// (in `f64` of `f64`), whatever the gradients' type.
    ///
    /// # Errors
    /// [`Error::LostPeer`]; [`Error::Disagree`] when the workers' modules differ. Both end this group of workers for good.
    ///
    /// # Panics
    /// When the backend is another one than the workers were made for.
    pub fn sum_gradients<B: AutodiffBackend, M: Module<B>>(
        &mut self,
        module: &M,
        grads: GradientsParams,
    ) -> Result<GradientsParams> {
        if self.world == 1 {
            return Ok(grads);
        }
        let mut buckets = Buckets::<B>::pack(module, grads)?;
        let signature = buckets.signature;
        if let Some(team) = &self.team {
            team.agree(signature)?;
        }
        // One after the other, so that each vector is given up before it is summed.
        for vector in std::mem::take(&mut buckets.vectors) {
            let vector = match &self.team {
                Some(team) => team.sum_vector(vector)?,
                None => vector,
            };
            buckets.vectors.push(if self.far { self.sum_far(signature, vector)? } else { vector });
        }
        Ok(buckets.unpack(module))
    }

    /// The sums of all workers' numbers, added in `f64` in the order of ranks, the same bits for everybody.
    ///
    /// For losses and token counts, and for decisions: with `1.0` for yes, a sum above zero means that somebody said yes.
    ///
    /// # Errors
    /// [`Error::LostPeer`]; [`Error::Disagree`] when somebody sums other numbers. Both end this group of workers for good.
    pub fn sum(&mut self, values: &[f64]) -> Result<Vec<f64>> {
        if self.world == 1 {
            return Ok(values.to_vec());
        }
        let mut sums = match &self.team {
            Some(team) => team.sum(values)?,
            None => values.to_vec(),
        };
        if self.far {
            let heard = self.hear(|link| {
                let mut all = sums.clone();
                link.sum(NUMBERS, &mut all)?;
                Ok(Heard::F64(all))
            })?;
            if let Heard::F64(all) = &*heard {
                sums.clone_from(all);
            }
        }
        Ok(sums)
    }

    /// Makes sure that all workers have the same `value`, such as a hash of their configuration, step and weights.
    ///
    /// # Errors
    /// [`Error::Disagree`] about `what`, for every worker, when they do not; [`Error::LostPeer`].
    pub fn agree(&mut self, what: &str, value: u64) -> Result<()> {
        // Halves of 32 bits and their sums are exact in f64. If everybody's value is the mean, all are equal.
        let halves = [(value >> 32) as f64, (value & 0xffff_ffff) as f64];
        let sums = self.sum(&halves)?;
        let differs = halves.iter().zip(&sums).any(|(half, sum)| half * self.world as f64 != *sum);
        let differing = self.sum(&[f64::from(u8::from(differs))])?;
        if differing[0] > 0.0 { Err(Error::Disagree(what.to_owned())) } else { Ok(()) }
    }

    /// Ends this worker's part with a reason, which ends all others' with [`Error::LostPeer`].
    ///
    /// [`run`](super::run()) does this for a worker that returns an error or panics. A worker that is just dropped has
    /// finished; the others get that error only if they still wait for it.
    pub fn leave(&mut self, reason: &str) {
        if let Some(team) = &self.team {
            team.meeting.leave(team.thread, Some(reason.to_owned()));
        }
        if let Some(link) = &mut self.link {
            // What ended this process's other threads is the better reason.
            let failure = self.team.as_ref().and_then(|team| team.meeting.failure());
            let own = || Error::LostPeer { ranks: vec![self.rank], world: self.world, reason: reason.to_owned() };
            link.part(failure.unwrap_or_else(own));
        }
    }

    /// The sum over all processes of a vector that the threads of each have alike.
    fn sum_far<B: Backend>(&mut self, signature: u64, vector: Tensor<B, 1>) -> Result<Tensor<B, 1>> {
        let (device, dtype) = (vector.device(), vector.dtype());
        let heard = self.hear(|link| {
            let data = vector.into_data();
            if dtype == DType::F64 {
                let mut values: Vec<f64> = data.iter().collect();
                link.sum(signature, &mut values)?;
                Ok(Heard::F64(values))
            } else {
                let mut values: Vec<f32> = data.iter().collect();
                link.sum(signature, &mut values)?;
                Ok(Heard::F32(values))
            }
        })?;
        let data = match &*heard {
            Heard::F32(values) => TensorData::new(values.clone(), [values.len()]),
            Heard::F64(values) => TensorData::new(values.clone(), [values.len()]),
        };
        Ok(Tensor::from_data(data, (&device, dtype)))
    }

    /// What the process's first thread hears from the other processes, for all its threads.
    fn hear(&mut self, speak: impl FnOnce(&mut Link) -> Result<Heard>) -> Result<Arc<Heard>> {
        let heard = self.link.as_mut().map(|link| speak(link).map(Arc::new)).transpose();
        let Some(team) = &self.team else {
            return Ok(heard?.expect("a process of one thread has its link"));
        };
        let note = match heard {
            Ok(heard) => heard.map_or(Note::Listening, Note::Heard),
            Err(error) => return Err(team.meeting.fail(error)),
        };
        let notes = team.meeting.gather_while_one_speaks(team.thread, note)?;
        notes
            .iter()
            .find_map(|note| if let Note::Heard(heard) = note { Some(Arc::clone(heard)) } else { None })
            .ok_or_else(|| team.disagree())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave("it panicked");
            return;
        }
        let Some(team) = &self.team else { return };
        team.meeting.leave(team.thread, None);
        if let (Some(link), Some(failure)) = (&mut self.link, team.meeting.failure()) {
            link.part(failure);
        }
    }
}

/// The signature of sums of numbers: no hash of gradients is this small.
const NUMBERS: u64 = 1;
