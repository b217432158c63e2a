use super::*;
use crate::dist::World;
use crate::kernels::Cpu;
use crate::kernels::cpu::testing::random;

#[test]
fn learning_rate_follows_warmup_and_schedule() {
    let settings = |schedule| OptimSettings { lr: 2.0, warmup_steps: 4, schedule, ..OptimSettings::default() };
    assert_eq!(settings(Schedule::Constant).learning_rate(1, 10), 0.5);
    assert_eq!(settings(Schedule::Constant).learning_rate(10, 10), 2.0);
    assert_eq!(settings(Schedule::Linear).learning_rate(5, 10), 2.0);
    assert!((settings(Schedule::Linear).learning_rate(10, 10) - 2.0 / 6.0).abs() < 1e-12);
    assert_eq!(settings(Schedule::Cosine).learning_rate(5, 10), 2.0);
    let late = OptimSettings { decay_steps: 2, ..settings(Schedule::Linear) };
    assert_eq!([8, 9, 10].map(|step| late.learning_rate(step, 10)), [2.0, 2.0, 1.0]);
    assert!(settings(Schedule::Cosine).learning_rate(10, 10) < 0.15);
}

fn row(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

fn named<'a>(tensors: &[(&str, &'a Tensor)]) -> Vec<(String, &'a Tensor)> {
    tensors.iter().map(|(name, tensor)| ((*name).to_owned(), *tensor)).collect()
}

/// Compares two steps with a calculation by hand. The first step moves each element by the learning rate, whatever the size of its
/// gradient; only a second step, with a gradient of another norm, shows whether the first was clipped.
#[test]
fn step_clips_trained_parameters_and_skips_frozen_ones() -> Result<()> {
    let (weight, frozen) = (row(&[1.0, -2.0])?, row(&[5.0, 6.0])?);
    let parameters = named(&[("layers.1", &weight), ("layers.1_frozen", &frozen)]);
    let settings = OptimSettings { weight_decay: 0.1, clip_norm: 2.0, freeze: vec!["layers.1_frozen".into()], ..OptimSettings::default() };
    let mut optimizer = AdamW::new(settings, &Cpu, &parameters, World::solo())?;
    assert!(optimizer.state("layers.1").is_some() && optimizer.state("layers.1_frozen").is_none());
    let (mut p, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
    // The norms are 5, clipped to 2, and 0.5, not clipped. The gradient of the frozen tensor would dominate both.
    for (count, gradient, clipped) in [(1, [3.0, 4.0], 0.4), (2, [-0.3, 0.4], 1.0)] {
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let (tensor, other) = (row(&gradient.map(|g| g as f32))?, row(&[100.0, 100.0])?);
        let found = optimizer.step(&Cpu, &parameters, &named(&[("layers.1_frozen", &other), ("layers.1", &tensor)]), 0.01)?;
        assert!((found - norm).abs() < 1e-6, "{found}, expected {norm}");
        for i in 0..2 {
            let g = gradient[i] * clipped;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powi(count)), v[i] / (1.0 - 0.999f64.powi(count)));
            p[i] = p[i] * (1.0 - 0.01 * 0.1) - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
        }
        let found = weight.to_vec1::<f32>()?;
        assert!(found.iter().zip(p).all(|(f, e)| (f64::from(*f) - e).abs() < 1e-6), "step {count}: {found:?}, expected {p:?}");
    }
    assert_eq!(frozen.to_vec1::<f32>()?, [5.0, 6.0]);
    Ok(())
}

#[test]
fn step_changes_nothing_on_error() -> Result<()> {
    let weight = row(&[1.0, -2.0])?;
    let parameters = named(&[("norm", &weight)]);
    let mut optimizer = AdamW::new(OptimSettings::default(), &Cpu, &parameters, World::solo())?;
    let mut check = |gradients: &[(&str, &Tensor)], expected: &str| -> Result<()> {
        let message = optimizer.step(&Cpu, &parameters, &named(gradients), 0.01).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(message.contains(expected), "{message}");
        assert_eq!((optimizer.count, weight.to_vec1::<f32>()?), (0, vec![1.0, -2.0]));
        Ok(())
    };
    check(&[("norm", &row(&[1.0, f32::NAN])?)], "the gradient of norm is not finite")?;
    check(&[("other", &row(&[1.0, 1.0])?)], "norm has no gradient")?;
    let settings = OptimSettings { freeze: vec!["nor".into()], ..OptimSettings::default() };
    let message = AdamW::new(settings, &Cpu, &parameters, World::solo()).map_or_else(|error| error.to_string(), |_| String::new());
    assert_eq!(message, "optim.freeze: unknown parameter \"nor\"; expected one of norm, or a prefix that ends before a dot");
    Ok(())
}

#[test]
fn moment_bytes_equal_allocated_bytes() -> Result<()> {
    let (matrix, norm) = (Tensor::zeros((48, 100), DType::F32, &Device::Cpu)?, Tensor::zeros(4095, DType::F32, &Device::Cpu)?);
    let parameters = named(&[("matrix", &matrix), ("norm", &norm), ("frozen", &matrix)]);
    let shapes: Vec<_> = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shape().clone())).collect();
    for (states, expected) in [(MomentDtype::F32, 8 * (4800 + 4095)), (MomentDtype::Quantized, 2 * (4800 + 4 * 19) + 8 * 4095)] {
        let settings = OptimSettings { states, freeze: vec!["frozen".into()], ..OptimSettings::default() };
        let optimizer = AdamW::new(settings.clone(), &Cpu, &parameters, World::solo())?;
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let allocated = optimizer.states.iter().flat_map(|state| match &state.moments {
            Moments::Full { first, second } => vec![bytes(first), bytes(second)],
            Moments::Quantized { first, second } => [first, second].map(|moment| bytes(&moment.codes) + bytes(&moment.scales)).to_vec(),
        });
        assert_eq!((allocated.sum::<usize>(), settings.moment_bytes(&shapes)), (expected, expected as u64));
    }
    Ok(())
}

