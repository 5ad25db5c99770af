//! The coverage ledger: per container and class of events, how many were seen and how many were missed for which
//! reason, of the last minute and since the start.
//!
//! What was seen is counted where each event is observed. What was missed is told by whoever reads the sensor's
//! counters ([`Ledger::missed`]), and is booked at the time of the latest event: both are the same in a replay.
//!
//! **Never:** a clock. Time is that of the records.

use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::Container;
use tw_model::coverage::{Class, Miss, SLOT_NS, Tallies, Tally, Window};

/// Containers with an account of their own; the one that has been quiet for longest makes room, and its counts go on
/// in the account of the others.
pub const MAX_ACCOUNTS: usize = 4096;
/// Cgroups whose account is remembered; beyond that all are looked up again.
const MAX_CGROUPS: usize = 16_384;
/// The account of everything outside of containers.
const HOST: usize = 0;
/// The account of what belongs to no known cgroup, and of containers that made room.
const OTHERS: usize = 1;

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Everything outside of containers.
    Host,
    /// Cgroups that are not known, and containers that made room.
    Others,
    /// The container with this id.
    Container(Arc<str>),
}

impl Owner {
    /// As it is told: the container's id, `host` or `others`.
    pub fn name(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::Others => "others",
            Self::Container(id) => id,
        }
    }

    fn of(name: &str) -> Self {
        match name {
            "host" => Self::Host,
            "others" => Self::Others,
            id => Self::Container(id.into()),
        }
    }
}

/// The counts of one owner.
#[derive(Clone, Debug)]
pub struct Account {
    /// Whose.
    pub owner: Owner,
    /// A cgroup of it, seen last.
    pub cgroup: u64,
    /// The last minute.
    pub window: Window,
    /// Since the last [`Ledger::close_minute`].
    pub minute: Tallies,
    /// Since the start.
    pub total: Tallies,
}

impl Account {
    fn new(owner: Owner, cgroup: u64) -> Self {
        let (window, minute, total) = (Window::default(), Tallies::default(), Tallies::default());
        Self { owner, cgroup, window, minute, total }
    }
}

/// What was missed of one class for one reason.
pub type Missing = (Class, Miss, u64);

/// What was counted of one class in one slot of ten seconds since boot.
pub type Slot = (u64, Class, Tally);

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    accounts: Vec<Account>,
    by_cgroup: HashMap<u64, u32, foldhash::fast::RandomState>,
    by_id: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    /// The cgroup of the event before, with its account: most events follow one of the same cgroup.
    last: (u64, u32),
    /// State of the knowledge of containers for which `by_cgroup` holds.
    version: u64,
    now_ns: u64,
    evicted: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            accounts: vec![Account::new(Owner::Host, 1), Account::new(Owner::Others, 0)],
            by_cgroup: HashMap::default(),
            by_id: HashMap::default(),
            last: (u64::MAX, 0),
            version: 0,
            now_ns: 0,
            evicted: 0,
        }
    }
}

