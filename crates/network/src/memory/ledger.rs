//! Bytes in place of tensors: who holds them, and how many were held at most.

use std::{
    cell::{Cell as Number, OnceCell, RefCell},
    rc::Rc,
};

use crate::terms::MOST;

/// Launches that a device is sent together, at most (`ops::kernels::gpu::recorded`); each writes about one map.
const LAUNCHES: usize = 256;

/// Maps that one kernel of a device adds up (`ops::kernels::sum`).
const SUMMED: usize = 4;

/// Bytes that are held now, and that were at most.
#[derive(Clone, Default)]
pub(super) struct Ledger(Rc<Book>);

#[derive(Default)]
struct Book {
    now: Number<u64>,
    peak: Number<u64>,
    /// What launches that wait to be sent read and write, where they wait.
    waiting: RefCell<Option<Vec<Map>>>,
}

impl Ledger {
    pub(super) fn hold(&self, bytes: u64) -> Map {
        let Book { now, peak, .. } = &*self.0;
        now.set(now.get() + bytes);
        peak.set(peak.get().max(now.get()));
        let map = Map(Rc::new(Held { bytes, ledger: self.clone() }));
        self.wait(&map);
        map
    }

    /// Keeps a map until the launches that wait are sent.
    pub(super) fn wait(&self, map: &Map) {
        if let Some(waiting) = &mut *self.0.waiting.borrow_mut() {
            if waiting.len() == LAUNCHES {
                waiting.clear();
            }
            waiting.push(map.clone());
        }
    }

    /// What a device writes on its way to a sum of `terms` maps, before they become one: its kernel adds [`SUMMED`].
    pub(super) fn hold_partial_sums(&self, terms: usize, bytes: u64) {
        if self.0.waiting.borrow().is_some() {
            (0..terms.saturating_sub(SUMMED).div_ceil(SUMMED - 1)).for_each(|_| drop(self.hold(bytes)));
        }
    }

    /// Launches wait from now on, or do not: then nothing is held for those that did.
    pub(super) fn set_waiting(&self, waits: bool) {
        self.0.waiting.replace(waits.then(Vec::new));
    }

    pub(super) fn peak(&self) -> u64 {
        self.0.peak.get()
    }
}

/// What stands for a tensor: held until its last owner lets it go.
#[derive(Clone)]
pub(super) struct Map(Rc<Held>);

struct Held {
    bytes: u64,
    ledger: Ledger,
}

impl Map {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = &self.ledger.0.now;
        now.set(now.get() - self.bytes);
    }
}

/// An output on its way into a sum, perhaps with a norm still to be applied, or a factor.
#[derive(Clone)]
pub(super) struct Term {
    /// What holds it; more than itself, perhaps.
    pub(super) map: Map,
    pub(super) bytes: u64,
    pub(super) bare: bool,
}

impl From<Map> for Term {
    fn from(map: Map) -> Self {
        Self { bytes: map.bytes(), map, bare: true }
    }
}

/// What waits to be added up.
#[derive(Clone, Default)]
pub(super) struct Terms(Vec<Term>);

impl Terms {
    pub(super) fn push(&mut self, ledger: &Ledger, term: impl Into<Term>) {
        if self.0.len() == MOST {
            let sum = std::mem::take(self).total(ledger);
            self.0.extend(sum.map(Term::from));
        }
        self.0.push(term.into());
    }

    pub(super) fn total(self, ledger: &Ledger) -> Option<Map> {
        match &self.0[..] {
            [] => None,
            [only] if only.bare => Some(only.map.clone()),
            terms @ [first, ..] => {
                ledger.hold_partial_sums(terms.len(), first.bytes);
                Some(ledger.hold(first.bytes))
            }
        }
    }
}

/// What a block puts out, as [`forward::Output`](crate::forward).
pub(super) struct Maps {
    pub(super) apart: Vec<Map>,
    joined: OnceCell<Map>,
}

impl Maps {
    pub(super) fn of(apart: Vec<Map>) -> Rc<Self> {
        Rc::new(Self { apart, joined: OnceCell::new() })
    }

    /// One map for all who ask.
    pub(super) fn joined(&self, ledger: &Ledger) -> &Map {
        match &self.apart[..] {
            [only] => only,
            maps => self.joined.get_or_init(|| ledger.hold(maps.iter().map(Map::bytes).sum())),
        }
    }
}
