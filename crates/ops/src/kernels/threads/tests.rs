use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::reused::{LARGEST, Shelf};
use super::*;

fn on<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads exist").install(run)
}

fn squares(n: usize) -> Vec<usize> {
    collect(n, usize::MAX, |i| i * i)
}

#[test]
fn every_piece_is_worked_on_once_whatever_the_number_of_threads() {
    for threads in [1, 2, 3, 8] {
        for n in [0, 1, 2, 7, 8, 9, 1000] {
            assert_eq!(
                on(threads, || squares(n)),
                (0..n).map(|i| i * i).collect::<Vec<_>>(),
                "{threads}, {n}"
            );
        }
    }
}

#[test]
fn pieces_are_written_where_they_lie() {
    let numbers = on(2, || fill(10, 3, usize::MAX, |i, piece: &mut [f64]| piece.fill(i as f64)));
    assert_eq!(numbers, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]);
}

/// Where tests run, NaN shows who reads what it has not written, or leaves something out.
#[test]
fn what_is_not_overwritten_is_no_number() {
    let numbers = on(2, || overwrite(8, 3, usize::MAX, |i, piece: &mut [f64]| piece[0] = i as f64));
    assert_eq!([numbers[0], numbers[3], numbers[6]], [0.0, 1.0, 2.0]);
    assert!([1, 2, 4, 5, 7].into_iter().all(|at| numbers[at].is_nan()));
}

/// A loop within a loop, and loops of several threads at once: the team serves one of them.
#[test]
fn loops_within_loops_and_beside_them_end() {
    let nested = || on(2, || collect(20, usize::MAX, |i| squares(i).len()).into_iter().sum::<usize>());
    thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..200).map(|_| nested()).sum::<usize>())).collect();
        assert!(all.into_iter().all(|sum| sum.join().is_ok_and(|sum| sum == 200 * 190)));
    });
}

#[test]
fn a_panic_reaches_who_shared_the_work_and_the_team_goes_on() {
    for faulty in 0..8 {
        let shared = || collect(8, usize::MAX, |i| assert!(i != faulty, "piece {i}"));
        let panic = catch_unwind(AssertUnwindSafe(|| on(2, shared))).expect_err("one piece panics");
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(&*format!("piece {faulty}")));
        assert_eq!(on(2, || squares(3)), [0, 1, 4]);
    }
}

#[test]
fn nothing_is_left_of_a_loop_in_which_all_pieces_panic() {
    for _ in 0..20 {
        let all = || collect(8, usize::MAX, |i| assert!(i > 8, "piece {i}"));
        assert!(catch_unwind(AssertUnwindSafe(|| on(2, all))).is_err());
        assert_eq!(on(2, || squares(3)), [0, 1, 4]);
    }
}

#[test]
fn scratch_keeps_the_margins_of_each_size_clear() {
    let scratch = Scratch::<f32>::new();
    for len in [8, 12, 8, 12] {
        scratch.lend_with_margins(4, len, |memory| {
            assert_eq!(memory[..4], [0.0; 4]);
            memory[4..].fill(len as f32);
        });
    }
}

/// Whose sizes lie near its own; who is still there keeps what it had, and a loan within a loan is another's.
#[test]
fn what_a_scratch_leaves_serves_the_next_ones() {
    let lend = |scratch: &Scratch<f32>, len: usize| {
        scratch.lend_with_margins(4, len, |memory| {
            assert_eq!((memory.len(), &memory[..4]), (len, &[0.0; 4][..]));
            memory.fill(7.0);
            memory[..4].fill(0.0);
            memory.as_ptr()
        })
    };
    let gone = lend(&Scratch::new(), 100_000);
    let (one, other) = (Scratch::new(), Scratch::new());
    assert_eq!(lend(&one, 50_000), gone);
    assert_ne!(lend(&other, 50_000), gone);
    assert_eq!(lend(&one, 50_000), gone);
    one.lend(50_000, |memory| assert_ne!(lend(&one, 50_000), memory.as_ptr()));
    assert_ne!(lend(&Scratch::new(), 10_000), gone);
}

/// Who is still there finds all of its memory again, however much that is; of those that are gone only so much is kept.
#[test]
fn a_thread_keeps_what_is_lent_again_and_else_only_so_much() {
    let lend = |scratch: &Scratch<f64>| scratch.lend(1 << 17, |memory| memory.as_ptr());
    let kept = || super::reused::held::<f64>().expect("of a type that kernels compute in").borrow().len();
    let scratches: Vec<_> = (0..8).map(|_| Scratch::new()).collect();
    let first: Vec<_> = scratches.iter().map(lend).collect();
    assert_eq!(scratches.iter().map(lend).collect::<Vec<_>>(), first);
    assert_eq!(kept(), 8);
    drop(scratches);
    lend(&Scratch::new());
    assert_eq!(kept(), 4);
}

#[test]
fn what_is_kept_has_a_limit_and_serves_sizes_near_its_own() {
    let shelf = Shelf::<f64>::new();
    shelf.put(vec![1.0; 100]);
    assert!(shelf.take(101).is_none() && shelf.take(24).is_none());
    assert_eq!(shelf.take(25), Some(vec![1.0; 100]));
    shelf.put(vec![0.0; LARGEST + 1]);
    (0..10).for_each(|i| shelf.put(vec![f64::from(i); LARGEST]));
    let kept: Vec<f64> = std::iter::from_fn(|| shelf.take(LARGEST)).map(|memory| memory[0]).collect();
    assert_eq!(kept, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]);
}
