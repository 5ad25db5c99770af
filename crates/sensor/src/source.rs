//! What every sensor of a whole host offers, whichever way it watches.

use tw_model::event::EventKind;
use tw_model::mode::Mode;

use crate::ebpf::{Count, EbpfSensor, SensorError};
use crate::health::Health;
use crate::missed::{KernelTable, Missing, Sampling};

/// One queue between the kernel and the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Which.
    pub name: &'static str,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that waited when it was last looked at.
    pub pending: u64,
}

/// A sensor of a whole host. Dropping it leaves nothing behind in the kernel.
pub trait Source {
    /// How it watches.
    fn mode(&self) -> Mode;
    /// What of it works.
    fn health(&self) -> &Health;
    /// Hands every record that is there to `take`, oldest first, and returns how many there were. Never waits.
    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize;
    /// The same for a reader that may be slow: `take` is told whether the record gives way, so that no fork, execution, end
    /// or privileged call is lost. Then it must be counted, and cost nothing else.
    fn drain_giving_way(&mut self, take: &mut dyn FnMut(&[u8], bool)) -> usize {
        self.drain(&mut |bytes| take(bytes, false))
    }
    /// Tells what was missed since the last call, by cgroup (`None`: one that is not known). Everything is told once.
    fn missed(&mut self, _tell: &mut dyn FnMut(Option<u64>, &[Missing])) {}
    /// Tables that it fills outside of this process.
    fn tables(&self) -> Vec<KernelTable> {
        Vec::new()
    }
    /// Says from now on what only a sample is wanted of.
    ///
    /// # Errors
    /// [`SensorError::Load`] if the kernel does not take it.
    fn sample(&self, _sampling: Sampling) -> Result<(), SensorError> {
        Ok(())
    }
    /// Its queues.
    fn queues(&self) -> Vec<Queue>;
    /// Counters by kind, since the start.
    fn counts(&self) -> Vec<(EventKind, Count)>;
    /// Programs that had ended before they could be looked at: they are told without name and arguments.
    fn unseen(&self) -> u64 {
        0
    }
}

impl Source for EbpfSensor {
    fn mode(&self) -> Mode {
        Mode::Ebpf
    }

    fn health(&self) -> &Health {
        self.health()
    }

    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        self.drain(take)
    }

    fn drain_giving_way(&mut self, take: &mut dyn FnMut(&[u8], bool)) -> usize {
        self.drain_giving_way(take)
    }

    fn missed(&mut self, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        self.missed(tell);
    }

    fn tables(&self) -> Vec<KernelTable> {
        self.tables()
    }

    fn sample(&self, sampling: Sampling) -> Result<(), SensorError> {
        self.sample(sampling)
    }

    fn queues(&self) -> Vec<Queue> {
        let names = ["lifecycle", "privileged", "bulk"].into_iter();
        let sizes = Self::ring_sizes().into_iter().zip(self.pending());
        names.zip(sizes).map(|(name, (size, pending))| Queue { name, size: size as u64, pending }).collect()
    }

    fn counts(&self) -> Vec<(EventKind, Count)> {
        self.counts()
    }
}
