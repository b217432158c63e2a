//! Times cuBLASLt's algorithms for the products of a model with 1.5B parameters, and writes one row for each algorithm and product. Asserts no
//! speed. The rows go to stdout (use `--nocapture`) and to the file in `RLVR_PRODUCTS_TSV`.
//!
//! In the column `algorithm`, `batch-invariant` is the algorithm of batch-invariant products for this number of rows, and the others are
//! numbered in the order of `Library::candidates`. The last two columns are a checksum of the first 32 rows, and whether these rows equal
//! those of a batch-invariant product with 32 rows.

use std::io::Write;

use candle_core::cuda_backend::cudarc::cublaslt::sys::cublasLtMatmulAlgoConfigAttributes_t as Setting;
use candle_core::cuda_backend::cudarc::driver::result::memcpy_dtod_async;

use super::super::algorithm::Candidate;
use super::*;

/// Number of rows whose bits are compared.
const COMPARED: usize = 32;
/// Number of random values, which a larger matrix repeats.
const RANDOM: usize = 1 << 20;

/// A product of the model.
struct Case {
    name: &'static str,
    k: usize,
    n: usize,
    bias: bool,
    addend: bool,
    /// Whether it is the product of the language-model head: with the transposed embedding table, into f32.
    head: bool,
}

impl Case {
    fn shape(&self, m: usize) -> Shape {
        let result = if self.head { DType::F32 } else { DType::BF16 };
        let Self { k, n, bias, addend, head, .. } = *self;
        Shape { m, k, n, a_transposed: false, b_transposed: head, factors: DType::BF16, result, bias, addend }
    }
}

/// The products of Qwen2.5-Math-1.5B and the numbers of rows; smaller ones on an emulated GPU.
fn cases() -> (Vec<Case>, [usize; 3]) {
    let case = |name, k, n| Case { name, k, n, bias: name == "qkv", addend: name == "output" || name == "down", head: name == "head" };
    if is_emulated() {
        return (
            vec![case("qkv", 64, 96), case("output", 64, 64), case("gate_up", 64, 192), case("down", 96, 64), case("head", 64, 160)],
            [32, 40, 65],
        );
    }
    let cases = [case("qkv", 1536, 2048), case("output", 1536, 1536), case("gate_up", 1536, 17_920), case("down", 8960, 1536)];
    (cases.into_iter().chain([case("head", 1536, 151_936)]).collect(), [32, 1024, 16_384])
}

/// Returns a matrix of repeating random values. Its first rows are the same for any number of rows.
fn matrix(gpu: &Gpu, rows: usize, columns: usize, seed: u64) -> Result<Tensor> {
    let block = put(gpu, &random(((RANDOM / columns).max(COMPARED), columns), seed), DType::BF16)?;
    let matrix = gpu.empty((rows, columns).into(), DType::BF16)?;
    let stream = gpu.cuda.cuda_stream();
    let (from, to) = (address(&block, &stream)?, address(&matrix, &stream)?);
    let row_bytes = columns * DType::BF16.size_in_bytes();
    for row in (0..rows).step_by(block.dim(0)?) {
        let bytes = block.dim(0)?.min(rows - row) * row_bytes;
        // SAFETY: both matrices have this many bytes from here on.
        #[allow(unsafe_code)]
        unsafe { memcpy_dtod_async(to + (row * row_bytes) as u64, from, bytes, stream.cu_stream()) }.w()?;
    }
    Ok(matrix)
}

/// Returns a checksum of the bits of the first rows.
fn first_rows(gpu: &Gpu, out: &Tensor) -> Result<String> {
    let (rows, columns) = (COMPARED.min(out.dim(0)?), out.dim(1)?);
    let some = gpu.empty((rows, columns).into(), out.dtype())?;
    let stream = gpu.cuda.cuda_stream();
    // SAFETY: both matrices have at least this many rows.
    #[allow(unsafe_code)]
    unsafe {
        memcpy_dtod_async(
            address(&some, &stream)?,
            address(out, &stream)?,
            rows * columns * out.dtype().size_in_bytes(),
            stream.cu_stream(),
        )
    }
    .w()?;
    let bytes: Vec<u8> = read(&some)?.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
    Ok(blake3::hash(&bytes).to_hex()[..8].to_owned())
}

/// The tensors of one product.
struct Tensors {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    addend: Option<Tensor>,
    out: Tensor,
}

impl Tensors {
    fn new(gpu: &Gpu, case: &Case, m: usize) -> Result<Self> {
        let shape = case.shape(m);
        Ok(Self {
            x: matrix(gpu, m, case.k, 1)?,
            weight: if case.head { matrix(gpu, case.n, case.k, 2)?.t()? } else { matrix(gpu, case.k, case.n, 2)? },
            bias: case.bias.then(|| put(gpu, &random(case.n, 3), shape.result)).transpose()?,
            addend: case.addend.then(|| matrix(gpu, m, case.n, 4)).transpose()?,
            out: gpu.empty((m, case.n).into(), shape.result)?,
        })
    }

