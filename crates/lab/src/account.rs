//! A measurement as a person reads it, and as a program does.

use serde::Serialize;

use crate::{
    Curve, Error, Experiment, Point, Truth,
    laws::{self, Balance, Slope},
    plot::{self, Quantity},
};

/// All that an experiment came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// `α`.
    pub logits: Vec<f64>,
    /// What was measured: the loss and the number of candidates, or a network.
    pub problem: String,
    /// Where the true gradient comes from.
    pub reference: String,
    /// Gradients drawn per point.
    pub draws: usize,
    /// The seed.
    pub seed: u64,
    /// The true gradient.
    pub truth: Vec<f64>,
    /// How well it is known: the root of the trace of its covariance, 0 where it is exact.
    pub truth_error: f64,
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
        let Experiment { logits, draws, seed, .. } = experiment;
        let (points, curve) = (experiment.run()?, experiment.loss.curve());
        let account = Self {
            logits: logits.clone(),
            problem: format!("{curve} loss, {} candidates", logits.len()),
            reference: "exact, in closed form".into(),
            draws: *draws,
            seed: *seed,
            ..Self::default()
        };
        Ok(account.read(points, &experiment.truth(), Some(curve)))
    }

    /// This account with `points`, each estimator's together, and with what they say; `curve` is `None` where a network makes
    /// the loss.
    #[must_use]
    pub fn read(self, points: Vec<Point>, truth: &Truth, curve: Option<Curve>) -> Self {
        let each: Vec<&[Point]> = series(&points);
        Self {
            truth: truth.gradient.clone(),
            truth_error: truth.error,
            slopes: each.iter().flat_map(|points| laws::slopes(points, curve)).collect(),
            balances: each.iter().filter_map(|points| laws::balance(points, curve)).collect(),
            points,
            ..self
        }
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
        let caption = format!("{}, {} draws", self.problem, self.draws);
        plot::draw(&series(&self.points), quantity, &caption)
    }

    /// One page with every picture and what was seen, in HTML that needs nothing else.
    ///
    /// # Errors
    /// As [`plot::draw`].
    pub fn to_html(&self) -> Result<String, Error> {
        let pictures = Quantity::ALL.into_iter().map(|quantity| self.to_svg(quantity));
        let pictures = pictures.collect::<Result<Vec<_>, _>>()?.join("\n");
        let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (title, text) = (escaped(&self.problem), escaped(&self.to_text()));
        Ok(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>strait lab: {title}</title>\n\
             <style>body {{ font-family: sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem }} \
             svg {{ max-width: 100%; height: auto; display: block }} pre {{ white-space: pre-wrap }}</style>\n\
             <h1>Bias and variance: {title}</h1>\n{pictures}\n<pre>{text}</pre>\n</html>\n"
        ))
    }

    /// What was seen, in sentences.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}, {} draws a point, seed {}\ntrue gradient: {}\n\nvariance against temperature\n",
            self.problem, self.draws, self.seed, self.reference
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
