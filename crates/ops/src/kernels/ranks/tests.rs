use std::sync::Mutex;

use candle_core::DType;

use super::*;
use crate::kernels::testing::*;

/// What every rank comes to.
fn all<R: Send>(n: usize, part: impl Fn(&Rank) -> Result<R> + Sync) -> Vec<Result<R>> {
    let (team, ranks) = ranks(&vec![Device::Cpu; n]).expect("there is a device");
    team.run(ranks, |rank| part(&rank))
}

#[test]
fn every_rank_gets_the_mean_of_all() -> Result<()> {
    let part = |rank: &Rank| {
        let mine = Tensor::new(&[rank.index() as f64, 10.0 * rank.index() as f64], &Device::Cpu)?;
        let single = Tensor::new(&[[3.0f32]], &Device::Cpu)?;
        let means = rank.mean(&[&mine, &single])?;
        assert_eq!((rank.count(), means[1].to_vec2::<f32>()?), (3, vec![vec![3.0]]));
        values(&means[0])
    };
    for mean in all(3, part) {
        assert_eq!(mean?, [1.0, 10.0]); // (0 + 1 + 2) / 3 and ten times that
    }
    Ok(())
}

/// Of which a sum in another order would keep the 1: 1e20 − 1e20 + 1.
#[test]
fn sums_are_taken_in_the_order_of_the_ranks() -> Result<()> {
    let part = |rank: &Rank| rank.sum_numbers(&[[1.0, 1e20, -1e20][rank.index()], 2.0]);
    for sums in all(3, part) {
        assert_eq!(sums?, [0.0, 6.0]);
    }
    Ok(())
}

#[test]
fn ranks_meet_again_and_again() -> Result<()> {
    let part = |rank: &Rank| {
        let mut number = 1.0;
        for _ in 0..200 {
            number = rank.sum_numbers(&[number])?[0] / 2.0 + rank.index() as f64 * 0.0;
        }
        Ok(number)
    };
    for number in all(2, part) {
        assert_eq!(number?, 1.0);
    }
    Ok(())
}

#[test]
fn nobody_waits_for_a_rank_that_has_failed() {
    let (team, ranks) = ranks(&[Device::Cpu, Device::Cpu, Device::Cpu]).expect("there is a device");
    let part = |rank: Rank| match rank.index() {
        1 => bail!("no room"),
        _ => rank.sum_numbers(&[1.0]),
    };
    let messages: Vec<String> = team
        .run(ranks, part)
        .into_iter()
        .map(|outcome| outcome.expect_err("one has failed").to_string())
        .collect();
    let waiting = "rank 1 has failed, and the others cannot go on without it";
    assert!(messages[1].starts_with("no room"), "{messages:?}");
    assert!([0, 2].iter().all(|&rank: &usize| messages[rank].starts_with(waiting)), "{messages:?}");
    assert_eq!(team.failed(), Some(1));
}

#[test]
fn what_is_not_alike_is_refused() {
    let refused = |part: fn(&Rank) -> Result<Vec<Tensor>>, expected: &str| {
        for outcome in all(2, part) {
            let message = outcome.expect_err("refused").to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    };
    let ones = |rank: &Rank| rank.mean(&[&Tensor::ones(1 + rank.index(), DType::F32, &Device::Cpu)?]);
    let several = |rank: &Rank| {
        let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
        rank.mean(&vec![&one; 1 + rank.index()])
    };
    refused(ones, "rank");
    for (rank, outcome) in all(2, several).into_iter().enumerate() {
        // The one that brings less has all it asks for, and the other hears of it.
        assert_eq!(outcome.is_err(), rank == 1);
    }
    assert!(ranks(&[]).is_err());
}

/// The thread that waits for the others is the only one of rayon's pool, and their work needs it.
#[test]
fn a_pool_of_one_thread_serves_all_ranks() -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(candle_core::Error::wrap)?;
    let order = Mutex::new(Vec::new());
    let (team, ranks) = ranks(&[Device::Cpu, Device::Cpu])?;
    let part = |rank: Rank| {
        if rank.index() == 1 {
            pool.install(|| order.lock().expect("nobody panics").push(1));
        }
        let sum = rank.sum_numbers(&[1.0])?;
        if rank.index() == 1 {
            pool.install(|| order.lock().expect("nobody panics").push(2)); // while the first is done
        }
        Ok::<_, candle_core::Error>(sum)
    };
    let outcomes = pool.install(|| team.run(ranks, part));
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok_and(|sum| sum == [2.0])));
    assert_eq!(*order.lock().expect("nobody panics"), [1, 2]);
    Ok(())
}