    fn product(&self) -> Result<Product<'_>> {
        let (a, b) = (Factor::of(&self.x)?, Factor::of(&self.weight)?);
        Ok(Product { a, b, bias: self.bias.as_ref(), addend: self.addend.as_ref(), out: &self.out, forward: true })
    }
}

/// Runs an algorithm. Returns its milliseconds (infinite if it fails, `None` if the device has no clock) and the checksum of the first rows.
fn run(gpu: &Gpu, products: &Products, tensors: &Tensors, shape: &Shape, candidate: &Candidate) -> Result<(Option<f32>, String)> {
    let operands = products.operands(&tensors.product()?, shape)?;
    let mut description = Description::new(shape, operands.bias)?;
    let stream = &products.stream;
    // Fills the result with NaN, so that unwritten elements are detected.
    // SAFETY: the result has this many bytes.
    #[allow(unsafe_code)]
    unsafe { memset_d8_async(operands.out, 0xff, shape.m * shape.n * shape.result.size_in_bytes(), stream.cu_stream()) }.w()?;
    let start = |_| {
        products.library.run(
            &mut description,
            &candidate.algorithm,
            &operands,
            products.part(candidate.workspace),
            stream.cu_stream().cast(),
        )
    };
    let times = timing::measure(stream, 1, || products.overwrite_workspace(), start)?;
    Ok((times.map(|times| times[0]), first_rows(gpu, &tensors.out)?))
}

#[test]
fn on_a_gpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let products = Products::new(gpu.cuda.cuda_stream(), true, None)?;
    let mut file = std::env::var_os("RLVR_PRODUCTS_TSV").map(std::fs::File::create).transpose()?;
    let mut write_row = |columns: &[String]| -> Result<()> {
        let line = format!("products\t{}\n", columns.join("\t"));
        print!("{line}");
        file.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()))?;
        Ok(())
    };
    write_row(
        &[
            "product",
            "rows",
            "k",
            "n",
            "algorithm",
            "microseconds",
            "tflops",
            "workspace_bytes",
            "id",
            "tile",
            "stages",
            "parts",
            "reduction",
            "bits",
            "as_batch_invariant",
        ]
        .map(String::from),
    )?;
    let (cases, rows) = cases();
    for case in &cases {
        // The checksum of the first batch-invariant product.
        let mut expected = None;
        for m in rows.into_iter().filter(|m| !case.head || *m <= 1024) {
            let (tensors, shape) = (Tensors::new(&gpu, case, m)?, case.shape(m));
            let operands = products.operands(&tensors.product()?, &shape)?;
            let plan =
                products.plan(&mut products.state.lock().expect("no product panicked"), &products.stream, &shape, true, &operands)?;
            let invariant = Candidate { algorithm: plan.algorithm, workspace: plan.workspace };
            let offered = products.library.candidates(&Description::new(&shape, operands.bias)?, ORDINARY)?;
            let names = std::iter::once("batch-invariant".to_owned()).chain((1..).map(|number: usize| number.to_string()));
            for (name, candidate) in names.zip([invariant].iter().chain(&offered)) {
                let (time, bits) = run(&gpu, &products, &tensors, &shape, candidate)?;
                let is_same = expected.get_or_insert_with(|| bits.clone()) == &bits;
                let number = |value: Option<f64>| match value {
                    None => "-".to_owned(),
                    Some(value) if value.is_finite() && value > 0.0 => format!("{value:.1}"),
                    Some(_) => "refused".to_owned(),
                };
                let runs = time.is_none_or(f32::is_finite);
                let setting = |setting| candidate.algorithm.setting(setting).map_or("-".to_owned(), |value| value.to_string());
                let milliseconds = time.map(f64::from);
                write_row(&[
                    case.name.to_owned(),
                    m.to_string(),
                    case.k.to_string(),
                    case.n.to_string(),
                    name,
                    number(milliseconds.map(|time| time * 1e3)),
                    number(milliseconds.map(|time| shape.flops() / time / 1e9)),
                    candidate.workspace.to_string(),
                    setting(Setting::CUBLASLT_ALGO_CONFIG_ID),
                    setting(Setting::CUBLASLT_ALGO_CONFIG_TILE_ID),
                    setting(Setting::CUBLASLT_ALGO_CONFIG_STAGES_ID),
                    setting(Setting::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
                    setting(Setting::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
                    if runs { bits } else { "-".to_owned() },
                    if !runs {
                        "-"
                    } else if is_same {
                        "yes"
                    } else {
                        "no"
                    }
                    .to_owned(),
                ])?;
            }
        }
    }
    Ok(())
}