impl Ledger {
    /// The account of a cgroup, which `container` tells the container of. `version` is that of what is known of
    /// containers: with another one accounts are looked up anew.
    #[inline]
    fn place<'c>(&mut self, cgroup: u64, version: u64, container: impl FnOnce() -> Option<&'c Container>) -> usize {
        if self.version != version {
            self.version = version;
            self.forget_cgroups();
        }
        if self.last.0 == cgroup {
            return self.last.1 as usize;
        }
        let place = match self.by_cgroup.get(&cgroup) {
            Some(place) => *place as usize,
            None => self.look_up(cgroup, container()),
        };
        self.last = (cgroup, place as u32);
        place
    }

    fn forget_cgroups(&mut self) {
        self.by_cgroup.clear();
        self.last = (u64::MAX, 0);
    }

    fn look_up(&mut self, cgroup: u64, container: Option<&Container>) -> usize {
        let place = match container {
            None => HOST,
            Some(container) => self.of_container(&container.id, cgroup),
        };
        if self.by_cgroup.len() >= MAX_CGROUPS {
            self.by_cgroup.clear();
        }
        self.by_cgroup.insert(cgroup, place as u32);
        place
    }

    fn of_container(&mut self, id: &str, cgroup: u64) -> usize {
        if let Some(place) = self.by_id.get(id) {
            let place = *place as usize;
            self.accounts[place].cgroup = cgroup;
            return place;
        }
        let id: Arc<str> = id.into();
        let account = Account::new(Owner::Container(Arc::clone(&id)), cgroup);
        if self.accounts.len() < MAX_ACCOUNTS {
            self.by_id.insert(id, self.accounts.len() as u32);
            self.accounts.push(account);
            return self.accounts.len() - 1;
        }
        let quiet = (OTHERS + 1..self.accounts.len()).min_by_key(|place| self.accounts[*place].window.last());
        let place = quiet.unwrap_or(OTHERS);
        self.forget_cgroups();
        self.evicted += 1;
        let old = std::mem::replace(&mut self.accounts[place], account);
        if let Owner::Container(old) = &old.owner {
            self.by_id.remove(old);
        }
        self.by_id.insert(id, place as u32);
        let others = &mut self.accounts[OTHERS];
        for (sums, counts) in [(&mut others.minute, &old.minute), (&mut others.total, &old.total)] {
            sums.iter_mut().zip(counts).for_each(|(sum, tally)| sum.add(tally));
        }
        place
    }

    /// Counts an event that was seen, and gives the place of its account, for [`Ledger::window`].
    #[inline]
    pub(crate) fn seen<'c>(
        &mut self,
        event: (u64, Class, u64),
        version: u64,
        container: impl FnOnce() -> Option<&'c Container>,
    ) -> usize {
        let (cgroup, class, time_ns) = event;
        self.now_ns = self.now_ns.max(time_ns);
        let now_ns = self.now_ns;
        let place = self.place(cgroup, version, container);
        let account = &mut self.accounts[place];
        account.window.turn(now_ns);
        for tallies in [account.window.current(), &mut account.minute, &mut account.total] {
            tallies[class as usize].seen += 1;
        }
        place
    }

    /// The place of the account of an event that is not counted.
    pub(crate) fn of<'c>(
        &mut self,
        cgroup: u64,
        version: u64,
        container: impl FnOnce() -> Option<&'c Container>,
    ) -> usize {
        let place = self.place(cgroup, version, container);
        let now_ns = self.now_ns;
        self.accounts[place].window.turn(now_ns);
        place
    }

    pub(crate) fn window(&self, place: usize) -> &Window {
        &self.accounts[place].window
    }

    /// Books what was missed of a cgroup; `None`: of one that is not known.
    pub(crate) fn missed<'c>(
        &mut self,
        cgroup: Option<u64>,
        missing: &[Missing],
        version: u64,
        container: impl FnOnce() -> Option<&'c Container>,
    ) {
        let place = cgroup.map_or(OTHERS, |cgroup| self.place(cgroup, version, container));
        let now_ns = self.now_ns;
        let account = &mut self.accounts[place];
        account.window.turn(now_ns);
        for tallies in [account.window.current(), &mut account.minute, &mut account.total] {
            for (class, why, events) in missing {
                let count = &mut tallies[*class as usize].missed[*why as usize];
                *count = count.saturating_add(*events);
            }
        }
    }

    /// Ends the minute: gives `tell` each account's counts of it, and begins the next.
    pub fn close_minute(&mut self, tell: &mut dyn FnMut(&Account)) {
        for account in &mut self.accounts {
            if account.minute.iter().any(|tally| tally.total() > 0) {
                tell(account);
                account.minute = Tallies::default();
            }
        }
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    /// Sums over all accounts since the start.
    pub fn totals(&self) -> Tallies {
        let mut sums = Tallies::default();
        for account in &self.accounts {
            sums.iter_mut().zip(&account.total).for_each(|(sum, tally)| sum.add(tally));
        }
        sums
    }

    /// Number of accounts, and how many made room for others.
    pub fn size(&self) -> (usize, u64) {
        (self.accounts.len(), self.evicted)
    }

    /// Number of cgroups whose account is remembered.
    pub fn cgroups(&self) -> usize {
        self.by_cgroup.len()
    }

    /// Tells each account that has a last minute, and for each slot of it what was counted by class.
    pub(crate) fn checkpoint(&self, tell: &mut dyn FnMut(&Account, Vec<Slot>)) {
        for account in &self.accounts {
            let mut counts = Vec::new();
            for (slot, tallies) in account.window.filled() {
                let filled = Class::ALL.into_iter().zip(tallies).filter(|(_, tally)| tally.total() > 0);
                counts.extend(filled.map(|(class, tally)| (slot, class, *tally)));
            }
            if !counts.is_empty() {
                tell(account, counts);
            }
        }
    }

    /// Takes what a checkpoint told.
    pub(crate) fn restore(&mut self, owner: &str, cgroup: u64, counts: &[Slot]) {
        let place = match Owner::of(owner) {
            Owner::Host => HOST,
            Owner::Others => OTHERS,
            Owner::Container(id) => self.of_container(&id, cgroup),
        };
        for (slot, class, tally) in counts {
            let time_ns = slot.saturating_mul(SLOT_NS);
            self.now_ns = self.now_ns.max(time_ns);
            let account = &mut self.accounts[place];
            account.window.turn(time_ns);
            if account.window.last() == *slot {
                account.window.current()[*class as usize].add(tally);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: u64) -> Container {
        Container { id: format!("{id:064x}"), ..Container::default() }
    }

    fn see(ledger: &mut Ledger, cgroup: u64, container: Option<&Container>) {
        ledger.seen((cgroup, Class::File, 1), 1, || container);
    }

    #[test]
    fn cgroups_of_one_container_share_an_account_and_strangers_are_the_host() {
        let mut ledger = Ledger::default();
        let web = container(1);
        for (cgroup, container) in [(7, Some(&web)), (8, Some(&web)), (1, None), (7, Some(&web)), (99, None)] {
            see(&mut ledger, cgroup, container);
        }
        ledger.missed(Some(8), &[(Class::File, Miss::RingFull, 3)], 1, || Some(&web));
        ledger.missed(None, &[(Class::Network, Miss::RingFull, 2)], 1, || None);
        let counts: Vec<_> = ledger
            .accounts()
            .map(|account| (account.owner.name().len(), account.total[2].seen, account.total[2].lost()))
            .collect();
        assert_eq!(counts, [(4, 2, 0), (6, 0, 0), (64, 3, 3)]);
        assert_eq!(ledger.totals()[3].lost(), 2);
    }

    #[test]
    fn a_cgroup_whose_container_becomes_known_is_booked_there_from_then_on() {
        let (mut ledger, web) = (Ledger::default(), container(1));
        ledger.seen((7, Class::File, 1), 1, || None);
        ledger.seen((7, Class::File, 1), 1, || Some(&web));
        ledger.seen((7, Class::File, 1), 2, || Some(&web));
        let seen: Vec<u64> = ledger.accounts().map(|account| account.total[2].seen).collect();
        assert_eq!(seen, [2, 0, 1]);
    }

    #[test]
    fn containers_beyond_the_bound_keep_their_counts_in_sum() {
        let mut ledger = Ledger::default();
        let many = MAX_ACCOUNTS as u64 + 500;
        for id in 0..many {
            let container = container(id);
            ledger.seen((1000 + id, Class::Lifecycle, id * SLOT_NS / 100), 1, || Some(&container));
        }
        let (accounts, evicted) = ledger.size();
        assert_eq!((accounts, evicted), (MAX_ACCOUNTS, 502));
        assert_eq!(ledger.totals()[0].seen, many);
        assert!(ledger.cgroups() <= MAX_CGROUPS);
        let mut minute = 0;
        ledger.close_minute(&mut |account| minute += account.minute[0].seen);
        assert_eq!(minute, many, "each event is in one minute");
        ledger.close_minute(&mut |_| panic!("told twice"));
    }

    #[test]
    fn a_checkpoint_gives_the_same_window_again() {
        let (mut ledger, web) = (Ledger::default(), container(1));
        for second in 0..100_u64 {
            ledger.seen((7, Class::File, second * 1_000_000_000), 1, || Some(&web));
            ledger.missed(Some(7), &[(Class::File, Miss::Folded, 2)], 1, || Some(&web));
        }
        let mut again = Ledger::default();
        ledger.checkpoint(&mut |account, counts| again.restore(account.owner.name(), account.cgroup, &counts));
        let place = again.of(7, 1, || Some(&web));
        assert_eq!(again.window(place), ledger.window(2));
        assert!(again.window(place).coverage().percent() < 34.0);
    }
}
