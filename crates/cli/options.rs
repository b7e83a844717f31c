//! Options that several commands share.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use strait::controller::estimators::{self, UnknownEstimator};
use strait::data::{self, DataSpec, Dataset, SearchData};
use strait::ops::{
    Catalog,
    kernels::gpu::{self, Arithmetic},
};
use strait::space::{Genotype, Notation, Shape, Space, nearest};
use strait::trainer::{DataConfig, Layer, Overwrite, RunDir, Search, SearchConfig};
use strait::{Device, cuda_is_available};

use crate::console::Console;
use crate::events;
use crate::failure::Failure;

/// What the numbers are computed on. The number of threads changes the time, never the bytes of a result; a GPU rounds
/// differently.
#[derive(Args, Debug)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Machine {
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Device to compute on: cpu, cuda or cuda:INDEX; a search, also on several at once: cuda:0,1
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
    /// Whether a GPU's convolutions run on matrix units, their factors rounded to TF32 (10 bits of mantissa), as PyTorch's
    /// do [default: on where the GPU can]
    #[arg(long, value_enum, value_name = "on|off")]
    tf32: Option<Switch>,
    /// What maps are stored in: f32, or bf16, half as long, beside weights, sums and statistics in f32; convolutions on matrix
    /// units, of a GPU or a processor, then multiply bf16
    #[arg(long, value_enum, value_name = "f32|bf16", default_value_t = Precision::F32)]
    precision: Precision,
    /// Whether a GPU is sent the kernels of a cell together, as a CUDA graph, or one by one; the bytes are the same
    /// [default: on]
    #[arg(long, value_enum, value_name = "on|off")]
    graphs: Option<Switch>,
}

/// Says so where a run was computed in other numbers until now: then it will not end as one that was never interrupted.
pub(crate) fn compare_numbers(run: &RunDir, on: &Computer, console: &Console) {
    let now = on.arithmetic.name();
    if let Some(before) = run.arithmetic().filter(|before| before != now) {
        console.note(&format!(
            "computed in {before} until now, in {now} from here on: not the end of a run that nobody interrupted \
             (--precision and --tf32 choose)"
        ));
    }
}

/// Where numbers are computed, and of what kind.
#[derive(Clone, Debug)]
pub(crate) struct Computer {
    pub(crate) device: Device,
    pub(crate) arithmetic: Arithmetic,
}

impl Computer {
    /// The CPU.
    pub(crate) fn cpu(arithmetic: Arithmetic) -> Self {
        Self { device: Device::Cpu, arithmetic }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    F32,
    Bf16,
}

impl Precision {
    fn arithmetic(self) -> Arithmetic {
        if self == Self::Bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 }
    }

    /// Bytes of a number in a map.
    pub(crate) fn map_bytes(self) -> u64 {
        self.arithmetic().maps().size_in_bytes() as u64
    }
}

impl Machine {
    /// Whether a GPU is sent the kernels of a cell together; nothing of the CPU.
    pub(crate) fn graphs(&self) -> Option<bool> {
        (self.device != DeviceName::Cpu).then_some(self.graphs != Some(Switch::Off))
    }

    /// What `--resume` needs besides, to go on in the same numbers.
    pub(crate) fn to_go_on(&self) -> String {
        let mut flags = match &self.device {
            DeviceName::Cpu => String::new(),
            device => format!(" --device {device}"),
        };
        if self.precision == Precision::Bf16 {
            flags.push_str(" --precision bf16");
        }
        flags.push_str(match self.tf32 {
            None => "",
            Some(Switch::On) => " --tf32 on",
            Some(Switch::Off) => " --tf32 off",
        });
        flags
    }

    /// Sets the size of the thread pool and opens the device, which is one.
    pub(crate) fn open(&self) -> Result<Computer, Failure> {
        match self.open_all()? {
            Devices::One(computer) => Ok(computer),
            Devices::Ranks(_) => Err(Failure::misuse(
                "this command computes on one device; expected cpu, cuda or cuda:INDEX for --device",
            )),
        }
    }

