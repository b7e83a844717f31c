//! The laws of the Gumbel-Softmax, reproduced.

use super::*;

/// One range's slope of the variance of `gumbel-st`.
fn slope(curve: Curve, from: f64, to: f64, n: usize, draws: usize) -> Result<f64, Error> {
    let points = experiment(curve, &["gumbel-st"], Experiment::temperatures(from, to, n)?, draws).run()?;
    Ok(laws::slope(&points, from, to).expect("variances above 0"))
}

/// Near-ties have probability ∝ τ and a Jacobian ∝ 1/τ. At τ = 0.003 a few hundred of 150 000 draws are near-ties.
#[test]
fn cold_variance_grows_as_one_over_tau_on_every_loss() -> Result<(), Error> {
    for curve in Curve::ALL {
        let found = slope(curve, 0.003, 0.1, 5, 150_000)?;
        assert!((found + 1.0).abs() < 0.1, "{curve}: {found}");
    }
    Ok(())
}

#[test]
fn warm_variance_falls_as_the_square_of_tau_on_a_curved_loss() -> Result<(), Error> {
    for curve in [Curve::Quadratic, Curve::Exponential, Curve::Cubic] {
        let found = slope(curve, 30.0, 300.0, 3, 20_000)?;
        assert!((found + 2.0).abs() < 0.2, "{curve}: {found}");
    }
    Ok(())
}

#[test]
fn warm_variance_falls_as_the_fourth_power_of_tau_on_the_linear_loss() -> Result<(), Error> {
    let found = slope(Curve::Linear, 30.0, 300.0, 3, 20_000)?;
    assert!((found + 4.0).abs() < 0.2, "{found}");
    Ok(())
}

#[test]
fn cold_bias_vanishes_where_theory_says_so_and_stays_where_it_says_not() -> Result<(), Error> {
    for curve in Curve::ALL {
        let names = ["gumbel-soft", "gumbel-st", "gdas"];
        let points = experiment(curve, &names, vec![0.03], 400_000).run()?;
        let bent = matches!(curve, Curve::Exponential | Curve::Cubic);
        for (point, stays) in points.iter().zip([false, bent, true]) {
            let Point { estimator, bias, standard_error, .. } = point;
            assert_eq!(
                *bias > 5.0 * standard_error,
                stays,
                "{curve}, {estimator}: {bias} ± {standard_error}"
            );
            assert!(stays || *bias < 0.05, "{curve}, {estimator}: {bias} ± {standard_error}");
        }
    }
    Ok(())
}

/// Of a linear loss `gdas` sees half: the relative bias is ½.
#[test]
fn gdas_sees_half_of_a_linear_loss() -> Result<(), Error> {
    let point = experiment(Curve::Linear, &["gdas"], vec![0.03], 400_000).run()?.remove(0);
    assert!(
        (point.bias - 0.5).abs() < 5.0 * point.standard_error,
        "{} ± {}",
        point.bias,
        point.standard_error
    );
    Ok(())
}
