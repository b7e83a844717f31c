//! A measurement as a person reads it, and as a program does.

use serde::Serialize;

use crate::{
    Error, Experiment, Point,
    laws::{self, Balance, Slope},
    plot::{self, Quantity},
};

/// All that an experiment came to.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// `α`.
    pub logits: Vec<f64>,
    /// How the loss runs between two choices.
    pub loss: String,
    /// Gradients drawn per point.
    pub draws: usize,
    /// The seed.
    pub seed: u64,
    /// The exact gradient.
    pub truth: Vec<f64>,
    /// Every estimator at every temperature.
    pub points: Vec<Point>,
    /// Growth of the variance by range.
    pub slopes: Vec<Slope>,
    /// Least error and cold limit, one per estimator.
    pub balances: Vec<Balance>,
}

impl Account {
    /// Runs the experiment and reads its result.
    ///
    /// # Errors
    /// As [`Experiment::run`].
    pub fn of(experiment: &Experiment) -> Result<Self, Error> {
        let (points, curve) = (experiment.run()?, experiment.loss.curve());
        let each: Vec<&[Point]> = series(&points);
        Ok(Self {
            logits: experiment.logits.clone(),
            loss: curve.to_string(),
            draws: experiment.draws,
            seed: experiment.seed,
            truth: experiment.truth(),
            slopes: each.iter().flat_map(|points| laws::slopes(points, curve)).collect(),
            balances: each.iter().filter_map(|points| laws::balance(points, curve)).collect(),
            points,
        })
    }

    /// One line per point: `estimator,tau,bias,variance,mse,standard_error`.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let line = |p: &Point| {
            let Point { estimator, tau, bias, variance, mse, standard_error } = p;
            format!("{estimator},{tau},{bias},{variance},{mse},{standard_error}\n")
        };
        let head = "estimator,tau,bias,variance,mse,standard_error\n".to_owned();
        self.points.iter().fold(head, |text, point| text + &line(point))
    }

    /// The picture of one quantity, as SVG.
    ///
    /// # Errors
    /// As [`plot::draw`].
    pub fn to_svg(&self, quantity: Quantity) -> Result<String, Error> {
        let caption = format!("{} loss, {} candidates, {} draws", self.loss, self.logits.len(), self.draws);
        plot::draw(&series(&self.points), quantity, &caption)
    }

    /// What was seen, in sentences.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} loss, {} candidates, {} draws a point, seed {}\n\nvariance against temperature\n",
            self.loss,
            self.logits.len(),
            self.draws,
            self.seed
        );
        for Slope { estimator, from, to, slope, law, reason } in &self.slopes {
            let law = law.map_or_else(String::new, |law| format!(" (theory {law})"));
            text += &format!("  {estimator:<12} τ {from:.3} … {to:.3}: slope {slope:.2}{law}; {reason}\n");
        }
        text += "\nbias and error\n";
        for b in &self.balances {
            let place = b.tau.map_or_else(|| "every τ".to_owned(), |tau| format!("τ {tau:.3}"));
            text += &format!(
                "  {:<12} bias {:.3} ± {:.3} at the coldest τ; {}\n  {:<12} least squared error {:.3e} at {place}\n",
                b.estimator, b.cold_bias, b.standard_error, b.reason, "", b.mse
            );
        }
        text
    }
}

/// The points of each estimator, in their order.
fn series(points: &[Point]) -> Vec<&[Point]> {
    points.chunk_by(|a, b| a.estimator == b.estimator).collect()
}
