// Sums and multiples of whole tensors, and their channels side by side.

// Σ sᵢ·xᵢ of up to four terms, in order; absent terms are null and come last.
extern "C" __global__ void weighted(const map *a, real of_a, const map *b, real of_b, const map *c, real of_c,
                                    const map *d, real of_d, int len, map *y) {
    const int at = place();
    if (at >= len) return;
    real sum = of_a * a[at];
    if (b) sum += of_b * b[at];
    if (c) sum += of_c * c[at];
    if (d) sum += of_d * d[at];
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
    __shared__ double sums[2][256];
    const int t = threadIdx.y * 16 + threadIdx.x, first = blockIdx.x * slice, last = least(first + slice, len);
    double sum = 0;
    for (int at = first + t; at < last; at += 256) sum += (double)a[at] * (double)b[at];
    add_columns(sums, sum, 0);
    if (t != 0) return;
    double all = 0;
    for (int column = 0; column < 16; column++) all += sums[0][column];
    parts[blockIdx.x] = all;
}

// Σ over slices, in order: parts are (slices, len).
extern "C" __global__ void add_parts(const real *parts, int slices, int len, real *sum) {
    const int at = place();
    if (at >= len) return;
    double all = 0;
    for (int slice = 0; slice < slices; slice++) all += parts[slice * len + at];
    sum[at] = (real)all;
}