    /// Sets the size of the thread pool and opens all devices.
    pub(crate) fn open_all(&self) -> Result<Devices, Failure> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.map_or(0, usize::from));
        // This thread counts as one of them: it computes, and lends the pool a hand where it waits.
        pool.use_current_thread().build_global()?;
        gpu::set_launches(match self.graphs {
            None | Some(Switch::On) => gpu::Launches::Together,
            Some(Switch::Off) => gpu::Launches::Singly,
        });
        match &self.device {
            DeviceName::Cpu if self.tf32.is_some() => {
                Err(Failure::misuse("--tf32: the CPU computes in f32; a GPU's convolutions have the choice")
                    .hint("leave out --tf32, or name a GPU with --device cuda"))
            }
            DeviceName::Cpu if self.graphs.is_some() => {
                Err(Failure::misuse("--graphs: only a GPU is sent its work in graphs")
                    .hint("leave out --graphs, or name a GPU with --device cuda"))
            }
            DeviceName::Cpu => Ok(Devices::One(Computer::cpu(self.precision.arithmetic()))),
            _ if self.tf32.is_some() && self.precision == Precision::Bf16 => {
                Err(Failure::misuse("--tf32: with --precision bf16 convolutions multiply bf16")
                    .hint("leave out one of the two"))
            }
            _ if !cuda_is_available() => {
                Err(Failure::misuse("this strait was built without CUDA; `--device cpu` is what it has")
                    .hint("strait doctor says what a build with CUDA needs"))
            }
            DeviceName::Cuda(index) => Ok(Devices::One(self.open_gpu(*index)?)),
            DeviceName::Ranks(indices) => {
                let computers = indices.iter().map(|&index| self.open_gpu(index));
                Ok(Devices::Ranks(computers.collect::<Result<_, _>>()?))
            }
        }
    }

    fn open_gpu(&self, index: usize) -> Result<Computer, Failure> {
        match gpu::open(index, self.arithmetic(), kernel_cache().as_deref()) {
            Ok(gpu::Opened { device, arithmetic, .. }) => Ok(Computer { device, arithmetic }),
            Err(error) => Err(Failure::new(format!("cannot open cuda:{index}"), error)
                .hint("strait doctor says what is there and what is missing")),
        }
    }

    /// What the GPU is asked to multiply, where it is asked for something.
    fn arithmetic(&self) -> Option<Arithmetic> {
        match (self.precision, self.tf32) {
            (Precision::Bf16, _) => Some(Arithmetic::Bf16),
            (Precision::F32, Some(Switch::On)) => Some(Arithmetic::Tf32),
            (Precision::F32, Some(Switch::Off)) => Some(Arithmetic::F32),
            (Precision::F32, None) => None,
        }
    }

    /// Bytes of a number in a map.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.precision.map_bytes()
    }

    /// The GPU's memory in bytes; nothing of the CPU's.
    pub(crate) fn gpu_bytes(&self) -> Option<u64> {
        let index = *self.device.gpus().first()?;
        Some(gpu::devices().ok()?.get(index)?.bytes.1 as u64)
    }

    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        rayon::current_num_threads()
    }
}

/// Where compiled kernels are kept: the user's cache folder, if there is one.
pub(crate) fn kernel_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    Some(caches?.join("strait"))
}

/// What `--device` names, opened.
pub(crate) enum Devices {
    /// One, as ever.
    One(Computer),
    /// One or several that learn alike, each a rank.
    Ranks(Vec<Computer>),
}

