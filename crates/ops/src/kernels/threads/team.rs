//! Threads that stay awake between two shares of work.
//!
//! A step shares out thousands of loops of 10 to 100 µs, and a thread that sleeps takes as long to wake. So whoever has
//! done its part looks out for the next one for a moment, and only then sleeps. Larger jobs are rayon's; these loops would
//! go through its queues every time, and its threads sleep between two.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;

/// How many times a member looks out for work before it sleeps: for 100 µs on a Zen 4. A clock would say it better, but
/// kernels know no time.
const LOOKS: u32 = 4_096;

/// How many times a leader looks for members that are still at work before it offers its core to whoever else wants it.
const PATIENCE: u32 = 1_024;

/// A member's seat in the word [`Team::seats`]: one that is open counts as this, one that is taken as 1.
const OPEN: u32 = 1 << 16;

thread_local! {
    static MEMBER: Cell<bool> = const { Cell::new(false) };
}

/// What threads share: it is called with the number of the thread, 0 for the one that shares it, and does what is left.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

/// Whether this thread is a member, whose loops are its own.
pub(super) fn is_member() -> bool {
    MEMBER.get()
}

/// Runs `work(0)` here and, on at most so many others of the team's threads as are free meanwhile, `work` with their numbers,
/// which stay the same from loop to loop. Returns when all that began have ended; whoever they were, `work` must see to it
/// that nothing is left undone.
///
/// Within such work, and while another thread's is under way, `work(0)` runs alone.
pub(super) fn together(others: usize, work: &Work<'_>) {
    static TEAM: Team = Team::new();
    TEAM.run(others.min(OPEN as usize - 1), work);
}

struct Team {
    /// Held by the thread whose work is under way.
    leads: Mutex<()>,
    /// How many members there are.
    size: AtomicUsize,
    /// Whether the system gave no more.
    full: AtomicBool,
    /// What members that take a seat run; valid while any seat is open or taken.
    work: UnsafeCell<Option<&'static Work<'static>>>,
    /// Open seats times [`OPEN`], plus seats taken.
    seats: AtomicU32,
    /// How many members sleep, or are about to.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is written by the holder of `leads` alone, while no seat is open or taken, and read by who holds a seat;
// `seats` orders the two.
unsafe impl Sync for Team {}

impl Team {
    const fn new() -> Self {
        Self {
            leads: Mutex::new(()),
            size: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            work: UnsafeCell::new(None),
            seats: AtomicU32::new(0),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            panic: Mutex::new(None),
        }
    }

    fn run(&'static self, others: usize, work: &Work<'_>) {
        let leads = match self.leads.try_lock() {
            Ok(leads) => leads,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return work(0),
        };
        let size = self.hire(others);
        // SAFETY: only the lifetime changes, and `Seats` closes them before this function is left; nobody holds one yet.
        unsafe { *self.work.get() = Some(std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work)) };
        let seats = Seats(self);
        self.seats.store(others as u32 * OPEN, Ordering::SeqCst);
        let asleep = self.asleep.load(Ordering::SeqCst);
        let wanted = others.saturating_sub(size - asleep).min(asleep);
        if wanted > 0 {
            drop(lock(&self.bed)); // who counts as asleep has seen the seats, or hears the bell
            (0..wanted).for_each(|_| self.bell.notify_one());
        }
        let own = catch_unwind(AssertUnwindSafe(|| work(0)));
        drop(seats);
        let theirs = lock(&self.panic).take();
        drop(leads);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Makes the team large enough and returns its size; where the system gives no more threads, it stays smaller.
    fn hire(&'static self, others: usize) -> usize {
        let mut size = self.size.load(Ordering::Relaxed);
        while size < others && !self.full.load(Ordering::Relaxed) {
            let number = size + 1;
            let member = thread::Builder::new().name(format!("kernels-{number}"));
            if member.spawn(move || self.serve(number)).is_err() {
                self.full.store(true, Ordering::Relaxed);
                break;
            }
            size += 1;
            self.size.store(size, Ordering::Relaxed);
        }
        size
    }

    fn serve(&self, number: usize) {
        MEMBER.set(true);
        loop {
            self.take_seat();
            // SAFETY: a seat is taken, so that the work is valid and nobody writes it.
            let work = unsafe { *self.work.get() };
            if let Some(work) = work
                && let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(number)))
            {
                lock(&self.panic).get_or_insert(panic);
            }
            self.seats.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a seat.
    fn take_seat(&self) {
        loop {
            let looks = if self.alert() { LOOKS } else { 1 };
            for _ in 0..looks {
                let taken = self.seats.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |seats| {
                    (seats >= OPEN).then(|| seats - OPEN + 1)
                });
                if taken.is_ok() {
                    return;
                }
                hint::spin_loop();
            }
            self.sleep();
        }
    }

    /// Whether members may keep their cores busy while they wait: not where they and their leader are more than the cores.
    fn alert(&self) -> bool {
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from));
        self.size.load(Ordering::Relaxed) < cores
    }

    fn sleep(&self) {
        let mut bed = lock(&self.bed);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while self.seats.load(Ordering::SeqCst) < OPEN {
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        drop(bed);
    }
}

/// Seats of one share of work: closed at the end, be it a panic.
struct Seats(&'static Team);

impl Drop for Seats {
    /// Lets nobody take a seat any more, and waits for those who have.
    fn drop(&mut self) {
        self.0.seats.fetch_and(OPEN - 1, Ordering::AcqRel);
        let mut looks = 0_u32;
        while self.0.seats.load(Ordering::Acquire) != 0 {
            hint::spin_loop();
            looks = looks.saturating_add(1);
            if looks > PATIENCE {
                thread::yield_now(); // the system may have taken a member's core away
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether a member begins while its leader waits for that.
    fn meets(team: &'static Team) -> bool {
        let begun = AtomicBool::new(false);
        team.run(1, &|number| match number {
            0 => (0..20_000).filter(|_| !begun.load(Ordering::Relaxed)).for_each(|_| nap(1)),
            _ => begun.store(true, Ordering::Relaxed),
        });
        begun.into_inner()
    }

    fn nap(millis: u64) {
        thread::sleep(Duration::from_millis(millis));
    }

    #[test]
    fn members_come_when_they_are_new_awake_or_asleep() {
        let team = Box::leak(Box::new(Team::new()));
        for pause in [0, 0, 0, 5, 5] {
            nap(pause);
            assert!(meets(team));
        }
        while team.asleep.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        assert!(meets(team));
    }
}
