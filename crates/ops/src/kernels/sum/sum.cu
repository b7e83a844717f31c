// Sums and multiples of whole tensors, and their channels side by side.

// A term of a sum: of·x, or of·((x − mean)·factor + shift) channel by channel where a batch norm is still to be applied.
struct Term {
    const map *x;
    real of;
    const real *mean, *factor, *shift;

    __device__ __forceinline__ real at(int at, int c) const {
        if (!mean) return of * x[at];
        const int channel = at % c;
        return of * ((x[at] - mean[channel]) * factor[channel] + shift[channel]);
    }
};

// The sum of up to four terms, in order; absent terms are null and come last.
extern "C" __global__ void weighted(
    const map *x0, real of0, const real *mean0, const real *factor0, const real *shift0, const map *x1, real of1,
    const real *mean1, const real *factor1, const real *shift1, const map *x2, real of2, const real *mean2,
    const real *factor2, const real *shift2, const map *x3, real of3, const real *mean3, const real *factor3,
    const real *shift3, int c, int len, map *y) {
    const int at = place();
    if (at >= len) return;
    real sum = Term{x0, of0, mean0, factor0, shift0}.at(at, c);
    if (x1) sum += Term{x1, of1, mean1, factor1, shift1}.at(at, c);
    if (x2) sum += Term{x2, of2, mean2, factor2, shift2}.at(at, c);
    if (x3) sum += Term{x3, of3, mean3, factor3, shift3}.at(at, c);
    y[at] = (map)sum;
}

// x[n, ·] · factors[n]
extern "C" __global__ void scale_samples(const map *x, const real *factors, int len, int sample, map *y) {
    const int at = place();
    if (at < len) y[at] = (map)(x[at] * factors[at / sample]);
}

// y[row, channel] = the part that has this channel: widths a, b, c, d side by side make c_all.
extern "C" __global__ void join_channels(const map *a, int of_a, const map *b, int of_b, const map *c, int of_c,
                                         const map *d, int of_d, int len, map *y) {
    const int at = place();
    if (at >= len) return;
    const int all = of_a + of_b + of_c + of_d, row = at / all;
    int channel = at % all;
    if (channel < of_a) {
        y[at] = a[row * of_a + channel];
        return;
    }
    channel -= of_a;
    if (channel < of_b) {
        y[at] = b[row * of_b + channel];
        return;
    }
    channel -= of_b;
    y[at] = channel < of_c ? c[row * of_c + channel] : d[row * of_d + channel - of_c];
}

// y[row, i] = x[row, first + i]
extern "C" __global__ void cut_channels(const map *x, int c, int first, int width, int len, map *y) {
    const int at = place();
    if (at < len) y[at] = x[at / width * c + first + at % width];
}

// Σ aᵢ·bᵢ over a slice for each block; blocks are 16 × 16.
extern "C" __global__ void dot_parts(const map *a, const map *b, int len, int slice, double *parts) {
    const int t = square_place(), first = blockIdx.x * slice, last = least(first + slice, len);
    double sum = 0;
    for (int at = first + t; at < last; at += 256 * AHEAD) {
        real of_a[AHEAD], of_b[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (at + 256 * i < last) {
                of_a[i] = a[at + 256 * i];
                of_b[i] = b[at + 256 * i];
            }
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (at + 256 * i < last) sum += (double)of_a[i] * (double)of_b[i];
    }
    sum = add_square(sum);
    if (t == 0) parts[blockIdx.x] = sum;
}

// Σ of many rows of numbers, one block of 16 × 16 to a row; rows are where the numbers lie and how many they are.
extern "C" __global__ void add_each(const long long *table, double *sums) {
    const double sum = add_numbers((const double *)table[blockIdx.x * 2], (int)table[blockIdx.x * 2 + 1]);
    if (square_place() == 0) sums[blockIdx.x] = sum;
}

// Σ over slices: parts are (slices, len). Blocks are 16 × 16, of which 16 threads share the slices of an element.
extern "C" __global__ void add_parts(const real *parts, int slices, int len, real *sum) {
    __shared__ double sums[2][256];
    const int at = blockIdx.x * 16 + threadIdx.x;
    double all = 0;
    if (at < len)
        for (int slice = threadIdx.y; slice < slices; slice += 16 * AHEAD) {
            real part[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (slice + 16 * i < slices) part[i] = parts[(slice + 16 * i) * len + at];
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (slice + 16 * i < slices) all += part[i];
        }
    add_columns(sums, all, 0);
    if (threadIdx.y == 0 && at < len) sum[at] = (real)sums[0][threadIdx.x];
}