impl Devices {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Ranks(computers) => computers.len(),
        }
    }

    /// The one, or the first of several: whatever is not learned by all is computed there.
    pub(crate) fn first(&self) -> &Computer {
        match self {
            Self::One(computer) => computer,
            Self::Ranks(computers) => &computers[0], // a list is never empty
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DeviceName {
    Cpu,
    Cuda(usize),
    /// A list with a comma: `cuda:0,1`, or `cuda:0,` for one rank.
    Ranks(Vec<usize>),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let device = match text.strip_prefix("cuda") {
            Some("") => Some(Self::Cuda(0)),
            Some(rest) => rest.strip_prefix(':').and_then(Self::indices),
            None => (text == "cpu").then_some(Self::Cpu),
        };
        device.ok_or_else(|| "expected cpu, cuda, cuda:INDEX or different ones as in cuda:0,1".to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Ranks(indices) => {
                let [all @ .., last] = &indices[..] else { return f.write_str("cuda") };
                f.write_str("cuda:")?;
                all.iter().try_for_each(|index| write!(f, "{index},"))?;
                write!(f, "{last}{}", if all.is_empty() { "," } else { "" })
            }
        }
    }
}

impl DeviceName {
    /// The NVIDIA devices, none for the CPU.
    pub(crate) fn gpus(&self) -> &[usize] {
        match self {
            Self::Cpu => &[],
            Self::Cuda(index) => std::slice::from_ref(index),
            Self::Ranks(indices) => indices,
        }
    }

    fn indices(text: &str) -> Option<Self> {
        if !text.contains(',') {
            return text.parse().ok().map(Self::Cuda);
        }
        let list = text.strip_suffix(',').unwrap_or(text);
        let indices: Vec<usize> = list.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        let twice = indices.iter().enumerate().any(|(i, index)| indices[..i].contains(index));
        (!twice).then_some(Self::Ranks(indices))
    }
}

/// Settings beyond the flags: a file, and single keys.
#[derive(Args, Debug)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// Settings file; what it leaves out comes from the space, then from the defaults
    #[arg(long, value_name = "FILE.yaml")]
    config: Option<PathBuf>,
    /// One setting, over everything else: `--set weights.lr=0.1`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, as in weights.lr=0.1")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// The settings as they were given, owned, so that [`Layer`]s can point into them.
#[derive(Debug)]
pub(crate) struct Given {
    file: Option<(String, String)>,
    pairs: Vec<(String, String)>,
}

impl Settings {
    /// Reads the file and puts the command's own flags (`None` where not given) under the pairs of `--set`.
    pub(crate) fn read(&self, flags: &[(&str, Option<String>)]) -> Result<Given, Failure> {
        let flag = |(key, value): &(&str, Option<String>)| Some(((*key).to_owned(), value.clone()?));
        let pairs = flags.iter().filter_map(flag).chain(self.set.iter().cloned()).collect();
        let file =
            self.config.as_deref().map(|path| Ok::<_, Failure>((path.display().to_string(), read(path)?)));
        Ok(Given { file: file.transpose()?, pairs })
    }
}

impl Given {
    /// The layers of a search, lowest first: what the space says, the file, the flags, the pairs.
    pub(crate) fn over_space<'a>(&'a self, space: &'a Space, origin: &'a str) -> Vec<Layer<'a>> {
        self.over(Layer::Space { origin, space })
    }

    /// What is given and, where nothing is, a search's defaults: for commands without a space of their own.
    pub(crate) fn over_defaults(&self) -> Result<SearchConfig, Failure> {
        let value = &serde_yaml::Value::Null;
        Ok(SearchConfig::resolve(&self.over(Layer::Value { origin: "defaults", value }))?)
    }

    /// The layers over `base`, lowest first.
    pub(crate) fn over<'a>(&'a self, base: Layer<'a>) -> Vec<Layer<'a>> {
        let file = self.file.iter().map(|(origin, text)| Layer::Text { origin, text });
        let pairs = self.pairs.iter().map(|(key, value)| Layer::Set { key, value });
        std::iter::once(base).chain(file).chain(pairs).collect()
    }
}

/// A string as a YAML value that cannot be read as anything else.
pub(crate) fn quoted(text: impl AsRef<str>) -> String {
    serde_json::to_string(text.as_ref()).expect("a string has a JSON form")
}

