//! What is known without a draw.

use super::*;

/// π = (1/4, 3/4), losses 1 and 5: π_j (L(j) − 4).
#[test]
fn the_truth_is_the_derivative_of_the_expected_loss() -> Result<(), Error> {
    let mut experiment = experiment(Curve::Linear, &["exact"], vec![1.0], 2);
    experiment.logits = vec![0.0, 3f64.ln()];
    experiment.loss = Loss::table(vec![1.0, 5.0])?;
    let truth = experiment.truth().gradient;
    assert!((truth[0] + 0.75).abs() < 1e-15 && (truth[1] - 0.75).abs() < 1e-15, "{truth:?}");
    let point = experiment.run()?.remove(0);
    assert!(point.bias < 1e-15 && point.variance < 1e-30, "{point:?}");
    Ok(())
}

/// Central differences with step 1e-5.
#[test]
fn every_loss_has_the_slope_of_its_value() {
    let h = [0.2, 0.5, 0.1, 0.2];
    for curve in Curve::ALL {
        let loss = Loss::new(curve, 4);
        for (k, slope) in loss.slope(&h).into_iter().enumerate() {
            let at = |by: f64| {
                loss.value(&std::array::from_fn::<f64, 4, _>(|j| h[j] + if j == k { by } else { 0.0 }))
            };
            assert!(((at(1e-5) - at(-1e-5)) / 2e-5 - slope).abs() < 1e-8, "{curve}, {k}");
        }
    }
}

/// `ln variance = 3 − 2·ln τ`.
#[test]
fn a_power_law_has_its_slope() {
    let point = |tau: f64| Point {
        estimator: "any".into(),
        tau,
        bias: 0.0,
        variance: 3f64.exp() / tau.powi(2),
        mse: 1.0,
        standard_error: 0.0,
    };
    let points = [0.1, 0.3, 2.0, 70.0].map(point);
    let found = laws::slope(&points, 0.1, 70.0).expect("four points");
    assert!((found + 2.0).abs() < 1e-12, "{found}");
    assert_eq!(laws::slope(&points, 0.1, 0.1), None);
}

/// Gradients (1, 1), (3, 1), (2, 4) around the truth (2, 0): mean off by (0, 2), variances 1 and 3.
#[test]
fn draws_from_elsewhere_are_summed_up_around_the_truth() -> Result<(), Error> {
    let gradients = [vec![1.0, 1.0], vec![3.0, 1.0], vec![2.0, 4.0]];
    let exact = Truth { gradient: vec![2.0, 0.0], error: 0.0 };
    let mut draws = Draws::around(&exact);
    gradients.iter().for_each(|gradient| draws.push(gradient));
    let Point { bias, variance, mse, standard_error, .. } = draws.point("any", 1.0);
    assert_eq!((bias, mse), (1.0, 8.0));
    assert!((variance - 4.0).abs() < 1e-12 && (standard_error - (4.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    let Truth { gradient, error } = Truth::of(&gradients)?;
    assert_eq!(gradient, [2.0, 2.0]);
    assert!((error - (4.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!(Truth::of(&gradients[..1]).is_err());
    Ok(())
}

#[test]
fn temperatures_meet_both_ends() -> Result<(), Error> {
    assert_eq!(Experiment::temperatures(0.1, 10.0, 3)?, [0.1, 1.0, 10.0]);
    assert_eq!(Experiment::temperatures(0.1, 10.0, 1)?, [0.1]);
    Ok(())
}

#[test]
fn every_estimator_can_be_measured_and_the_same_seed_measures_the_same() -> Result<(), Error> {
    let all = experiment(Curve::Cubic, &controller::estimators::NAMES, vec![0.5, 2.0], 100);
    let account = Account::of(&all)?;
    assert_eq!(account.points.len(), 24);
    assert_eq!(account.points, all.run()?);
    assert_eq!(account.to_csv().lines().count(), 25);
    for quantity in Quantity::ALL {
        let svg = account.to_svg(quantity)?;
        assert!(svg.contains("gumbel-st") && svg.ends_with("</svg>\n"), "{}", quantity.name());
    }
    Ok(())
}

#[test]
fn what_makes_no_experiment_is_refused_with_what_would() {
    let good = || experiment(Curve::Linear, &["gdas"], vec![1.0], 2);
    let refused = |experiment: Experiment| experiment.run().expect_err("it ran").to_string();
    assert_eq!(refused(Experiment { draws: 1, ..good() }), "draws: found 1; expected at least 2");
    let few = Experiment { logits: vec![0.0], ..good() };
    assert_eq!(refused(few), "logits: found 1; expected as many as the loss has candidates, at least 2");
    let flat = Loss::table(vec![2.0; 4]).expect("finite");
    let expected = "every candidate has the same expected loss; expected losses that differ";
    assert_eq!(refused(Experiment { loss: flat, ..good() }), expected);
    let cold = Experiment { taus: vec![0.0], ..good() };
    assert_eq!(refused(cold), "temperature 0; expected a finite number above 0");
}
