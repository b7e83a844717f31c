use std::panic::{AssertUnwindSafe, catch_unwind};

use search_space::Extent;

use super::*;
use crate::{DataInfo, Dataset, Examples, InMemory, Part, TestData, TrainData, Values};

/// Where an example stands, and its values.
type Seen = (usize, Vec<f32>);
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Ten images of 4×4 different pixels; all labels are 1 of two classes.
fn ten() -> Arc<dyn Dataset> {
    let shape = Shape { extent: Extent::Image { height: 4, width: 4 }, channels: 1 };
    let part =
        || Examples { values: Values::Bytes { data: (1..=160).collect(), full: 255 }, labels: vec![1; 10] };
    let classes = vec!["none".into(), "all".into()];
    Arc::new(InMemory::new("ten", shape, classes, part(), part()).expect("valid examples"))
}

fn all(plan: BatchPlan) -> Result<Vec<Batch>> {
    let data = TrainData::of(ten())?;
    Ok(batches(data.subset(), plan, DType::F32, &Device::Cpu)?.collect::<std::result::Result<_, _>>()?)
}

/// Index and bytes of every example, in order.
fn examples(plan: BatchPlan) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for batch in all(plan)? {
        seen.extend(batch.indices.into_iter().zip(batch.x.flatten_from(1)?.to_vec2()?));
    }
    Ok(seen)
}

fn order(plan: BatchPlan) -> Result<Vec<usize>> {
    Ok(all(plan)?.into_iter().flat_map(|batch| batch.indices).collect())
}

#[test]
fn a_batch_holds_examples_labels_and_indices_and_the_last_may_be_smaller() -> Result {
    let made = all(BatchPlan::sequential(4))?;
    let sizes: Vec<_> = made.iter().map(|batch| (batch.x.dims().to_vec(), batch.y.len())).collect();
    assert_eq!(sizes, [(vec![4, 4, 4, 1], 4), (vec![4, 4, 4, 1], 4), (vec![2, 4, 4, 1], 2)]);
    assert_eq!((&made[2].y, &made[2].indices), (&vec![1, 1], &vec![8, 9]));
    assert_eq!(made[2].x.flatten_all()?.to_vec1::<f32>()?[0], 129.0 / 255.0);
    Ok(())
}

#[test]
fn a_tail_may_be_dropped() -> Result {
    assert_eq!(all(BatchPlan { tail: Tail::Drop, ..BatchPlan::sequential(4) })?.len(), 2);
    assert_eq!(all(BatchPlan { tail: Tail::Drop, ..BatchPlan::sequential(11) })?.len(), 0);
    Ok(())
}

#[test]
fn an_epoch_is_a_permutation_of_its_own() -> Result {
    let (zero, one) = (order(BatchPlan::shuffled(3, 7, 0))?, order(BatchPlan::shuffled(3, 7, 1))?);
    assert_eq!(zero, order(BatchPlan::shuffled(5, 7, 0))?);
    assert_ne!(zero, one);
    assert_ne!(zero, order(BatchPlan::shuffled(3, 8, 0))?);
    let mut sorted = zero;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..10));
    Ok(())
}

#[test]
fn a_resumed_epoch_is_the_rest_of_a_whole_one() -> Result {
    let augment = Some(Augment { crop_padding: 1, flip: true, cutout: 2, ..Augment::default() });
    let plan = BatchPlan { augment, ..BatchPlan::shuffled(3, 1, 5) };
    let resumed = examples(BatchPlan { first_step: 2, ..plan.clone() })?;
    assert_eq!(resumed, examples(plan)?[6..]);
    assert!(all(BatchPlan { first_step: 9, ..BatchPlan::sequential(3) })?.is_empty());
    Ok(())
}

#[test]
fn a_disturbance_depends_on_seed_epoch_and_example_alone() -> Result {
    let augment = Some(Augment { crop_padding: 2, flip: true, cutout: 1, ..Augment::default() });
    let sorted = |batch, order_seed, epoch, seed| {
        let plan = BatchPlan { augment, seed, ..BatchPlan::shuffled(batch, order_seed, epoch) };
        examples(plan).map(|mut seen| {
            seen.sort_by_key(|(index, _)| *index);
            seen
        })
    };
    let one = sorted(3, 1, 4, 9)?;
    assert_eq!(one, sorted(4, 2, 4, 9)?);
    assert_ne!(one, sorted(3, 1, 5, 9)?);
    assert_ne!(one, sorted(3, 1, 4, 8)?);
    Ok(())
}

