//! Matrix products on slices, by the `gemm` crate.

/// `out = a·bᵀ` on the calling thread, all three row-major: `a` is `[m, depth]`, `b` is `[n, depth]`, `out` is `[m, n]`.
///
/// # Panics
/// When the slices are not of such lengths.
pub(in crate::ops) fn times_transposed(a: &[f32], b: &[f32], out: &mut [f32], depth: usize) {
    let (m, n) = (a.len() / depth, b.len() / depth);
    assert!(a.len() == m * depth && b.len() == n * depth && out.len() == m * n, "matrices that do not fit");
    // SAFETY: the three slices hold m·depth, n·depth and m·n numbers (asserted), which is what the dimensions and strides
    // below reach, and `out` is borrowed exclusively. With `read_dst` false, `out` is only written.
    unsafe {
        gemm::gemm(
            m,
            n,
            depth,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            depth as isize,
            b.as_ptr(),
            depth as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::times_transposed;

    #[test]
    fn products_are_those_of_the_definition() {
        for (m, n, depth) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (70, 9, 128)] {
            let value = |i: usize| (i * 7 % 23) as f32 - 11.0; // small integers: every sum is exact
            let a: Vec<f32> = (0..m * depth).map(value).collect();
            let b: Vec<f32> = (0..n * depth).map(|i| value(i + 5)).collect();
            let mut out = vec![f32::NAN; m * n];
            times_transposed(&a, &b, &mut out, depth);
            for (i, x) in out.iter().enumerate() {
                let (row, column) = (&a[i / n * depth..][..depth], &b[i % n * depth..][..depth]);
                assert_eq!(*x, row.iter().zip(column).map(|(a, b)| a * b).sum::<f32>());
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrices that do not fit")]
    fn lengths_are_checked() {
        times_transposed(&[0.0; 6], &[0.0; 6], &mut [0.0; 3], 3);
    }
}
