use super::*;
use crate::kernels::testing::sets;

#[test]
fn chains_converge_to_their_fixed_point() {
    for isa in sets() {
        let lanes = cpu::per_round(isa) as f32;
        assert_eq!(cpu::chains::<f32>(isa, 100), 0.5 * lanes); // x = x/2 + 1/4 at x = 1/2
    }
}

#[test]
fn work_is_counted_in_operations_and_bytes() {
    let threads = rayon::current_num_threads() as f64;
    assert_eq!(multiply_adds(Isa::Portable, 1_000), threads * 1_000.0 * 2.0 * 48.0);
    let mut triad = Triad::new(100_000);
    assert_eq!(triad.run(Isa::detect()), 1_200_000.0);
    assert!(triad.arrays[0].iter().all(|&a| a == 2.0)); // 1 + ½·2
}