#[test]
fn double_precision_holds_the_same_values() -> Result {
    let data = TestData::of(ten())?;
    let normalize = Some(Normalize { mean: vec![0.3], deviation: vec![0.7] });
    let plan = BatchPlan { normalize, ..BatchPlan::sequential(10) };
    let in_type = |dtype| {
        batches(data.subset(), plan.clone(), dtype, &Device::Cpu)?
            .next()
            .ok_or("no batch")?
            .map_err(Box::<dyn std::error::Error>::from)
    };
    let (single, double) = (in_type(DType::F32)?.x, in_type(DType::F64)?.x);
    assert_eq!(double.dtype(), DType::F64);
    assert_eq!(
        single.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?,
        double.flatten_all()?.to_vec1::<f64>()?
    );
    Ok(())
}

#[test]
fn the_number_of_batches_is_known_beforehand() -> Result {
    let data = TrainData::of(ten())?;
    let plan = BatchPlan { first_step: 1, ..BatchPlan::sequential(4) };
    let mut left = batches(data.subset(), plan, DType::F32, &Device::Cpu)?;
    assert_eq!(left.len(), 2);
    left.next();
    assert_eq!(left.len(), 1);
    Ok(())
}

#[test]
fn dropping_the_batches_ends_their_thread() -> Result {
    let dataset = ten();
    let data = TrainData::of(dataset.clone())?;
    let mut some = batches(data.subset(), BatchPlan::sequential(1), DType::F32, &Device::Cpu)?;
    some.next();
    drop(some);
    assert_eq!(Arc::strong_count(&dataset), 2); // ours and that of `data`
    Ok(())
}

#[track_caller]
fn refuses(plan: BatchPlan, expected: &str) {
    let data = TrainData::of(ten()).expect("ten examples");
    let error =
        batches(data.subset(), plan, DType::F32, &Device::Cpu).expect_err("a faulty plan was accepted");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    refuses(BatchPlan::sequential(0), "batch: 0; accepted: at least 1");
    let normalize = Some(Normalize { mean: vec![0.0; 3], deviation: vec![1.0; 3] });
    let expected = "normalize: 3 means, 3 deviations; accepted: 1 of each";
    refuses(BatchPlan { normalize, ..BatchPlan::sequential(1) }, expected);
    let augment = Some(Augment { cutout: 5, ..Augment::default() });
    refuses(BatchPlan { augment, ..BatchPlan::sequential(1) }, "augment.cutout: 5; accepted: at most 4");
}

/// A data set of somebody else's, whose fourth example is wrong.
struct Custom(DataInfo, fn() -> u32);

impl Dataset for Custom {
    fn info(&self) -> &DataInfo {
        &self.0
    }

    fn len(&self, _: Part) -> usize {
        8
    }

    fn read(&self, _: Part, index: usize, out: &mut [f32]) -> u32 {
        out.fill(0.5);
        if index == 3 { self.1() } else { 0 }
    }
}

fn custom(fourth: fn() -> u32) -> std::result::Result<Batches, Error> {
    let shape = Shape { extent: Extent::Flat, channels: 1 };
    let info = DataInfo { name: "custom".into(), shape, classes: vec!["only".into()] };
    let data = TrainData::of(Arc::new(Custom(info, fourth)))?;
    batches(data.subset(), BatchPlan::sequential(2), DType::F32, &Device::Cpu)
}

#[test]
fn a_label_that_is_no_class_ends_the_batches_with_an_error() -> Result {
    let made: Vec<_> = custom(|| 5)?.collect();
    assert_eq!(made.len(), 2);
    let Err(error) = &made[1] else { panic!("label 5 of 1 class was accepted") };
    assert_eq!(error.to_string(), "custom: record 3: label 5; accepted: below 1");
    Ok(())
}

#[test]
fn a_panic_of_a_data_set_reaches_the_caller() -> Result {
    let made = custom(|| panic!("disk on fire"))?;
    let panic = catch_unwind(AssertUnwindSafe(|| made.count())).expect_err("the panic was swallowed");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"disk on fire"));
    Ok(())
}

/// Reads in a pool of threads, as a decoder might.
struct Parallel(Arc<dyn Dataset>, Arc<rayon::ThreadPool>);

impl Dataset for Parallel {
    fn info(&self) -> &DataInfo {
        self.0.info()
    }

    fn len(&self, part: Part) -> usize {
        self.0.len(part)
    }

    fn read(&self, part: Part, index: usize, out: &mut [f32]) -> u32 {
        self.1.install(|| self.0.read(part, index, out))
    }
}

/// The only thread of the pool is the one that waits for the batches.
#[test]
fn examples_read_in_parallel_arrive_on_a_single_thread() {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        let data: Arc<dyn Dataset> = Arc::new(Parallel(ten(), Arc::new(pool.expect("one thread exists"))));
        let data = TrainData::of(data).expect("valid examples");
        let batches = batches(data.subset(), BatchPlan::sequential(4), DType::F32, &Device::Cpu);
        let _ = sender.send(batches.expect("a valid plan").filter(std::result::Result::is_ok).count());
    });
    let arrived = receiver.recv_timeout(Duration::from_secs(60));
    assert_eq!(arrived, Ok(3), "reading and waiting wait for each other");
}
