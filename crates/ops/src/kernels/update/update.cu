// Optimizer steps of many tensors at once. A table says what a block works on: a row of 64-bit integers for each piece of
// a tensor, of at most `update::PIECE` elements.

__device__ __forceinline__ const real *readable(long long address) { return (const real *)address; }
__device__ __forceinline__ real *writable(long long address) { return (real *)address; }

// Σ x² of each piece; rows are x, len. Blocks are 16 × 16.
extern "C" __global__ void squares_of_many(const long long *table, double *parts) {
    const long long *row = table + blockIdx.x * 2;
    const real *x = readable(row[0]);
    const int len = (int)row[1];
    double sum = 0;
    for (int at = square_place(); at < len; at += 256) sum += (double)x[at] * (double)x[at];
    sum = add_square(sum);
    if (square_place() == 0) parts[blockIdx.x] = sum;
}

// Σ of `n` numbers, in one block of 16 × 16.
extern "C" __global__ void add_all(const double *parts, int n, double *sum) {
    const double all = add_numbers(parts, n);
    if (square_place() == 0) sum[0] = all;
}

// g = s·g + decay·w;  v' = momentum·v + g, at first g;  w' = w − lr·(nesterov ? g + momentum·v' : v')
//
// Rows are w, g, v (0 at first), w', v', len. s is `clip / (√squares + 1e-6)`, at most 1, and 1 without `squares`.
extern "C" __global__ void sgd_of_many(const long long *table, const double *squares, double clip, real scale, real lr,
                                       real momentum, real decay, int nesterov) {
    const long long *row = table + blockIdx.x * 6;
    const real *w = readable(row[0]), *g = readable(row[1]), *v = readable(row[2]);
    real *w_new = writable(row[3]), *v_new = writable(row[4]);
    const int len = (int)row[5];
    if (squares) {
        const double factor = clip / (sqrt(squares[0]) + 1e-6);
        scale = (real)(factor < 1 ? factor : 1);
    }
    for (int at = threadIdx.x; at < len; at += blockDim.x) {
        const real slope = scale * g[at] + decay * w[at];
        const real velocity = v ? momentum * v[at] + slope : slope;
        v_new[at] = velocity;
        w_new[at] = w[at] - lr * (nesterov ? slope + momentum * velocity : velocity);
    }
}

// r' = (1 − m)·r + m·x. Rows are r, x, r', len and the bits of m as a double.
extern "C" __global__ void blend_many(const long long *table) {
    const long long *row = table + blockIdx.x * 5;
    const real *old = readable(row[0]), *x = readable(row[1]);
    real *blended = writable(row[2]);
    const int len = (int)row[3];
    const double m = __longlong_as_double(row[4]);
    const real rest = (real)(1 - m), share = (real)m;
    for (int at = threadIdx.x; at < len; at += blockDim.x) blended[at] = rest * old[at] + share * x[at];
}

extern "C" __global__ void adam(const real *w, const real *g, const real *m, const real *v, real rate, real root,
                                real beta1, real rest1, real beta2, real rest2, real eps, real decay, int len,
                                real *w_new, real *m_new, real *v_new) {
    const int at = place();
    if (at >= len) return;
    const real slope = g[at] + decay * w[at];
    const real first = beta1 * m[at] + rest1 * slope, second = beta2 * v[at] + rest2 * slope * slope;
    m_new[at] = first;
    v_new[at] = second;
    w_new[at] = w[at] - rate * first / ((real)sqrt(second) / root + eps);
}
