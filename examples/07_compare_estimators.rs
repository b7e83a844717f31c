//! Which estimator decides best? Each searches a space whose 125 children were all trained (`06_enumerate_children`).
//!
//! `cargo run --release --example 07_compare_estimators` tries three estimators with one seed; `… -- 5 all` tries all with
//! five seeds, and uniform sampling with shared weights beside them. A rank of 1 is the best child there is.

use std::{env, error::Error, num::ParseFloatError, time::Instant};

use strait::controller::estimators::NAMES;
use strait::trainer::Layer;
use strait::{Catalog, DataOptions, Device, Rule, Search, SearchConfig, SearchData, Space, open};

/// Operations of the three edges, and the mean test accuracy of four trainings.
const TABLE: &str = include_str!("06_children.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let seeds: u64 = args.first().map_or(Ok(1), |n| n.parse())?;
    let few = vec!["gumbel-st", "gdas", "drnas"];
    let names = if args.len() > 1 { [&NAMES[..], &["uniform"]].concat() } else { few };

    let lines = TABLE.lines().filter_map(|line| line.split_once(','));
    let table: Vec<(&str, f64)> =
        lines.map(|(name, value)| Ok((name, value.parse()?))).collect::<Result<_, ParseFloatError>>()?;
    let (best, all) =
        table.iter().fold((0.0f64, 0.0), |(best, sum), child| (best.max(child.1), sum + child.1));
    println!("best child {best:.4}, random choice {:.4}", all / table.len() as f64);

    let catalog = Catalog::standard();
    let space = Space::parse(include_str!("06_children.yaml"), "06_children.yaml", &catalog)?;
    let block = Layer::Value { origin: "06_children.yaml", value: space.search_settings() };
    let digits = open(&"digits".parse()?, &DataOptions::default())?;
    let data = SearchData::split(digits, &SearchConfig::resolve(&[block])?.split())?; // the same for every seed
    for estimator in names {
        // Uniform sampling: the logits stay where they are, the best of fifty draws by shared weights wins. ReinMax has its
        // own temperature.
        let (sets, rule): (&[_], _) = match estimator {
            "uniform" => (&[("arch.lr", "0")], Rule::Sampled { n: 50 }),
            "reinmax" => {
                (&[("estimator", "reinmax"), ("tau", "{schedule: constant, from: 1}")], Rule::Argmax)
            }
            name => (&[("estimator", name)], Rule::Argmax),
        };
        let (begun, mut accuracies, mut ranks) = (Instant::now(), Vec::new(), Vec::new());
        for seed in 0..seeds {
            let mut layers =
                vec![Layer::Value { origin: "06_children.yaml", value: space.search_settings() }];
            layers.extend(sets.iter().map(|&(key, value)| Layer::Set { key, value }));
            let config = SearchConfig { seed, ..SearchConfig::resolve(&layers)? };
            let mut search = Search::new(&space, &catalog, &data, config, &Device::Cpu)?;
            while search.next_epoch(&data)?.is_some() {}
            let genotype = search.derive(rule, &data)?.genotype;
            let name: Vec<&str> = genotype.cells[0].edges.iter().map(|edge| edge.op.as_str()).collect();
            let child = table.iter().find(|child| child.0 == name.join(" ")).ok_or("a child of no name")?;
            accuracies.push(child.1);
            ranks.push(1 + table.iter().filter(|other| other.1 > child.1).count()); // equals share a rank
        }
        let n = seeds as f64;
        let mean = accuracies.iter().sum::<f64>() / n;
        let spread = (accuracies.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        let seconds = begun.elapsed().as_secs_f64() / n;
        println!("{estimator:<12} {mean:.4} ± {spread:.4}, ranks {ranks:?}, {seconds:.1} s a search");
    }
    Ok(())
}