/// Runs ten steps with noisy gradients, once with f32 states and once with 8-bit states. Returns the distance between the results relative
/// to the distance traveled with f32. Gradients within a block span `decades` decades.
fn distance_after_ten_steps(decades: f64) -> Result<f64> {
    let shape = (64, 256);
    let run = |states| -> Result<Vec<f32>> {
        let weight = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        let parameters = named(&[("weight", &weight)]);
        let mut optimizer =
            AdamW::new(OptimSettings { states, clip_norm: 0.0, ..OptimSettings::default() }, &Cpu, &parameters, World::solo())?;
        let sizes = (random(shape, 1) * (decades / 2.0 * std::f64::consts::LN_10))?.exp()?;
        // Blocks differ in size, too; each has its own scale.
        let sizes = sizes.broadcast_mul(&(random((64, 1), 3) * 4.6)?.exp()?)?;
        let mean = random(shape, 2);
        for step in 0..10 {
            let gradient = ((&mean + random(shape, 10 + step))? * &sizes)?;
            optimizer.step(&Cpu, &parameters, &named(&[("weight", &gradient)]), 0.01)?;
        }
        Ok(weight.flatten_all()?.to_vec1()?)
    };
    let (exact, found) = (run(MomentDtype::F32)?, run(MomentDtype::Quantized)?);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    Ok(norm(&mut exact.iter().zip(&found).map(|(e, f)| e - f)) / norm(&mut exact.iter().copied()))
}

/// Neighboring codes near a block's maximum are 1% to 14% apart, and twice as far apart in each lower decade, while Adam's steps have the
/// same size whatever the gradient's. If the gradients of a block have similar sizes, the results agree to within a few percent; if they
/// span four decades, they differ by about a quarter.
#[test]
fn step_with_8_bit_states_stays_near_f32() -> Result<()> {
    for (decades, nearest, farthest) in [(0.0, 0.0, 0.06), (4.0, 0.1, 0.35)] {
        let distance = distance_after_ten_steps(decades)?;
        assert!((nearest..farthest).contains(&distance), "{decades} decades: relative distance {distance:.3}");
    }
    Ok(())
}

/// Rank 0 reads each tensor from its owner, so it sees the states of a single process, and the other ranks return when it ends.
#[test]
fn all_states_reads_the_tensors_of_all_ranks() -> Result<()> {
    let shapes: [(&str, &[usize]); 4] = [("embedding", &[96, 64]), ("frozen", &[5]), ("norm", &[7]), ("qkv", &[80, 64])];
    let read = |states: &AllStates, name: &str, part: Part| -> Option<Vec<u8>> {
        let tensor = states.read(name, part).unwrap()?.flatten_all().unwrap();
        Some(match tensor.dtype() {
            DType::U8 => tensor.to_vec1::<u8>().unwrap(),
            _ => tensor.to_vec1::<f32>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
    };
    let states_of = |world: &World, states: MomentDtype| {
        let weights = shapes.map(|(_, shape)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
        let parameters = named(&shapes.iter().zip(&weights).map(|((name, _), tensor)| (*name, tensor)).collect::<Vec<_>>());
        let settings = OptimSettings { states, freeze: vec!["frozen".into()], ..OptimSettings::default() };
        let mut optimizer = AdamW::new(settings, &Cpu, &parameters, world).unwrap();
        let own = if world.is_first() { 1.0 } else { 0.0 };
        let gradients = shapes.map(|(name, shape)| (random(shape, name.len() as u64) * own).unwrap());
        let gradients = named(&shapes.iter().zip(&gradients).map(|((name, _), tensor)| (*name, tensor)).collect::<Vec<_>>());
        optimizer.step(&Cpu, &parameters, &gradients, 0.1).unwrap();
        if !world.is_first() {
            optimizer.send_states().unwrap();
            return Vec::new();
        }
        let states = optimizer.all_states(&parameters);
        assert!(!states.have_masters().unwrap() && states.names().eq(["embedding", "norm", "qkv"]));
        let parts = states.names().flat_map(|name| states.moments(name).unwrap().into_iter().map(move |(part, ..)| (name, part)));
        // In another order than that of the parameters, and some twice, as a file's layout may need them.
        let mut parts: Vec<(&str, Part)> = parts.collect();
        parts.reverse();
        parts.extend([("qkv", Part::Master), ("frozen", Part::First), parts[0]]);
        let found = parts.into_iter().map(|(name, part)| (name.to_owned(), part, read(&states, name, part))).collect();
        states.end().unwrap();
        found
    };
    for (moments, tensors) in [(MomentDtype::F32, 6), (MomentDtype::Quantized, 10)] {
        let alone = states_of(World::solo(), moments);
        assert_eq!(alone.iter().filter(|(.., bytes)| bytes.is_some()).count(), tensors + 1);
        assert!(alone[..tensors].iter().all(|(.., bytes)| bytes.as_ref().is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))));
        for ranks in [2, 4] {
            let found = crate::dist::threads::run(ranks, |world| states_of(&world, moments)).swap_remove(0);
            assert!(found == alone, "{moments:?}, {ranks} ranks");
        }
    }
    Ok(())
}