/// The longest text that a person would write by hand, with room to spare.
const MOST_BYTES: u64 = 1 << 20;

/// The text of a file that a person named.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let refuse = |why: String| Failure::misuse(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refuse(format!("too long; expected at most {} KiB", MOST_BYTES / 1024)));
    }
    Ok(text)
}

/// The space in a file, or the shipped one of that name.
pub(crate) fn space(name: &str, catalog: &Catalog) -> Result<Space, Failure> {
    let path = Path::new(name);
    if path.exists() && !path.is_dir() {
        return Ok(Space::load(path, catalog)?);
    }
    let shipped = Space::shipped(name.strip_suffix(".yaml").unwrap_or(name), catalog);
    let names = Space::shipped_names();
    shipped.transpose()?.ok_or_else(|| {
        let near = nearest(name, names.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        Failure::misuse(format!(
            "no file and no shipped space is called `{name}`{}",
            near.unwrap_or_default()
        ))
        .hint(format!("shipped are {}; `strait new` writes one to start from", names.join(", ")))
    })
}

/// The space of a run, as it was when the run began.
pub(crate) fn space_of(run: &RunDir, catalog: &Catalog) -> Result<Space, Failure> {
    let name = run.path().join("space.yaml").display().to_string();
    Ok(Space::parse(&run.space_yaml()?, &name, catalog)?)
}

/// A directory for a new run; with `force`, in place of another run.
pub(crate) fn create_run(path: &Path, force: bool) -> Result<RunDir, Failure> {
    let overwrite = if force { Overwrite::Force } else { Overwrite::Refuse };
    let run = RunDir::create(path, overwrite).map_err(|error| {
        let ways =
            "name another directory with --out, replace the run with --force, or go on with it with --resume";
        Failure::from(error).hint(ways)
    })?;
    events::clear(path)?;
    Ok(run)
}

/// The data that a configuration names.
pub(crate) fn dataset(config: &DataConfig) -> Result<Arc<dyn Dataset>, Failure> {
    Ok(data::open(&config.source, &config.options)?)
}

/// `--estimator`, checked: a name that [`estimators::by_name`] knows.
pub(crate) fn estimator_name(name: &str) -> Result<String, UnknownEstimator> {
    estimators::by_name(name).map(|_| name.to_owned())
}

/// `--save-every`: minutes between two checkpoints.
pub(crate) fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| (0.0..=1e6).contains(minutes));
    minutes.ok_or_else(|| "expected minutes, at least 0".to_owned())
}

/// `--data`, checked before anything else is done.
pub(crate) fn data_flag(data: Option<&DataSpec>) -> Option<String> {
    data.map(|data| quoted(data.to_string()))
}

/// A genotype and its space, from a file or from a run.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) space: Space,
    pub(crate) genotype: Genotype,
    /// The run it comes from.
    pub(crate) run: Option<RunDir>,
}

impl Subject {
    /// Of a run that has decided.
    pub(crate) fn of(run: &RunDir, catalog: &Catalog) -> Result<Self, Failure> {
        let genotype = run.genotype().map_err(|error| {
            Failure::from(error)
                .hint(format!("let the search end: strait search --resume {}", run.path().display()))
        })?;
        Ok(Self { space: space_of(run, catalog)?, genotype, run: None })
    }

