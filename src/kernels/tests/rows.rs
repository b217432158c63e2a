//! Compares operations on rows, and matrix products, with f64.

use candle_core::{DType, Device, Result, Tensor};

use super::{Bench, mean};
use crate::kernels::cpu::testing::random;
use crate::kernels::{Heads, Rotation};

impl Bench<'_> {
    pub fn rows(&mut self, t: usize, width: usize) -> Result<()> {
        let (kernels, eps) = (self.kernels, 1e-6f32);
        let name = |operation: &str| format!("{operation} of {t} x {width}");
        let (x, weight, dy, dx) =
            (self.random((t, width), 1)?, self.random(width, 2)?, self.random((t, width), 3)?, self.random((t, width), 4)?);
        let weight_gradient = self.random_f32(width, 5)?;
        let inverse: Vec<f64> = x.exact.chunks(width).map(|x| 1.0 / (mean(x.iter().map(|x| x * x)) + f64::from(eps)).sqrt()).collect();
        let y = (0..t * width).map(|i| x.exact[i] * inverse[i / width] * weight.exact[i % width]);
        let (found, inverse_rms) = kernels.rms_norm(&x.tensor, &weight.tensor, eps)?;
        self.outcome(&name("rms_norm"), width, y.collect(), &found)?;
        self.outcome(&name("rms_norm's inverse"), 1, inverse.clone(), &inverse_rms)?;

        let (mut d_exact, mut w_exact) = (dx.exact.clone(), weight_gradient.exact.clone());
        for (row, inverse) in inverse.iter().enumerate() {
            let at = |i: usize| row * width + i;
            let n: Vec<f64> = (0..width).map(|i| x.exact[at(i)] * inverse).collect();
            let g: Vec<f64> = (0..width).map(|i| dy.exact[at(i)] * weight.exact[i]).collect();
            let projection = mean(n.iter().zip(&g).map(|(n, g)| n * g));
            for i in 0..width {
                d_exact[at(i)] += inverse * (g[i] - n[i] * projection);
                w_exact[i] += dy.exact[at(i)] * n[i];
            }
        }
        kernels.rms_norm_backward_into(&dx.tensor, &weight_gradient.tensor, &dy.tensor, &x.tensor, &weight.tensor, &inverse_rms)?;
        self.outcome(&name("rms_norm_backward_into"), width, d_exact, &dx.tensor)?;
        self.outcome(&name("rms_norm_backward_into's weight"), width, w_exact, &weight_gradient.tensor)?;

        // One index occurs often, others once, and some not at all.
        let rows: Vec<u32> = (0..t + 2).map(|i| if i % 3 == 0 { 0 } else { (i * 7 % t) as u32 }).collect();
        let indices = kernels.indices(&rows)?;
        let gathered = kernels.gather(&x.tensor, &indices)?;
        let exact = rows.iter().flat_map(|row| x.exact[*row as usize * width..][..width].to_vec()).collect();
        self.outcome(&name("gather"), width, exact, &gathered)?;
        for (what, dtype) in [("in f32", DType::F32), ("in the kernels' dtype", kernels.dtype())] {
            let target = self.put(&random((t, width), 8), dtype)?;
            let values = self.random((rows.len(), width), 9)?;
            let mut exact = target.exact.clone();
            for (row, values) in rows.iter().zip(values.exact.chunks(width)) {
                exact[*row as usize * width..][..width].iter_mut().zip(values).for_each(|(e, v)| *e += v);
            }
            kernels.scatter_add_into(&target.tensor, &rows, &values.tensor)?;
            self.outcome(&format!("{} {what}", name("scatter_add_into")), width, exact, &target.tensor)?;
            assert!(kernels.scatter_add_into(&target.tensor, &[], &values.tensor).is_err(), "values without row numbers must be rejected");
        }

        let gate_up = self.put(&(random((t, 2 * width), 10) * 4.0)?, kernels.dtype())?;
        let (mut y, mut d_exact) = (vec![0.0; t * width], vec![0.0; t * width * 2]);
        for (i, y) in y.iter_mut().enumerate() {
            let (row, column) = (i / width, i % width);
            let (gate, up) = (row * 2 * width + column, row * 2 * width + width + column);
            let (g, u) = (gate_up.exact[gate], gate_up.exact[up]);
            let sigmoid = 1.0 / (1.0 + (-g).exp());
            *y = g * sigmoid * u;
            d_exact[gate] = dy.exact[i] * u * (sigmoid + g * sigmoid * (1.0 - sigmoid));
            d_exact[up] = dy.exact[i] * g * sigmoid;
        }
        let found = kernels.swiglu(&gate_up.tensor)?;
        self.outcome(&name("swiglu"), width, y, &found)?;
        let found = kernels.swiglu_backward(&dy.tensor, &gate_up.tensor)?;
        self.outcome(&name("swiglu_backward"), 2 * width, d_exact, &found)
    }

    pub fn products(&mut self, m: usize, k: usize, n: usize) -> Result<()> {
        let kernels = self.kernels;
        let name = |operation: &str| format!("{operation} of {m} x {k} x {n}");
        let (x, weight, bias) = (self.random((m, k), 1)?, self.random((k, n), 2)?, self.random(n, 3)?);
        let (transposed, target, dy) = (self.random((n, k), 4)?, self.random((m, n), 5)?, self.random((m, n), 6)?);
        let gradient = self.random_f32((k, n), 7)?;
        let sum = |f: &dyn Fn(usize) -> f64, count: usize| (0..count).map(f).sum::<f64>();
        let all = |f: &dyn Fn(usize, usize) -> f64, rows: usize, columns: usize| {
            (0..rows * columns).map(|i| f(i / columns, i % columns)).collect::<Vec<f64>>()
        };
        let plain = |i: usize, j: usize| sum(&|l| x.exact[i * k + l] * weight.exact[l * n + j], k);
        let by_transpose = |i: usize, j: usize| sum(&|l| x.exact[i * k + l] * transposed.exact[j * k + l], k);
        let found = kernels.product(&x.tensor, &weight.tensor, None)?;
        self.outcome(&name("product"), n, all(&plain, m, n), &found)?;
        let found = kernels.product(&x.tensor, &weight.tensor, Some(&bias.tensor))?;
        self.outcome(&name("product with bias"), n, all(&|i, j| plain(i, j) + bias.exact[j], m, n), &found)?;
        let found = kernels.product(&x.tensor, &transposed.tensor.t()?, None)?;
        self.outcome(&name("product with a transpose"), n, all(&by_transpose, m, n), &found)?;
        let found = kernels.logits(&x.tensor, &transposed.tensor)?;
        assert_eq!(found.dtype(), DType::F32);
        self.outcome(&name("logits"), n, all(&by_transpose, m, n), &found)?;
        let exact = all(&|i, j| target.exact[i * n + j] + plain(i, j), m, n);
        let added = kernels.add_product(&target.tensor, &x.tensor, &weight.tensor)?;
        self.outcome(&name("add_product"), n, exact.clone(), &added)?;
        self.outcome(&name("add_product's base"), n, target.exact.clone(), &target.tensor)?;
        kernels.add_product_into(&target.tensor, &x.tensor, &weight.tensor)?;
        let bits = |tensor: &Tensor| crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.to_vec2::<f32>();
        assert_eq!(bits(&added)?, bits(&target.tensor)?, "add_product and add_product_into must return the same bits");
        self.outcome(&name("add_product_into"), n, exact, &target.tensor)?;
        let exact = all(&|i, j| gradient.exact[i * n + j] + sum(&|t| x.exact[t * k + i] * dy.exact[t * n + j], m), k, n);
        kernels.add_product_into(&gradient.tensor, &x.tensor.t()?, &dy.tensor)?;
        self.outcome(&name("add_product_into from a transpose"), n, exact, &gradient.tensor)
    }

    pub fn rotation(&mut self, t: usize, heads: Heads) -> Result<()> {
        let (kernels, half, d) = (self.kernels, heads.width / 2, heads.width);
        let angle = |position: usize, i: usize| position as f64 * 0.7f64.powi(i as i32);
        let table = |f: fn(f64) -> f64| {
            Tensor::from_iter((0..t * half).map(|i| f(angle(i / half, i % half)) as f32), &Device::Cpu)?.reshape((t, half))
        };
        let (cos, sin) = (self.put(&table(f64::cos)?, DType::F32)?, self.put(&table(f64::sin)?, DType::F32)?);
        let positions: Vec<u32> = (0..t as u32).rev().collect();
        let rotated = |values: &[f64], sign: f64| {
            let mut exact = values.to_vec();
            for (row, position) in exact.chunks_mut(heads.row()).zip(&positions) {
                for head in row.chunks_mut(d).take(heads.query + heads.key_value) {
                    for i in 0..half {
                        let at = *position as usize * half + i;
                        let (c, s) = (cos.exact[at], sin.exact[at] * sign);
                        (head[i], head[i + half]) = (head[i] * c - head[i + half] * s, head[i + half] * c + head[i] * s);
                    }
                }
            }
            exact
        };
        let (name, at) = (|operation: &str| format!("{operation} of {t} x {heads:?}"), kernels.indices(&positions)?);
        let qkv = self.random((t, heads.row()), 1)?;
        let rotation = Rotation { cos: &cos.tensor, sin: &sin.tensor, positions: &at };
        kernels.rotate_in_place(&qkv.tensor, heads, &rotation)?;
        self.outcome(&name("rotate_in_place"), d, rotated(&qkv.exact, 1.0), &qkv.tensor)?;
        // First without a bias, then with one, whose gradient is the sum of each column.
        let d_qkv = self.random((t, heads.row()), 2)?;
        kernels.rotate_back_in_place(&d_qkv.tensor, heads, &rotation, None)?;
        self.outcome(&name("rotate_back_in_place"), d, rotated(&d_qkv.exact, -1.0), &d_qkv.tensor)?;
        let (d_qkv, sums) = (self.random((t, heads.row()), 2)?, self.random_f32(heads.row(), 3)?);
        let back = rotated(&d_qkv.exact, -1.0);
        let sum = |(column, before): (usize, &f64)| before + back.iter().skip(column).step_by(heads.row()).sum::<f64>();
        let exact = sums.exact.iter().enumerate().map(sum).collect();
        kernels.rotate_back_in_place(&d_qkv.tensor, heads, &rotation, Some(&sums.tensor))?;
        self.outcome(&name("rotate_back_in_place with a bias"), d, back, &d_qkv.tensor)?;
        self.outcome(&name("rotate_back_in_place's bias"), heads.row(), exact, &sums.tensor)
    }
}