    /// Of the run or the genotype at `path`; its space is the run's, the one that is named, or a shipped one.
    pub(crate) fn open(path: &Path, named: Option<&str>, catalog: &Catalog) -> Result<Self, Failure> {
        if path.is_dir() {
            let run = RunDir::view(path)?;
            let subject = Self::of(&run, catalog)?;
            let other = named.map(|name| space(name, catalog)).transpose()?;
            return Ok(Self { space: other.unwrap_or(subject.space), run: Some(run), ..subject });
        }
        let text = genotype_text(path)?;
        let refuse = |error| Failure::misuse(format!("{}: not a genotype: {error}", path.display()));
        let own = match Notation::of(&text).home() {
            Some(home) => home.to_owned(),
            None => Genotype::from_yaml(&text).map_err(refuse)?.space,
        };
        let name = named.unwrap_or(&own);
        if named.is_none() && Space::shipped_yaml(name).is_none() {
            let message = format!("{}: of the space `{name}`, which is not shipped", path.display());
            return Err(Failure::misuse(message).hint("name the space's file with --space"));
        }
        let space = space(name, catalog)?;
        let genotype = Genotype::parse(&text, &space).map_err(refuse)?;
        Ok(Self { space, genotype, run: None })
    }
}

/// What a person named: the text of a genotype in a notation of the literature, or the file that holds one.
fn genotype_text(subject: &Path) -> Result<String, Failure> {
    match subject.to_str() {
        Some(text) if !subject.exists() && Notation::of(text) != Notation::Strait => Ok(text.to_owned()),
        _ => read(subject),
    }
}

/// A search at its last checkpoint, to look at.
pub(crate) struct Finished<'c> {
    pub(crate) config: SearchConfig,
    pub(crate) split: SearchData,
    pub(crate) search: Search<'c>,
}

impl<'c> Finished<'c> {
    /// Reads the run at `path`, on its own data or on `other`.
    pub(crate) fn open(
        path: &Path,
        other: Option<&DataSpec>,
        catalog: &'c Catalog,
        on: &Computer,
    ) -> Result<Self, Failure> {
        let run = RunDir::view(path)?;
        let (space, config) = (space_of(&run, catalog)?, run.search_config()?);
        let own = SearchData::split(dataset(&config.data)?, &config.split())?;
        let search = Search::new(&space, catalog, &own, config.clone(), &on.device)?;
        let mut search = search.with_maps(on.arithmetic.maps());
        if !search.resume(&run)? {
            let again = format!("let it search: strait search --resume {}", path.display());
            return Err(Failure::misuse(format!("{}: no checkpoint yet", path.display())).hint(again));
        }
        let split = match other {
            None => own,
            Some(source) => {
                let data = DataConfig { source: source.clone(), ..config.data.clone() };
                SearchData::split(dataset(&data)?, &config.split())?
            }
        };
        Ok(Self { config, split, search })
    }
}

/// Shape and number of classes of the data that were named; else what the space fixes, or would accept.
pub(crate) fn laid_out_for(data: Option<&dyn Dataset>, space: &Space) -> (Shape, usize) {
    match data {
        Some(data) => (data.info().shape, data.info().classes.len()),
        None => (space.sample_input(), space.classes().unwrap_or(10)),
    }
}

/// `--resize`: height and width.
pub(crate) fn size(text: &str) -> Result<[usize; 2], String> {
    let parse = |side: &str| side.parse().ok().filter(|side| (1..=4096).contains(side));
    let sides = text.split_once('x').and_then(|(height, width)| Some([parse(height)?, parse(width)?]));
    sides.ok_or_else(|| "expected HEIGHTxWIDTH in pixels, as in 32x32".to_owned())
}

/// Writes a file that a person named.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| Failure::new(format!("cannot write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_makes_ranks_and_no_device_is_named_twice() {
        let read = |text: &str| text.parse::<DeviceName>().ok();
        assert_eq!(read("cpu"), Some(DeviceName::Cpu));
        assert_eq!((read("cuda"), read("cuda:3")), (Some(DeviceName::Cuda(0)), Some(DeviceName::Cuda(3))));
        assert_eq!(read("cuda:0,1"), Some(DeviceName::Ranks(vec![0, 1])));
        assert_eq!(read("cuda:2,"), Some(DeviceName::Ranks(vec![2])));
        for faulty in ["cuda:", "cuda:,", "cuda:0,,1", "cuda:0,0", "cuda0", "gpu", "cuda:-1"] {
            assert_eq!(read(faulty), None, "{faulty}");
        }
    }
}
